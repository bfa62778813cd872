"""Injected faults of real devices, by name.

A fault affects a fraction of the stream: of its segments of a few seconds (signal faults) or of its packets (packet
faults). Each is a small pure transformation; the same seed gives the same faults, and they can be combined. The effect
of a fault on the truth follows from the rule in `simulator.packets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monitor.wire import MAX_RATE_HZ
from simulator.packets import Outgoing
from simulator.stream import Signal, Stretch, cut

Rng = np.random.Generator

EPISODE_S = 4.0
"""Duration of a signal fault."""
NOISE_UV = 300.0
"""RMS of the noise."""
WANDER_UV, WANDER_HZ = 1500.0, 0.4
"""Amplitude and frequency of the baseline wander."""
CLIP_UV = 400.0
"""Level at which the amplifier saturates."""
JITTER_S = 0.02
"""Maximum error of a time stamp."""


def noise(signal: Signal, _rate_hz: float, rng: Rng) -> Signal:
    """White noise of 0.3 mV RMS, as from muscles."""
    noisy: Signal = signal + NOISE_UV * rng.standard_normal(signal.size)
    return noisy


def wander(signal: Signal, rate_hz: float, rng: Rng) -> Signal:
    """Baseline wander of 1.5 mV, which is zero at the beginning and the end."""
    phase = 2 * np.pi * WANDER_HZ * np.arange(signal.size) / rate_hz
    envelope = np.sin(np.pi * np.arange(signal.size) / signal.size) ** 2
    wandering: Signal = signal + WANDER_UV * envelope * np.sin(phase + rng.uniform(0, 2 * np.pi))
    return wandering


def lead_off(signal: Signal, _rate_hz: float, _rng: Rng) -> Signal:
    """No contact: no valid samples. The truth omits the affected beats."""
    return np.full(signal.size, np.nan)


def clipping(signal: Signal, _rate_hz: float, _rng: Rng) -> Signal:
    """Saturation of the amplifier at 0.4 mV."""
    return np.clip(signal, -CLIP_UV, CLIP_UV)


def gap(outgoing: Outgoing, _rng: Rng) -> tuple[Outgoing, ...]:
    """The packet is lost. The truth omits the affected beats."""
    return (replace(outgoing, lost=True),)


def jitter(outgoing: Outgoing, rng: Rng) -> tuple[Outgoing, ...]:
    """The time stamp is wrong by up to 20 ms; the truth keeps the true times."""
    start_s = max(0.0, outgoing.packet.start_s + rng.uniform(-JITTER_S, JITTER_S))
    return (replace(outgoing, packet=replace(outgoing.packet, start_s=start_s)),)


def duplicate(outgoing: Outgoing, _rng: Rng) -> tuple[Outgoing, ...]:
    """The packet is sent twice."""
    return outgoing, replace(outgoing, beats=())


def wrong_rate(outgoing: Outgoing, _rng: Rng) -> tuple[Outgoing, ...]:
    """The packet claims twice its rate. The truth omits the affected beats."""
    rate_hz = min(2 * outgoing.packet.rate_hz, MAX_RATE_HZ)
    return (replace(outgoing, packet=replace(outgoing.packet, rate_hz=rate_hz), false=True),)


def garbage(outgoing: Outgoing, rng: Rng) -> tuple[Outgoing, ...]:
    """Random bytes are sent before the packet."""
    return replace(outgoing, beats=(), garbage=rng.bytes(int(rng.integers(1, 200)))), outgoing


SIGNAL_FAULTS: dict[str, Callable[[Signal, float, Rng], Signal]] = {
    "noise": noise,
    "wander": wander,
    "lead-off": lead_off,
    "clipping": clipping,
}
PACKET_FAULTS: dict[str, Callable[[Outgoing, Rng], tuple[Outgoing, ...]]] = {
    "gap": gap,
    "jitter": jitter,
    "duplicate": duplicate,
    "wrong-rate": wrong_rate,
    "garbage": garbage,
}
REORDER = "reorder"
"""Two packets are swapped; it needs two packets, so it is not in the table."""
SHARES = {
    "noise": 0.2,
    "wander": 0.2,
    "lead-off": 0.1,
    "clipping": 0.2,
    "gap": 0.02,
    "jitter": 1.0,
    "duplicate": 0.05,
    REORDER: 0.05,
    "wrong-rate": 0.02,
    "garbage": 0.05,
}
"""All faults, and the default fraction that each affects."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to inject."""

    name: str
    """One of `SHARES`."""
    share: float
    """Fraction of the segments or packets that it affects, 0..1."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse ``NAME[:SHARE]``, such as "gap" or "noise:0.5".

        Raises
        ------
        ValueError
            There is no such fault, or the share is not a number from 0 to 1.
        """
        name, colon, number = text.partition(":")
        if name not in SHARES:
            raise ValueError(f"Unknown fault: got {name!r}, expected one of {', '.join(SHARES)}.")
        try:
            share = float(number) if colon else SHARES[name]
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise ValueError(f"The share of fault {name!r} must be 0 to 1: got {number!r}.")
        return cls(name, share)


def inject_signal_faults(
    stretches: Iterator[Stretch], rate_hz: float, faults: Sequence[Fault], seed: int
) -> Iterator[Stretch]:
    """Apply the signal faults, in order."""
    for fault in faults:
        if fault.name in SIGNAL_FAULTS:
            stretches = _inject_into_segments(stretches, rate_hz, fault, _rng(fault, seed))
    return stretches


def inject_packet_faults(packets: Iterator[Outgoing], faults: Sequence[Fault], seed: int) -> Iterator[Outgoing]:
    """Apply the packet faults, in order."""
    for fault in faults:
        if fault.name == REORDER:
            packets = _reorder(packets, fault.share, _rng(fault, seed))
        elif fault.name in PACKET_FAULTS:
            packets = _inject_into_each(packets, fault, _rng(fault, seed))
    return packets


def _rng(fault: Fault, seed: int) -> Rng:
    return np.random.default_rng((seed, list(SHARES).index(fault.name)))


def _inject_into_segments(stretches: Iterator[Stretch], rate_hz: float, fault: Fault, rng: Rng) -> Iterator[Stretch]:
    for stretch in cut(stretches, max(1, round(EPISODE_S * rate_hz)), rate_hz):
        if rng.random() < fault.share:
            yield replace(stretch, samples_uv=SIGNAL_FAULTS[fault.name](stretch.samples_uv, rate_hz, rng))
        else:
            yield stretch


def _inject_into_each(packets: Iterator[Outgoing], fault: Fault, rng: Rng) -> Iterator[Outgoing]:
    for outgoing in packets:
        is_affected = rng.random() < fault.share and outgoing.garbage is None
        yield from PACKET_FAULTS[fault.name](outgoing, rng) if is_affected else (outgoing,)


def _reorder(packets: Iterator[Outgoing], share: float, rng: Rng) -> Iterator[Outgoing]:
    """Hold some packets back until the next one has been sent."""
    held: Outgoing | None = None
    for outgoing in packets:
        if held is not None:
            yield outgoing
            yield replace(held, due_s=outgoing.due_s)
            held = None
        elif rng.random() < share:
            held = outgoing
        else:
            yield outgoing
    if held is not None:
        yield held
