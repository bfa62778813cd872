"""Simulated devices: their profiles, fleets of them, and the packets that each one sends.

Knows nothing about MQTT and never reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from monitor.wire import MAX_RATE_HZ, MAX_SAMPLES, MIN_RATE_HZ, check_device_id
from simulator import records
from simulator.beat_model import BeatModel
from simulator.beats import LABELS, Beats, Label, load_beats
from simulator.faults import Fault, inject_packet_faults, inject_signal_faults
from simulator.packets import Outgoing, make_packets, with_truth
from simulator.records import Record
from simulator.stream import Chain, Played, Stretch, episodes, join_beats, resample


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of device."""

    rate_hz: float
    packet_samples: int
    """Samples in a packet."""
    resolution_uv: float
    """Microvolts per ADC count."""
    lead: str
    record: bool = False
    """Whether it plays a continuous PTB record instead of joined beats."""


PROFILES = {
    "patch": Profile(250.0, 250, 1.0, "II"),
    "polar-h10": Profile(130.0, 73, 1.0, "II"),
    "fast": Profile(512.0, 512, 0.5, "II"),
    "ptb-1000": Profile(1000.0, 1000, 1.0, "II", record=True),
}
"""Profiles by name: a 250 Hz patch, a chest strap like the Polar H10, a fast recorder, and PTB at its original rate."""
DEFAULT_PROFILE = "patch"


@dataclass(frozen=True, slots=True)
class Device:
    """A simulated device and what it plays.

    Raises
    ------
    ValueError
        The id, the rate or the packet size is not allowed on the wire.
    """

    id: str
    profile: Profile
    labels: tuple[Label, ...] = ("normal",)
    """Classes whose beats it plays: one, or both alternately."""
    seed: int = 0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        check_device_id(self.id)
        if not MIN_RATE_HZ <= self.profile.rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"Rate must be {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz: got {self.profile.rate_hz:g}.")
        if not 1 <= self.profile.packet_samples <= MAX_SAMPLES:
            raise ValueError(f"Packets must hold 1 to {MAX_SAMPLES} samples: got {self.profile.packet_samples}.")


@dataclass(frozen=True, eq=False)
class Feed:
    """A device and its signal."""

    device: Device
    stretches: Iterator[Stretch]
    """The signal at the device's rate."""

    def packets(self) -> Iterator[tuple[Outgoing, tuple[Played, ...]]]:
        """Yield what the device sends, faults included, each with the beats that are complete after it."""
        device, profile = self.device, self.device.profile
        stretches = inject_signal_faults(self.stretches, profile.rate_hz, device.faults, device.seed)
        packets = make_packets(stretches, profile.rate_hz, profile.packet_samples, profile.resolution_uv)
        return with_truth(inject_packet_faults(packets, device.faults, device.seed))


