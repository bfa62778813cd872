"""The picture of a trade-off: a small plot for each limit, false alerts an hour against the share of events found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.tradeoff import Curve, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
COLUMNS = 3
LEAST_HOURLY = 0.2
"""The axis of false alerts goes at least so far."""
LINE, DEFAULT = "#1a4e8a", "#c0392b"


def draw(curves: Sequence[Curve], hours: float, about: str, path: Path) -> None:
    """Draw the curves that have events to find.

    Parameters
    ----------
    curves
        See `simulator.tradeoff.Curve`.
    hours
        Of signal, all records together.
    about
        What was played, in words.
    path
        Ends in .svg, .png or .pdf.

    Raises
    ------
    ValueError
        The name ends otherwise, `matplotlib` is not installed, there is nothing to draw, or the file cannot be written.
    """
    shown = [curve for curve in curves if curve.events]
    if path.suffix not in SUFFIXES:
        raise ValueError(f"A picture's name must end in {', '.join(SUFFIXES)}: got {path.name}.")
    if not shown:
        raise ValueError("Nothing to draw: the records have no true events of any kind.")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("Pictures need the package matplotlib: pip install 'ecgwatch[report]'.") from None
    rows = math.ceil(len(shown) / COLUMNS)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tradeoff", "font.size": 8}):
        figure = Figure(figsize=(3.3 * COLUMNS, 2.5 * rows), layout="constrained")
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
        for ax, curve in zip(axes, shown, strict=False):
            _draw_curve(ax, curve, hours)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        figure.suptitle(f"{about}, judged by networks that have not met the person; red: the default")
        try:
            figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error}") from None


def _draw_curve(ax: Axes, curve: Curve, hours: float) -> None:
    places: dict[tuple[float, float], list[Point]] = {}
    for point in curve.points:
        places.setdefault((point.false / hours, 100 * point.share), []).append(point)
    for place, points in places.items():
        color = DEFAULT if any(point.is_default for point in points) else LINE
        ax.plot(*place, "o", color=color, markersize=4)
        label = ", ".join(point.label for point in points)
        ax.annotate(label, place, (4, -7), textcoords="offset points", fontsize=7, color=color)
    most = max(LEAST_HOURLY, *(x for x, _ in places))
    ax.set_title(f"{curve.knob.title} ({curve.events} events)", fontsize=8)
    ax.set_xlabel("false alerts an hour")
    ax.set_ylabel("events found, %")
    ax.set_xlim(-0.05 * most, 1.25 * most)
    ax.set_ylim(max(0, 10 * math.floor(min(y for _, y in places) / 10 - 0.5)), 104)
