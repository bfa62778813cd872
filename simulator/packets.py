"""From a device's signal to the packets it sends, and which beats a monitor can be asked for.

Rule: the truth names a beat once its whole window was sent, and leaves it out if any of its samples was not: lost,
marked as missing, or sent with a false rate. Nobody could judge such a beat. Noise and clipping are no excuse.

Times are seconds since the start of the stream. Knows nothing of MQTT and never reads a clock.
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
    """One message that a device is to send on its samples topic, or would have sent."""

    due_s: float
    """When its last sample has been taken: time to send it."""
    packet: Packet
    """What it says; `start_s` counts from the start of the stream."""
    span_s: tuple[float, float]
    """The stretch of the stream that its samples are from."""
    beats: tuple[Played, ...] = ()
    """Beats whose R peak lies in it."""
    lost: bool = False
    """It is never sent."""
    false: bool = False
    """It is sent, but nobody could make sense of its samples."""
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
        Microvolts per step. What does not fit in 16 bits is clipped, as a device would.
    """
    for seq, stretch in enumerate(cut(stretches, size, rate_hz)):
        steps = np.clip(np.rint(stretch.samples_uv / resolution_uv), -32767, 32767)
        samples = np.where(np.isnan(steps), NO_SAMPLE, steps).astype(np.int16)
        start, end = seq * size / rate_hz, (seq * size + samples.size) / rate_hz
        yield Outgoing(end, Packet(seq, start, rate_hz, samples), (start, end), stretch.beats)


def with_truth(packets: Iterator[Outgoing]) -> Iterator[tuple[Outgoing, tuple[Played, ...]]]:
    """Go along the packets and give with each the beats whose windows are complete after it."""
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
"""How long a hole is remembered while no beat waits: longer than packets can be out of order."""


def at(packet: Packet, epoch_s: float) -> Packet:
    """Return the packet with its time on a clock that showed `epoch_s` at the start of the stream."""
    return replace(packet, start_s=packet.start_s + epoch_s)


def _holes(outgoing: Outgoing) -> list[tuple[float, float]]:
    """Stretches of time whose samples do not arrive."""
    if outgoing.lost or outgoing.false:
        return [outgoing.span_s]
    missing = np.flatnonzero(outgoing.packet.samples == NO_SAMPLE)
    if not missing.size:
        return []
    start, rate_hz = outgoing.span_s[0], outgoing.packet.rate_hz
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    return [(start + run[0] / rate_hz, start + (run[-1] + 1) / rate_hz) for run in runs]