class Library:
    """The source of the beats: PTB files, or the shipped statistical model.

    Parameters
    ----------
    directory
        Directory with the PTB files; None plays beats drawn from the model.
    """

    DRAWN = 64
    """Beats drawn for one virtual patient; they are repeated in varying order."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._model = BeatModel.load() if directory is None else None
        self._beats = load_beats(directory) if directory is not None else None
        self._chains = {} if self._beats is None else {label: Chain(self._beats.where(label)) for label in LABELS}

    def __str__(self) -> str:
        """Describe the beats that are played."""
        if self._beats is None:
            return "playing made-up beats, drawn from a model of those of the PTB database (--data DIR plays real ones)"
        counts = ", ".join(f"{len(chain.pool)} {label}" for label, chain in self._chains.items())
        return f"playing PTB beats from {self.directory}: {counts}"

    def chains(self, labels: Sequence[Label], seed: int) -> dict[Label, Chain]:
        """Return the beats a device plays: those of all patients, or those of one virtual patient."""
        if self._model is None:
            return {label: self._chains[label] for label in labels}
        drawn: dict[Label, Beats] = {}
        period: int | None = None
        for label in labels:  # the same heart rate in both classes, since it is one person
            drawn[label] = self._model.draw(label, self.DRAWN, seed, period)
            period = round(int(drawn[label].lengths[0]) / 1.2)
        return {label: Chain(beats) for label, beats in drawn.items()}

    @cached_property
    def records(self) -> list[Record]:
        """Continuous PTB records, longest first."""
        if self.directory is None:
            raise ValueError("Continuous PTB records need the PTB files: got none, expected --data DIR.")
        return records.read_ptb(self.directory)


def make_fleet(
    count: int,
    profiles: Sequence[str] = (DEFAULT_PROFILE,),
    *,
    abnormal: float = 0.5,
    packet_s: float | None = None,
    rate_hz: float | None = None,
    faults: tuple[Fault, ...] = (),
    seed: int = 0,
) -> list[Device]:
    """Make a fleet of devices: sim-0001, sim-0002 and so on.

    Parameters
    ----------
    count
        Number of devices.
    profiles
        Names of profiles, assigned in rotation.
    abnormal
        Fraction of devices that play abnormal beats, 0..1: every other one of them only such, the rest in episodes
        between normal beats.
    packet_s
        Length of a packet in seconds, instead of that of the profile.
    rate_hz
        Sampling rate, instead of that of the profile.
    faults
        Faults of every device.
    seed
        The same seed gives the same fleet.

    Raises
    ------
    ValueError
        A number is out of range, or there is no such profile.
    """
    if not 1 <= count <= MAX_DEVICES:
        raise ValueError(f"A fleet must have 1 to {MAX_DEVICES} devices: got {count}.")
    if not 0 <= abnormal <= 1:
        raise ValueError(f"The share of abnormal devices must be 0 to 1: got {abnormal}.")
    kinds = [_profile(name, packet_s, rate_hz) for name in profiles]
    devices = []
    for number in range(count):
        # Spread evenly: with 0.25 every fourth device is abnormal, starting with the first.
        rank = math.ceil(round(number * abnormal, 6))
        is_abnormal = math.ceil(round((number + 1) * abnormal, 6)) > rank
        labels: tuple[Label, ...] = ("normal",) if not is_abnormal else ("abnormal",) if rank % 2 == 0 else LABELS
        device = Device(
            f"sim-{number + 1:04d}", kinds[number % len(kinds)], labels, seed * MAX_DEVICES + number, faults
        )
        devices.append(device)
    return devices


MAX_DEVICES = 10_000
"""Maximum number of devices in a fleet."""


def open_feed(device: Device, library: Library) -> Feed:
    """Start a device's stream of beats, or its record: the n-th longest for a device of seed n."""
    profile = device.profile
    if profile.record:
        record = library.records[device.seed % len(library.records)]
        return Feed(device, resample(records.play(record), record.rate_hz, profile.rate_hz))
    chains = library.chains(device.labels, device.seed)
    stretches = join_beats(chains, episodes(device.labels, device.seed), device.seed)
    return Feed(device, resample(stretches, 125.0, profile.rate_hz))


def record_feed(record: Record, number: int, packet_s: float = 1.0, faults: tuple[Fault, ...] = ()) -> Feed:
    """Return a device that plays a record once, at the record's own rate."""
    profile = Profile(
        record.rate_hz, max(1, round(packet_s * record.rate_hz)), record.resolution_uv, record.lead, record=True
    )
    return Feed(Device(f"rec-{number:04d}", profile, seed=number, faults=faults), records.play(record))


def _profile(name: str, packet_s: float | None, rate_hz: float | None) -> Profile:
    if name not in PROFILES:
        raise ValueError(f"Unknown profile: got {name!r}, expected one of {', '.join(PROFILES)}.")
    profile = PROFILES[name]
    if rate_hz is not None:
        samples = max(1, round(profile.packet_samples / profile.rate_hz * rate_hz))
        profile = replace(profile, rate_hz=rate_hz, packet_samples=samples)
    if packet_s is not None:
        if not 0 < packet_s <= 60:
            raise ValueError(f"A packet must last more than 0 and at most 60 seconds: got {packet_s}.")
        profile = replace(profile, packet_samples=max(1, round(packet_s * profile.rate_hz)))
    return profile
