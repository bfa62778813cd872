"""The record on the disk: everything comes out as it went in, once, whatever happened to the process or the disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor import wire
from recorder import blocks
from recorder.archive import MESSAGES, SAMPLES, Archive, Message
from recorder.blocks import Block
from recorder.codec import pack, unpack
from tests.monitor.synthetic_ecg import beat_times, make_ecg

NOW_S = 1_800_000_000.0


def make_packets(
    seconds: float = 30.0, rate_hz: float = 250.0, seq: int = 0, start_s: float = 1000.0
) -> list[wire.Packet]:
    signal = make_ecg(beat_times(seconds, 0.8), seconds, rate_hz)
    size = round(rate_hz)
    return [
        wire.Packet(seq + i, start_s + i * size / rate_hz, rate_hz, signal[i * size : (i + 1) * size])
        for i in range(signal.size // size)
    ]


def same(got: list[wire.Packet], expected: list[wire.Packet]) -> None:
    assert [(one.seq, one.start_s, one.rate_hz) for one in got] == [
        (one.seq, one.start_s, one.rate_hz) for one in expected
    ]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


# Samples.


@settings(max_examples=60, deadline=None)
@given(arrays(np.int16, st.integers(1, 300), elements=st.integers(-32768, 32767)))
def test_any_samples_come_out_as_they_went_in(samples: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack(pack(samples)), samples)


@pytest.mark.parametrize(
    "samples",
    [
        np.full(100, wire.NO_SAMPLE),
        np.full(100, 7),
        np.tile([-32767, 32767], 50),
        np.where(np.arange(1000) % 10 < 3, wire.NO_SAMPLE, np.arange(1000) * 5),
        np.zeros(0),
    ],
)
def test_odd_samples_come_out_as_they_went_in(samples: np.ndarray) -> None:
    samples = samples.astype(np.int16)
    np.testing.assert_array_equal(unpack(pack(samples)), samples)


# Blocks.


def test_what_is_torn_at_the_end_is_cut_off_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = [Block(1, i, i + 1, bytes([i]) * 1000) for i in range(5)]
    blocks.append(path, made)
    whole = path.read_bytes()
    for left in (len(whole) - 1, len(whole) - 500, len(whole) - 1010, len(whole) - 1031):
        path.write_bytes(whole[:left])
        assert list(blocks.read(path, lambda _: True)) == made[:4]
        assert blocks.mend(path) == left - 4 * 1032
        blocks.append(path, made[4:])
        assert list(blocks.read(path, lambda _: True)) == made


def test_damage_in_the_middle_costs_that_block_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = [Block(1, i, i + 1, bytes([65 + i]) * 1000) for i in range(5)]
    blocks.append(path, made)
    whole = bytearray(path.read_bytes())
    whole[1032 * 2 + 500] ^= 1  # in a content
    path.write_bytes(whole)
    assert list(blocks.read(path, lambda _: True)) == [*made[:2], None, *made[3:]]
    whole[1032 * 2] ^= 1  # in a mark
    path.write_bytes(whole)
    assert list(blocks.read(path, lambda _: True)) == [*made[:2], *made[3:]]


def test_torn_block_does_not_swallow_what_was_appended_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = [Block(1, i, i + 1, bytes([65 + i]) * 1000) for i in range(5)]
    blocks.append(path, made[:2])
    path.write_bytes(path.read_bytes()[:1532])  # and whoever wrote it could not cut it off
    blocks.append(path, made[2:])
    assert list(blocks.read(path, lambda _: True)) == [made[0], *made[2:]]
    assert blocks.mend(path) == 0


# Archive.


def test_packets_come_out_as_they_went_in(tmp_path: Path) -> None:
    packets = make_packets()
    odd = [
        wire.Packet(40, 1100.123456789, 130.06, np.array([1, 2, wire.NO_SAMPLE], np.int16)),
        wire.Packet(2**53 - 1, 0.0, 250.0, np.array([-32767], np.int16)),
        wire.Packet(0, 2.0**33, 250.0, np.array([32767, 0], np.int16)),
    ]
    archive = Archive(tmp_path)
    archive.add("a", packets, [], NOW_S)
    archive.add("a", odd, [], NOW_S + 86_400)
    same(Archive(tmp_path).read("a").packets, [*packets, *odd])


def test_messages_come_out_as_they_went_in(tmp_path: Path) -> None:
    said = [Message("info", 5.0, b'{"rate_hz": 1}'), Message("alerts", 6.0, b"\xff\x00")]
    Archive(tmp_path).add("a", [], said, NOW_S)
    assert Archive(tmp_path).read("a").messages == said


def test_what_comes_twice_is_kept_once_also_by_the_next_process(tmp_path: Path) -> None:
    packets = make_packets()
    archive = Archive(tmp_path)
    archive.add("a", packets[:20], [], NOW_S)
    archive.add("a", packets[10:25], [], NOW_S)
    size = sum(path.stat().st_size for path in archive.files())
    again = Archive(tmp_path)
    again.add("a", packets[:25], [], NOW_S)
    assert sum(path.stat().st_size for path in again.files()) == size
    again.add("a", packets[20:], [], NOW_S)
    same(again.read("a").packets, packets)


def test_only_what_lies_in_the_time_that_is_asked_for_is_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for i in range(3):
        archive.add("a", make_packets(seq=30 * i, start_s=1000.0 + 30 * i), [], NOW_S)
    got = archive.read("a", 1010.0, 1035.0).packets
    assert (got[0].start_s, got[-1].start_s) == (1010.0, 1034.0)
    assert len(got) == 25


def test_old_days_and_what_is_too_much_are_deleted_the_oldest_first(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for day in range(6):
        for device in "ab":
            archive.add(device, make_packets(start_s=1000.0 + 100 * day), [], NOW_S + 86_400 * day)
    assert archive.bound(NOW_S + 2 * 86_400, np.inf) == 4
    sizes = [path.stat().st_size for path in archive.files()]
    assert archive.bound(0.0, sum(sizes) - 1) == 1
    assert archive.bound(0.0, 0.0) == 7
    assert archive.files() == []


def test_forgetting_a_device_leaves_the_others(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for device in "ab":
        archive.add(device, make_packets(), [], NOW_S)
    assert archive.forget("a") > 0
    assert archive.devices() == ["b"]
    assert not (tmp_path / "a").exists()
    archive.add("a", make_packets(), [], NOW_S)
    same(archive.read("a").packets, make_packets())


def test_real_ecg_takes_at_most_nine_tenths_of_a_byte_a_sample(ecg_data: Path, tmp_path: Path) -> None:
    with np.load(ecg_data / "polar_h10" / "polar_h10_600s.npz") as file:
        steps = file["ecg_uV"].astype(np.int16)
    archive = Archive(tmp_path)
    rate_hz, size = 130.0, 73
    for minute in range(0, steps.size, 107 * size):  # as the recorder folds: a minute at a time
        part = steps[minute : minute + 107 * size]
        packets = [
            wire.Packet((minute + i) // size, (minute + i) / rate_hz, rate_hz, part[i : i + size])
            for i in range(0, part.size, size)
        ]
        archive.add("polar", packets, [], NOW_S)
    assert sum(path.stat().st_size for path in archive.files()) / steps.size <= 0.9


def test_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    blocks.append(path, [Block(SAMPLES, 0, 1, b"first")])

    def fail(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        blocks.append(path, [Block(MESSAGES, 0, 1, b"second")])
    monkeypatch.undo()
    assert [block and block.content for block in blocks.read(path, lambda _: True)] == [b"first"]
