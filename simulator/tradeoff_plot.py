"""The picture of a trade-off: a small plot for each limit, false alerts an hour against the share of events found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.tradeoff import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
COLUMNS = 3
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
        axes = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for ax, curve in zip(axes, shown, strict=False):
            _draw_curve(ax, curve, hours)
        for ax in list(axes)[len(shown) :]:
            ax.set_axis_off()
        figure.suptitle(f"{about}, judged by networks that have not met the person; red: the default")
        try:
            figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error}") from None


def _draw_curve(ax: Axes, curve: Curve, hours: float) -> None:
    x = [point.false / hours for point in curve.points]
    y = [100 * point.share for point in curve.points]
    ax.plot(x, y, "o", color=LINE, markersize=3)
    for point, false, found in zip(curve.points, x, y, strict=True):
        color = DEFAULT if point.is_default else LINE
        if point.is_default:
            ax.plot([false], [found], "o", color=color, markersize=5)
        ax.annotate(point.label, (false, found), (3, 2), textcoords="offset points", fontsize=6, color=color)
    ax.set_title(f"{curve.knob.title} ({curve.events} events)", fontsize=8)
    ax.set_xlabel("false alerts an hour")
    ax.set_ylabel("events found, %")
    ax.set_xlim(left=-0.05 * max(*x, 0.1))
    ax.margins(0.12)
