"""Profiles, fleets, and the packets that devices send."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import wire
from simulator.devices import PROFILES, Device, Library, make_fleet, open_feed


def test_fleet_has_ids_in_order_and_profiles_in_rotation() -> None:
    devices = make_fleet(3, ["patch", "polar-h10"])
    assert [device.id for device in devices] == ["sim-0001", "sim-0002", "sim-0003"]
    assert [device.profile.rate_hz for device in devices] == [250, 130, 250]


@pytest.mark.parametrize(("abnormal", "count"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_fraction_of_abnormal_devices_is_exact(abnormal: float, count: int) -> None:
    kinds = Counter(device.labels for device in make_fleet(8, abnormal=abnormal))
    assert kinds[("normal",)] == 8 - count
    assert kinds[("abnormal",)] == (count + 1) // 2


@pytest.mark.parametrize("name", ["patch", "polar-h10", "fast"])
def test_packets_have_the_size_and_rate_of_the_profile_and_are_consecutive(name: str) -> None:
    [device] = make_fleet(1, [name])
    packets = [sent.packet for sent, _ in islice(open_feed(device, Library(None)).packets(), 20)]
    for before, after in pairwise(packets):
        assert after.seq == before.seq + 1
        assert before.samples.size == PROFILES[name].packet_samples
        assert after.start_s == pytest.approx(before.start_s + before.samples.size / before.rate_hz, abs=1e-9)
        assert wire.decode_packet(wire.encode_packet(after)).rate_hz == PROFILES[name].rate_hz


def test_packet_length_and_rate_can_be_chosen() -> None:
    [device] = make_fleet(1, rate_hz=300.5, packet_s=0.2)
    assert (device.profile.rate_hz, device.profile.packet_samples) == (300.5, 60)


def test_devices_play_different_beats() -> None:
    library = Library(None)
    first, second = (next(open_feed(device, library).packets())[0] for device in make_fleet(2, abnormal=0))
    assert not np.array_equal(first.packet.samples, second.packet.samples)


def test_device_in_episodes_keeps_its_heart_rate() -> None:
    chains = Library(None).chains(("normal", "abnormal"), seed=3)
    normal, abnormal = chains["normal"].pool.lengths[0], chains["abnormal"].pool.lengths[0]
    assert abs(int(normal) - int(abnormal)) <= 1


def test_library_describes_the_beats_that_are_played(ecg_data: Path) -> None:
    assert str(Library(None)).startswith("playing made-up beats, drawn from a model")
    assert "161 normal, 771 abnormal" in str(Library(ecg_data / "ptbdb"))


def test_ptb_record_is_played_once_with_its_rows_as_truth(ecg_data: Path) -> None:
    library = Library(ecg_data / "ptbdb")
    [device] = make_fleet(1, ["ptb-1000"])
    sent = list(open_feed(device, library).packets())
    record = library.records[0]
    assert sum(outgoing.packet.samples.size for outgoing, _ in sent) == record.samples_uv.size
    played = [one for _, beats in sent for one in beats]
    assert len(played) >= len(record.beats) - 2
    signal = np.concatenate([outgoing.packet.samples for outgoing, _ in sent])
    for one in played[:20]:  # the rows are every eighth sample, scaled
        assert one.window is not None
        start, length = round(one.r_peak_s * 1000), round(one.duration_s * 125)
        here = signal[start : start + 8 * length : 8].astype(float)
        assert np.abs((here - here.min()) / np.ptp(here) - one.window[:length]).max() < 0.002


def test_ptb_profile_without_files_is_refused() -> None:
    [device] = make_fleet(1, ["ptb-1000"])
    with pytest.raises(ValueError, match="need the PTB files"):
        open_feed(device, Library(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "1 to 10000 devices: got 0"),
        ({"count": 10_001}, "got 10001"),
        ({"count": 1, "abnormal": 1.5}, "share of abnormal devices must be 0 to 1: got 1.5"),
        ({"count": 1, "profiles": ["watch"]}, "Unknown profile: got 'watch', expected one of patch"),
        ({"count": 1, "packet_s": 0}, "A packet must last more than 0"),
        ({"count": 1, "packet_s": float("nan")}, "A packet must last more than 0"),
        ({"count": 1, "rate_hz": 10}, "Rate must be 50 to 4000 Hz: got 10"),
        ({"count": 1, "rate_hz": 4000, "packet_s": 60}, "Packets must hold 1 to 65536 samples: got 240000"),
    ],
)  # fmt: skip
def test_impossible_fleet_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_fleet(**options)


def test_bad_device_id_is_refused() -> None:
    with pytest.raises(ValueError, match="device id"):
        Device("a/b", PROFILES["patch"])
