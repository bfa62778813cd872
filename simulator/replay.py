"""Play feeds to an MQTT broker, in real time or faster.

Rules
-----
* Each packet has a target time relative to the start: a late packet delays no other, so the clock never drifts.
* A packet is published when its last sample is due. `start_s` is the true UTC time of its first sample at
  speed 1; at speed N the device's clock runs N times faster.
* A device's clock starts on a whole multiple of 8 ms, the grid of 125 Hz, and the devices start staggered within
  the length of a packet, as real ones would.
* The truth of a beat is published right after the packet that completes its window.
* Each device has a connection of its own; what happens while the broker is unreachable is `simulator.link`'s.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor import beat, wire
from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from simulator.devices import Device, Feed
from simulator.link import ConnectionLoop, DeviceConnection
from simulator.packets import Outgoing, at
from simulator.stream import Played

OnBeat = Callable[[Device, wire.Truth, beat.Windows | None], None]
"""Called for each beat once its truth is sent: the device, the truth, and the original window if there is one."""

LATENESS_KEPT = 100_000
"""Number of latest packets whose lateness is kept."""
DRAIN_S = 10.0
"""How long to wait at the end for missing acknowledgements."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a replay."""

    devices: int
    packets: int
    """Messages on the samples topics, including garbage and duplicates."""
    acknowledged: int
    """Packets that the broker or the monitor has acknowledged."""
    dropped: int
    """Packets that became too old before they were acknowledged at all."""
    expired: int
    """Packets that the broker has acknowledged, but that no monitor did in time, although there was one."""
    resent: int
    """Number of resends."""
    beats: int
    """Beats whose truth was sent."""
    reconnects: int
    seconds: float
    lateness_p50_s: float
    """Median time between a packet's target time and its publication."""
    lateness_p99_s: float

    @property
    def lost(self) -> int:
        """Packets that were never acknowledged."""
        return self.packets - self.acknowledged

    def __str__(self) -> str:
        """Format for people, in one line."""
        return (
            f"{self.devices} devices, {self.seconds:.1f} s: {self.packets} packets sent, "
            f"{self.acknowledged} acknowledged, {self.lost} lost, {self.resent} resent, {self.beats} beats played, "
            f"{self.reconnects} reconnects, lateness p50 {1e3 * self.lateness_p50_s:.1f} ms, "
            f"p99 {1e3 * self.lateness_p99_s:.1f} ms"
        )


