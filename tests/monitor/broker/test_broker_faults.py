"""Brokers that are not as the monitor needs them: found out within ten seconds, and said once in words that help."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from monitor.broker import connection, mqtt
from monitor.broker.connection import BrokerUrl
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Subscription
from simulator.broker import free_port
from tests.certificates import Authority
from tests.conftest import find_mosquitto, serve_mosquitto
from tests.monitor.broker.fake_broker import Manners, fake_broker
from tests.monitor.service.proxy import Proxy

WITHIN_S = 10.0
in_both_versions = pytest.mark.parametrize("newest", [False, True], ids=["MQTT 3.1.1", "MQTT 5"])
PLUGINS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")


@contextmanager
def _mosquitto(folder: Path, *settings: str, port: int | None = None) -> Iterator[BrokerUrl]:
    port = port or free_port()
    config = folder / f"{time.time_ns()}.conf"
    config.write_text("\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", "user root", *settings, ""]))
    with serve_mosquitto(find_mosquitto(), config, port):
        yield BrokerUrl("127.0.0.1", port)


@contextmanager
def _source(url: BrokerUrl, will: bool = True, is_open: bool = True, newest: bool = False) -> Iterator[MqttSource]:
    made = MqttSource(url, "monitor", [Subscription("in", 1)], will=("will", b"gone") if will else None)
    if newest:
        made.prefer_newest()
    if is_open:
        made.open()
    yield made
    made.close()


def _until(source: MqttSource, condition: Callable[[], bool], seconds: float = WITHIN_S) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain; fault: {source.fault}"
        source.poll(0.02, 100)
        source.flush()


def test_a_port_that_never_answers_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.5)
    with (
        fake_broker(Manners(answers=False)) as url,
        pytest.raises(ConnectionError, match=r"No answer .* write mqtts://"),
    ):
        MqttSource(url, "monitor", []).open()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"\x00" * 50])
def test_a_port_that_speaks_something_else_is_one_clear_error(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.5)
    monkeypatch.setattr(mqtt, "PAUSE_S", 0.01)
    with fake_broker(Manners(answer=answer)) as url, pytest.raises(ConnectionError, match="write mqtts://"):
        MqttSource(url, "monitor", []).open()


def test_a_broker_that_answers_late_is_waited_for() -> None:
    with fake_broker(Manners(after_s=2.0)) as url, _source(url) as source:
        assert source.connected
        assert source.fault is None


def test_a_broker_that_stops_answering_is_a_fault_until_it_answers_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.5)
    manners = Manners()
    with fake_broker(manners) as url, Proxy(url.port) as proxy, _source(proxy.url) as source:
        manners.answers = False
        proxy.cut()
        _until(source, lambda: source.fault is not None)
        assert not source.connected
        assert "No answer to the MQTT greeting" in str(source.fault)
        time.sleep(0.5)
        manners.answers = True
        _until(source, lambda: source.connected)
        assert source.fault is None
    assert sum("No answer" in message for message in caplog.messages) == 1


@pytest.mark.parametrize(
    ("refuses", "accepted"), [(0x20, "QoS 1, not retained"), (0x08, "QoS 0, retained"), (0x04, "none")]
)
def test_a_broker_that_ends_connections_with_some_last_wills_gets_one_that_it_takes(
    refuses: int, accepted: str, caplog: pytest.LogCaptureFixture
) -> None:
    manners = Manners(refuses_will=refuses)
    begin_s = time.monotonic()
    with fake_broker(manners) as url, _source(url) as source:
        assert source.connected
        assert accepted in str(source.fault)
        assert manners.greetings[0] & 0x24 == 0x24
    assert time.monotonic() - begin_s < WITHIN_S
    assert sum("last will" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("grants", [0x80, 0])
def test_a_subscription_that_is_refused_or_lowered_is_a_fault(grants: int, caplog: pytest.LogCaptureFixture) -> None:
    with fake_broker(Manners(grants=grants)) as url, _source(url) as source:
        assert source.connected
        assert source.listening is (grants == 0)
        words = "grants QoS 0 only" if grants == 0 else "refuses the subscription to in"
        assert words in str(source.fault)
        source.resubscribe()
        _until(source, lambda: words in caplog.text)
    assert sum(words in message for message in caplog.messages) == 1


@in_both_versions
def test_mosquitto_that_denies_the_subscription_is_a_fault_and_not_a_connection(tmp_path: Path, newest: bool) -> None:
    plugin = next((p for f in PLUGINS if (p := Path(f) / "mosquitto_dynamic_security.so").exists()), None)
    if plugin is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    rights = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    file = tmp_path / "rights.json"
    file.write_text(json.dumps({"defaultACLAccess": rights, "clients": [], "groups": [], "roles": []}))
    settings = f"plugin {plugin}", f"plugin_opt_config_file {file}"
    with _mosquitto(tmp_path, *settings) as url, _source(url, newest=newest) as source:
        assert (source.connected, source.listening) == (True, False)
        assert "refuses the subscription" in str(source.fault)


@in_both_versions
def test_mosquitto_with_qos_0_only_gets_a_will_and_alerts_that_it_takes(tmp_path: Path, newest: bool) -> None:
    received: list[bytes] = []
    with _mosquitto(tmp_path, "max_qos 0") as url:
        other = connection.make_client(url, "other")
        other.on_message = lambda _c, _d, message: received.append(bytes(message.payload))
        other.on_connect = lambda client, *_: client.subscribe("out")
        connection.connect(other, url)
        other.loop_start()
        begin_s = time.monotonic()
        with _source(url, newest=newest) as source:
            assert "grants QoS 0 only" in str(source.fault)
            time.sleep(0.2)
            source.publish("out", b"alert", qos=1, key="k")
            assert source.unconfirmed == 1
            _until(source, lambda: source.take_confirmed() == ["k"])
            _until(source, lambda: received == [b"alert"])
            assert source.connections == 1
        assert time.monotonic() - begin_s < WITHIN_S
        other.disconnect()
        other.loop_stop()


@in_both_versions
@pytest.mark.parametrize("largest", [300, 2000])
def test_a_message_that_is_too_large_for_mosquitto_is_found_out_and_the_others_pass(
    tmp_path: Path, largest: int, newest: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with _mosquitto(tmp_path, f"max_packet_size {largest}") as url, _source(url, newest=newest) as source:
        refused: list[str | None] = []
        confirmed: list[str] = []

        def collect() -> bool:
            refused.extend(source.take_refused())
            confirmed.extend(source.take_confirmed())
            return bool(refused) and "small" in confirmed

        source.publish("out", b"x" * 100, qos=1, key="small")
        source.publish("out", b"x" * (largest + 1), qos=1, key="large")
        _until(source, collect, 2 * WITHIN_S)
        source.publish("out", b"x" * 100, qos=1, key="later")
        _until(source, lambda: collect() and len(confirmed) == 2)
        assert (refused, sorted(confirmed)) == (["large"], ["later", "small"])
        assert "max_packet_size" in str(source.fault)
        connections = source.connections
        source.publish("out", b"x" * (largest + 1), qos=1, key="again")
        assert source.take_refused() == ["again"]
        time.sleep(0.5)
        source.poll(0.0, 10)
        assert source.connections == connections
    assert sum("max_packet_size" in message for message in caplog.messages) == 1


def test_an_answer_that_is_too_large_by_its_correlation_data_takes_nothing_else_with_it(tmp_path: Path) -> None:
    with _mosquitto(tmp_path, "max_packet_size 20000") as url, _source(url, newest=True) as source:
        source.publish("out", b"answer", qos=1, correlation=b"x" * 20000)
        source.publish("out", b"x" * 10000, qos=1, key="alert")
        _until(source, lambda: source.take_confirmed() == ["alert"])
        assert source.take_refused() == [None]
        assert source.connections == 1


@pytest.mark.parametrize("correlation", [None, b"x" * 50, b"x" * 150])
def test_messages_as_large_as_the_broker_says_that_it_takes_pass(tmp_path: Path, correlation: bytes | None) -> None:
    with _mosquitto(tmp_path, "max_packet_size 400") as url, _source(url, newest=True) as source:
        for size in range(180, 400):
            source.publish("out", b"x" * size, qos=1, key=f"{size}", correlation=correlation)
        refused: list[str | None] = []
        confirmed: list[str] = []

        def collect() -> bool:
            refused.extend(source.take_refused())
            confirmed.extend(source.take_confirmed())
            return len(refused) + len(confirmed) == 220

        _until(source, collect)
        assert source.connections == 1
        assert 0 < 400 - int(confirmed[-1]) - len(correlation or b"") < 24


def test_two_clients_of_one_name_are_not_taken_for_messages_that_are_too_large(tmp_path: Path) -> None:
    with _mosquitto(tmp_path) as url, _source(url) as one, _source(url) as two:
        until_s = time.monotonic() + 6
        number = 0
        while time.monotonic() < until_s:
            for source in (one, two):
                source.publish("out", b"x" * 50, qos=1, key=f"k{number}")
                source.poll(0.02, 10)
                source.flush()
            number += 1
        assert one.take_refused() == two.take_refused() == []
        assert "max_packet_size" not in f"{one.fault}{two.fault}"


def test_a_broker_that_restarts_is_not_taken_for_one_that_refuses_wills(caplog: pytest.LogCaptureFixture) -> None:
    manners = Manners()
    with fake_broker(manners) as url, Proxy(url.port) as proxy, _source(proxy.url) as source:
        manners.refuses_will = 0x24
        proxy.cut()
        _until(source, lambda: len(manners.greetings) >= 4)  # it ends connections while it starts
        manners.refuses_will = 0
        _until(source, lambda: source.connected)
        assert manners.greetings[-1] & 0x24 == 0x24
        assert source.fault is None
    assert "last will" not in caplog.text


def _has_connected(source: MqttSource, times: int) -> bool:
    return source.connections == times


def test_a_broker_that_was_slow_to_confirm_twice_is_not_taken_for_one_of_small_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt, "BRIEF_S", 1.0)
    manners = Manners()
    with fake_broker(manners) as url, Proxy(url.port) as proxy, _source(proxy.url) as source:
        manners.confirms = False
        source.publish("out", b"x" * 600, qos=1, key="large")
        for connections in (2, 3):
            _until(source, lambda: source.connected)
            proxy.cut()
            _until(source, partial(_has_connected, source, connections))
        manners.confirms = True
        _until(source, lambda: source.take_confirmed() == ["large"])
        assert (source.take_refused(), source.fault) == ([], None)


def test_a_broker_that_is_unavailable_for_now_is_waited_for() -> None:
    manners = Manners()
    with fake_broker(manners) as url, Proxy(url.port) as proxy, _source(proxy.url) as source:
        manners.answer = b"\x20\x02\x00\x03"
        proxy.cut()
        _until(source, lambda: len(manners.greetings) >= 3)
        manners.answer = b"\x20\x02\x00\x00"
        _until(source, lambda: source.connected)
        assert source.fault is None


def test_a_subscription_that_is_not_required_makes_nobody_deaf() -> None:
    with fake_broker(Manners(grants=0x80)) as url:
        source = MqttSource(url, "monitor", [Subscription("in", 1, required=False)])
        source.open()
        assert (source.connected, source.listening) == (True, True)
        assert "refuses the subscription to in" in str(source.fault)
        source.close()


@pytest.mark.parametrize("answer", [None, b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"])
def test_a_broker_that_does_not_speak_mqtt_5_is_greeted_in_the_older_version_from_then_on(
    answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    manners = Manners(speaks_5=False, refusal=answer)
    with (
        fake_broker(manners) as url,
        Proxy(url.port) as proxy,
        _source(proxy.url, is_open=False, newest=True) as source,
    ):
        source.publish("out", b"x", qos=1, key="before")
        source.open()
        assert (manners.versions, source.fault) == ([5, 4], None)
        _until(source, lambda: source.take_confirmed() == ["before"])
        proxy.cut()
        _until(source, partial(_has_connected, source, 2))
        assert manners.versions == [5, 4, 4]
    assert "last will" not in caplog.text


def test_a_broker_behind_tls_that_ends_a_greeting_in_mqtt_5_is_greeted_in_the_older_version(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine, context = authority.issue("broker"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine.certfile, mine.keyfile)
    manners, files = Manners(speaks_5=False), connection.TlsFiles(authority.certfile)
    with fake_broker(manners, context) as url:
        source = MqttSource(url, "monitor", [Subscription("in", 1)], tls=files)
        source.prefer_newest()
        source.open()
        assert (manners.versions, source.connected, source.fault) == ([5, 4], True, None)
        source.close()


def test_a_broker_that_keeps_nothing_says_so_in_mqtt_5_and_gets_a_will_that_it_takes(tmp_path: Path) -> None:
    with _mosquitto(tmp_path, "retain_available false") as url, _source(url, newest=True) as source:
        assert "accepted: QoS 1, not retained" in str(source.fault)
        source.publish("out", b"x", qos=1, retain=True, key="k")
        _until(source, lambda: source.take_confirmed() == ["k"])
        assert source.connections == 1


@pytest.mark.parametrize("most", [3, 20])
def test_a_broker_gets_no_more_unconfirmed_messages_than_it_takes(tmp_path: Path, most: int) -> None:
    received: list[bytes] = []
    with _mosquitto(tmp_path, f"max_inflight_messages {most}") as url, Proxy(url.port) as proxy:
        other = connection.make_client(url, "other")
        other.on_message = lambda _c, _d, message: received.append(bytes(message.payload))
        other.on_connect = lambda client, *_: client.subscribe("out", 1)
        connection.connect(other, url)
        other.loop_start()
        wanted = [b"%d" % i for i in range(90)]
        with _source(proxy.url, is_open=False, newest=True) as source:
            for payload in wanted[:30]:
                source.publish("out", payload, qos=1)
            source.open()
            for payload in wanted[30:60]:
                source.publish("out", payload, qos=1)
            assert not source.flush()
            assert len(list(source._client.waiting())) == most
            proxy.cut()
            for payload in wanted[60:]:
                source.publish("out", payload, qos=1)
            _until(source, lambda: source.unconfirmed == 0)
            _until(source, lambda: wanted[-1] in received)
            assert source.connections == 2
        other.disconnect()
        other.loop_stop()
    assert sorted(set(received), key=received.index) == wanted


def test_what_is_kept_until_it_is_confirmed_does_not_wait_for_what_is_not(tmp_path: Path) -> None:
    with _mosquitto(tmp_path, "max_inflight_messages 20") as url, _source(url, newest=True) as source:
        for _ in range(2000):
            source.publish("out", b"beat", qos=1)
        source.publish("out", b"alert", qos=1, key="k")
        _until(source, lambda: source.take_confirmed() == ["k"])
        assert source.unconfirmed > 1500


def test_what_the_broker_drops_is_a_fault_in_mqtt_5(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite in\ntopic write allowed\ntopic write will\n")
    with _mosquitto(tmp_path, f"acl_file {rules}") as url, _source(url, newest=True) as source:
        source.publish("allowed", b"x", qos=1, key="k")
        _until(source, lambda: source.take_confirmed() == ["k"])
        assert source.fault is None
        source.publish("forbidden", b"x", qos=1, key="l")
        _until(source, lambda: source.take_confirmed() == ["l"])
        assert "drops messages of this monitor (not authorized)" in str(source.fault)
