"""The running monitor against real brokers: what it tells, what it survives, how it stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.broker import connection
from monitor.broker.client import Client as PolledClient
from monitor.broker.connection import BrokerUrl
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.source import Subscription
from monitor.engine import Engine
from monitor.panel import load_panel
from monitor.service.loop import Loop
from monitor.service.run import LEAVES, Service
from monitor.service.settings import ServiceSettings
from monitor.state.location import locate
from monitor.state.store import OutboxMessage
from simulator.broker import EmbeddedBroker, free_port
from tests.conftest import find_mosquitto, listens, run_mosquitto
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.subscriber import Subscriber

RATE_HZ = 250.0
TOPICS = wire.Topics()


class Client(Subscriber):
    """A device and a subscriber in one: publishes, and keeps what arrives."""

    def play(
        self,
        device: str,
        seconds: float,
        rr_s: float = 0.8,
        binary: bool = True,
        among: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Publish an ECG in packets of one second, as fast as the broker takes it, each after other messages."""
        samples = make_ecg(beat_times(seconds, rr_s), seconds, RATE_HZ)
        for seq, start in enumerate(range(0, samples.size, 250)):
            packet = wire.Packet(seq, 1e9 + start / RATE_HZ, RATE_HZ, samples[start : start + 250])
            for topic, payload in among:
                self.client.publish(topic, payload, qos=1)
            by_hand = wire.Samples(
                seq=seq, start_s=packet.start_s, rate_hz=RATE_HZ, samples=packet.samples.astype(int).tolist()
            )
            self.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet) if binary else wire.encode(by_hand))

    def on(self, leaf: str, device: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload in self.received if topic == TOPICS.of(device, leaf)]

    def statuses(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(p) for topic, p in self.received if topic == TOPICS.monitor_status(name)]


@contextmanager
def _client(url: BrokerUrl) -> Iterator[Client]:
    client = Client(url, f"{wire.PREFIX}/#")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _running(url: BrokerUrl, name: str, **settings: Any) -> Iterator[Service]:
    """A monitor in a thread of its own; leaving the context stops it and waits until it is done."""
    service = Service(ServiceSettings(broker=url, name=name, provider="cpu", publish_beats=True, **settings))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            service.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(20)
    assert not thread.is_alive()
    assert not failed, failed


CLIENT_ID = "monitor"
FLAT = [wire.encode_packet(wire.Packet(seq, 1e9, RATE_HZ, np.ones(3, np.int16))) for seq in (0, 1)]


@contextmanager
def _in_memory(broker: MemoryBroker, **settings: Any) -> Iterator[tuple[Service, Loop]]:
    """A monitor on a broker in memory, turned by hand; leaving the context finishes it."""
    wanted = [Subscription(TOPICS.of("+", leaf), 1) for leaf in LEAVES]
    will = TOPICS.monitor_status("monitor"), b"{}"
    source = MemorySource(broker, CLIENT_ID, wanted, will=will)
    service = Service(ServiceSettings(provider="cpu", **settings), source=source)
    source.open()
    with service.assembled() as loop:
        loop.turn(0.0)
        yield service, loop
        loop.finish()


