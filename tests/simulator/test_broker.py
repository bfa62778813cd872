"""The embedded broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from monitor.wire import MAX_PAYLOAD
from simulator.broker import HOST, EmbeddedBroker, free_port
from tests.simulator.recorder import Recorder, wait_for


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(port=0) as running:
        yield running


def test_broker_is_ready_when_entered_and_gone_when_left() -> None:
    with EmbeddedBroker(port=0) as broker, Recorder(broker.url, "#"):
        pass
    with pytest.raises(ConnectionError):
        connection.connect(connection.make_client(broker.url, "late"), broker.url)


def test_broker_listens_on_this_machine_only(broker: EmbeddedBroker) -> None:
    assert (broker.url.host, HOST) == ("127.0.0.1", "127.0.0.1")


def test_clients_of_both_versions_see_the_same_topics(broker: EmbeddedBroker) -> None:
    newer = paho.Client(CallbackAPIVersion.VERSION2, "newer", protocol=paho.MQTTv5)
    newer.connect(HOST, broker.port_v5)
    newer.loop_start()
    try:
        with Recorder(broker.url, "both") as recorder:
            newer.publish("both", b"from 5", qos=1).wait_for_publish(5)
            wait_for(lambda: recorder.payloads("both") == [b"from 5"])
    finally:
        newer.disconnect()
        newer.loop_stop()


def test_largest_message_of_the_wire_passes(broker: EmbeddedBroker) -> None:
    with Recorder(broker.url, "large") as recorder:
        recorder.client.publish("large", bytes(MAX_PAYLOAD), qos=1)
        wait_for(lambda: recorder.payloads("large") == [bytes(MAX_PAYLOAD)])


def test_slow_subscriber_loses_nothing(broker: EmbeddedBroker) -> None:
    gate = threading.Event()
    with Recorder(broker.url, "slow", before=lambda: gate.wait(20)) as slow, Recorder(broker.url, "none") as sender:
        for number in range(5000):
            sender.client.publish("slow", b"%6d" % number + bytes(1000), qos=1)
        time.sleep(0.5)
        gate.set()
        wait_for(lambda: len(slow.payloads("slow")) == 5000)
        assert [int(payload[:6]) for payload in slow.payloads("slow")] == list(range(5000))


def subscribe(client: paho.Client) -> None:
    client.subscribe("kept", qos=1)


def session(url: BrokerUrl, got: list[paho.MQTTMessage]) -> paho.Client:
    client = connection.make_client(url, "keeper", clean_session=False)
    client.manual_ack_set(True)
    client.on_message = lambda _client, _data, message: got.append(message)
    client.on_connect = lambda *_: subscribe(client)
    connection.connect(client, url)
    client.loop_start()
    return client


def end(client: paho.Client, shut: Callable[[], object]) -> None:
    client.loop_stop()
    shut()


def test_session_redelivers_in_order_what_was_not_acknowledged(broker: EmbeddedBroker) -> None:
    got: list[paho.MQTTMessage] = []
    with Recorder(broker.url, "none") as sender:
        first = session(broker.url, got)
        wait_for(first.is_connected)
        time.sleep(0.2)
        for number in range(10):
            sender.client.publish("kept", b"%d" % number, qos=1)
        wait_for(lambda: len(got) == 10)
        for message in got[:4]:
            first.ack(message.mid, 1)
        time.sleep(0.2)
        sock = first.socket()
        assert sock is not None
        end(first, sock.close)
        got.clear()
        second = session(broker.url, got)
        wait_for(lambda: len(got) == 6)
        assert [int(message.payload) for message in got] == [4, 5, 6, 7, 8, 9]
        end(second, second.disconnect)


def test_taken_port_is_one_clear_error(broker: EmbeddedBroker) -> None:
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{broker.port}"), EmbeddedBroker(broker.port):
        pass


def test_impossible_port_is_refused() -> None:
    with pytest.raises(ValueError, match="got 65535"):
        EmbeddedBroker(65535)


def test_free_ports_are_free() -> None:
    with EmbeddedBroker(free_port(), port_v5=free_port()) as broker:
        assert broker.url.port == broker.port
