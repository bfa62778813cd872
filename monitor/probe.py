"""What is asked of a model file before it may judge: answers to a few beats that make sense.

A network in which something is wrong seldom fails: it answers, and every beat is normal, or abnormal, or depends on
whose beats come with it. So a few windows are tried when a model is loaded. Its answers must be finite; the same for
the same beat, alone and among others; and probabilities, or what its description declares.

Knows nothing of files or metadata.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from monitor import beat
from monitor.wiring import Answers, Form, ModelMismatch, find_form

WINDOWS = 24
ALONE = 6
"""So many of the windows are tried alone as well."""
SEED = 0
TOLERANCE = 1e-3
"""How far, as a share of the largest answer, two answers to one beat may differ: half precision rounds to 5e-4."""

Run = Callable[[beat.Windows, beat.RrContext], Answers]
"""The network."""


def probe_windows() -> tuple[beat.Windows, beat.RrContext]:
    """Drawn beats as the monitor cuts them, at heart rates of 40 to 180 a minute: (24, 187) and (24, 3) float32."""
    rng = np.random.default_rng(SEED)
    rr_s = np.linspace(60 / 180, 60 / 40, WINDOWS)
    windows = np.stack([_draw_beat(rng, float(interval_s)) for interval_s in rr_s])
    return windows, beat.rr_context(rr_s * rng.uniform(0.6, 1.4, WINDOWS), rr_s, rr_s)


def check_answers(run: Run, declared: Form | None) -> Form:
    """Try a network, and return the form of its answers.

    Parameters
    ----------
    run
        The network.
    declared
        What its answers are declared to be; None if nothing is declared.

    Raises
    ------
    ModelMismatch
        The answers are not finite, depend on the other beats or on chance, or are not of the declared form.
    """
    windows, rr = probe_windows()
    together = run(windows, rr)
    if not np.isfinite(together).all():
        bad = int((~np.isfinite(together)).any(axis=1).sum())
        raise ModelMismatch(f"its answers must be finite: got NaN or infinity for {bad} of {WINDOWS} beats")
    largest = max(float(np.abs(together).max()), 1e-6)
    if np.abs(run(windows, rr) - together).max() > TOLERANCE * largest:
        raise ModelMismatch("it answers differently to the same beats: export it in evaluation mode, without dropout")
    for i in range(0, WINDOWS, WINDOWS // ALONE):
        difference = float(np.abs(run(windows[i : i + 1], rr[i : i + 1]) - together[i]).max())
        if difference > TOLERANCE * largest:
            raise ModelMismatch(
                f"its answer to a beat depends on the other beats of the batch: alone it differs by {difference:.2g}; "
                "is its softmax over the batch axis, or its batch normalisation in training mode?"
            )
    return _check_form(together, declared)


def _check_form(answers: Answers, declared: Form | None) -> Form:
    form, sums = find_form(answers), answers.sum(axis=1)
    rows = f"rows that add up to {sums.min():.3g} to {sums.max():.3g}"
    seen = f"values of {answers.min():.3g} to {answers.max():.3g}, {rows}"
    if form is None and declared in (None, "probabilities"):
        raise ModelMismatch(f"its answers are neither probabilities nor anything that they follow from: got {seen}")
    if declared == "probabilities" and form != "probabilities":
        raise ModelMismatch(f"its answers must be probabilities, rows that add up to 1: got {form}: {seen}")
    found = declared or form
    assert found is not None
    return found


def _draw_beat(rng: np.random.Generator, rr_s: float) -> beat.Windows:
    """One window: R peak, T wave, the next P wave and R peak, and noise."""
    time_s = np.arange(beat.window_length(rr_s * beat.RATE_HZ)) / beat.RATE_HZ
    centers_s = np.array([0, 0.3, 0.84, 1]) * rr_s
    widths_s = np.array([0.015, 0.05, 0.03, 0.015]) * rng.uniform(0.7, 2, 4)
    heights = np.array([1, 0.3, 0.15, 1]) * rng.uniform(-0.3, 1.3, 4)
    waves = heights * np.exp(-0.5 * ((time_s[:, None] - centers_s) / widths_s) ** 2)  # (samples, 4)
    return beat.fit_window(waves.sum(axis=1) + rng.normal(0, 0.02, time_s.size))
