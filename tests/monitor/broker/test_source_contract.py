"""What every source must do, whatever broker is behind it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pika import spec

from monitor.broker import connection
from monitor.broker.amqp import AmqpSource
from monitor.broker.amqp_connection import ClusterUrl, Login, connect_to_any
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.mqtt import MqttSource, make_source
from monitor.broker.source import Message, ReplyTo, Source, Subscription
from monitor.broker.topology import Topology
from monitor.tools.cluster import declare
from simulator.broker import HOST, EmbeddedBroker
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.service.proxy import Proxy
from tests.rabbitmq import Node, run_rabbitmq

WAIT_S = 20.0
_ids = count()


class Bench(ABC):
    """A broker, sources on it, and a client beside them."""

    raises_qos = False
    """Whether the broker delivers with the QoS of the subscription what was published with a lower one."""
    has_retained = True
    """Whether the broker hands over retained messages."""
    has_sessions = True
    """Whether the broker keeps a session for each client, instead of queues that many share."""

    @abstractmethod
    def source(self, client_id: str, topic: str, will: tuple[str, bytes] | None = None, clean: bool = False) -> Source:
        """Return a source that is not open yet."""

    @abstractmethod
    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish as another client, and wait until the broker has it."""

    @abstractmethod
    def received(self, topic: str) -> list[bytes]:
        """Return what another client has received on a topic."""

    @abstractmethod
    def cut(self, client_id: str) -> None:
        """Break the connection of a source."""

    def ask(self, topic: str, payload: bytes, reply_to: ReplyTo) -> None:
        """Publish a message that wants an answer."""
        pytest.skip("nobody says in MQTT 3.1.1 or in AMQP where to answer")

    def correlations(self, topic: str) -> list[bytes | None]:
        """Return what correlated the messages on a topic with what they answer."""
        pytest.skip("nobody says in MQTT 3.1.1 or in AMQP where to answer")


class _InMemory(Bench):
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def source(self, client_id: str, topic: str, will: tuple[str, bytes] | None = None, clean: bool = False) -> Source:
        return MemorySource(self._broker, client_id, [Subscription(topic, 1)], will=will, clean=clean)

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        self._broker.publish(topic, payload, qos, retain)

    def received(self, topic: str) -> list[bytes]:
        return [message.payload for message in self._broker.published if message.topic == topic]

    def cut(self, client_id: str) -> None:
        self._broker.cut(client_id)

    def ask(self, topic: str, payload: bytes, reply_to: ReplyTo) -> None:
        self._broker.publish(topic, payload, reply_to=reply_to)

    def correlations(self, topic: str) -> list[bytes | None]:
        found = [one.reply_to for one in self._broker.published if one.topic == topic]
        return [None if one is None else one.correlation for one in found]


