"""From a device's signal to its packets, and the beats that a monitor is expected to find.

Rule: the truth lists a beat once its whole window has been sent, and omits it if any of its samples was not: lost,
marked as missing, or sent with a false rate. Nothing could classify such a beat. Noise and clipping omit none.

Times are seconds since the start of the stream. Knows nothing about MQTT and never reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from monitor.wire import NO_SAMPLE, Packet
from simulator.stream import Played, Stretch, cut


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """One message on a device's samples topic, sent or lost."""

    due_s: float
    """When its last sample has been recorded, and it is due to be sent."""
    packet: Packet
    """Its content; `start_s` counts from the start of the stream."""
    span_s: tuple[float, float]
    """Start and end of its samples in the stream."""
    beats: tuple[Played, ...] = ()
    """Beats whose R peak lies in it."""
    lost: bool = False
    """Whether it is lost: never sent."""
    false: bool = False
    """Whether it is sent with samples that cannot be interpreted."""
    garbage: bytes | None = None
    """Sent instead of the packet."""


def make_packets(stretches: Iterator[Stretch], rate_hz: float, size: int, resolution_uv: float) -> Iterator[Outgoing]:
    """Cut a signal into packets.

    Parameters
    ----------
    stretches
        The signal at `rate_hz`; NaN becomes `NO_SAMPLE`.
    rate_hz
        Rate of the device.
    size
        Samples in a packet; the last one may have fewer.
    resolution_uv
        Microvolts per ADC count. Values beyond 16 bits are clipped, as by a device.
    """
    for seq, stretch in enumerate(cut(stretches, size, rate_hz)):
        counts = np.clip(np.rint(stretch.samples_uv / resolution_uv), -32767, 32767)
        samples = np.where(np.isnan(counts), NO_SAMPLE, counts).astype(np.int16)
        start, end = seq * size / rate_hz, (seq * size + samples.size) / rate_hz
        yield Outgoing(end, Packet(seq, start, rate_hz, samples), (start, end), stretch.beats)


def with_truth(packets: Iterator[Outgoing]) -> Iterator[tuple[Outgoing, tuple[Played, ...]]]:
    """Yield each packet with the beats whose windows are complete after it."""
    waiting: deque[Played] = deque()
    holes: deque[tuple[float, float]] = deque()
    for outgoing in packets:
        waiting = deque(sorted((*waiting, *outgoing.beats), key=lambda played: played.r_peak_s))
        holes.extend(_holes(outgoing))
        complete = []
        while waiting and waiting[0].r_peak_s + waiting[0].duration_s <= outgoing.due_s:
            played = waiting.popleft()
            if not any(start < played.r_peak_s + played.duration_s and end > played.r_peak_s for start, end in holes):
                complete.append(played)
        while holes and holes[0][1] < (waiting[0].r_peak_s if waiting else outgoing.span_s[0] - KEEP_S):
            holes.popleft()
        yield outgoing, tuple(complete)


KEEP_S = 5.0
"""How long a hole is kept while no beat is pending: longer than packets can be out of order."""


def at(packet: Packet, epoch_s: float) -> Packet:
    """Return the packet with its time on a clock that read `epoch_s` at the start of the stream."""
    return replace(packet, start_s=packet.start_s + epoch_s)


def _holes(outgoing: Outgoing) -> list[tuple[float, float]]:
    """Time intervals whose samples do not arrive."""
    if outgoing.lost or outgoing.false:
        return [outgoing.span_s]
    missing = np.flatnonzero(outgoing.packet.samples == NO_SAMPLE)
    if not missing.size:
        return []
    start, rate_hz = outgoing.span_s[0], outgoing.packet.rate_hz
    gaps = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    return [(start + gap[0] / rate_hz, start + (gap[-1] + 1) / rate_hz) for gap in gaps]
