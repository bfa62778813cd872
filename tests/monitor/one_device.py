"""One device through the whole engine, a second of signal a packet."""

from __future__ import annotations

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