class _Mqtt(Bench):
    """Sources come through a proxy that can be cut; the other client does not."""

    def __init__(self, url: connection.BrokerUrl, proxy: Proxy) -> None:
        self._proxy = proxy
        self._got: list[tuple[str, bytes]] = []
        self._client = connection.make_client(url, f"bench-{next(_ids)}")
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda _c, _d, message: self._got.append((message.topic, bytes(message.payload)))
        subscribed: list[int] = []
        self._client.on_subscribe = lambda *_: subscribed.append(1)
        connection.connect(self._client, url)
        self._client.loop_start()
        _until(lambda: bool(subscribed))

    def source(self, client_id: str, topic: str, will: tuple[str, bytes] | None = None, clean: bool = False) -> Source:
        return MqttSource(self._proxy.url, client_id, [Subscription(topic, 1)], will=will, clean=clean)

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain).wait_for_publish(WAIT_S)

    def received(self, topic: str) -> list[bytes]:
        return [payload for name, payload in self._got if name == topic]

    def cut(self, client_id: str) -> None:
        self._proxy.cut()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class _Mqtt5(_Mqtt):
    """Sources speak MQTT 5, and so does a third client that asks."""

    def __init__(self, url: connection.BrokerUrl, proxy: Proxy) -> None:
        super().__init__(url, proxy)
        self._answers: list[tuple[str, bytes | None]] = []
        self._asker = paho.Client(CallbackAPIVersion.VERSION2, f"asker-{next(_ids)}", protocol=paho.MQTTv5)
        self._asker.on_message = self._note_answer
        self._asker.on_connect = lambda client, *_: client.subscribe("+/out", 1)
        connection.connect(self._asker, url)
        self._asker.loop_start()

    def source(self, client_id: str, topic: str, will: tuple[str, bytes] | None = None, clean: bool = False) -> Source:
        return make_source(self._proxy.url, client_id, [Subscription(topic, 1)], will=will, clean=clean)

    def ask(self, topic: str, payload: bytes, reply_to: ReplyTo) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = reply_to
        properties.UserProperty = ("a", "b")
        self._asker.publish(topic, payload, 1, properties=properties).wait_for_publish(WAIT_S)

    def correlations(self, topic: str) -> list[bytes | None]:
        return [correlation for name, correlation in self._answers if name == topic]

    def close(self) -> None:
        super().close()
        self._asker.disconnect()
        self._asker.loop_stop()

    def _note_answer(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._answers.append((message.topic, getattr(message.properties, "CorrelationData", None)))


class _Amqp(_Mqtt):
    """The other client speaks MQTT to RabbitMQ; sources consume over one proxy, and publish over another."""

    raises_qos = True
    has_retained = has_sessions = False

    def __init__(self, node: Node, into: Proxy, out: Proxy) -> None:
        super().__init__(node.url, out)
        self._into = into

    def source(self, client_id: str, topic: str, will: tuple[str, bytes] | None = None, clean: bool = False) -> Source:
        login = Login(ClusterUrl(((HOST, self._into.url.port),)))
        topology = Topology(client_id, (topic,), (f"{client_id}/copied",), ())
        connection = connect_to_any(login)
        connection.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
        declare(connection, topology, 3, "quorum")
        connection.close()
        return AmqpSource(login, topology, MqttSource(self._proxy.url, f"{client_id}-out", [], will=will, clean=clean))

    def cut(self, client_id: str) -> None:
        self._into.cut()
        self._proxy.cut()


@pytest.fixture(scope="module", params=["memory", "iotcore", "mosquitto", "mosquitto in MQTT 5", "rabbitmq"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a broker with all that a test needs of it."""
    if request.param == "memory":
        yield _InMemory()
        return
    with ExitStack() as stack:
        if request.param == "rabbitmq":
            [node] = stack.enter_context(run_rabbitmq())
            rabbit = _Amqp(node, stack.enter_context(Proxy(node.amqp)), stack.enter_context(Proxy(node.mqtt)))
            stack.callback(rabbit.close)
            yield rabbit
            return
        if request.param == "iotcore":
            url = stack.enter_context(EmbeddedBroker(port=0)).url
        else:
            folder: Path = tmp_path_factory.mktemp("mosquitto")
            url = stack.enter_context(run_mosquitto(find_mosquitto(), folder))
        kind = _Mqtt5 if request.param == "mosquitto in MQTT 5" else _Mqtt
        made = kind(url, stack.enter_context(Proxy(url.port)))
        made.raises_qos = request.param == "iotcore"
        stack.callback(made.close)
        yield made


@pytest.fixture
def name() -> str:
    """Client id and topic of a test's own."""
    return f"s{next(_ids)}"


@pytest.fixture
def source(bench: Bench, name: str) -> Iterator[Source]:
    made = bench.source(name, f"{name}/in")
    made.open()
    yield made
    made.close()


def _until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.01)


def _poll(source: Source, n: int, most: int = 1000) -> list[Message]:
    """Poll until n messages have come."""
    messages: list[Message] = []

    def poll() -> bool:
        messages.extend(source.poll(0.02, most))
        source.flush()
        return len(messages) >= n

    _until(poll)
    return messages


def _tokens(messages: list[Message]) -> list[int]:
    return [message.token for message in messages if message.token is not None]


def test_what_is_published_is_polled_in_order_byte_for_byte(bench: Bench, source: Source, name: str) -> None:
    payloads = [b"", b"\x00\xff", b"x" * 100_000, *(b"%d" % i for i in range(50))]
    for payload in payloads:
        bench.publish(f"{name}/in", payload)
    messages = _poll(source, len(payloads))
    assert [(message.topic, message.payload) for message in messages] == [(f"{name}/in", one) for one in payloads]
    source.ack(_tokens(messages))


def test_no_more_is_returned_than_was_asked_for(bench: Bench, source: Source, name: str) -> None:
    for i in range(10):
        bench.publish(f"{name}/in", b"%d" % i)
    _until(lambda: bool(first := source.poll(0.02, 3)) and len(first) <= 3)
    messages = _poll(source, 1, most=3)
    while source.has_more:
        messages += source.poll(0.0, 3)
    assert source.poll(0.0, 0) == []


def test_only_messages_that_the_broker_waits_for_have_a_token(bench: Bench, source: Source, name: str) -> None:
    bench.publish(f"{name}/in", b"zero", qos=0)
    bench.publish(f"{name}/in", b"one", qos=1)
    one, zero = sorted(_poll(source, 2), key=lambda message: message.payload)  # no order between QoS 0 and 1
    assert (zero.payload, one.payload) == (b"zero", b"one")
    assert one.token is not None
    assert zero.token is None or bench.raises_qos


def test_what_was_not_acknowledged_comes_again_in_order_after_a_cut(bench: Bench, source: Source, name: str) -> None:
    for i in range(10):
        bench.publish(f"{name}/in", b"%d" % i)
    before = _poll(source, 10)
    source.ack(_tokens(before)[:4])
    source.flush()
    connections = source.connections
    time.sleep(0.2)  # the broker reads the acknowledgements
    bench.cut(name)
    bench.publish(f"{name}/in", b"meanwhile")
    again = _poll(source, 7)
    assert [message.payload for message in again] == [*(b"%d" % i for i in range(4, 10)), b"meanwhile"]
    assert (source.connections, source.resumed, source.connected, source.listening) == (
        connections + 1,
        True,
        True,
        True,
    )
    source.ack(_tokens(before))  # of the connection before: they mean nothing now
    source.flush()
    time.sleep(0.2)
    bench.cut(name)
    assert len(_poll(source, 7)) == 7


def test_a_lost_connection_is_a_state_until_it_is_back(bench: Bench, source: Source, name: str) -> None:
    bench.cut(name)
    seen: list[bool] = []

    def poll() -> bool:
        source.poll(0.02, 10)
        seen.append(source.connected)
        return source.connected and source.connections == 2

    _until(poll)
    assert source.fault is None
    assert seen[-1]


def test_what_is_published_with_a_key_is_confirmed_by_it(bench: Bench, source: Source, name: str) -> None:
    for i in range(3):
        source.publish(f"{name}/out", b"%d" % i, qos=1, key=f"k{i}")
    source.publish(f"{name}/out", b"no key", qos=1)
    source.publish(f"{name}/out", b"zero", qos=0)
    confirmed: list[str] = []

    def poll() -> bool:
        source.poll(0.02, 10)
        source.flush()
        confirmed.extend(source.take_confirmed())
        return source.unconfirmed == 0 and len(confirmed) == 3

    _until(poll)
    assert confirmed == ["k0", "k1", "k2"]
    _until(lambda: b"zero" in bench.received(f"{name}/out"))  # no order between QoS 0 and 1
    received = [payload for payload in bench.received(f"{name}/out") if payload != b"zero"]
    assert received == [b"0", b"1", b"2", b"no key"]


def test_what_is_published_during_an_outage_leaves_when_it_is_over(bench: Bench, source: Source, name: str) -> None:
    bench.cut(name)
    source.poll(0.0, 10)
    source.publish(f"{name}/out", b"kept", qos=1, key="k")
    confirmed: list[str] = []

    def poll() -> bool:
        source.poll(0.02, 10)
        source.flush()
        confirmed.extend(source.take_confirmed())
        return bool(confirmed)

    _until(poll)
    assert confirmed == ["k"]
    _until(lambda: b"kept" in bench.received(f"{name}/out"))


def test_a_retained_message_is_marked_and_a_live_one_is_not(bench: Bench, name: str) -> None:
    if not bench.has_retained:
        pytest.skip("this kind of broker hands over live messages only")
    bench.publish(f"{name}/in", b"old", retain=True)
    source = bench.source(name, f"{name}/in")
    source.open()
    bench.publish(f"{name}/in", b"new", retain=True)
    messages = _poll(source, 2)
    assert [(message.payload, message.retained) for message in messages] == [(b"old", True), (b"new", False)]
    source.close()


def test_the_last_will_is_published_when_the_connection_breaks_and_not_when_it_is_closed(
    bench: Bench, name: str
) -> None:
    source = bench.source(name, f"{name}/in", will=(f"{name}/will", b"gone"))
    source.open()
    bench.cut(name)
    _until(lambda: bench.received(f"{name}/will") == [b"gone"])
    _until(lambda: source.poll(0.02, 1) == [] and source.connections == 2 and source.connected)
    source.close()
    time.sleep(0.3)
    assert bench.received(f"{name}/will") == [b"gone"]


@pytest.mark.parametrize("clean", [True, False])
def test_a_session_outlives_its_process_unless_it_is_clean(bench: Bench, name: str, clean: bool) -> None:
    if clean and not bench.has_sessions:
        pytest.skip("this kind of broker keeps queues that belong to no client")
    first = bench.source(name, f"{name}/in", clean=clean)
    first.open()
    first.close()
    assert not first.connected
    bench.publish(f"{name}/in", b"meanwhile")
    second = bench.source(name, f"{name}/in", clean=clean)
    second.open()
    bench.publish(f"{name}/in", b"after")
    expected = [b"after"] if clean else [b"meanwhile", b"after"]
    assert [message.payload for message in _poll(second, len(expected))] == expected
    assert second.resumed is not clean
    second.close()


def test_it_is_quiet_only_when_nothing_at_all_came(bench: Bench, source: Source, name: str) -> None:
    _until(lambda: source.poll(0.1, 10) == [] and source.is_quiet)
    source.publish(f"{name}/out", b"", qos=1)
    source.flush()
    bench.publish(f"{name}/in", b"now")
    [message] = _poll(source, 1)
    assert not source.is_quiet
    source.ack(_tokens([message]))
    source.flush()
    _until(lambda: source.poll(0.1, 10) == [] and source.is_quiet)


def test_asking_for_the_same_again_loses_and_repeats_nothing(bench: Bench, source: Source, name: str) -> None:
    for i in range(3):
        source.resubscribe()
        source.flush()
        bench.publish(f"{name}/in", b"%d" % i)
        [message] = _poll(source, 1)
        assert message.payload == b"%d" % i
        source.ack(_tokens([message]))


def test_who_asks_says_where_and_is_answered_with_its_own_correlation_data(
    bench: Bench, source: Source, name: str
) -> None:
    asked = ReplyTo(f"{name}/out", b"\x00\xff\x08")
    bench.publish(f"{name}/in", b"plain")
    bench.ask(f"{name}/in", b"{}", asked)
    plain, message = _poll(source, 2)
    assert (plain.payload, plain.reply_to) == (b"plain", None)
    assert (message.payload, message.reply_to) == (b"{}", asked)
    source.publish(f"{name}/out", b"no answer", qos=1)
    source.publish(f"{name}/out", b"answer", qos=1, correlation=asked.correlation)
    _until(lambda: source.poll(0.02, 10) == [] and source.flush() and len(bench.correlations(f"{name}/out")) == 2)
    assert bench.correlations(f"{name}/out") == [None, asked.correlation]
    source.ack(_tokens([plain, message]))
