"""A load generator: ten thousand devices and more from one process, at little CPU cost, to load-test a monitor.

`simulator.replay` makes each packet when it is due, and gives each device its own connection: realistic, but expensive.
Here everything is prepared beforehand.

Rules
-----
* A few streams of a minute each are drawn from the shipped statistical model of beats and closed to loops: without a
  step in the signal, and with a constant heart rate. Each device plays one of them, from its own start position.
* One MQTT frame per device is prepared. For each packet only the bytes that change are written into it: packet id,
  sequence number, time, samples.
* Device k of N sends at k/N of the packet's length: evenly, never in bursts. Packets that became due within `TICK_S`
  are sent together, by one call per connection.
* `start_s` is the true UTC time of the first sample, so that the end of a packet is the time at which it was due.
  Latency that is measured from there includes the lateness of this module.
* No packet is skipped. One that the broker does not accept in time is late, and its lateness is reported.

The devices share a few connections, so they have no last will and no status; their `info` is retained as usual, and
there is no truth. Knows nothing about what happens to the packets.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from monitor import beat, wire
from monitor.broker.connection import BrokerUrl
from simulator.beat_model import PERIODS, BeatModel
from simulator.beats import LABELS, Label
from simulator.publisher import Link, publish_frame
from simulator.stream import Chain, fade, join_beats

Samples = npt.NDArray[np.int16]

MAX_DEVICES, MAX_CONNECTIONS = 100_000, 1000
LOOP_S = 60.0
"""Approximate length of a stream, which holds a whole number of beats."""
STREAMS = 32
"""Number of different streams; more would only take longer to prepare."""
DRAWN = 64
"""Number of different beats of a class in a stream."""
TICK_S = 0.005
"""Packets that become due within this time are sent together."""
ANNOUNCE_BATCH = 1000
"""Device descriptions that are in flight at a time."""
DRAIN_S = 10.0
"""How long to wait at the end for missing acknowledgements."""
LATENESS_BIN_S, LATENESS_BINS = 1e-4, 200_000
"""Resolution and number of bins of the lateness histogram: 0.1 ms, up to 20 s."""
FULL_WIDTH = 2**53
"""A sequence number that MessagePack encodes in 8 bytes, the maximum."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Settings of a load.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    devices: int = 10_000
    rate_hz: float = 250.0
    packet_s: float = 1.0
    """Length of a packet, rounded to whole samples."""
    seconds: float = 60.0
    """Duration."""
    bpm: float = 72.0
    """Heart rate of all devices."""
    abnormal: float = 0.1
    """Fraction of beats that are abnormal."""
    seed: int = 0
    connections: int = 4

    def __post_init__(self) -> None:
        for name, value, low, high in self._limits():
            if not low <= value <= high:
                raise ValueError(f"Load, {name}: got {value:g}, expected {low:g} to {high:g}.")
        if not self.seconds > 0:
            raise ValueError(f"Load, seconds: got {self.seconds:g}, expected more than 0.")

    def _limits(self) -> Iterator[tuple[str, float, float, float]]:
        """Yield name, value, minimum and maximum of each number."""
        slowest, fastest = (60 * beat.RATE_HZ / period for period in reversed(PERIODS))
        yield "devices", self.devices, 1, MAX_DEVICES
        yield "rate in Hz", self.rate_hz, wire.MIN_RATE_HZ, wire.MAX_RATE_HZ
        yield "packet in seconds", self.packet_s, 1 / self.rate_hz, wire.MAX_SAMPLES / self.rate_hz
        yield "beats per minute", self.bpm, math.ceil(slowest), math.floor(fastest)
        yield "share of abnormal beats", self.abnormal, 0, 1
        yield "seed", self.seed, 0, 2**32
        yield "connections", self.connections, 1, MAX_CONNECTIONS

    @property
    def packet_samples(self) -> int:
        """Samples in a packet."""
        return round(self.packet_s * self.rate_hz)

    @property
    def beats(self) -> int:
        """Beats in a stream."""
        return round(self.bpm * LOOP_S / 60)

    @property
    def interval_s(self) -> float:
        """Time from one packet of a device to the next."""
        return self.packet_samples / self.rate_hz


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What was sent, and how late."""

    devices: int
    packets: int
    acknowledged: int
    """Packets that the broker has acknowledged."""
    unsent: int
    """Packets that were due by the end but that the broker did not accept."""
    packet_bytes: int
    """Size of a packet on the network, including MQTT header and topic."""
    seconds: float
    lateness_p50_ms: float
    """Median time from when a packet was due until the socket had accepted it."""
    lateness_p99_ms: float
    lateness_max_ms: float
    most_unacknowledged: int
    """Maximum number of packets in flight, over all connections."""
    cpu_user_s_per_s: float
    """CPU time of this process while it played, per second."""
    cpu_system_s_per_s: float
    """The same in the kernel: mostly for sending."""

    def __str__(self) -> str:
        """Format for people, in one line."""
        return (
            f"{self.devices} devices, {self.seconds:.1f} s: {self.packets} packets of {self.packet_bytes} bytes sent, "
            f"{self.acknowledged} acknowledged, {self.unsent} unsent; lateness p50 {self.lateness_p50_ms:.1f} ms, "
            f"p99 {self.lateness_p99_ms:.1f} ms, max {self.lateness_max_ms:.1f} ms; "
            f"at most {self.most_unacknowledged} unacknowledged; "
            f"CPU {self.cpu_user_s_per_s:.3f} + {self.cpu_system_s_per_s:.3f} s (user + system) per second"
        )

    def to_json(self) -> str:
        """Format as one JSON object."""
        return json.dumps({name: round(value, 6) for name, value in asdict(self).items()})


def make_loops(settings: LoadSettings) -> Samples:
    """Make the streams: (32, n) microvolts at the devices' rate, each a loop whose end continues at its beginning.

    A loop holds the number of whole beats that is nearest to a minute. It is stretched by less than 1 %, so that they
    have exactly the given heart rate, up to rounding to whole samples.
    """
    model = BeatModel.load()
    samples = round(settings.beats * 60 / settings.bpm * settings.rate_hz)
    return np.stack(
        [
            _loop(model, classes_of(number, settings), settings.bpm, samples, settings.seed * STREAMS + number)
            for number in range(STREAMS)
        ]
    )


def write_streams(settings: LoadSettings, path: Path) -> None:
    """Write the signals of the devices to an .npz file: samples (devices, n) int16, rate_hz, resolution_uv.

    Raises
    ------
    ValueError
        The file cannot be written.
    """
    loops = make_loops(settings)
    starts = np.random.default_rng(settings.seed).integers(loops.shape[1], size=settings.devices)
    along = np.arange(round(settings.seconds * settings.rate_hz))
    samples = [np.take(loops[k % STREAMS], start + along, mode="wrap") for k, start in enumerate(starts)]
    try:
        with path.open("wb") as file:
            np.savez(file, samples=np.stack(samples), rate_hz=settings.rate_hz, resolution_uv=1.0)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}.") from None


def classes_of(number: int, settings: LoadSettings) -> list[Label]:
    """Class of each beat of a stream, in random order; over all streams the fraction is as exact as possible."""
    wanted = settings.beats * settings.abnormal
    abnormal = round((number + 1) * wanted) - round(number * wanted)
    order = np.random.default_rng((settings.seed, number)).permutation(np.arange(settings.beats) < abnormal)
    return [LABELS[int(is_abnormal)] for is_abnormal in order]


def _loop(model: BeatModel, labels: Sequence[Label], bpm: float, samples: int, seed: int) -> Samples:
    """Join beats of one virtual patient into a loop of `samples` samples."""
    period = round(60 / bpm * beat.RATE_HZ)
    chains = {label: Chain(model.draw(label, DRAWN, seed, period)) for label in LABELS}
    stretches = itertools.islice(join_beats(chains, itertools.cycle(labels), seed), len(labels) + 1)
    *joined, extra = (stretch.samples_uv for stretch in stretches)
    signal = np.concatenate(joined)
    fade(extra, signal)  # the beat after the last one, of the same class as the first, becomes the first
    stretched = np.fft.irfft(np.fft.rfft(signal), samples) * samples / signal.size  # exact for a periodic signal
    return np.clip(np.rint(stretched), -32767, 32767).astype(np.int16)


class Frames:
    """One MQTT frame per device, of equal length, back to back, with fields to fill in for each packet.

    Parameters
    ----------
    ids
        The devices' ids, all of the same length.
    """

    def __init__(self, ids: Sequence[str], rate_hz: float, packet_samples: int, topics: wire.Topics) -> None:
        payload = wire.encode_packet(wire.Packet(FULL_WIDTH, 0.0, rate_hz, np.zeros(packet_samples, np.int16)))
        frames = [publish_frame(topics.of(name, "samples"), payload, packet_id=1) for name in ids]
        self.frame_bytes = len(frames[0])
        before = self.frame_bytes - len(payload)
        fields = {  # name: format, and offset
            "packet_id": (">u2", before - 2),
            "seq": (">u8", before + payload.index(b"seq\xcf") + 4),
            "start_s": (">f8", before + payload.index(b"start_s\xcb") + 8),
            "samples": (("<i2", packet_samples), self.frame_bytes - 2 * packet_samples),
        }
        names, formats, offsets = list(fields), *map(list, zip(*fields.values(), strict=True))
        layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": self.frame_bytes}
        bytes_ = bytearray().join(frames)
        self._bytes = memoryview(bytes_)
        self._fields: npt.NDArray[np.void] = np.frombuffer(bytes_, layout)  # type: ignore[call-overload]

    def fill(
        self,
        rows: slice,
        seq: int,
        start_s: npt.NDArray[np.float64],
        packet_ids: npt.NDArray[np.int64],
        samples: Samples,
    ) -> memoryview:
        """Write the next packets of some devices, and return their frames, back to back.

        Parameters
        ----------
        rows
            The devices, n of them.
        seq
            Sequence number of all these packets.
        start_s, packet_ids
            (n,) time of the first sample, and packet id.
        samples
            (n, packet_samples) ADC counts.
        """
        fields = self._fields[rows]
        fields["seq"], fields["start_s"], fields["packet_id"], fields["samples"] = seq, start_s, packet_ids, samples
        return self._bytes[rows.start * self.frame_bytes : rows.stop * self.frame_bytes]


class _Lateness:
    """Histogram of the lateness of packets, of constant size."""

    def __init__(self) -> None:
        self._counts = np.zeros(LATENESS_BINS, np.int64)
        self._max_s = 0.0

    def record(self, late_s: npt.NDArray[np.float64]) -> None:
        """Record the lateness of some packets."""
        np.add.at(self._counts, np.minimum((late_s / LATENESS_BIN_S).astype(np.int64), LATENESS_BINS - 1), 1)
        self._max_s = max(self._max_s, float(late_s.max()))

    def quantiles_ms(self) -> tuple[float, float, float]:
        """Median, 99th percentile and maximum."""
        below = self._counts.cumsum()
        p50, p99 = (np.searchsorted(below, q * below[-1]) * LATENESS_BIN_S for q in (0.5, 0.99))
        return 1e3 * float(p50), 1e3 * float(p99), 1e3 * self._max_s


@dataclass(frozen=True, slots=True)
class _Start:
    """When the first packet was due."""

    utc_s: float
    monotonic_s: float


class _Shard:
    """The devices of one connection, and the progress of their packets.

    Round robin: packet j of the connection is from its device j % n, and the j // n-th of that device.

    Parameters
    ----------
    numbers
        (n,) the devices' numbers, from 0, ascending.
    windows
        (streams, positions, packet_samples) the packet at each position of each stream.
    """

    def __init__(
        self,
        link: Link,
        numbers: npt.NDArray[np.int64],
        settings: LoadSettings,
        windows: Samples,
        lateness: _Lateness,
        topics: wire.Topics,
    ) -> None:
        width = len(str(settings.devices))
        self.link = link
        self.ids = [f"load-{number + 1:0{width}d}" for number in numbers]
        self.frames = Frames(self.ids, settings.rate_hz, settings.packet_samples, topics)
        self.packets = 0
        self._windows, self._lateness = windows, lateness
        self._interval_s, self._packet_samples = settings.interval_s, settings.packet_samples
        self._phase_s = numbers * settings.interval_s / settings.devices  # when the first packet of each is due
        self._stream = numbers % STREAMS
        self._position = np.random.default_rng((settings.seed, int(numbers[0]))).integers(
            windows.shape[1], size=len(numbers)
        )
        self._in_flight_s = np.empty(0)  # due times of the packets that the socket has not accepted yet

    def due(self, now_s: float) -> int:
        """Return the number of packets due before `now_s`, seconds from the start, including those sent."""
        rounds = int(now_s / self._interval_s)
        return rounds * len(self.ids) + int(np.searchsorted(self._phase_s, now_s - rounds * self._interval_s))

    def send(self, now_s: float, start: _Start) -> None:
        """Send the packets due `now_s` after the start, as far as the broker accepts them."""
        self.link.turn(start.monotonic_s + now_s)
        self.record_lateness(start)
        while (count := min(self.due(now_s) - self.packets, self.link.room)) > 0:
            self._send_some(count, start)
            self.record_lateness(start)

    def record_lateness(self, start: _Start) -> None:
        """Record the lateness of the packets that the socket has accepted by now."""
        if self._in_flight_s.size and self.link.is_free:
            self._lateness.record(time.monotonic() - start.monotonic_s - self._in_flight_s)
            self._in_flight_s = np.empty(0)

    def _send_some(self, count: int, start: _Start) -> None:
        """Send the next packets, at most one for each remaining device of this round."""
        seq, row = divmod(self.packets, len(self.ids))
        rows = slice(row, min(row + count, len(self.ids)))
        due_s = self._phase_s[rows] + seq * self._interval_s
        positions = (self._position[rows] + seq * self._packet_samples) % self._windows.shape[1]
        frames = self.frames.fill(
            rows,
            seq,
            start.utc_s + due_s - self._interval_s,
            self.link.next_ids(len(due_s)),
            self._windows[self._stream[rows], positions],
        )
        self._in_flight_s = due_s
        self.packets += len(due_s)
        self.link.send(frames, len(due_s))


class Load:
    """Plays a fleet to a broker.

    Parameters
    ----------
    settings
        The settings.
    url
        The broker, without TLS.
    topics
        Names of the topics.
    password
        Password of the URL's user.
    """

    def __init__(
        self, settings: LoadSettings, url: BrokerUrl, topics: wire.Topics | None = None, password: str | None = None
    ) -> None:
        self._settings, self._url, self._password = settings, url, password
        self._topics = topics or wire.Topics()
        loops = make_loops(settings)
        around = np.arange(loops.shape[1] + settings.packet_samples - 1) % loops.shape[1]
        self._windows: Samples = sliding_window_view(loops[:, around], settings.packet_samples, axis=1)
        self._lateness = _Lateness()
        self._most_unacknowledged = 0

    def run(self, stop: threading.Event | None = None) -> LoadSummary:
        """Play until the duration is over or `stop` is set.

        Raises
        ------
        ConnectionError
            The broker cannot be reached, refuses the connections, or closes them.
        """
        run = f"{time.time_ns() & 0xFFFFFFFF:08x}"  # a second load must not take over the sessions of the first
        numbers = np.arange(self._settings.devices)
        count = min(self._settings.connections, self._settings.devices)
        with ExitStack() as stack:
            links = [
                stack.enter_context(closing(Link(self._url, f"load-{run}-{number}", self._password)))
                for number in range(count)
            ]
            shards = [
                _Shard(link, numbers[number::count], self._settings, self._windows, self._lateness, self._topics)
                for number, link in enumerate(links)
            ]
            for shard in shards:
                self._announce(shard)
            return self._play(shards, stop or threading.Event())

    def _announce(self, shard: _Shard) -> None:
        """Publish the devices' info, retained, and wait until the broker has acknowledged it."""
        info = wire.Info(rate_hz=self._settings.rate_hz, lead="II", resolution_uv=1.0, first_seen_s=time.time())
        payload, link = wire.encode(info), shard.link
        for first in range(0, len(shard.ids), ANNOUNCE_BATCH):
            ids = shard.ids[first : first + ANNOUNCE_BATCH]
            numbered = zip(ids, link.next_ids(len(ids)), strict=True)
            frames = [
                publish_frame(self._topics.of(name, "info"), payload, int(n), retain=True) for name, n in numbered
            ]
            link.send(memoryview(b"".join(frames)), len(ids))
            _drain([link])
            if link.unacknowledged:
                raise ConnectionError(f"The broker at {self._url} does not acknowledge messages.")

    def _play(self, shards: Sequence[_Shard], stop: threading.Event) -> LoadSummary:
        """Send all packets when they are due."""
        announced = sum(shard.link.acknowledged for shard in shards)
        used = os.times()
        start = _Start(time.time(), time.monotonic())
        now_s = 0.0
        for now_s in _ticks(start.monotonic_s, self._settings.seconds, stop):
            for shard in shards:
                shard.send(now_s, start)
            unacknowledged = sum(shard.link.unacknowledged for shard in shards)
            self._most_unacknowledged = max(self._most_unacknowledged, unacknowledged)
        seconds, used_now = time.monotonic() - start.monotonic_s, os.times()
        _drain([shard.link for shard in shards])
        for shard in shards:
            shard.record_lateness(start)
        p50, p99, most = self._lateness.quantiles_ms()
        packets = sum(shard.packets for shard in shards)
        return LoadSummary(
            devices=self._settings.devices,
            packets=packets,
            acknowledged=sum(shard.link.acknowledged for shard in shards) - announced,
            unsent=sum(shard.due(now_s) for shard in shards) - packets,
            packet_bytes=shards[0].frames.frame_bytes,
            seconds=seconds,
            lateness_p50_ms=p50,
            lateness_p99_ms=p99,
            lateness_max_ms=most,
            most_unacknowledged=self._most_unacknowledged,
            cpu_user_s_per_s=(used_now.user - used.user) / seconds,
            cpu_system_s_per_s=(used_now.system - used.system) / seconds,
        )


def _ticks(started_s: float, seconds: float, stop: threading.Event) -> Iterator[float]:
    """Yield the seconds since the start, every `TICK_S` and at the end; a late tick delays no other."""
    while not stop.is_set():
        now_s = time.monotonic() - started_s
        if now_s >= seconds:
            yield seconds
            return
        yield now_s
        now_s = time.monotonic() - started_s
        wait_s = TICK_S - now_s % TICK_S
        time.sleep(min(wait_s, max(seconds - now_s, 0)))


def _drain(links: Sequence[Link]) -> None:
    """Wait until everything is acknowledged, or until `DRAIN_S` have passed."""
    until_s = time.monotonic() + DRAIN_S
    while any(link.unacknowledged for link in links) and (now_s := time.monotonic()) < until_s:
        for link in links:
            link.turn(now_s)
        time.sleep(0.001)