class Replay:
    """A player of feeds to a broker.

    Parameters
    ----------
    feeds
        The feeds; see `simulator.devices`.
    url
        The broker.
    speed
        Factor relative to real time.
    topics
        Names of the topics.
    password, cafile, certfile, keyfile
        See `monitor.broker.connection.make_client`.
    on_beat
        Called for each beat, from the thread of `run`.

    Raises
    ------
    ValueError
        There are no feeds, two devices have the same id, or the speed is not positive.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        url: BrokerUrl,
        *,
        speed: float = 1.0,
        topics: wire.Topics | None = None,
        password: str | None = None,
        cafile: Path | None = None,
        certfile: Path | None = None,
        keyfile: Path | None = None,
        on_beat: OnBeat | None = None,
    ) -> None:
        ids = [feed.device.id for feed in feeds]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"A replay needs devices with different ids: got {ids}.")
        if not 0 < speed < math.inf:
            raise ValueError(f"Speed must be a positive number: got {speed}.")
        self._speed, self._on_beat = speed, on_beat
        self._packets: list[Iterator[tuple[Outgoing, tuple[Played, ...]]]] = [feed.packets() for feed in feeds]
        self._next: list[tuple[Outgoing, tuple[Played, ...]] | None] = [None] * len(feeds)
        self._lateness: deque[float] = deque(maxlen=LATENESS_KEPT)
        self._beats = 0
        # A client id names the run as well: a second simulator must not take over the sessions of the first.
        run = f"{time.time_ns() & 0xFFFFFFFF:08x}"
        self._links = [
            DeviceConnection(
                feed.device,
                connection.make_client(
                    url,
                    f"{feed.device.id}-{run}",
                    password=password,
                    cafile=cafile,
                    certfile=certfile,
                    keyfile=keyfile,
                ),
                topics or wire.Topics(),
            )
            for feed in feeds
        ]
        self._loop = ConnectionLoop(self._links, url)
        self._epochs = [0.0] * len(feeds)  # UTC at the start of each device's stream
        self._starts = [0.0] * len(feeds)  # the same on the monotonic clock

    def run(self, stop: threading.Event | None = None, duration_s: float | None = None) -> Summary:
        """Play until all feeds have ended, `stop` is set, or `duration_s` of real time have passed.

        Raises
        ------
        ConnectionError
            The broker cannot be reached, or refuses the devices. Once all are connected, the replay waits for a
            broker that goes away.
        """
        stop = stop or threading.Event()
        try:
            self._loop.connect()
            started = time.monotonic()
            self._play(started, math.inf if duration_s is None else started + duration_s, stop)
            seconds = time.monotonic() - started
            self._drain()
        finally:
            self._loop.close()
        return self._summarise(seconds)

    def _play(self, started: float, end: float, stop: threading.Event) -> None:
        """Send each packet when it is due, and run the network loop in between."""
        schedule = self._schedule(started)
        heapq.heapify(schedule)
        while schedule and not stop.is_set():
            now = time.monotonic()
            if now >= end:
                break
            due, number = schedule[0]
            if due > now:
                self._loop.turn(min(due, end, now + 0.1) - now)
                self._loop.housekeep(now)
                continue
            self._lateness.append(now - due)
            self._send(number)
            if self._prepare(number):
                heapq.heapreplace(schedule, (self._due(number), number))
            else:
                heapq.heappop(schedule)
                self._links[number].close()
            self._loop.update(self._links[number])
            self._loop.turn(0)

    def _schedule(self, started: float) -> list[tuple[float, int]]:
        """Start the devices' clocks and return when the first packet of each is due."""
        utc = time.time()
        schedule = []
        for number, link in enumerate(self._links):
            profile = link.device.profile
            stagger = profile.packet_samples / profile.rate_hz / self._speed * number / len(self._links)
            epoch = math.ceil((utc + stagger) * beat.RATE_HZ) / beat.RATE_HZ
            self._epochs[number], self._starts[number] = epoch, started + epoch - utc
            link.announce(epoch)
            link.pump()
            if self._prepare(number):
                schedule.append((self._due(number), number))
            else:
                link.close()
        return schedule

    def _prepare(self, number: int) -> bool:
        """Prepare a device's next packet, before it is due; False at the end of its feed."""
        self._next[number] = next(self._packets[number], None)
        return self._next[number] is not None

    def _due(self, number: int) -> float:
        """Return when a device's next packet is due, on the monotonic clock."""
        prepared = self._next[number]
        assert prepared is not None
        return self._starts[number] + prepared[0].due_s / self._speed

    def _send(self, number: int) -> None:
        """Send a device's next packet, and the truth of the beats that are complete with it."""
        prepared = self._next[number]
        assert prepared is not None
        outgoing, beats = prepared
        link, epoch = self._links[number], self._epochs[number]
        if outgoing.garbage is not None:
            link.send("samples", outgoing.garbage, outgoing.packet.seq, outgoing.span_s[0])
        elif not outgoing.lost:
            payload = wire.encode_packet(at(outgoing.packet, epoch))
            link.send("samples", payload, outgoing.packet.seq, outgoing.span_s[0])
        for played in beats:
            truth = wire.Truth(
                r_peak_s=epoch + played.r_peak_s,
                label=played.label,
                source=played.source,
                duration_s=played.duration_s,
            )
            link.send("truth", wire.encode(truth), outgoing.packet.seq, outgoing.span_s[0])
            self._beats += 1
            if self._on_beat is not None:
                self._on_beat(link.device, truth, played.window)

    def _drain(self) -> None:
        """Wait until the broker has acknowledged everything, and disconnect."""
        for link in self._links:
            if not link.closing:
                link.close()
        deadline = time.monotonic() + DRAIN_S
        while not all(link.closed for link in self._links) and (now := time.monotonic()) < deadline:
            self._loop.turn(0.02)
            self._loop.housekeep(now)

    def _summarise(self, seconds: float) -> Summary:
        late = np.percentile(self._lateness or [0.0], [50, 99])
        return Summary(
            devices=len(self._links),
            packets=sum(link.outbox.packets for link in self._links),
            acknowledged=sum(link.outbox.confirmed for link in self._links),
            dropped=sum(link.outbox.dropped for link in self._links),
            expired=sum(link.outbox.expired for link in self._links),
            resent=sum(link.outbox.resent for link in self._links),
            beats=self._beats,
            reconnects=sum(max(link.connects - 1, 0) for link in self._links),
            seconds=seconds,
            lateness_p50_s=float(late[0]),
            lateness_p99_s=float(late[1]),
        )
