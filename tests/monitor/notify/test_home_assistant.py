"""What Home Assistant is offered is what its documentation asks for, and shows what the monitor says.

Checked against "Device discovery payload" and the options of sensors and binary sensors in the documentation of its
MQTT integration (home-assistant.io, integrations/mqtt, sensor.mqtt, binary_sensor.mqtt), and against
DEVICE_DISCOVERY_SCHEMA of its core (components/mqtt/schemas.py). Templates are rendered as it does: in Jinja's sandbox,
with `value`, and with `value_json` if the payload is JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.notify.home_assistant import (
    PRIORITIES,
    SIGNALS,
    Discovery,
    describe_device,
    describe_monitor,
    subscriptions,
)
from tests.subscriber import Subscriber

TOPICS = wire.Topics()
STATE, STATUS = TOPICS.of("patch-1", "state"), TOPICS.monitor_status("monitor")
CONFIG = "homeassistant/device/ecgwatch-device-patch-1/config"

REQUIRED = {"device", "origin", "components"}
SHARED = {"state_topic", "command_topic", "qos", "encoding", "availability", "availability_mode"}
DEVICE = {
    *("identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version", "serial_number"),
    *("sw_version", "via_device", "suggested_area", "configuration_url"),
}
ENTITY = {
    *("platform", "unique_id", "name", "icon", "entity_category", "enabled_by_default", "value_template"),
    *("device_class", "expire_after", "force_update", "json_attributes_topic", "json_attributes_template"),
}
OPTIONS = {
    "sensor": {*ENTITY, "unit_of_measurement", "state_class", "suggested_display_precision", "options"},
    "binary_sensor": {*ENTITY, "payload_on", "payload_off", "off_delay"},
}
CLASSES = {"sensor": {"enum"}, "binary_sensor": {"connectivity", "problem"}}
"""Those of the documented device classes that are used here."""


def _render(template: str, payload: bytes) -> str:
    variables: dict[str, Any] = {"value": payload.decode()}
    with suppress(ValueError):
        variables["value_json"] = json.loads(payload)
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(variables)


def _state(**fields: Any) -> wire.DeviceState:
    given: dict[str, Any] = {"device": "patch-1", "connection": "streaming", "time_s": 1.7e9} | fields
    return wire.DeviceState(**given)


def _active(kind: str, severity: wire.Severity) -> wire.ActiveAlert:
    return wire.ActiveAlert(episode=f"e-{kind}", kind=kind, severity=severity, since_s=1.7e9, text=f'It is "{kind}".')


def _shown(described: dict[str, Any], payload: bytes) -> dict[str, str]:
    """What the entities show, by the last word of their unique id."""
    return {key: _render(one["value_template"], payload) for key, one in described["components"].items()}


@pytest.fixture(params=["device", "monitor"])
def described(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "monitor":
        return describe_monitor(TOPICS, "monitor")
    return describe_device(TOPICS, "monitor", "patch-1", "Bed 4")


def test_a_payload_has_what_is_required_and_nothing_that_is_not_documented(described: dict[str, Any]) -> None:
    assert set(described) >= REQUIRED
    assert set(described) <= REQUIRED | SHARED
    assert set(described["device"]) <= DEVICE
    assert described["device"]["identifiers"]
    assert set(described["origin"]) <= {"name", "sw_version", "support_url"}
    assert described["origin"]["name"] == "ecgwatch"
    assert described["qos"] in (0, 1, 2)
    for one in described.get("availability", []):
        assert set(one) <= {"topic", "payload_available", "payload_not_available", "value_template"}
    assert described.get("availability_mode", "latest") in ("all", "any", "latest")


def test_each_entity_has_a_platform_a_name_of_its_own_and_documented_options(described: dict[str, Any]) -> None:
    components = described["components"]
    assert len({one["unique_id"] for one in components.values()}) == len(components)
    for one in components.values():
        assert set(one) <= OPTIONS[one["platform"]]
        assert one.get("device_class") in {None, *CLASSES[one["platform"]]}
        assert ("options" in one) == (one.get("device_class") == "enum")
        assert not ("options" in one and {"state_class", "unit_of_measurement"} & set(one))
        assert one.get("entity_category") in (None, "diagnostic")
        assert one.get("state_class") in (None, "measurement")
        assert re.fullmatch("mdi:[a-z-]+", one.get("icon", "mdi:a"))


def test_the_state_of_a_device_is_shown() -> None:
    described = describe_device(TOPICS, "monitor", "patch-1", None)
    alerts = [_active("atrial-fibrillation", "medium"), _active("gap", "technical")]
    state = _state(heart_rate_bpm=75.4, rhythm="atrial fibrillation", alerts=alerts)
    payload = wire.encode(state)
    assert described["state_topic"] == STATE
    assert described["device"]["name"] == "patch-1"
    assert _shown(described, payload) == {
        "heart-rate": "75.4",
        "rhythm": "atrial fibrillation",
        "alert": "atrial fibrillation",
        "priority": "medium",
        "connectivity": "ON",
        "signal": "streaming",
    }
    attributes = json.loads(_render(described["components"]["alert"]["json_attributes_template"], payload))
    assert [one["text"] for one in attributes["alerts"]] == [one.text for one in alerts]
    assert described["components"]["alert"]["json_attributes_topic"] == STATE


@pytest.mark.parametrize("connection", wire.Connection.__args__)  # type: ignore[attr-defined]
def test_a_device_is_connected_as_long_as_it_sends(connection: wire.Connection) -> None:
    shown = _shown(describe_device(TOPICS, "monitor", "a", None), wire.encode(_state(connection=connection)))
    assert shown["connectivity"] == ("ON" if connection in ("streaming", "lead-off") else "OFF")
    assert shown["signal"] == connection
    assert connection in SIGNALS


@pytest.mark.parametrize("severity", wire.Severity.__args__)  # type: ignore[attr-defined]
def test_every_priority_and_signal_is_among_the_options(severity: wire.Severity) -> None:
    described = describe_device(TOPICS, "monitor", "a", None)
    shown = _shown(described, wire.encode(_state(alerts=[_active("pause", severity)])))
    assert shown["priority"] == severity
    assert severity in described["components"]["priority"]["options"] == list(PRIORITIES)


def test_what_is_not_known_is_unknown_and_what_is_forgotten_unavailable() -> None:
    described = describe_device(TOPICS, "monitor", "patch-1", None)
    empty = wire.encode(_state())
    shown = _shown(described, empty)
    assert (shown["heart-rate"], shown["rhythm"]) == ("None", "unknown")  # both are "unknown" to Home Assistant
    assert (shown["alert"], shown["priority"]) == ("none", "none")
    assert set(_shown(described, b"").values()) == {"None"}
    monitor, device = described["availability"]
    assert (monitor["topic"], device["topic"], described["availability_mode"]) == (STATUS, STATE, "all")
    assert _render(device["value_template"], empty) == "online"
    assert _render(device["value_template"], b"") == "offline"
    for state, word in ("online", "online"), ("overloaded", "online"), ("offline", "offline"):
        status = wire.MonitorStatus(state=state, version="1", model="m", model_sha256="", since_s=0)  # type: ignore[arg-type]
        assert _render(monitor["value_template"], wire.encode(status)) == word


def test_the_status_of_a_monitor_is_shown_and_devices_depend_on_it() -> None:
    described = describe_monitor(TOPICS, "monitor")
    status = wire.MonitorStatus(
        state="overloaded", version="1", model="m", model_sha256="", since_s=0, devices=7, silent=2
    )
    assert described["state_topic"] == STATUS
    shown = _shown(described, wire.encode(status))
    assert shown == {"connectivity": "ON", "overloaded": "ON", "devices": "7", "silent": "2"}
    assert (
        describe_device(TOPICS, "monitor", "a", None)["device"]["via_device"] == described["device"]["identifiers"][0]
    )
    # A device that is called as a monitor is another device.
    assert (
        describe_device(TOPICS, "monitor", "monitor", None)["device"]["identifiers"]
        != described["device"]["identifiers"]
    )


class Bench:
    """A discovery on a broker in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.source = MemorySource(self.broker, "home-assistant", subscriptions(TOPICS, "monitor"))
        self.source.open()
        self.discovery = Discovery(self.source, TOPICS, "homeassistant", "monitor")

    def turn(self, topic: str, payload: bytes) -> list[tuple[str, dict[str, Any]]]:
        """Let a message come; return what is published because of it."""
        before = len(self.broker.published)
        self.broker.publish(topic, payload, retain=True)
        self.discovery.turn(0.0)
        return [(one.topic, json.loads(one.payload)) for one in self.broker.published[before + 1 :]]


