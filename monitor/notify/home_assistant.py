"""Home Assistant: each device of the fleet is offered to it by MQTT discovery, and is fed by the retained states.

The payloads are those of device-based discovery (https://www.home-assistant.io/integrations/mqtt/, "Device discovery
payload"): retained on ``<prefix>/device/<object id>/config``, so Home Assistant finds them whenever it starts. What its
entities show are templates over `wire.DeviceState`, which the monitor publishes anyway: nothing else is sent.

A device that the monitor has forgotten becomes unavailable, and stays known to Home Assistant until it is removed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message, Source, Subscription

log = logging.getLogger(__name__)

PREFIX = "homeassistant"
"""Of Home Assistant's discovery, unless configured otherwise there."""
POLL_S, MOST = 0.25, 1000
PRIORITIES = ("none", "technical", "low", "medium", "high")
SIGNALS = ("streaming", "lead-off", "silent", "offline")


@dataclass(frozen=True, slots=True)
class HomeAssistantSettings:
    """Where the broker is, and what Home Assistant calls its topics."""

    broker: connection.BrokerUrl
    password_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    prefix: str = wire.PREFIX
    discovery_prefix: str = PREFIX
    monitor: str = "monitor"
    """While this one is offline, all devices are unavailable."""


class Discovery:
    """Offers devices to Home Assistant as their states come.

    Parameters
    ----------
    source
        Of states and monitors' statuses; see `subscriptions`.
    topics
        Of the wire.
    prefix
        Of the discovery.
    monitor
        Which devices depend on.

    Raises
    ------
    ValueError
        The prefix cannot be one of topics.
    """

    def __init__(self, source: Source, topics: wire.Topics, prefix: str, monitor: str) -> None:
        self._source, self._topics, self._monitor = source, topics, monitor
        self._prefix = check_prefix(prefix)
        self._offered: dict[str, bytes] = {}
        self._connections = 0

    def turn(self, wait_s: float) -> None:
        """Take what has come, and offer what is new or has another name.

        Raises
        ------
        ConnectionError
            The broker refuses the login.
        """
        messages = self._source.poll(wait_s, MOST)
        if self._source.connections != self._connections:  # the broker may have lost what it retained
            self._connections = self._source.connections
            self._offered.clear()
        for message in messages:
            try:
                self._take(message)
            except wire.PacketError as error:
                log.warning("what came on %.200r cannot be read: %s", message.topic, error)
        self._source.ack(message.token for message in messages if message.token is not None)
        self._source.flush()
        self._source.take_confirmed()
        if self._source.take_refused():
            log.error("the broker takes no topic below %s from this user: Home Assistant finds nothing", self._prefix)

    def _take(self, message: Message) -> None:
        if not message.payload:
            return  # forgotten: its availability says so
        if message.topic == self._topics.monitor_status(self._monitor):
            wire.decode(message.payload, wire.MonitorStatus)
            self._offer(monitor_id(self._monitor), describe_monitor(self._topics, self._monitor))
            return
        device, leaf = self._topics.parse(message.topic)
        if leaf == "state":
            name = wire.decode(message.payload, wire.DeviceState).name
            self._offer(device_id(device), describe_device(self._topics, self._monitor, device, name))

    def _offer(self, object_id: str, described: dict[str, Any]) -> None:
        payload = msgspec.json.encode(described)
        if self._offered.get(object_id) != payload:
            self._offered[object_id] = payload
            self._source.publish(config_topic(self._prefix, object_id), payload, qos=1, retain=True, key=object_id)


def check_prefix(prefix: str) -> str:
    """Return the prefix of discovery topics, or raise `ValueError` if it cannot be one."""
    if not re.fullmatch(r"[^+#/\x00]+(/[^+#/\x00]+)*", prefix):
        raise ValueError(f"A discovery prefix must be words joined by '/', without '+' or '#': got {prefix!r}.")
    return prefix


def device_id(device: str) -> str:
    """Return how Home Assistant knows a device."""
    return f"ecgwatch-device-{device}"


def monitor_id(name: str) -> str:
    """Return how Home Assistant knows a monitor."""
    return f"ecgwatch-monitor-{name}"


def config_topic(prefix: str, object_id: str) -> str:
    """Return the discovery topic of a device."""
    return f"{prefix}/device/{object_id}/config"


