"""The load generator, through real brokers."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from simulator.__main__ import main
from simulator.broker import HOST, EmbeddedBroker, free_port
from simulator.load import STREAMS, Frames, Load, LoadSettings, LoadSummary, classes_of, make_loops, write_streams
from simulator.publisher import Link, publish_frame
from tests.conftest import find_mosquitto, listens
from tests.simulator.recorder import Recorder, wait_for

SMALL = LoadSettings(devices=100, packet_s=0.1, seconds=1)


@pytest.fixture
def topics() -> wire.Topics:
    """Topics of this test only: the broker serves all tests and keeps retained messages."""
    return wire.Topics(f"test/{uuid4().hex}")


def packets_by_device(recorder: Recorder, topics: wire.Topics) -> dict[str, list[wire.Packet]]:
    packets: dict[str, list[wire.Packet]] = defaultdict(list)
    for message in recorder.messages:
        device, leaf = topics.parse(message.topic)
        if leaf == "samples":
            packets[device].append(wire.decode_packet(bytes(message.payload)))
    return packets


class FakeBroker:
    """Accepts a connection, and acknowledges while `willing`; keeps the first byte of each packet."""

    def __init__(self, connection: socket.socket, willing: Callable[[int], bool]) -> None:
        self.got: list[int] = []
        self._file, self._connection, self._willing = connection.makefile("rb"), connection, willing

    def serve(self) -> None:
        while head := self._file.read(1):
            body, first = self._file.read(self._length()), head[0]
            while not self._willing(len(self.got)):
                time.sleep(0.01)
            self.got.append(first)
            if first == 0x10:
                self._connection.sendall(b"\x20\x02\x00\x00")
            elif first & 0xF0 == 0x30:
                topic_end = 2 + int.from_bytes(body[:2], "big")
                self._connection.sendall(b"\x40\x02" + body[topic_end : topic_end + 2])
            elif first == 0xC0:
                self._connection.sendall(b"\xd0\x00")

    def _length(self) -> int:
        length = shift = 0
        while True:
            byte = self._file.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return length


@contextmanager
def fake_broker(willing: Callable[[int], bool] = lambda _: True) -> Iterator[tuple[BrokerUrl, list[FakeBroker]]]:
    """Serve one connection."""
    brokers: list[FakeBroker] = []
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # the load may disconnect before the answer
                brokers.append(FakeBroker(connection, willing))
                brokers[0].serve()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield BrokerUrl(HOST, server.getsockname()[1]), brokers
        thread.join(5)


def test_filled_frames_decode_as_their_packets() -> None:
    samples = np.arange(-500, 500, dtype=np.int16).reshape(4, 250)
    frames = Frames([f"load-{number}" for number in range(6)], 250.0, 250, wire.Topics())
    start_s = 1.7e9 + np.arange(4) / 7
    filled = bytes(frames.fill(slice(1, 5), 41, start_s, np.array([65_534, 65_535, 1, 2]), samples))
    for number, packet_id in enumerate((65_534, 65_535, 1, 2)):
        frame, filled = filled[: frames.frame_bytes], filled[frames.frame_bytes :]
        payload = wire.encode_packet(wire.Packet(2**53, 0.0, 250.0, samples[0]))
        assert (
            frame[: -len(payload)]
            == publish_frame(f"ecg/v1/load-{number + 1}/samples", payload, packet_id)[: -len(payload)]
        )
        packet = wire.decode_packet(frame[-len(payload) :])
        assert (packet.seq, packet.start_s, packet.rate_hz) == (41, start_s[number], 250.0)
        np.testing.assert_array_equal(packet.samples, samples[number])
    assert filled == b""


@pytest.mark.parametrize(("packet_samples", "seq"), [(1, 0), (127, 255), (128, 2**16), (40_000, 2**32)])
def test_packets_of_any_length_and_number_decode(packet_samples: int, seq: int) -> None:
    frames = Frames(["a"], 130.06, packet_samples, wire.Topics())
    samples = np.arange(packet_samples, dtype=np.int16)[None]
    frame = bytes(frames.fill(slice(0, 1), seq, np.array([1.7e9]), np.array([1]), samples))
    payload = frame[frame.index(b"/samples") + len("/samples") + 2 :]
    packet = wire.decode_packet(payload)
    assert (packet.seq, packet.start_s, packet.rate_hz) == (seq, 1.7e9, 130.06)
    np.testing.assert_array_equal(packet.samples, samples[0])


def test_streams_have_the_given_heart_rate_and_loop_without_a_step() -> None:
    loops = make_loops(LoadSettings(bpm=90, abnormal=0)).astype(np.float64)
    assert loops.shape == (STREAMS, 15_000)
    assert len({loop.tobytes() for loop in loops}) == STREAMS
    for loop in loops:
        spectrum = np.abs(np.fft.rfft(loop - loop.mean()))
        assert spectrum[85:96].argmax() == 5  # 90 beats per loop: their fundamental, 85 + 5
        assert abs(loop[0] - loop[-1]) <= np.abs(np.diff(loop)).max()


def test_same_seed_plays_the_same() -> None:
    first, again, other = (make_loops(LoadSettings(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
def test_fraction_of_abnormal_beats_is_exact_over_all_streams(share: float) -> None:
    settings = LoadSettings(abnormal=share)
    classes = [label for number in range(STREAMS) for label in classes_of(number, settings)]
    assert len(classes) == STREAMS * 72
    assert classes.count("abnormal") == round(len(classes) * share)


def test_every_packet_arrives_once_and_in_order(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        summary = Load(SMALL, broker_url, topics).run()
        wait_for(lambda: len(recorder.messages) >= 1100)
    assert (summary.packets, summary.acknowledged, summary.unsent) == (1000, 1000, 0)
    packets = packets_by_device(recorder, topics)
    assert sorted(packets) == [f"load-{number:03d}" for number in range(1, 101)]
    for of_device in packets.values():
        assert [packet.seq for packet in of_device] == list(range(10))
        starts = [packet.start_s for packet in of_device]
        np.testing.assert_allclose(np.diff(starts), 0.1, atol=1e-6)


def test_devices_play_streams_from_their_own_start_positions(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, topics.of("+", "samples")) as recorder:
        Load(SMALL, broker_url, topics).run()
        wait_for(lambda: len(recorder.messages) == 1000)
    played = {
        device: np.concatenate([packet.samples for packet in packets])
        for device, packets in packets_by_device(recorder, topics).items()
    }
    assert len({signal.tobytes() for signal in played.values()}) == 100
    around = np.concatenate([loops := make_loops(SMALL), loops[:, :250]], axis=1)
    for number in (1, 50, 100):
        signal = played[f"load-{number:03d}"]
        stream = around[(number - 1) % STREAMS]
        assert any(np.array_equal(stream[place : place + 250], signal) for place in range(15_000))


def test_info_is_retained_and_comes_before_the_samples(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        Load(SMALL, broker_url, topics).run()
        wait_for(lambda: len(recorder.messages) == 1100)
    assert all(message.topic.endswith("/info") for message in recorder.messages[:100])
    with Recorder(broker_url, f"{topics.prefix}/#") as late:
        wait_for(lambda: len(late.messages) == 100)
    info = wire.decode(late.payloads(topics.of("load-001", "info"))[0], wire.Info)
    assert (info.rate_hz, info.lead, info.resolution_uv) == (250.0, "II", 1.0)


def test_packets_are_sent_evenly_and_when_their_last_sample_is_due(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    arrived: list[float] = []
    with Recorder(
        broker_url, topics.of("+", "samples"), before=lambda: arrived.append(time.time())
    ) as recorder:  # fmt: skip
        summary = Load(SMALL, broker_url, topics).run()
        wait_for(lambda: len(recorder.messages) == 1000)
    due = np.array([wire.decode_packet(bytes(one.payload)).start_s + 0.1 for one in recorder.messages])
    np.testing.assert_allclose(np.diff(np.sort(due)), 0.001, atol=1e-6)
    latency = np.array(arrived) - due
    assert latency.min() > -0.002
    assert np.median(latency) < 0.2
    assert 0 <= summary.lateness_p50_ms <= summary.lateness_p99_ms <= summary.lateness_max_ms + 0.1


def test_broker_that_pauses_makes_packets_late_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.publisher.MAX_UNACKNOWLEDGED", 20)
    paused_s: list[float] = []

    def willing(messages: int) -> bool:
        if messages == 50:
            paused_s.append(time.monotonic())
        return not paused_s or time.monotonic() - paused_s[0] > 0.8

    with fake_broker(willing) as (url, _):
        summary = Load(LoadSettings(devices=20, packet_s=0.1, seconds=1.5, connections=1), url).run()
    assert (summary.packets, summary.acknowledged, summary.unsent) == (300, 300, 0)
    assert summary.lateness_max_ms > 500
    assert summary.most_unacknowledged == 20


def test_packets_that_the_broker_never_accepts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.publisher.MAX_UNACKNOWLEDGED", 20)
    monkeypatch.setattr("simulator.load.DRAIN_S", 0.2)
    ended = threading.Event()
    with fake_broker(lambda messages: messages < 50 or ended.is_set()) as (url, _):
        summary = Load(LoadSettings(devices=20, packet_s=0.1, seconds=1, connections=1), url).run()
        ended.set()
    assert summary.packets + summary.unsent == 200
    assert summary.packets - summary.acknowledged == 20
    assert summary.unsent > 100


def test_idle_link_sends_pings() -> None:
    with fake_broker() as (url, brokers):
        link = Link(url, "idle")
        for now_s in (0.0, 19.0, 21.0, 40.0, 42.0):
            link.turn(now_s)
        wait_for(lambda: brokers[0].got == [0x10, 0xC0, 0xC0])
        link.turn(43.0)  # reads the answers
        assert (link.sent, link.acknowledged) == (0, 0)
        link.close()
    assert brokers[0].got == [0x10, 0xC0, 0xC0, 0xE0]


def test_packet_ids_wrap_around_to_1() -> None:
    with fake_broker() as (url, _):
        link = Link(url, "ids")
        assert link.next_ids(2).tolist() == [1, 2]
        link.sent = 65_534
        assert link.next_ids(3).tolist() == [65_535, 1, 2]
        link.close()


def test_stop_ends_the_load_at_once(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    stop = threading.Event()
    load = Load(LoadSettings(devices=50, packet_s=0.2), broker_url, topics)
    threading.Timer(0.5, stop.set).start()
    summary = load.run(stop)
    assert summary.seconds < 5
    assert summary.packets == summary.acknowledged > 0


def test_broker_that_goes_away_is_one_clear_error() -> None:
    with EmbeddedBroker(port=0) as broker:
        load = Load(SMALL, broker.url)
        threading.Timer(0.5, broker.stop).start()
        with pytest.raises(ConnectionError, match=r"The broker at .* has gone, after \d+ messages"):
            load.run()


def test_unreachable_broker_is_one_clear_error() -> None:
    with pytest.raises(ConnectionError, match="No broker reached"):
        Load(SMALL, BrokerUrl(HOST, free_port())).run()


def test_broker_of_another_version_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.publisher.CONNECT_S", 0.5)
    with EmbeddedBroker(port=0) as broker, pytest.raises(ConnectionError, match=r"does not answer in MQTT 3\.1\.1"):
        Load(SMALL, BrokerUrl(HOST, broker.port_v5)).run()


def test_password_is_sent_and_a_wrong_one_is_one_clear_error(tmp_path: Path) -> None:
    port, passwords, config = free_port(), tmp_path / "passwords", tmp_path / "mosquitto.conf"
    broker = find_mosquitto()
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "anna", "sesame"], check=True)
    config.write_text(  # "user root": it may read the folder of this test, which is closed to others
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nlog_dest none\nuser root\n"
    )
    url = BrokerUrl(HOST, port, user="anna")
    with subprocess.Popen([broker, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port))
            assert Load(LoadSettings(devices=2, packet_s=0.1, seconds=0.2), url, password="sesame").run().packets == 4
            for wrong in ("open", None):
                with pytest.raises(ConnectionError, match="refuses the connection: not authorized"):
                    Load(SMALL, url, password=wrong).run()
        finally:
            process.terminate()


def test_tls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"No TLS here: got mqtts://127\.0\.0\.1:8883"):
        Load(SMALL, BrokerUrl.parse("mqtts://127.0.0.1")).run()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "Load, devices: got 0, expected 1 to 100000"),
        ({"rate_hz": 10}, "Load, rate in Hz: got 10, expected 50 to 4000"),
        ({"packet_s": 0.001}, "Load, packet in seconds: got 0.001, expected 0.004 to 262.144"),
        ({"bpm": 200}, "Load, beats per minute: got 200, expected 54 to 125"),
        ({"abnormal": 1.5}, "Load, share of abnormal beats: got 1.5, expected 0 to 1"),
        ({"seed": -1}, "Load, seed: got -1"),
        ({"connections": 0}, "Load, connections: got 0"),
        ({"seconds": 0}, "Load, seconds: got 0, expected more than 0"),
        ({"seconds": float("nan")}, "Load, seconds: got nan"),
        ({"rate_hz": float("nan")}, "Load, rate in Hz: got nan"),
        ({"packet_s": float("inf")}, "Load, packet in seconds: got inf"),
    ],
)
def test_impossible_load_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadSettings(**settings)  # type: ignore[arg-type]


def test_interrupted_command_still_reports_as_json() -> None:
    with EmbeddedBroker(port=0) as broker, Recorder(broker.url, "ecg/v1/+/samples") as recorder:
        command = [sys.executable, "-m", "simulator", "load", "--broker", str(broker.url), "--json", "--devices", "50"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            wait_for(lambda: len(recorder.messages) > 50)
            process.send_signal(signal.SIGTERM)
            report = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 0
    assert set(report) == set(LoadSummary.__dataclass_fields__)
    assert report["packets"] == report["acknowledged"] >= 50
    assert report["seconds"] < 60


def test_written_streams_are_those_that_the_devices_play(tmp_path: Path) -> None:
    settings = LoadSettings(devices=40, seconds=90, rate_hz=200.0)
    write_streams(settings, tmp_path / "streams.npz")
    loops = make_loops(settings)
    with np.load(tmp_path / "streams.npz") as file:
        samples = file["samples"]
        assert (float(file["rate_hz"]), float(file["resolution_uv"])) == (200.0, 1.0)
    assert (samples.shape, samples.dtype) == ((40, 18_000), np.int16)
    length = loops.shape[1]
    np.testing.assert_array_equal(samples[:, : 18_000 - length], samples[:, length:])
    for device in (0, 33):
        assert sorted(samples[device, :length].tolist()) == sorted(loops[device % STREAMS].tolist())


def test_unwritable_file_gives_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nowhere" / "streams.npz"
    assert main(["load", "--devices", "2", "--seconds", "1", "--write", str(path)]) == 2
    assert capsys.readouterr().err == f"simulator: {path} cannot be written: No such file or directory.\n"