def test_a_device_is_offered_once_and_again_when_its_name_changes() -> None:
    bench = Bench()
    [(topic, payload)] = bench.turn(STATE, wire.encode(_state()))
    assert (topic, payload["device"]["name"]) == (CONFIG, "patch-1")
    assert CONFIG in bench.broker.retained
    assert bench.turn(STATE, wire.encode(_state(heart_rate_bpm=60))) == []
    [(topic, payload)] = bench.turn(STATE, wire.encode(_state(name="Bed 4")))
    assert (topic, payload["device"]["name"]) == (CONFIG, "Bed 4")
    assert bench.turn(STATE, b"") == []  # forgotten, and still known
    [(topic, payload)] = bench.turn(STATUS, wire.encode(_status()))
    assert topic == "homeassistant/device/ecgwatch-monitor-monitor/config"


def test_a_broker_that_has_lost_what_it_retained_is_offered_it_again() -> None:
    bench = Bench()
    assert bench.turn(STATE, wire.encode(_state()))
    bench.broker.retained.clear()
    bench.broker.cut("home-assistant")
    bench.discovery.turn(0.0)  # it sees that, and connects again
    bench.discovery.turn(0.0)
    [(topic, _)] = bench.turn(STATE, wire.encode(_state()))
    assert topic == CONFIG in bench.broker.retained


