"""The recorder as a client of the wire: what it acknowledged is on the disk, whatever became of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monitor import wire
from monitor.broker.memory import MemoryBroker, MemorySource
from recorder.archive import Archive
from recorder.journal import Entry, Journal
from recorder.keeper import FORGET, Keeper
from recorder.kept import read_kept
from recorder.record import RecordSettings, run_record, subscriptions
from tests.brokers import Broker
from tests.recorder.test_archive import NOW_S, make_packets, same
from tests.subscriber import Subscriber

TOPICS = wire.Topics()


def _publish(broker: MemoryBroker, device: str, packets: list[wire.Packet]) -> None:
    for packet in packets:
        broker.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))


def _record(broker: MemoryBroker, root: Path, *devices: str, turns: int = 3) -> Keeper:
    settings = RecordSettings(root, devices)
    left = [turns]

    def is_stopping() -> bool:
        left[0] -= 1
        return left[0] < 0

    return run_record(settings, MemorySource(broker, "r", subscriptions(settings, TOPICS)), TOPICS, is_stopping)


def test_packets_and_messages_of_all_devices_are_kept(tmp_path: Path) -> None:
    broker = MemoryBroker()
    _record(broker, tmp_path, turns=1)
    for device in "ab":
        _publish(broker, device, make_packets())
        broker.publish(TOPICS.of(device, "info"), b'{"rate_hz": 250, "lead": "II", "resolution_uv": 2.5}', retain=True)
        broker.publish(TOPICS.of(device, "status"), b'{"state": "online"}')
    _record(broker, tmp_path)
    archive = Archive(tmp_path)
    assert archive.devices() == ["a", "b"]
    for device in "ab":
        kept = archive.read(device)
        same(kept.packets, make_packets())
        info = kept.info()
        assert info is not None
        assert (info.lead, info.resolution_uv) == ("II", 2.5)
    assert not broker.sessions["r"].delivered


def test_chosen_devices_alone_are_kept(tmp_path: Path) -> None:
    broker = MemoryBroker()
    _record(broker, tmp_path, "a", turns=1)
    for device in "ab":
        _publish(broker, device, make_packets())
    _record(broker, tmp_path, "a")
    assert Archive(tmp_path).devices() == ["a"]


def test_what_is_no_packet_is_counted_and_costs_nothing_else(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for payload in (b"garbage", wire.encode_packet(make_packets()[0])):
        keeper.take("a", "samples", payload, NOW_S)
    keeper.commit()
    keeper.fold(NOW_S)
    assert keeper.counts["rejected"] == 1
    same(Archive(tmp_path).read("a").packets, make_packets()[:1])


def test_nothing_that_was_committed_is_lost_wherever_the_process_ends(tmp_path: Path) -> None:
    packets = make_packets()
    for i, packet in enumerate(packets):
        keeper = Keeper(tmp_path)  # each is a process of its own, which never comes to its end
        keeper.take("a", "samples", wire.encode_packet(packet), NOW_S)
        assert keeper.commit()
        if i % 7 == 3:
            keeper.fold(NOW_S)
    Keeper(tmp_path).fold(NOW_S)
    same(Archive(tmp_path).read("a").packets, packets)
    assert list(tmp_path.glob("*.journal")) == []


def test_fold_that_was_not_finished_keeps_everything_once(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for device in "ab":
        for packet in make_packets():
            keeper.take(device, "samples", wire.encode_packet(packet), NOW_S)
    keeper.commit()
    keeper._add("a", NOW_S)  # killed here: a is in the archive, b is not, and the journal is there
    Keeper(tmp_path).fold(NOW_S)
    for device in "ab":
        same(Archive(tmp_path).read(device).packets, make_packets())


def test_full_disk_is_a_fault_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.take("a", "samples", wire.encode_packet(make_packets()[0]), NOW_S)
    (tmp_path / "1.journal").mkdir()  # cannot be written, whoever one is
    assert not keeper.commit()
    assert keeper.fault is not None
    (tmp_path / "1.journal").rmdir()
    assert keeper.commit()
    assert keeper.fault is None


@contextmanager
def _full_disk(free: int, file: Path) -> Iterator[None]:
    """Let files grow no further than this one with so many more bytes: the kernel writes what fits, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_committed_after_a_full_disk_is_found_again(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.take("a", "info", b"first", NOW_S)
    assert keeper.commit()
    keeper.take("a", "info", b"x" * 3000, NOW_S)
    journal = tmp_path / "1.journal"
    size = journal.stat().st_size
    with _full_disk(400, journal):
        assert not keeper.commit()
    assert journal.stat().st_size == size
    assert keeper.commit()
    for later in (b"later", b"last"):
        keeper.take("a", "info", later, NOW_S)
        assert keeper.commit()
    assert [entry.payload for entry in Journal(tmp_path).recover()] == [b"first", b"x" * 3000, b"later", b"last"]


def test_archive_after_a_full_disk_is_whole(tmp_path: Path) -> None:
    archive, packets = Archive(tmp_path), make_packets()
    archive.add("a", packets[:5], [], NOW_S)
    [file] = archive.files("a")
    with _full_disk(100, file), pytest.raises(OSError, match="File too large"):
        archive.add("a", packets[5:10], [], NOW_S)
    for part in (packets[5:10], packets[10:]):
        archive.add("a", part, [], NOW_S)
    kept = Archive(tmp_path).read("a")
    assert kept.damaged == 0
    same(kept.packets, packets)


def test_device_is_forgotten_while_the_recorder_runs(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for device in "ab":
        for packet in make_packets():
            keeper.take(device, "samples", wire.encode_packet(packet), NOW_S)
    keeper.commit()
    (tmp_path / FORGET).mkdir()
    (tmp_path / FORGET / "a").touch()
    keeper.fold(NOW_S)
    assert Archive(tmp_path).devices() == ["b"]
    assert list((tmp_path / FORGET).iterdir()) == []
    Keeper(tmp_path).fold(NOW_S)
    assert Archive(tmp_path).devices() == ["b"]


def test_forgetting_on_a_full_disk_loses_nothing_of_others(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.take("kept", "info", b"acknowledged", NOW_S)
    keeper.take("gone", "info", b"x", NOW_S)
    assert keeper.commit()
    (tmp_path / FORGET).mkdir()
    (tmp_path / FORGET / "gone").touch()
    with _full_disk(-40, tmp_path / "1.journal"):
        assert not keeper.fold(NOW_S)
    assert keeper.fault is not None
    assert [entry.payload for entry in Journal(tmp_path).recover() if entry.device == "kept"] == [b"acknowledged"]
    keeper.take("kept", "info", b"later", NOW_S)
    assert keeper.commit()
    assert keeper.fold(NOW_S)
    assert Archive(tmp_path).devices() == ["kept"]
    assert [message.payload for message in Archive(tmp_path).read("kept").messages] == [b"acknowledged", b"later"]
    assert list((tmp_path / FORGET).iterdir()) == []


def test_killed_while_it_forgets_a_recorder_has_what_others_sent(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.take("kept", "info", b"acknowledged", NOW_S)
    keeper.take("gone", "info", b"x", NOW_S)
    assert keeper.commit()
    (tmp_path / "0.journal").mkdir()  # cannot be unlinked: as if it had been killed before it could
    with pytest.raises(OSError, match=r"0\.journal"):
        keeper._journal.replace([Entry("kept", "info", NOW_S, b"acknowledged")])
    (tmp_path / "0.journal").rmdir()
    Keeper(tmp_path).fold(NOW_S)
    assert b"acknowledged" in [message.payload for message in Archive(tmp_path).read("kept").messages]


def test_what_is_still_in_the_journal_is_read_as_well(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    packets = make_packets()
    for part in (packets[:20], packets[15:]):
        for packet in part:
            keeper.take("a", "samples", wire.encode_packet(packet), NOW_S)
        keeper.commit()
        if part[0].seq == 0:
            keeper._add("a", NOW_S)
    same(read_kept(tmp_path, "a").packets, packets)
    assert len(read_kept(tmp_path, "a", 1010.0, 1020.0).packets) == 10
    with pytest.raises(ValueError, match=r"Nothing is kept of device b in .*: got a"):
        read_kept(tmp_path, "b")


@pytest.mark.parametrize("kind", ["mosquitto", "mosquitto by default"])
def test_killed_recorder_misses_no_sample(kind: str, tmp_path: Path) -> None:
    broker = Broker("mosquitto" if kind == "mosquitto" else "mosquitto by default", tmp_path / "broker")
    command = [sys.executable, "-m", "ecgwatch", "record", "--broker", str(broker.url), "--record", str(tmp_path / "r")]
    devices = [f"d{i}" for i in range(10)]
    try:
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _wait_until_subscribed(tmp_path / "r")
        with Subscriber(broker.url) as device:
            for round_ in range(3):
                for packet in make_packets(20.0, seq=20 * round_, start_s=1000.0 + 20 * round_):
                    for name in devices:
                        device.publish(TOPICS.of(name, "samples"), wire.encode_packet(packet))
                running.send_signal(signal.SIGKILL)
                running.wait(20)
                running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _wait_until(lambda: _kept(tmp_path / "r", devices) == 10 * 60)
    finally:
        running.terminate()
        running.wait(20)
        broker.end()
    for name in devices:
        kept = sorted(read_kept(tmp_path / "r", name).packets, key=lambda one: one.seq)
        assert [packet.seq for packet in kept] == list(range(60))
        assert sum(packet.samples.size for packet in kept) == 60 * 250


def test_the_recorder_says_where_it_keeps_and_how_much(tmp_path: Path) -> None:
    broker = Broker("mosquitto", tmp_path / "broker")
    try:
        words = ["record", "--broker", str(broker.url), "--state", str(tmp_path / "state"), "--for", "1s"]
        done = subprocess.run([sys.executable, "-m", "ecgwatch", *words], capture_output=True, text=True, timeout=60)
    finally:
        broker.end()
    assert done.returncode == 0
    root = tmp_path / "state" / "record"
    assert f"what comes is kept in {root}\n" in done.stderr
    assert f"kept in {root}: nothing\n" in done.stderr


def _kept(root: Path, devices: list[str]) -> int:
    """Packets of all devices, in the archive and in the journal."""
    known = {entry.device for entry in Journal(root).recover()} | set(Archive(root).devices())
    return sum(len(read_kept(root, device).packets) for device in devices if device in known)


def _wait_until_subscribed(root: Path) -> None:
    _wait_until(lambda: (root / "lock").exists())
    time.sleep(1.5)


def _wait_until(is_so: object, seconds: float = 90.0) -> None:
    until_s = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.2)


def test_numbers_of_a_run_go_on_after_a_restart_of_the_device(tmp_path: Path) -> None:
    first, second = make_packets(start_s=1000.0), make_packets(start_s=5000.0)
    Archive(tmp_path).add("a", [*first, *second], [], NOW_S)
    got = Archive(tmp_path).read("a").packets
    same(got, [*first, *second])
    assert np.sum([packet.samples.size for packet in got]) == 2 * 30 * 250
    assert os.listdir(tmp_path) == ["a"]


def test_device_that_a_monitor_has_forgotten_is_forgotten_here_too(tmp_path: Path) -> None:
    broker = MemoryBroker()
    _record(broker, tmp_path, turns=1)
    for device in "ab":
        _publish(broker, device, make_packets())
    broker.publish(TOPICS.forgotten("ward"), wire.encode(wire.Forgotten(device="a", time_s=NOW_S)))
    _record(broker, tmp_path)
    assert Archive(tmp_path).devices() == ["b"]


def test_what_comes_of_a_forgotten_device_with_that_news_is_kept(tmp_path: Path) -> None:
    """As after the recorder was away: it is somebody else's by now."""
    broker, packets = MemoryBroker(), make_packets()
    _record(broker, tmp_path, turns=1)
    _publish(broker, "a", packets[:10])
    _record(broker, tmp_path)
    _publish(broker, "a", packets[10:15])
    broker.publish(TOPICS.forgotten("ward"), wire.encode(wire.Forgotten(device="a", time_s=NOW_S)))
    _publish(broker, "a", packets[15:])
    _record(broker, tmp_path)
    same(Archive(tmp_path).read("a").packets, packets[15:])
    assert not list((tmp_path / FORGET).iterdir())
