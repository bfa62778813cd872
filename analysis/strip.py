"""A strip of ECG on the grid of ECG paper, to scale: 25 mm a second, 10 mm a millivolt.

A signal too high for `MOST_MV` is drawn at 5 or 2.5 mm a millivolt, and it says so. One whose unit is not known has no
scale, and says that. What is missing is not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recordings.export import beside
from recordings.recording import Recording, Signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MM_S, MM_MV = 25.0, 10.0
INCH_MM = 25.4
LEAST_MV, MOST_MV = 2.0, 5.0
"""Height of the paper."""
FINE, COARSE, TRACE, MARK = "#f6d5d5", "#e8a5a5", "#111111", "#1a4e8a"
SUFFIXES = (".svg", ".png", ".pdf")
FONT = 8


@dataclass(frozen=True, eq=False)
class Strip:
    """What is drawn."""

    title: str
    subtitle: str
    rate_hz: float
    samples: Signal
    """(n,) microvolts, or steps; NaN where there is none."""
    is_scaled: bool = True
    """False: the samples are steps of unknown height."""
    beats: tuple[tuple[float, str], ...] = ()
    """Seconds since the first sample, and what the beat is called."""
    event_s: float | None = None
    """When it happened."""

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples.size / self.rate_hz


def cut_strip(
    recording: Recording,
    beats: Sequence[tuple[float, str]],
    event_s: float,
    title: str,
    subtitle: str,
    *,
    before_s: float = 7.0,
    seconds: float = 10.0,
) -> Strip:
    """Cut a strip around a moment out of a recording; times are seconds since its start."""
    begin_s = min(max(0.0, event_s - before_s), max(0.0, recording.seconds - seconds))
    first = round(begin_s * recording.rate_hz)
    samples = recording.samples_uv[first : first + round(seconds * recording.rate_hz)]
    inside = [(at - begin_s, label) for at, label in beats if begin_s <= at < begin_s + seconds]
    return Strip(title, subtitle, recording.rate_hz, samples, True, tuple(inside), event_s - begin_s)


def draw_strip(axes: Axes, strip: Strip, *, fits: bool = False) -> None:
    """Draw a strip into axes of its own size, or of any size: then it does not claim to be to scale."""
    centre, height_mv, unit = _fit(strip)
    axes.set_xlim(0, max(strip.seconds, 1.0))
    axes.set_ylim(-height_mv / 2, height_mv / 2)
    _draw_grid(axes, max(strip.seconds, 1.0), height_mv)
    times_s = np.arange(strip.samples.size) / strip.rate_hz
    axes.plot(times_s, (strip.samples - centre) / unit, color=TRACE, linewidth=0.8, solid_joinstyle="round")
    for at, label in strip.beats:
        is_odd = label not in ("N", "normal")
        name = {"normal": "N", "withheld": "?", "abnormal": "A"}.get(label, label)
        axes.text(
            at, height_mv / 2 * 0.98, name, ha="center", va="top", fontsize=FONT,
            color=MARK if is_odd else "#777777", fontweight="bold" if is_odd else "normal",
        )  # fmt: skip
    if strip.event_s is not None:
        axes.plot([strip.event_s], [-height_mv / 2], marker="^", color=MARK, markersize=6, clip_on=False)
    scale = (
        f"25 mm/s, {MM_MV * _gain(height_mv, strip):g} mm/mV" if strip.is_scaled else "25 mm/s, height without scale"
    )
    if fits:
        scale = "large squares: 0.2 s, 0.5 mV" if strip.is_scaled else "large squares: 0.2 s; height without scale"
    axes.set_title(strip.title, loc="left", fontsize=FONT + 1.5, fontweight="bold", pad=12)
    axes.text(0, 1.02, strip.subtitle, transform=axes.transAxes, fontsize=FONT, va="bottom")
    axes.text(1, 1.02, scale, transform=axes.transAxes, fontsize=FONT - 1, va="bottom", ha="right", color="#555555")


def make_figure(strip: Strip) -> Figure:
    """Make a figure of a strip, to scale."""
    from matplotlib.figure import Figure

    _, height_mv, _ = _fit(strip)
    width_mm = MM_S * max(strip.seconds, 1.0)
    height_mm = MM_MV * height_mv * _gain(height_mv, strip)
    left, right, top, bottom = 4.0, 4.0, 11.0, 4.0
    size_mm = width_mm + left + right, height_mm + top + bottom
    figure = Figure(figsize=(size_mm[0] / INCH_MM, size_mm[1] / INCH_MM))
    place = (left / size_mm[0], bottom / size_mm[1], width_mm / size_mm[0], height_mm / size_mm[1])
    draw_strip(figure.add_axes(place), strip)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, PNG or PDF, whole or not at all; the same figure gives the same bytes."""
    import matplotlib as mpl

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"Picture: got {path.name!r}, expected a name that ends in {', '.join(SUFFIXES)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[suffix]
    with mpl.rc_context({"svg.hashsalt": "ecgwatch"}), beside(path) as draft:
        figure.savefig(draft, format=suffix[1:], dpi=200, metadata=about)


def _fit(strip: Strip) -> tuple[float, float, float]:
    """What is drawn at mid-height, the height of the paper in mV, and how much of the samples' unit is a mV."""
    known = strip.samples[np.isfinite(strip.samples)]
    if not known.size:
        return 0.0, LEAST_MV, 1000.0
    low, high = (float(one) for one in np.percentile(known, [0.1, 99.9]))
    if not strip.is_scaled:
        return (low + high) / 2, LEAST_MV, max(1.0, (high - low) / 1.5)
    span_mv = (high - low) / 1000 + 0.7
    height_mv = float(np.ceil(max(LEAST_MV, span_mv) * 2) / 2)
    return (low + high) / 2, height_mv, 1000.0


def _gain(height_mv: float, strip: Strip) -> float:
    """Of the usual height of a millivolt."""
    if not strip.is_scaled or height_mv <= MOST_MV:
        return 1.0
    return 0.5 if height_mv <= 2 * MOST_MV else 0.25


def _draw_grid(axes: Axes, seconds: float, height_mv: float) -> None:
    """Small squares of 0.04 s and 0.1 mV, large ones of 0.2 s and 0.5 mV."""
    low, high = -height_mv / 2, height_mv / 2
    for share, color, width in ((1, FINE, 0.3), (5, COARSE, 0.5)):
        times_s = np.arange(0, seconds + 1e-9, 0.04 * share)
        levels = np.arange(low, high + 1e-9, 0.1 * share)
        axes.vlines(times_s, low, high, color=color, linewidth=width, zorder=0.1 * share)
        axes.hlines(levels, 0, seconds, color=color, linewidth=width, zorder=0.1 * share)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(COARSE)
