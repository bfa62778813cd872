"""How partitions move between processes: sources on a real RabbitMQ."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

import pytest
from pika import spec

from monitor.broker import amqp, amqp_connection, connection
from monitor.broker.amqp import AmqpSource
from monitor.broker.amqp_connection import ClusterUrl, Login, connect_to_any
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message
from monitor.broker.topology import Topology
from monitor.state.location import locate
from monitor.tools.cluster import ClusterSettings, init, status
from monitor.tools.doctor.examine import DoctorSettings, check_cluster
from simulator.broker import HOST, free_port
from tests.rabbitmq import Node, address, run_rabbitmq

WAIT_S, PARTITIONS, DEVICES = 30.0, 6, 40
_numbers = count()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with run_rabbitmq() as [node]:
        yield node


class _Bench:
    """A fleet of its own on a node: a name, a prefix, a publisher, sources."""

    def __init__(self, node: Node, stack: ExitStack) -> None:
        self.name = f"fleet{next(_numbers)}"
        self.topology = Topology.of_fleet(self.name, f"{self.name}/v1")
        self._node, self._stack = node, stack
        self._client = connection.make_client(node.url, f"devices-{self.name}")
        connection.connect(self._client, node.url)
        self._client.loop_start()
        stack.callback(self._client.loop_stop)
        self.settings = ClusterSettings(ClusterUrl.parse(address([node])), name=self.name, prefix=f"{self.name}/v1")
        init(self.settings, PARTITIONS, "quorum")

    def source(self, url: str | None = None) -> AmqpSource:
        login = Login(ClusterUrl.parse(url or address([self._node])))
        made = AmqpSource(login, self.topology, MqttSource(self._node.url, f"out{next(_numbers)}", [], clean=True))
        made.open()
        self._stack.callback(made.close)
        return made

    def publish(self, leaf: str, payload: bytes) -> None:
        """Publish as each device."""
        for device in range(DEVICES):
            self._client.publish(f"{self.name}/v1/d{device}/{leaf}", payload, qos=1).wait_for_publish(WAIT_S)

    def ask(self, verb: str, request: object) -> None:
        """Publish as a person who asks something."""
        topic = f"{self.name}/v1/monitor/{self.name}/request/{verb}"
        self._client.publish(topic, json.dumps(request).encode(), qos=1).wait_for_publish(WAIT_S)


@pytest.fixture
def bench(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bench]:
    monkeypatch.setattr(amqp, "SURVEY_S", 0.1)
    with ExitStack() as stack:
        yield _Bench(node, stack)


def _poll(sources: list[AmqpSource], until: Callable[[list[list[Message]]], bool]) -> list[list[Message]]:
    """Poll sources in turn until a condition holds for what each has got."""
    got: list[list[Message]] = [[] for _ in sources]
    until_s = time.monotonic() + WAIT_S
    while not until(got):
        assert time.monotonic() < until_s, "waited in vain"
        for source, messages in zip(sources, got, strict=True):
            messages += source.poll(0.01, 1000)
            source.flush()
    return got


def _got(number: int) -> Callable[[list[list[Message]]], bool]:
    return lambda got: sum(map(len, got)) >= number


def _by_device(messages: list[Message]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for message in messages:
        found.setdefault(message.topic.split("/")[2], []).append(message.payload)
    return found


def test_a_device_meets_the_same_partition_with_all_that_it_sends_in_order(bench: _Bench) -> None:
    source = bench.source()
    for leaf, payload in (("info", b"i1"), ("samples", b"s1"), ("status", b"t1"), ("info", b"i2"), ("samples", b"s2")):
        bench.publish(leaf, payload)
    [messages] = _poll([source], _got(DEVICES * (2 + 3 * PARTITIONS)))
    homes = {message.topic.split("/")[2]: message.partition for message in messages if "samples" in message.topic}
    assert len(set(homes.values())) > 1
    at_home = [message for message in messages if message.partition == homes[message.topic.split("/")[2]]]
    expected = [b"i1", b"s1", b"t1", b"i2", b"s2"]
    assert _by_device(at_home) == {f"d{device}": expected for device in range(DEVICES)}


def test_a_request_meets_the_process_that_has_its_device_behind_what_that_has_sent(bench: _Bench) -> None:
    first, second = bench.source(), bench.source()
    _poll([first, second], lambda _: first._share == second._share == PARTITIONS // 2)
    bench.publish("samples", b"1")
    _poll([first, second], _got(DEVICES))

    def is_shared(_: list[list[Message]]) -> bool:
        for one in (first, second):  # whichever was connected first has them all
            one.release(one.surplus)
        return len(first.owned) == len(second.owned) == PARTITIONS // 2

    got = _poll([first, second], is_shared)
    bench.publish("samples", b"2")
    for device in range(DEVICES):
        bench.ask("rename", {"device": f"d{device}", "by": "anna"})
    bench.ask("rename", "no request")
    got = _poll([first, second], _got(2 * DEVICES + 1))
    topic = f"{bench.name}/v1/monitor/{bench.name}/request/rename"
    for messages in got:
        asked = [json.loads(message.payload) for message in messages if message.topic == topic]
        theirs = {message.topic.split("/")[2] for message in messages if message.topic != topic}
        assert {one["device"] for one in asked if one != "no request"} == theirs
    assert sum(message.topic == topic for messages in got for message in messages) == DEVICES + 1


@pytest.mark.parametrize("size", [200_000, 600_000])
def test_a_request_of_any_size_costs_nobody_the_connection(bench: _Bench, size: int) -> None:
    first, second = bench.source(), bench.source()
    bench.ask("rename", {"device": "d1", "by": "anna", "more": "x" * size})
    bench.ask("rename", {"device": "d1", "by": "anna"})
    got = _poll([first, second], _got(2))
    assert sorted(len(message.payload) > 100_000 for messages in got for message in messages) == [False, True]
    assert (first.connections, second.connections) == (1, 1)


def test_no_device_can_make_what_it_sends_a_request(bench: _Bench) -> None:
    source = bench.source()
    payload = f"{bench.name}.v1.monitor.{bench.name}.request.rename\n{{}}".encode()
    bench.publish("samples", payload)
    [messages] = _poll([source], _got(DEVICES))
    assert {(message.topic.rpartition("/")[2], message.payload) for message in messages} == {("samples", payload)}


def test_a_cluster_of_before_there_were_requests_says_what_to_run(bench: _Bench) -> None:
    made = connect_to_any(bench.settings.login)
    made.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    made.call(1, spec.Queue.Delete(0, bench.topology.requests), spec.Queue.DeleteOk)
    made.close()
    source = bench.source()
    assert "has no queue of requests for the monitor" in (source.fault or "")
    bench.publish("samples", b"1")
    _poll([source], _got(DEVICES))
    init(bench.settings, PARTITIONS, "quorum")
    assert bench.source().fault is None


def test_a_second_process_gets_its_share_and_what_was_not_acknowledged_first(bench: _Bench) -> None:
    first = bench.source()
    bench.publish("samples", b"1")
    bench.publish("samples", b"2")
    [messages] = _poll([first], _got(2 * DEVICES))
    owned = first.owned
    first.ack([message.token for message in messages if message.token is not None and message.payload == b"1"])
    first.flush()
    second = bench.source()
    _poll([first, second], lambda _: bool(first.surplus))
    surplus = first.surplus
    assert len(owned) - len(surplus) == PARTITIONS // 2
    first.release(surplus)
    first.flush()
    assert sorted(first.take_lost()) == surplus
    bench.publish("samples", b"3")
    moved = {message.topic.split("/")[2] for message in messages if message.partition in surplus}
    got = _poll([first, second], lambda got: _has(got[1], moved, b"3"))
    assert _by_device(got[1]) == {device: [b"2", b"3"] for device in moved}
    assert {message.partition for message in got[1]} == set(surplus)
    assert not second.surplus


def _has(messages: list[Message], devices: set[str], payload: bytes) -> bool:
    return {message.topic.split("/")[2] for message in messages if message.payload == payload} >= devices


def test_a_partition_that_nobody_wants_is_kept_when_it_comes_back(bench: _Bench) -> None:
    source = bench.source()
    bench.publish("samples", b"1")
    _poll([source], _got(DEVICES))
    source._share = PARTITIONS // 2  # as if a process were counted that is not there
    surplus = source.surplus
    assert len(surplus) == len(source.owned) - PARTITIONS // 2
    source.release(surplus)
    source.flush()
    _poll([source], lambda _: set(surplus) <= set(source.owned))
    source._share = PARTITIONS // 2
    assert source.surplus == [one for one in source.surplus if one not in surplus]
    assert sorted(source.take_lost()) == surplus


def test_a_process_that_ends_leaves_its_partitions_to_those_in_line(bench: _Bench) -> None:
    first = bench.source()
    second = bench.source()
    bench.publish("samples", b"1")
    got = _poll([first, second], _got(DEVICES))
    theirs = {message.topic.split("/")[2] for message in got[0]}
    first.close()
    [again] = _poll([second], lambda got: _has(got[0], theirs, b"1"))
    assert {message.topic.split("/")[2] for message in again if message.payload == b"1"} >= theirs


def test_a_loop_that_is_busy_for_longer_than_the_heartbeats_keeps_its_partitions(bench: _Bench, node: Node) -> None:
    first = bench.source(f"{address([node])}?heartbeat=1")
    second = bench.source()
    bench.publish("samples", b"1")
    _poll([first, second], _got(DEVICES))
    time.sleep(4.0)  # RabbitMQ gives up who is silent for three heartbeats
    first.poll(0.0, 1000)
    assert first.connections == 1
    assert not first.take_lost()


def test_a_loop_that_may_take_nothing_keeps_its_partitions_and_gets_what_has_come_later(
    bench: _Bench, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_connection, "HUNG_S", 0.5)
    first = bench.source(f"{address([node])}?heartbeat=1")
    bench.publish("samples", b"1")
    _poll([first], _got(DEVICES))
    bench.publish("samples", b"2")
    until_s = time.monotonic() + 4.0  # RabbitMQ gives up who is silent for three heartbeats
    while time.monotonic() < until_s:
        assert first.poll(0.01, 0) == []
        first.flush()
        time.sleep(0.01)
    [messages] = _poll([first], _got(DEVICES))
    assert {message.payload for message in messages} == {b"2"}
    assert first.connections == 1
    assert not first.take_lost()


def test_it_wants_acknowledgements_before_rabbitmq_holds_a_partition_back(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bench.source()
    bench.publish("samples", b"1")
    [messages] = _poll([source], _got(DEVICES))
    while source.poll(0.1, 1000) or not source.is_quiet:
        source.flush()
    assert not source.wants_acks  # though nothing comes
    monkeypatch.setattr(amqp, "PREFETCH", 4)
    assert source.wants_acks
    source.ack([message.token for message in messages if message.token is not None])
    assert not source.wants_acks


def test_what_the_broker_confirms_ends_no_wait_for_packets(bench: _Bench) -> None:
    source = bench.source()
    bench.publish("samples", b"1")
    _poll([source], _got(DEVICES))
    source.publish(f"{bench.name}/v1/d0/alerts", b"alert", 1, key="alert")
    source.flush()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.poll, WAIT_S, 1000)
        time.sleep(1.0)  # meanwhile the alert is confirmed
        bench.publish("samples", b"2")
        assert {message.payload for message in waiting.result()} == {b"2"}
    assert source.take_confirmed() == ["alert"]


def test_a_loop_that_hangs_loses_its_partitions_to_those_in_line(
    bench: _Bench, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.source(f"{address([node])}?heartbeat=1")
    second = bench.source(f"{address([node])}?heartbeat=1")
    bench.publish("samples", b"1")
    got = _poll([first, second], _got(DEVICES))
    theirs = {message.topic.split("/")[2] for message in got[0]}
    monkeypatch.setattr(amqp_connection, "HUNG_S", 0.2)
    _poll([second], lambda got: _has(got[0], theirs, b"1"))


def test_acknowledgements_of_a_partition_that_was_released_mean_nothing(bench: _Bench) -> None:
    source = bench.source()
    bench.publish("samples", b"1")
    [messages] = _poll([source], _got(DEVICES))
    source.release(source.owned)
    source.flush()
    source.take_lost()
    source.ack([message.token for message in messages if message.token is not None])
    [again] = _poll([source], _got(DEVICES))
    assert len(again) == DEVICES


def test_without_partitions_it_says_what_to_run(node: Node) -> None:
    with ExitStack() as stack:
        login = Login(ClusterUrl.parse(address([node])))
        source = AmqpSource(login, Topology.of_fleet("nobody", "n/v1"), MqttSource(node.url, "nobody", [], clean=True))
        source.open()
        stack.callback(source.close)
        assert source.fault is not None
        assert "ecgwatch cluster init" in source.fault
        assert not source.listening


def test_the_next_node_is_tried_when_one_does_not_answer(bench: _Bench, node: Node) -> None:
    source = bench.source(f"amqp://{HOST}:{free_port()},{HOST}:{node.amqp}")
    assert source.listening


def test_a_wrong_password_is_refused(bench: _Bench, node: Node) -> None:
    login = Login(ClusterUrl.parse(f"amqp://guest@{HOST}:{node.amqp}"), "wrong")
    source = AmqpSource(login, bench.topology, MqttSource(node.url, "wrong", [], clean=True))
    with pytest.raises(ConnectionError, match=f"The broker at {HOST}:{node.amqp} refuses"):
        source.open()
    source._out.close()


def test_another_number_of_partitions_is_refused(bench: _Bench) -> None:
    init(bench.settings, PARTITIONS, "quorum")  # the same again changes nothing
    with pytest.raises(ValueError, match=f"There are {PARTITIONS} partitions already, not 7"):
        init(bench.settings, 7, "quorum")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://a", "amqp://a:5672"),
        ("amqp://anna@a:1,b/vhost", "amqp://anna@a:1,b:5672/vhost"),
        ("amqps://[::1]", "amqps://::1:5671"),
        ("amqp://a?heartbeat=5", "amqp://a:5672?heartbeat=5"),
    ],
)
def test_the_url_of_a_cluster_names_its_nodes(text: str, shown: str) -> None:
    assert str(ClusterUrl.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["mqtt://a", "amqp://", "amqp://a,,b", "amqp://a:port", "amqp://a?x=1", "amqp://a?heartbeat=0"]
)
def test_what_is_no_url_of_a_cluster_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Not the URL of a cluster"):
        ClusterUrl.parse(text)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold a password") as error:
        ClusterUrl.parse("amqp://anna:secret@a")
    assert "secret" not in str(error.value)


def test_status_shows_what_waits_and_what_nobody_watches(bench: _Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.publish("samples", b"1")
    assert status(bench.settings, as_json=False) == 1
    assert (
        f"{PARTITIONS} partitions, 0 processes, {DEVICES} packets wait, {PARTITIONS} unwatched"
        in capsys.readouterr().out
    )
    source = bench.source()
    _poll([source], _got(DEVICES))
    assert status(bench.settings, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["processes"], len(shown["partitions"])) == (1, PARTITIONS)


def test_status_shows_who_has_taken_over(bench: _Bench, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = locate(database_url).open_shared(bench.name)
    store.own([2])
    store.read_outbox()
    status(replace(bench.settings, state=database_url), as_json=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "NOT WATCHED" in line]
    rows = [line.split(maxsplit=1)[1].removesuffix("NOT WATCHED").strip() for line in lines]
    assert rows[0] == f"{'nobody yet':40} 0-1 3-{PARTITIONS - 1}"
    assert rows[1].startswith(f"{socket.gethostname()} {os.getpid()}, 0 s ago, saved")
    assert rows[1].endswith(" 2")
    store.close()


def test_the_doctor_knows_the_cluster(bench: _Bench, node: Node) -> None:
    settings = DoctorSettings(name=bench.name, prefix=bench.settings.prefix)
    check, queues = check_cluster(settings, address([node]))
    assert queues.status == "ok"
    assert check.status in ("ok", "warn")  # it warns of versions before 4
    assert f"{PARTITIONS} partitions, 0 processes" in check.found
    [check] = check_cluster(DoctorSettings(name="nobody"), address([node]))
    assert (check.status, check.advice.split(" --")[0]) == ("FAIL", "Run ecgwatch cluster init")
    [check] = check_cluster(settings, f"amqp://{HOST}:{free_port()}")
    assert check.status == "FAIL"
    *_, nodes = check_cluster(settings, f"{address([node])},{HOST}:{free_port()}")
    assert (nodes.name, nodes.status) == ("nodes", "warn")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x-queue-type": "quorum"}, "x-single-active-consumer"),
        ({"x-queue-type": "classic", "x-single-active-consumer": True, "x-max-priority": 5}, "x-max-priority"),
    ],
)
def test_the_doctor_names_a_queue_that_is_not_as_it_must_be(
    bench: _Bench, node: Node, arguments: dict[str, object], told: str
) -> None:
    made = connect_to_any(bench.settings.login)
    made.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    queue = bench.topology.queue(3)
    made.call(1, spec.Queue.Delete(0, queue), spec.Queue.DeleteOk)
    made.call(1, spec.Queue.Declare(0, queue, durable=True, arguments=arguments), spec.Queue.DeclareOk)
    made.close()
    settings = DoctorSettings(name=bench.name, prefix=bench.settings.prefix)
    _, queues = check_cluster(settings, address([node]))
    assert queues.status == "FAIL"
    assert f"'{queue}'" in queues.found
    assert told in queues.found or "x-queue-type" in queues.found
