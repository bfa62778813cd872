"""Processes that share a fleet by RabbitMQ and PostgreSQL: one is killed, frozen and thawed, joins, leaves."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker import connection
from monitor.broker.amqp_connection import ClusterUrl
from monitor.broker.connection import BrokerUrl
from monitor.state.location import locate
from monitor.tools.cluster import ClusterSettings, init, read_status
from tests.monitor.service.crash_harness import ALERTS, undisturbed
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.postgres import Postgres, make_database
from tests.rabbitmq import Node, address, run_rabbitmq
from tests.subscriber import Subscriber

DEVICES, SECONDS, PACKET_S, RATE_HZ, PARTITIONS = 12, 40.0, 0.5, 250.0, 8
WAIT_S = 90.0
_names = (f"m{number}" for number in itertools.count())


class _Subscriber(Subscriber):
    """Keeps all that monitors publish."""

    def on(self, leaf: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload in self.received if topic.endswith(f"/{leaf}")]


class _Fleet(NamedTuple):
    """A cluster with devices on it."""

    node: Node
    store: str
    name: str
    heard: _Subscriber
    stack: ExitStack

    @property
    def settings(self) -> ClusterSettings:
        return ClusterSettings(ClusterUrl.parse(address([self.node])), self.store, self.name, f"ecg-{self.name}/v1")

    def start_monitor(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "monitor", "run", "--source", address([self.node]), "--broker", str(self.node.url),
            "--store", self.store, "--name", self.name, "--prefix", self.settings.prefix, "--beats",
            "--provider", "cpu", "--alert", f"{ALERTS.n}/{ALERTS.m}",
        ]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.stack.callback(_end, process)
        return process

    def owners(self) -> set[str]:
        """Processes that have saved something."""
        return {one.owner for one in read_status(self.settings).partitions if one.owner is not None}

    def owned_by(self, process: subprocess.Popen[bytes]) -> set[int]:
        """Partitions that a process has taken over last; one without devices is not taken over by anybody else."""
        found = read_status(self.settings).partitions
        return {one.number for one in found if one.owner is not None and one.owner.split()[-1] == str(process.pid)}

    def ask(self, verb: str, payload: bytes) -> None:
        """Ask the monitor for something."""
        self.heard.publish(wire.Topics(self.settings.prefix).request(self.name, verb), payload)

    def rename(self, device: str, number: str) -> None:
        """Ask for another name of a device."""
        topic = wire.Topics(self.settings.prefix).answer(self.name, "anna")
        request = wire.Request(by="anna", device=device, name=f"bed {device}", id=number, response_topic=topic)
        self.ask("rename", wire.encode(request))

    def answers(self) -> list[wire.Answer]:
        """What was answered so far."""
        topic = wire.Topics(self.settings.prefix).answer(self.name, "anna")
        return [wire.decode(payload, wire.Answer) for payload in self.heard.payloads(topic)]

    def has_processes(self, number: int) -> bool:
        """Whether so many processes share the partitions."""
        return read_status(self.settings).processes == number

    def start_monitors(self, number: int) -> list[subprocess.Popen[bytes]]:
        """Start monitors, and wait until they share the partitions."""
        made = [self.start_monitor() for _ in range(number)]
        _wait(lambda: self.has_processes(number))
        return made


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait(20)


def _wait(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with run_rabbitmq() as [node]:
        yield node


@pytest.fixture
def fleet(node: Node, database_server: Postgres) -> Iterator[_Fleet]:
    name = next(_names)
    with ExitStack() as stack:
        store = stack.enter_context(make_database(database_server))
        topics = wire.Topics(f"ecg-{name}/v1")
        answers = topics.answer(name, "anna")
        heard = _Subscriber(node.url, topics.of("+", "beats"), topics.of("+", "alerts"), answers)
        stack.callback(heard.close)
        made = _Fleet(node, store, name, heard, stack)
        init(made.settings, PARTITIONS, "quorum")
        yield made


def _packets(device: int) -> list[wire.Packet]:
    """An ECG of its own heart rate, the first a tachycardia, in packets of half a second that began long ago."""
    samples = make_ecg(beat_times(SECONDS, 0.38 + 0.07 * device), SECONDS, RATE_HZ)
    size = round(PACKET_S * RATE_HZ)
    return [
        wire.Packet(seq, 1e9 + seq * PACKET_S, RATE_HZ, samples[seq * size : (seq + 1) * size])
        for seq in range(samples.size // size)
    ]


INFO = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=1e9)
FLEET = {f"d{device}": _packets(device) for device in range(DEVICES)}


def _publish_all(url: BrokerUrl, prefix: str, seconds: float = SECONDS) -> None:
    """Publish the packets of a time, as fast as they come."""
    client, topics = connection.make_client(url, f"{prefix}-devices".replace("/", "-")), wire.Topics(prefix)
    connection.connect(client, url)
    client.loop_start()
    for device in FLEET:
        client.publish(topics.of(device, "info"), wire.encode(INFO), qos=1).wait_for_publish(20)
    began_s = time.monotonic()
    rounds = itertools.islice(zip(*FLEET.values(), strict=True), round(seconds / PACKET_S))
    for number, packets in enumerate(rounds):
        time.sleep(max(0.0, began_s + number * PACKET_S - time.monotonic()))
        for device, packet in zip(FLEET, packets, strict=True):
            client.publish(topics.of(device, "samples"), wire.encode_packet(packet), qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def _play(fleet: _Fleet, meanwhile: Callable[[], None]) -> None:
    """Play all devices, do something meanwhile, and compare what was found with what one finds that is left alone."""
    beats, alerts = undisturbed(FLEET, INFO)
    assert len(beats) > 500
    assert alerts
    playing = threading.Thread(target=_publish_all, args=(fleet.node.url, fleet.settings.prefix))
    playing.start()
    meanwhile()
    playing.join()
    _wait(lambda: {beat["id"] for beat in fleet.heard.on("beats")} >= beats)
    _wait(lambda: {alert["id"] for alert in fleet.heard.on("alerts")} >= alerts)
    _wait(lambda: sum(row.beats for row in locate(fleet.store).read_hourly(fleet.name, 0.0)) >= len(beats))
    time.sleep(1.0)
    told: dict[str, dict[str, Any]] = {}
    for message in [*fleet.heard.on("beats"), *fleet.heard.on("alerts")]:
        assert told.setdefault(f"{message['id']} {message.get('state')}", message) == message
    assert {beat["id"] for beat in fleet.heard.on("beats")} == beats
    assert {alert["id"] for alert in fleet.heard.on("alerts")} == alerts
    assert sum(row.beats for row in locate(fleet.store).read_hourly(fleet.name, 0.0)) == len(beats)


@pytest.mark.long
def test_one_that_is_killed_and_one_that_joins_cost_nothing(fleet: _Fleet) -> None:
    first, _second = fleet.start_monitors(2)

    def kill_and_join() -> None:
        _wait(lambda: len(fleet.owners()) == 2)
        first.kill()
        fleet.start_monitor()

    _play(fleet, kill_and_join)
    assert len(fleet.owners()) == 2


def test_one_that_was_frozen_past_the_takeover_changes_nothing_when_it_is_thawed(fleet: _Fleet) -> None:
    first, second = fleet.start_monitors(2)

    def freeze_and_thaw() -> None:
        _wait(lambda: len(fleet.owners()) == 2)
        first.send_signal(signal.SIGSTOP)
        before = fleet.owned_by(second)
        _wait(lambda: fleet.has_processes(1))
        _wait(lambda: len(fleet.owned_by(second)) > len(before))
        first.send_signal(signal.SIGCONT)
        _wait(lambda: fleet.has_processes(2))  # it stands in line again

    _play(fleet, freeze_and_thaw)


@pytest.mark.long
def test_whichever_process_watches_a_device_forgets_it(fleet: _Fleet, tmp_path: Path) -> None:
    fleet.start_monitors(2)
    client, topics = connection.make_client(fleet.node.url, f"{fleet.name}-devices"), wire.Topics(fleet.settings.prefix)
    connection.connect(client, fleet.node.url)
    client.loop_start()
    for device, packets in FLEET.items():
        client.publish(topics.of(device, "info"), wire.encode(INFO), qos=1, retain=True).wait_for_publish(20)
        for packet in packets[:30]:
            client.publish(topics.of(device, "samples"), wire.encode_packet(packet), qos=1).wait_for_publish(20)
    location = locate(fleet.store)
    _wait(lambda: {row.device for row in location.read_hourly(fleet.name, 0.0)} == FLEET.keys())
    for device in FLEET:
        gone = wire.encode(wire.DeviceStatus(state="offline"))
        client.publish(topics.of(device, "status"), gone, qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()
    words = ["--broker", str(fleet.node.url), "--state", fleet.store, "--name", fleet.name]
    words += ["--prefix", fleet.settings.prefix, "--record", str(tmp_path)]
    for device in ("d0", "d1", "d2"):
        _wait(lambda device=device: main(["forget", device, *words]) == 0)  # type: ignore[misc]
        assert location.read_history(fleet.name, 0.0, device) == []
        assert location.read_hourly(fleet.name, 0.0, device) == []
    assert {row.device for row in location.read_hourly(fleet.name, 0.0)} == FLEET.keys() - {"d0", "d1", "d2"}
    assert main(["forget", "nobody", *words]) == 0
    assert len(fleet.owners()) == 2


def test_each_request_is_answered_once_whoever_has_its_device(fleet: _Fleet) -> None:
    fleet.start_monitors(2)
    playing = threading.Thread(target=_publish_all, args=(fleet.node.url, fleet.settings.prefix, 12.0))
    playing.start()
    _wait(lambda: len(fleet.owners()) == 2)
    asked = [*FLEET, "never-heard-of"]
    topic = wire.Topics(fleet.settings.prefix).answer(fleet.name, "anna")
    for device in asked:
        fleet.rename(device, f"rename-{device}")
        request = {"by": "anna", "device": device, "episode": "none", "id": f"judge-{device}", "response_topic": topic}
        fleet.ask("judge", json.dumps(request).encode())
    fleet.ask("rename", json.dumps({"id": "no-device", "response_topic": topic}).encode())
    expected = [f"{verb}-{device}" for verb in ("rename", "judge") for device in asked]
    _wait(lambda: len(fleet.answers()) > len(expected))
    playing.join()
    time.sleep(1.0)
    answers = fleet.answers()
    assert sorted(str(answer.id) for answer in answers) == sorted([*expected, "no-device"])
    assert {answer.id for answer in answers if answer.ok} == {f"rename-{device}" for device in asked}
    assert sorted(row.device for row in locate(fleet.store).read_requests(fleet.name, 0.0)) == sorted(asked)


def test_every_process_is_asked_once_to_read_its_configuration_again(fleet: _Fleet) -> None:
    fleet.start_monitors(2)
    playing = threading.Thread(target=_publish_all, args=(fleet.node.url, fleet.settings.prefix, 12.0))
    playing.start()
    _wait(lambda: len(fleet.owners()) == 2)
    topic = wire.Topics(fleet.settings.prefix).answer(fleet.name, "anna")
    fleet.ask("reload", json.dumps({"by": "anna", "id": "again", "response_topic": topic}).encode())
    _wait(lambda: len(fleet.answers()) >= 2)
    playing.join()
    assert [answer.id for answer in fleet.answers()] == ["again"] * 2


@pytest.mark.long
def test_what_was_decided_by_one_that_is_killed_holds_for_the_next(fleet: _Fleet) -> None:
    first, second = fleet.start_monitors(2)
    playing = threading.Thread(target=_publish_all, args=(fleet.node.url, fleet.settings.prefix))
    playing.start()
    _wait(lambda: len(fleet.owners()) == 2)
    for device in FLEET:
        fleet.rename(device, f"rename-{device}")
    _wait(lambda: len(fleet.answers()) == len(FLEET))
    fleet.heard.client.subscribe(wire.Topics(fleet.settings.prefix).of("+", "state"), 1)
    before = fleet.owned_by(second)
    first.kill()
    _wait(lambda: len(fleet.owned_by(second)) > len(before))
    fleet.heard.messages.clear()
    _wait(lambda: {one["name"] for one in fleet.heard.on("state")} == {f"bed {device}" for device in FLEET})
    playing.join()
