"""Feeds played through real brokers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from monitor import beat, wire
from monitor.broker.connection import BrokerUrl
from simulator.broker import EmbeddedBroker, free_port
from simulator.devices import Device, Feed, Library, Profile, make_fleet, open_feed
from simulator.faults import Fault
from simulator.replay import Replay, Summary
from simulator.stream import Played, Stretch
from tests.simulator.recorder import Recorder, wait_for


@pytest.fixture
def topics() -> wire.Topics:
    """Topics of this test only: the broker serves all tests and keeps retained messages."""
    return wire.Topics(f"test/{uuid4().hex}")


def feeds(number: int, faults: tuple[Fault, ...] = ()) -> list[Feed]:
    library = Library(None)
    return [open_feed(device, library) for device in make_fleet(number, packet_s=0.2, faults=faults)]


def short_feed(seconds: int = 2) -> Feed:
    device = Device("short", Profile(100.0, 20, 1.0, "II"))
    return Feed(device, iter([Stretch(np.zeros(100 * seconds), (Played(0.3, "normal", "x:1", 0.8),))]))


def packets_of(recorder: Recorder, topics: wire.Topics, device: str) -> list[wire.Packet]:
    return [wire.decode_packet(payload) for payload in recorder.payloads(topics.of(device, "samples"))]


def states(recorder: Recorder, topics: wire.Topics, device: str) -> list[str]:
    payloads = recorder.payloads(topics.of(device, "status"))
    return [wire.decode(payload, wire.DeviceStatus).state for payload in payloads]


def test_all_packets_arrive_in_order_and_none_is_lost(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        summary = Replay(feeds(10), broker_url, topics=topics, speed=5).run(duration_s=2)
        assert (summary.lost, summary.dropped, summary.reconnects) == (0, 0, 0)
        wait_for(lambda: sum(one.topic.endswith("/samples") for one in recorder.messages) == summary.packets)
    for number in range(10):
        packets = packets_of(recorder, topics, f"sim-{number + 1:04d}")
        assert len(packets) >= 2 * 5 * 5 - 6
        assert [packet.seq for packet in packets] == list(range(len(packets)))
        for before, after in pairwise(packets):
            assert after.start_s == pytest.approx(before.start_s + 0.2, abs=1e-6)


def test_info_and_status_are_retained_and_published_first(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        Replay(feeds(1), broker_url, topics=topics).run(duration_s=0.5)
        wait_for(lambda: states(recorder, topics, "sim-0001") == ["online", "offline"])
    leaves = [message.topic.rsplit("/", 1)[1] for message in recorder.messages]
    assert leaves[:3] == ["info", "status", "samples"]
    with Recorder(broker_url, f"{topics.prefix}/#") as late:
        wait_for(lambda: len(late.messages) == 2)
        assert all(message.retain for message in late.messages)
        info = wire.decode(late.payloads(topics.of("sim-0001", "info"))[0], wire.Info)
        assert (info.rate_hz, info.lead, info.resolution_uv) == (250.0, "II", 1.0)
        assert states(late, topics, "sim-0001") == ["offline"]


def test_truth_of_every_beat_is_published_after_its_packets(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    called: list[tuple[str, wire.Truth, beat.Windows | None]] = []
    replay = Replay(
        feeds(2),
        broker_url,
        topics=topics,
        speed=10,
        on_beat=lambda device, truth, window: called.append((device.id, truth, window)),
    )
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        summary = replay.run(duration_s=2)
        wait_for(lambda: sum(one.topic.endswith("/truth") for one in recorder.messages) == summary.beats)
    assert len(called) == summary.beats >= 30
    assert all(window is not None and window.shape == (187,) for _, _, window in called)
    sent_until = 0.0
    for message in recorder.messages:
        if message.topic == topics.of("sim-0001", "samples"):
            packet = wire.decode_packet(bytes(message.payload))
            sent_until = packet.start_s + packet.samples.size / packet.rate_hz
        elif message.topic == topics.of("sim-0001", "truth"):
            truth = wire.decode(bytes(message.payload), wire.Truth)
            assert truth.r_peak_s + truth.duration_s <= sent_until + 1e-6
    r_peaks = [truth.r_peak_s for device, truth, _ in called if device == "sim-0001"]
    assert all(0.4 < after - before < 1.6 for before, after in pairwise(r_peaks))


def test_packets_are_sent_when_their_last_sample_is_due(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    arrived: list[float] = []
    with Recorder(
        broker_url, topics.of("+", "samples"), before=lambda: arrived.append(time.time())
    ) as recorder:  # fmt: skip
        Replay(feeds(1), broker_url, topics=topics).run(duration_s=2.5)
    packets = packets_of(recorder, topics, "sim-0001")
    delays = [came - packet.start_s - 0.2 for came, packet in zip(arrived, packets, strict=True)]
    assert min(delays) > -0.002
    assert np.median(delays) < 0.5
    assert abs(np.median(delays[:5]) - np.median(delays[-5:])) < 0.2  # a drifting clock would show here


def test_device_clock_starts_on_the_grid_of_125_hz(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, topics.of("+", "samples")) as recorder:
        Replay(feeds(3), broker_url, topics=topics, speed=5).run(duration_s=0.5)
        wait_for(lambda: len(recorder.messages) >= 3)
    for number in range(3):
        start = packets_of(recorder, topics, f"sim-{number + 1:04d}")[0].start_s * beat.RATE_HZ
        assert start == pytest.approx(round(start), abs=1e-3)


def test_feed_that_ends_puts_its_device_offline(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, f"{topics.prefix}/#") as recorder:
        summary = Replay([short_feed()], broker_url, topics=topics, speed=20).run()
        wait_for(lambda: states(recorder, topics, "short") == ["online", "offline"])
    assert (summary.packets, summary.acknowledged, summary.beats) == (10, 10, 1)


def test_stop_ends_the_replay_at_once(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    summary = Replay(feeds(2), broker_url, topics=topics).run(stop)
    assert summary.seconds < 2
    assert summary.lost == 0


def test_garbage_is_sent_between_the_packets(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    with Recorder(broker_url, topics.of("+", "samples")) as recorder:
        faulty = feeds(1, faults=(Fault("garbage", 1.0),))
        summary = Replay(faulty, broker_url, topics=topics, speed=5).run(duration_s=1)
        wait_for(lambda: len(recorder.messages) == summary.packets)
    with pytest.raises(wire.PacketError):
        wire.decode_packet(bytes(recorder.messages[0].payload))
    assert wire.decode_packet(bytes(recorder.messages[1].payload)).seq == 0


def test_last_will_of_a_killed_simulator_is_published(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    command = [sys.executable, "-m", "simulator", "replay", "--broker", str(broker_url), "--prefix", topics.prefix]
    with (
        Recorder(broker_url, f"{topics.prefix}/#") as recorder,
        subprocess.Popen([*command, "--devices", "2", "--packet", "0.2"], stdout=subprocess.DEVNULL) as process,
    ):
        wait_for(lambda: any(message.topic.endswith("/samples") for message in list(recorder.messages)))
        process.send_signal(signal.SIGKILL)
        for device in ("sim-0001", "sim-0002"):
            wait_for(lambda device=device: states(recorder, topics, device) == ["online", "offline"])  # type: ignore[misc]


def test_replay_waits_for_a_broker_that_goes_away_and_loses_no_packet() -> None:
    port, port_v5 = free_port(), free_port()
    url = BrokerUrl("127.0.0.1", port)
    results: list[Summary] = []
    first = EmbeddedBroker(port, port_v5)
    first.__enter__()
    replay = Replay(feeds(3), url)
    player = threading.Thread(target=lambda: results.append(replay.run(duration_s=3)))
    player.start()
    time.sleep(1)
    first.stop()
    time.sleep(0.5)
    with EmbeddedBroker(port, port_v5), Recorder(url, "ecg/v1/#") as recorder:
        player.join(20)
        [summary] = results
        assert (summary.lost, summary.dropped, summary.reconnects) == (0, 0, 3)
        wait_for(lambda: states(recorder, wire.Topics(), "sim-0001")[-1:] == ["offline"])
        seqs = [packet.seq for packet in packets_of(recorder, wire.Topics(), "sim-0001")]
        assert sorted(set(seqs)) == list(range(min(seqs), max(seqs) + 1))


def test_queue_is_bounded_and_dropped_packets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.outbox.KEEP_S", 1.0)
    monkeypatch.setattr("simulator.replay.DRAIN_S", 0.1)
    broker = EmbeddedBroker(port=0)
    broker.__enter__()
    threading.Timer(0.3, broker.stop).start()
    summary = Replay(feeds(1), broker.url, speed=10).run(duration_s=2)
    assert summary.dropped > 50
    assert summary.lost >= summary.dropped


def test_hundred_devices_lose_nothing(broker_url: BrokerUrl, topics: wire.Topics) -> None:
    summary = Replay(feeds(100), broker_url, topics=topics).run(duration_s=3)
    assert summary.lost == 0
    assert summary.packets >= 100


def test_unreachable_broker_is_one_clear_error() -> None:
    url = BrokerUrl("127.0.0.1", free_port())
    with pytest.raises(ConnectionError, match="No broker reached"):
        Replay([short_feed()], url).run()


def test_broker_of_another_version_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.link.CONNECT_S", 0.5)
    with EmbeddedBroker(port=0) as broker, pytest.raises(ConnectionError, match=r"does not answer in MQTT 3\.1\.1"):
        Replay([short_feed()], BrokerUrl("127.0.0.1", broker.port_v5)).run()


def test_refused_password_is_one_clear_error(tmp_path: Path) -> None:
    from tests.conftest import find_mosquitto, listens

    port = free_port()
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    tmp_path.chmod(0o755)
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\nlog_dest none\n")
    with subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port))
            url = BrokerUrl("127.0.0.1", port, user="anna")
            with pytest.raises(ConnectionError, match="refuses the connection: Not authorized"):
                Replay([short_feed()], url, password="wrong").run()
        finally:
            process.terminate()


def test_impossible_replay_is_refused() -> None:
    url = BrokerUrl("127.0.0.1")
    with pytest.raises(ValueError, match="different ids: got \\[\\]"):
        Replay([], url)
    with pytest.raises(ValueError, match="different ids"):
        Replay([short_feed(), short_feed()], url)
    for speed in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Speed must be a positive number"):
            Replay([short_feed()], url, speed=speed)