def _wait(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _turn_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Let the loop turn until something has become true."""

    def turn() -> object:
        loop.turn(0.0)
        return condition()

    _wait(turn)


def _online(client: Client, name: str) -> bool:
    return any(status["state"] == "online" for status in client.statuses(name))


@pytest.mark.parametrize("binary", [True, False])
def test_packets_in_beats_and_alerts_out(broker_url: BrokerUrl, binary: bool) -> None:
    device, name = f"path-{binary}", f"path-{binary}"
    with _client(broker_url) as client:
        with _running(broker_url, name, alerts=AlertSettings(n=1, m=1)) as service:
            _wait(lambda: _online(client, name))
            # From probability 0 on every beat is abnormal, whatever the model thinks of a synthetic ECG.
            service.panel.main.info = msgspec.structs.replace(service.panel.info, threshold=0.0)
            info = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=1e9)
            client.publish(TOPICS.of(device, "info"), wire.encode(info), retain=True)
            client.play(device, 30.0, binary=binary)
            _wait(lambda: service.engine.counts["packets"] == 30)
        _wait(lambda: client.statuses(name)[-1]["state"] == "offline")
    beats, alerts = client.on("beats", device), client.on("alerts", device)
    judged = [beat for beat in beats if beat["verdict"] != "withheld"]
    assert len(judged) >= 30
    assert len({beat["id"] for beat in beats}) == len(beats)
    assert {beat["verdict"] for beat in judged} == {"abnormal"}
    assert alerts[0]["state"] == "new"
    assert alerts[0]["waveform"]["unit"] == "uV"
    last = client.statuses(name)[-1]
    counts = last["counts"]
    assert (last["overloaded_since_s"], last["behind_s"] < 5) == (None, True)
    assert last["devices"] == last["streaming"] + last["lead_off"] + last["silent"]
    assert counts["packets"] == 30
    assert counts["alerts"] == len(alerts)


def test_what_came_before_the_stop_is_told_before_the_monitor_leaves(broker_url: BrokerUrl) -> None:
    with _client(broker_url) as client:
        with _running(broker_url, "leaving") as service:
            _wait(lambda: _online(client, "leaving"))
            client.play("leaving", 20.0)
            _wait(lambda: service.engine.counts["packets"] == 20)
        _wait(lambda: client.statuses("leaving")[-1]["state"] == "offline")
        told = client.statuses("leaving")[-1]["counts"]
        _wait(lambda: len(client.on("beats", "leaving")) == sum(n for k, n in told.items() if k.startswith("beats ")))


@pytest.mark.parametrize("leaf", ["samples", "info"])
def test_garbage_is_counted_and_disturbs_nobody(broker_url: BrokerUrl, leaf: str) -> None:
    name = f"garbage-{leaf}"
    rng = np.random.default_rng(0)
    with _client(broker_url) as client:
        with _running(broker_url, name) as service:
            _wait(lambda: _online(client, name))
            for size in (0, 1, 10, 1000, 100_000):
                client.publish(TOPICS.of("bad", leaf), rng.bytes(size))
            client.publish(TOPICS.of("bad id!", leaf), b"{}")
            client.play(f"good-{leaf}", 20.0)
            _wait(lambda: service.engine.counts["packets"] == 20)
        _wait(lambda: len(client.on("beats", f"good-{leaf}")) >= 20)
    cleared = leaf == "info"  # nothing, where something may be retained, is no message
    assert service.engine.counts["rejected"] == 6 - cleared


@pytest.mark.parametrize("flood", [b"nonsense", wire.encode_packet(wire.Packet(0, 1e9, RATE_HZ, np.ones(1, np.int16)))])
def test_a_device_that_floods_is_refused_and_changes_no_beat_of_another(
    broker_url: BrokerUrl, flood: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("monitor.rate_limit.MESSAGE_S", 0.9)
    name, device = f"flooded-{len(flood)}", f"calm-{len(flood)}"
    client = Client(broker_url, TOPICS.of(device, "beats"), TOPICS.monitor_status(name))
    try:
        with _running(broker_url, name) as service:
            _wait(lambda: _online(client, name))
            client.play(device, 30.0, among=[(TOPICS.of("flooding", "samples"), flood)] * 50)
            came = ("packets", "rejected", "refused: too many packets")
            _wait(lambda: sum(service.engine.counts[name] for name in came) == 30 * 51)
        _wait(lambda: client.statuses(name)[-1]["state"] == "offline")
        expected = _expected_beats(device, 30.0)
        _wait(lambda: len(client.on("beats", device)) >= len(expected))
    finally:
        client.close()
    assert [msgspec.convert(beat, wire.Beat) for beat in client.on("beats", device)] == expected
    assert service.engine.counts["refused: too many packets"] > 1000
    assert sum("more messages than its share" in message for message in caplog.messages) == 1


def _expected_beats(device: str, seconds: float) -> list[wire.Beat]:
    """What an engine finds that hears nobody else."""
    engine = Engine(load_panel())
    samples = make_ecg(beat_times(seconds), seconds, RATE_HZ)
    for seq, start in enumerate(range(0, samples.size, 250)):
        engine.feed(device, wire.Packet(seq, 1e9 + start / RATE_HZ, RATE_HZ, samples[start : start + 250]), 0.0)
    told = engine.flush().beats
    engine.forget(float("inf"))
    return told + engine.flush().beats


def test_a_monitor_that_dies_is_shown_as_offline(broker_url: BrokerUrl) -> None:
    command = [sys.executable, "-m", "monitor", "run", "--broker", str(broker_url), "--name", "dying"]
    with _client(broker_url) as client:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _wait(lambda: _online(client, "dying"), 60)
        finally:
            process.kill()
            process.wait()
        _wait(lambda: client.statuses("dying")[-1]["state"] == "offline")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with EmbeddedBroker(port=0) as broker, _client(broker.url) as client:
        command = [sys.executable, "-m", "monitor", "run", "--broker", str(broker.url), "--name", "signalled"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _wait(lambda: _online(client, "signalled"), 60)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in said


def test_a_broker_that_goes_away_is_waited_for() -> None:
    port = free_port()
    with EmbeddedBroker(port, free_port()) as broker, _running(broker.url, "patient") as service:
        with _client(broker.url) as client:
            _wait(lambda: _online(client, "patient"))
            client.play("before", 10.0)
            _wait(lambda: service.engine.counts["packets"] == 10)
        broker.stop()
        time.sleep(1.0)
        with EmbeddedBroker(port, free_port()) as again, _client(again.url) as client:
            _wait(lambda: _online(client, "patient"), 40)
            client.play("after", 20.0)
            _wait(lambda: len(client.on("beats", "after")) >= 20)


def test_a_device_hears_at_once_from_where_on_a_monitor_that_was_away_needs_its_packets(tmp_path: Path) -> None:
    port = free_port()
    with EmbeddedBroker(port, free_port()) as broker:
        with _running(broker.url, "away", state=tmp_path) as service, _client(broker.url) as client:
            _wait(lambda: _online(client, "away"))
            client.play("kept", 10.0)
            _wait(lambda: {"seq": 10} in client.on("ack", "kept"))
        with _running(broker.url, "away", state=tmp_path) as service, _client(broker.url) as client:
            _wait(lambda: _online(client, "away"))
            far = wire.Packet(100, 1e9 + 100, RATE_HZ, np.ones(250, np.int16))
            client.publish(TOPICS.of("kept", "samples"), wire.encode_packet(far))
            _wait(lambda: client.on("ack", "kept"))
            assert client.on("ack", "kept")[0] == {"seq": 10}
            client.close()
            broker.stop()
            with EmbeddedBroker(port, free_port()) as again, _client(again.url) as anew:
                _wait(lambda: anew.on("ack", "kept"), 40)
                assert {ack["seq"] for ack in anew.on("ack", "kept")} == {10}
    assert service.engine.counts["packets"] == 1


def test_a_subscription_that_a_broker_has_lost_is_renewed_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    with _in_memory(broker) as (service, loop):
        broker.publish(
            TOPICS.of("a", "samples"), wire.encode_packet(wire.Packet(0, 1e9, RATE_HZ, np.ones(3, np.int16)))
        )
        loop.turn(0.0)
        broker.sessions[CLIENT_ID].subscriptions.clear()
        now = time.monotonic()
        for later_s in (30, 61, 61, 122):
            loop.housekeeping(now + later_s)
        assert service.engine.counts["resubscribed after silence"] == 2
        broker.publish(
            TOPICS.of("a", "samples"), wire.encode_packet(wire.Packet(1, 1e9, RATE_HZ, np.ones(3, np.int16)))
        )
        loop.turn(0.0)
        assert service.engine.counts["packets"] == 2


def test_a_broker_that_is_not_there_is_one_clear_line() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    for verb in ("run", "watch"):
        done = subprocess.run(
            [sys.executable, "-m", "monitor", verb, "--broker", url], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith(f"monitor: No broker reached at {url}")
        assert "Traceback" not in done.stderr


def test_with_a_log_of_json_that_line_is_json_as_well() -> None:
    command = [sys.executable, "-m", "monitor", "run", "--log", "json", "--broker", f"mqtt://127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    [line] = map(json.loads, done.stderr.splitlines())
    assert line["level"] == "ERROR"
    assert line["message"].startswith("No broker reached at")


@contextmanager
def _guarded_mosquitto(folder: Path) -> Iterator[BrokerUrl]:
    """A mosquitto that lets in anna with the password "secret", and nobody else."""
    path, port, passwords = find_mosquitto(), free_port(), folder / "passwords"
    make = Path(path).with_name("mosquitto_passwd")
    if not make.exists():
        make = Path("/usr/bin/mosquitto_passwd")
    subprocess.run([str(make), "-c", "-b", str(passwords), "anna", "secret"], check=True, capture_output=True)
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n")
    process = subprocess.Popen([path, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: listens(port))
        yield BrokerUrl("127.0.0.1", port, "anna")
    finally:
        process.terminate()
        process.wait(10)


def test_a_password_that_is_refused_is_one_clear_line_and_the_right_one_connects(tmp_path: Path) -> None:
    with _guarded_mosquitto(tmp_path) as url:
        command = [sys.executable, "-m", "monitor", "run", "--broker", str(url)]
        wrong = subprocess.run(
            command, env=os.environ | {"ECGWATCH_PASSWORD": "wrong"}, capture_output=True, text=True, timeout=60
        )
        assert wrong.returncode == 2
        assert "refused the connection: Not authorized" in wrong.stderr
        assert "wrong" not in wrong.stderr
        right = subprocess.Popen(command, env=os.environ | PASSWORD, stderr=subprocess.PIPE, text=True)
        assert right.stderr is not None
        assert "connected" in right.stderr.readline()
        right.terminate()
        right.communicate(timeout=20)


PASSWORD = {"ECGWATCH_PASSWORD": "secret"}
SAMPLES = [12321, -23432, 31113, 24642]


@pytest.mark.parametrize(("kind", "workers"), [("text", 1), ("json", 1), ("json", 2)])
def test_the_log_holds_neither_the_password_nor_what_devices_send(kind: str, workers: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor", "run", "--name", "discreet", "--log", kind, "--workers", str(workers)]
    with _guarded_mosquitto(tmp_path) as url:
        process = subprocess.Popen(
            [*command, "--broker", str(url)], env=os.environ | PASSWORD, stderr=subprocess.PIPE, text=True
        )
        client = Client(url, TOPICS.monitor_status("discreet"), password="secret")
        _wait(lambda: _online(client, "discreet"), 60)
        topic, fields = TOPICS.of("patch", "samples"), {"seq": 0, "start_s": 1e9, "rate_hz": 250.0}
        client.publish(topic, wire.encode_packet(wire.Packet(0, 1e9, 250.0, np.array(SAMPLES, np.int16))))
        for bad in ([*SAMPLES, 99999], str(SAMPLES), SAMPLES * 20_000):
            client.publish(topic, json.dumps(fields | {"samples": bad}).encode())
        client.publish(topic, np.array(SAMPLES, "<i2").tobytes())
        client.publish(TOPICS.of("patch", "info"), json.dumps({"lead": str(SAMPLES)}).encode())
        client.close()
        time.sleep(1)
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "secret" not in said
    assert not any(str(abs(value)) in said for value in SAMPLES)
    assert said.count("dropped a message on ecg/v1/patch/samples") == 1
    if kind == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert all({"time", "level", "logger", "monitor", "message"} <= set(line) for line in lines)
        assert {line["topic"] for line in lines if "dropped" in line["message"]} == {topic, TOPICS.of("patch", "info")}


def test_a_message_that_breaks_the_engine_does_not_break_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    with _in_memory(broker) as (service, loop):
        monkeypatch.setattr(service.engine, "feed", lambda *_: 1 / 0)
        packet = wire.Packet(0, 1.0, 250.0, np.ones(3, np.int16))
        broker.publish(TOPICS.of("a", "samples"), wire.encode_packet(packet))
        loop.turn(0.0)
    assert service.engine.counts["internal errors"] == 1


@pytest.mark.parametrize(("setting", "value"), [("name", "no spaces"), ("prefix", "a/#")])
def test_settings_that_cannot_work_are_refused_at_the_start(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Service(ServiceSettings(provider="cpu", **{setting: value}))  # type: ignore[arg-type]


@contextmanager
def _tls_mosquitto(folder: Path) -> Iterator[tuple[BrokerUrl, Path]]:
    """A mosquitto behind TLS, and the certificate authority that vouches for it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    path, port = find_mosquitto(), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\nuser root\n"
    )
    process = subprocess.Popen([path, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: listens(port))
        yield BrokerUrl("127.0.0.1", port, tls=True), certificate
    finally:
        process.terminate()
        process.wait(10)


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_over_tls_it_serves_as_in_the_clear_and_a_stranger_s_certificate_is_refused(tmp_path: Path) -> None:
    with _tls_mosquitto(tmp_path) as (url, certificate):
        with _running(url, "secret", tls=connection.TlsFiles(certificate)) as service:
            device = connection.make_client(url, "tls-device", cafile=certificate)
            connection.connect(device, url)
            device.loop_start()
            _wait(lambda: device.is_connected() and service.board.ready)
            samples = make_ecg(beat_times(20.0), 20.0, RATE_HZ)
            for seq in range(20):
                packet = wire.Packet(seq, 1e9 + seq, RATE_HZ, samples[seq * 250 : (seq + 1) * 250])
                device.publish(TOPICS.of("tls", "samples"), wire.encode_packet(packet), qos=1).wait_for_publish(10)
            _wait(lambda: service.engine.counts["packets"] == 20)
            device.disconnect()
            device.loop_stop()
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            Service(ServiceSettings(broker=url, provider="cpu")).run()


def test_a_message_never_gets_the_id_of_another_that_is_on_its_way() -> None:
    client = connection.make_client(BrokerUrl("127.0.0.1"), "c", kind=PolledClient)
    waiting = client.publish("alert", b"", qos=1).mid
    ids = {client.publish("beat", b"", qos=0).mid for _ in range(65_536)}
    assert waiting not in ids
    assert len(ids) == 65_534


def test_a_monitor_that_waits_for_another_and_is_stopped_leaves_that_alone(
    broker_url: BrokerUrl, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _client(broker_url) as client, _running(broker_url, "first", state=tmp_path):
        _wait(lambda: _online(client, "first"))
        with _running(broker_url, "first", state=tmp_path):
            _wait(lambda: "waiting until it stops" in caplog.text)
        time.sleep(0.5)
    assert "lost the broker" not in caplog.text


def test_long_topics_of_a_hostile_client_are_not_kept() -> None:
    broker = MemoryBroker()
    with _in_memory(broker) as (service, loop):
        for number in range(10):
            broker.publish(TOPICS.of("x" * 60_000 + str(number), "samples"), b"")
        loop.turn(0.0)
        assert service.engine.counts["rejected"] == 10
        assert sum(map(len, loop._parts.intake._complaints._made)) < 1000


def test_an_outage_makes_no_device_silent() -> None:
    broker = MemoryBroker()
    with _in_memory(broker) as (service, loop):
        attention, packet = loop._health.attention, wire.Packet(0, 1e9, RATE_HZ, np.zeros(250, np.int16))
        broker.publish(TOPICS.of("a", "samples"), wire.encode_packet(packet))
        loop.turn(0.0)
        now = time.monotonic()
        attention.is_listening = False
        for _ in range(500):
            attention.turn(now := now + 2)
        attention.is_listening = True
        attention.turn(now := now + 3600)  # and then the process was stopped for an hour
        loop.housekeeping(now)
        assert (service.engine.devices, service.engine.tally(attention.arrived_s(now)).streaming) == (1, 1)
        for _ in range(301):
            attention.turn(now := now + 2)
        loop.housekeeping(now)
        assert service.engine.devices == 0


def _silences(broker: MemoryBroker, device: str) -> list[str]:
    """States of the alerts that a device is silent, as an onlooker got them."""
    alerts = []
    while (message := broker.deliver("onlooker")) is not None:
        alert = json.loads(message.payload)
        if alert["kind"] == "device-silent" and alert["device"] == device:
            alerts.append(alert["state"])
    return alerts


def test_a_last_will_is_alerted_at_once_and_a_retained_one_is_not(tmp_path: Path) -> None:
    broker, offline = MemoryBroker(), wire.encode(wire.DeviceStatus(state="offline"))
    broker.attach("onlooker", [Subscription(TOPICS.of("+", "alerts"), 1)], clean=True)
    broker.publish(TOPICS.of("gone-long-ago", "status"), offline, retain=True)
    with _in_memory(broker, state=tmp_path) as (service, loop):
        assert service.engine.devices == 0
        for payload in FLAT:
            broker.publish(TOPICS.of("a", "samples"), payload)
        broker.publish(TOPICS.of("a", "status"), offline)
        broker.publish(TOPICS.of("never-heard", "status"), offline)
        _turn_until(loop, lambda: service.engine.devices == 1)
    assert _silences(broker, "a") == ["new"]
    with _in_memory(broker, state=tmp_path) as (service, loop):  # another process goes on
        broker.publish(
            TOPICS.of("a", "samples"), wire.encode_packet(wire.Packet(2, 1e9, RATE_HZ, np.ones(3, np.int16)))
        )
        _turn_until(loop, lambda: service.engine.devices == 1)
    assert _silences(broker, "a") == ["end"]


def test_silence_that_was_alerted_is_saved_without_a_packet(tmp_path: Path) -> None:
    broker = MemoryBroker()
    broker.attach("onlooker", [Subscription(TOPICS.of("+", "alerts"), 1)], clean=True)
    with _in_memory(broker, state=tmp_path, alerts=AlertSettings(silent_s=0.1)) as (_, loop):
        for payload in FLAT:
            broker.publish(TOPICS.of("a", "samples"), payload)
        for _ in range(3):
            loop.turn(0.0)
            time.sleep(0.15)
        loop.turn(0.0)
        store = loop._parts.store
        assert store is not None
        state = store.read_states(["a"])["a"]
    assert b"device-silent" in state
    assert _silences(broker, "a") == ["new"]


def test_what_a_broken_batch_leaves_is_computed_again_by_the_next_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_mosquitto(find_mosquitto(), tmp_path) as url, _client(url) as client:

        def play_until_it_breaks() -> None:
            with _running(url, "broken", state=tmp_path) as service:
                _wait(lambda: _online(client, "broken"))
                monkeypatch.setattr(service.panel.main, "probabilities", _break)
                client.play("torn", 20)
                _wait(lambda: service.engine.counts["packets"] > 0)

        with pytest.raises(AssertionError, match="no memory"):
            play_until_it_breaks()
        with _running(url, "broken", state=tmp_path) as service:
            _wait(lambda: service.engine.counts["packets"] == 20)
            _wait(lambda: len(client.on("beats", "torn")) >= 20)
    samples = make_ecg(beat_times(20.0, 0.8), 20.0, RATE_HZ)
    engine = Engine(load_panel())
    for seq in range(20):
        engine.feed("torn", wire.Packet(seq, 1e9 + seq, RATE_HZ, samples[seq * 250 : (seq + 1) * 250]), 0.0)
    assert {beat["id"] for beat in client.on("beats", "torn")} == {beat.id for beat in engine.flush().beats}


def _break(*_: object) -> Any:
    raise MemoryError("no memory")


def test_alerts_told_while_the_broker_is_away_are_in_the_file_when_the_monitor_stops(tmp_path: Path) -> None:
    message = OutboxMessage("a-1", "a", time.time(), TOPICS.of("a", "alerts"), b"{}")
    broker = MemoryBroker()
    with _in_memory(broker, state=tmp_path) as (_, loop):
        broker.cut(CLIENT_ID)
        broker.is_up = False
        loop._parts.checkpoint.outbox.add(message)
    assert locate(tmp_path).read_history("monitor", 0.0) == [(message.published_s, b"{}")]


def test_a_connection_that_does_not_last_is_not_made_anew_at_once(
    broker_url: BrokerUrl, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _running(broker_url, "twin", state=tmp_path / "a") as one, _running(broker_url, "twin", state=tmp_path / "b"):
        _wait(lambda: "is another client called ecgwatch-twin?" in caplog.text)
        time.sleep(3)
        assert one.settings.name == "twin"
    assert caplog.text.count("ended the connection") < 20
