"""However a stream is cut into packets, and saved and restored: the same beats and alerts, also where a heart stops.

What can be told of a silence depends on what is seen in it, so there are silences of many kinds: each is looked at anew
while it lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from tests.monitor.ecg.test_vf import _fibrillation
from tests.monitor.one_device import play_cut
from tests.monitor.synthetic_ecg import beat_times, make_ecg

BEATING_S, SILENT_S = (9.3, 8.6, 8.2), 11.0
RATES_HZ = (125.0, 250.0, 130.0)
Floats = npt.NDArray[np.float64]


def _wander(chance: np.random.Generator, t: Floats) -> Floats:
    """A baseline that comes back from far away, and sways."""
    far, sway = chance.uniform(500, 3000), chance.uniform(50, 600)
    return np.asarray(far * np.exp(-t / chance.uniform(0.8, 3.0)) + sway * np.sin(2 * np.pi * 0.2 * t))


def _steps(chance: np.random.Generator, t: Floats) -> Floats:
    """One that jumps, now and then."""
    at_s = chance.uniform(0, 10, 3)
    return np.asarray((chance.uniform(-1500, 1500, 3)[:, None] * (t > at_s[:, None])).sum(axis=0))


def _hiss(chance: np.random.Generator, t: Floats) -> Floats:
    return chance.uniform(10, 60) * chance.normal(0, 1, t.size)


def _smooth(chance: np.random.Generator, t: Floats) -> Floats:
    width = max(1, round(0.02 * t.size / t[-1]))
    return chance.uniform(60, 200) * np.convolve(chance.normal(0, 1, t.size), np.ones(width) / width, "same")


def _waves(chance: np.random.Generator, t: Floats) -> Floats:
    """As in fibrillation, now stronger, now fainter."""
    wave = _fibrillation(t[-1] + 1, int(chance.integers(1000)))
    return np.asarray(np.interp(125 * t, np.arange(wave.size), wave) * np.abs(np.sin(0.5 * t)))


def _slow(chance: np.random.Generator, t: Floats) -> Floats:
    """Beats that are seconds apart."""
    ecg = make_ecg(beat_times(t[-1], chance.uniform(3.5, 5.5, 4).tolist()), t[-1] + 1, t.size / t[-1])
    return ecg[: t.size].astype(np.float64)


NOISES = {one.__name__[1:]: one for one in (_wander, _steps, _hiss, _smooth, _waves, _slow)}
UNSEEN = {"seen": None, "held": 300, "at the end of the range": 2**15 - 1, "missing": wire.NO_SAMPLE}


@lru_cache
def _stream(noise: str, seed: int) -> tuple[npt.NDArray[np.int16], float]:
    """A heart that stops three times, and what is there instead of it; how much of that is seen differs, too."""
    chance, rate_hz = np.random.default_rng(seed), RATES_HZ[seed % len(RATES_HZ)]
    parts = []
    for beating_s, fill in zip(BEATING_S, chance.choice([*UNSEEN], 3), strict=True):
        ecg = make_ecg(beat_times(beating_s, 0.8), beating_s, rate_hz).astype(np.float64)
        t = np.arange(round(SILENT_S * rate_hz)) / rate_hz
        silence = NOISES[noise](chance, t)
        if (value := UNSEEN[fill]) is not None:
            begin = chance.integers(0, t.size)
            silence[begin : begin + round(chance.uniform(0.05, 4.0) * rate_hz)] = value
        hiss = chance.normal(0, 3, t.size) * (silence != wire.NO_SAMPLE)
        parts += [ecg + chance.normal(0, 3, ecg.size), silence + hiss]
    parts.append(make_ecg(beat_times(6.0), 6.0, rate_hz).astype(np.float64))
    return np.clip(np.rint(np.concatenate(parts)), -(2**15), 2**15 - 1).astype(np.int16), rate_hz


def _play(noise: str, seed: int, sizes_s: Sequence[float], saved_s: float) -> tuple[list[wire.Beat], list[wire.Alert]]:
    """Beats and alerts, but for the packets that they were found by."""
    samples, rate_hz = _stream(noise, seed)
    sizes = [max(1, round(size_s * rate_hz)) for size_s in sizes_s]
    beats, alerts = play_cut(samples, rate_hz, sizes, round(saved_s * rate_hz))
    replace = msgspec.structs.replace
    return (
        [replace(one, seq=0, completed_s=0.0) for one in beats],
        [replace(one, seq=0, completed_s=0.0) for one in alerts],
    )


@lru_cache
def _whole(noise: str, seed: int) -> tuple[list[wire.Beat], list[wire.Alert]]:
    return _play(noise, seed, [1.0], -1.0)


SIZES_S = st.floats(np.log(0.02), np.log(10.0)).map(lambda size: float(np.exp(size)))


@pytest.mark.parametrize("noise", NOISES)
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 2),
    sizes_s=st.lists(SIZES_S, min_size=1, max_size=5).filter(lambda sizes_s: sum(sizes_s) > 0.2 * len(sizes_s)),
    saved_s=st.floats(10.0, 60.0),
)
def test_any_cut_gives_the_same_beats_and_alerts(noise: str, seed: int, sizes_s: list[float], saved_s: float) -> None:
    assert _play(noise, seed, sizes_s, saved_s) == _whole(noise, seed)


@pytest.mark.parametrize("noise", NOISES)
def test_and_so_do_packets_of_20_ms(noise: str) -> None:
    assert _play(noise, 1, [0.02], 25.0) == _whole(noise, 1)


def test_of_these_silences_some_are_told_at_once_some_later_and_some_never() -> None:
    """Else the tests above would show little."""
    delays_s, silences = list[float](), 0
    for noise in NOISES:
        beats, alerts = _whole(noise, 1)
        silences += len(BEATING_S)
        told_s = [one.time_s for one in alerts if (one.kind, one.state) == ("asystole", "new")]
        delays_s += [at_s - max(beat.qrs_s for beat in beats if beat.qrs_s < at_s) for at_s in told_s]
    assert min(delays_s) < 5.1
    assert max(delays_s) > 6.0
    assert 5 < len(delays_s) < silences
