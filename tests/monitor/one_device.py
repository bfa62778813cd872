"""One device through the whole engine, a second of signal a packet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor import wire
from monitor.classify import Classifier
from monitor.engine import Engine

BEGIN_S = 1e9


def play(samples: np.ndarray, rate_hz: float) -> tuple[list[wire.Beat], list[wire.Alert]]:
    """Return the beats and alerts of (n,) int16 samples that begin at `BEGIN_S`."""
    engine = Engine(Classifier(provider="cpu"))
    beats: list[wire.Beat] = []
    alerts: list[wire.Alert] = []
    size = int(rate_hz)
    for seq, begin in enumerate(range(0, samples.size - size + 1, size)):
        engine.feed("a", wire.Packet(seq, BEGIN_S + begin / rate_hz, rate_hz, samples[begin : begin + size]), 0.0)
        output = engine.flush()
        beats += output.beats
        alerts += output.alerts
    return beats, alerts


def play_cut(
    samples: np.ndarray, rate_hz: float, sizes: Sequence[int], saved_at: int = -1
) -> tuple[list[wire.Beat], list[wire.Alert]]:
    """The same in packets of these sizes over and over, saved and restored behind the one that holds a sample."""
    engine = Engine(Classifier(provider="cpu"))
    beats: list[wire.Beat] = []
    alerts: list[wire.Alert] = []
    at = seq = 0
    while at < samples.size:
        part = samples[at : at + sizes[seq % len(sizes)]]
        engine.feed("a", wire.Packet(seq, BEGIN_S + at / rate_hz, rate_hz, part), 0.0)
        output = engine.flush()
        beats += output.beats
        alerts += output.alerts
        at, seq = at + part.size, seq + 1
        if at - part.size <= saved_at < at:
            saved, engine = engine.save("a"), Engine(Classifier(provider="cpu"))
            engine.restore("a", saved, 0.0)
    return beats, alerts