def test_garbage_offers_nothing_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for topic in (STATE, STATUS):
        assert bench.turn(topic, b"{") == []
    assert len(caplog.records) == 2
    assert len(bench.turn(STATE, wire.encode(_state()))) == 1


@pytest.mark.parametrize("prefix", ["", "a/", "+", "a/#"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="A discovery prefix must be words"):
        Discovery(MemorySource(MemoryBroker(), "x", []), TOPICS, prefix, "monitor")


def _status() -> wire.MonitorStatus:
    return wire.MonitorStatus(state="online", version="1", model="m", model_sha256="", since_s=0)


@contextmanager
def _process(broker_url: BrokerUrl, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ecgwatch", "notify", "home-assistant", "--broker", str(broker_url), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_the_command_offers_what_is_there_and_takes_it_back(broker_url: BrokerUrl) -> None:
    topic = "ha/device/ecgwatch-device-patch-1/config"
    with Subscriber(broker_url, "ha/#") as client:
        client.publish(STATE, wire.encode(_state(name="Bed 4")), retain=True)
        with _process(broker_url, "--discovery-prefix", "ha"):
            _wait(lambda: client.payloads(topic))
        assert json.loads(client.payloads(topic)[-1])["device"]["name"] == "Bed 4"
        with _process(broker_url, "--discovery-prefix", "ha", "--remove", "patch-1") as removing:
            assert removing.wait(30) == 0
        _wait(lambda: client.payloads(topic)[-1] == b"")
        client.publish(STATE, b"", retain=True)