def describe_device(topics: wire.Topics, monitor: str, device: str, name: str | None) -> dict[str, Any]:
    """Return the discovery payload of a device: heart rate, rhythm, alert and its priority, connectivity, signal."""
    id_, state = device_id(device), topics.of(device, "state")
    severity = "(value_json.alerts | first).severity if value_json.alerts else 'none'"
    kind = "(value_json.alerts | first).kind | replace('-', ' ') if value_json.alerts else 'none'"
    components = {
        "heart-rate": _sensor(
            "Heart rate", "value_json.heart_rate_bpm", icon="mdi:heart-pulse", unit_of_measurement="bpm",
            state_class="measurement", suggested_display_precision=0,
        ),
        "rhythm": _sensor("Rhythm", "value_json.rhythm or 'unknown'", icon="mdi:pulse"),
        "alert": _sensor(
            "Alert", kind, icon="mdi:alert", json_attributes_topic=state,
            json_attributes_template="{{ {'alerts': value_json.alerts if value_json is defined else []} | tojson }}",
        ),
        "priority": _sensor("Alert priority", severity, icon="mdi:alert-decagram", device_class="enum",
                            options=list(PRIORITIES)),
        "connectivity": _binary_sensor(
            "Connectivity", "value_json.connection in ('streaming', 'lead-off')", device_class="connectivity"
        ),
        "signal": _sensor("Signal", "value_json.connection", icon="mdi:access-point", device_class="enum",
                          options=list(SIGNALS), entity_category="diagnostic"),
    }  # fmt: skip
    return {
        "device": {
            "identifiers": [id_],
            "name": name or device,
            "model": "ECG device",
            "serial_number": device,
            "via_device": monitor_id(monitor),
        },
        "origin": _origin(),
        "availability": [
            _available(topics.monitor_status(monitor), "value_json.state != 'offline'"),
            _available(state, "True"),
        ],
        "availability_mode": "all",
        "state_topic": state,
        "qos": 1,
        "components": {key: {**one, "unique_id": f"{id_}-{key}"} for key, one in components.items()},
    }


def describe_monitor(topics: wire.Topics, name: str) -> dict[str, Any]:
    """Return the discovery payload of a monitor: whether it is there, and how its fleet is."""
    id_ = monitor_id(name)
    components = {
        "connectivity": _binary_sensor("Connectivity", "value_json.state != 'offline'", device_class="connectivity"),
        "overloaded": _binary_sensor("Overloaded", "value_json.state == 'overloaded'", device_class="problem"),
        "devices": _sensor("Devices", "value_json.devices", icon="mdi:counter", state_class="measurement"),
        "silent": _sensor("Devices silent", "value_json.silent", icon="mdi:sleep", state_class="measurement"),
    }
    return {
        "device": {"identifiers": [id_], "name": f"ecgwatch {name}", "model": "ECG monitor"},
        "origin": _origin(),
        "state_topic": topics.monitor_status(name),
        "qos": 1,
        "components": {key: {**one, "unique_id": f"{id_}-{key}"} for key, one in components.items()},
    }


def _origin() -> dict[str, str]:
    return {"name": "ecgwatch", "sw_version": version("ecgwatch")}


def _available(topic: str, expression: str) -> dict[str, str]:
    """Return an entry of the availability; an empty message, which clears a topic, means that it is not."""
    template = f"{{{{ 'online' if value_json is defined and {expression} else 'offline' }}}}"
    return {"topic": topic, "value_template": template}


def _sensor(name: str, expression: str, **more: Any) -> dict[str, Any]:
    """Return a sensor; "None" is unknown to Home Assistant."""
    template = f"{{{{ ({expression}) if value_json is defined else None }}}}"
    return {"platform": "sensor", "name": name, "value_template": template, **more}


def _binary_sensor(name: str, expression: str, **more: Any) -> dict[str, Any]:
    template = f"{{{{ ('ON' if {expression} else 'OFF') if value_json is defined else None }}}}"
    return {"platform": "binary_sensor", "name": name, "value_template": template, **more}


def subscriptions(topics: wire.Topics, monitor: str) -> list[Subscription]:
    """Return what the discovery asks the broker for."""
    return [Subscription(topics.of("+", "state"), 1), Subscription(topics.monitor_status(monitor), 1, required=False)]


def run(settings: HomeAssistantSettings, is_stopping: Callable[[], bool]) -> None:
    """Offer devices until it is to stop.

    Raises
    ------
    ValueError
        Settings that cannot work.
    ConnectionError
        The broker cannot be reached at the start, or refuses the login.
    """
    topics = wire.Topics(settings.prefix)
    source = _connect(settings, "home-assistant", subscriptions(topics, settings.monitor))
    discovery = Discovery(source, topics, settings.discovery_prefix, settings.monitor)
    source.open()
    try:
        while not is_stopping():
            discovery.turn(POLL_S)
    finally:
        source.close()


def remove(settings: HomeAssistantSettings, devices: Sequence[str], is_stopping: Callable[[], bool]) -> None:
    """Let Home Assistant forget devices.

    Raises
    ------
    ValueError
        No device can have such an id.
    ConnectionError
        The broker cannot be reached, or does not confirm.
    """
    prefix = check_prefix(settings.discovery_prefix)
    ids = [wire.check_device_id(device) for device in devices]
    source = _connect(settings, "home-assistant-remove", [])
    source.open()
    try:
        for device in ids:
            source.publish(config_topic(prefix, device_id(device)), b"", qos=1, retain=True, key=device)
        while source.unconfirmed and not is_stopping():
            source.poll(POLL_S, MOST)
            source.flush()
    finally:
        source.close()


def _connect(settings: HomeAssistantSettings, name: str, wanted: Sequence[Subscription]) -> Source:
    password = connection.read_password(settings.broker, settings.password_file)
    return MqttSource(
        settings.broker, f"ecgwatch-{name}", wanted, password=password, tls=settings.tls, clean=True
    )  # fmt: skip
