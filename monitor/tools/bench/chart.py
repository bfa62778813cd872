"""Charts as SVG text, to be put into a page: lines, bars and ranges. Nothing else is needed to draw or to see them.

Knows nothing of what is drawn.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

INK, SOFT, LINE = "#1f2933", "#52606d", "#e4e9ee"
BLUE, RED, GREY = "#1f5f8b", "#c8553d", "#9aa5b1"
WIDTH, HEIGHT = 560, 300
"""Of a chart with lines, in the units of its text, which is 12 high."""
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 26, 42
ROW = 30
"""Height of a bar or a range, with the space around it."""
NAMES = 200
"""Room for the names of bars and ranges."""
CHARACTER = 6.6
"""Width of a character, about."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str = BLUE
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart, and what is written at its end."""

    name: str
    value: float
    text: str
    color: str = BLUE


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a chart: a thin line over all marks, a thick one over the first and the last but one."""

    name: str
    marks: Sequence[float]
    """Ascending."""
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Values along a length.

    Parameters
    ----------
    values
        What must have a place; for a logarithmic axis those above 0.
    start, end
        Coordinates of its ends.
    log
        Whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool) -> Axis:
        """An axis with room for these values; a linear one begins at 0."""
        fit = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
        if log:
            low, high = min(fit) / 1.15, max(fit) * 1.15
            if high / low < 4:
                low, high = low / 2, high * 2
            return cls(low, high, start, end, log)
        return cls(0.0, 1.05 * max(fit) or 1.0, start, end, log)

    def place(self, value: float) -> float:
        """Coordinate of a value; what lies outside is at the nearer end."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log(value) if value > 0 else low
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values along it."""
        if not self.log:
            step = 10.0 ** math.floor(math.log10(self.high / 4))
            step = next(step * times for times in (1, 2, 5, 10) if self.high / (step * times) <= 6)
            return [step * number for number in range(int(self.high / step) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        times = (1, 2, 5) if self.high / self.low < 50 else (1,)
        every = max(1, len(decades) // 7)
        values = [factor * 10.0**decade for decade in decades[::every] for factor in times]
        return [value for value in values if self.low <= value <= self.high]


def lines(
    title: str, x_name: str, y_name: str, series: Sequence[Series], *, log_y: bool = False, limit: float | None = None
) -> str:
    """Lines over a logarithmic axis, each with its name; `limit` is a dashed line across."""
    points = [point for one in series for point in one.points]
    x = Axis.over([x for x, _ in points], LEFT, WIDTH - RIGHT, log=True)
    heights = [y for _, y in points] + ([limit] if limit is not None else [])
    y = Axis.over(heights, HEIGHT - BOTTOM, TOP + 18, log=log_y)
    parts = [
        *_grid_across(y, LEFT, WIDTH - RIGHT),
        *_ticks_below(x, HEIGHT - BOTTOM, None),
        _text((x.start + x.end) / 2, HEIGHT - 6, x_name, "middle", SOFT),
        _text(8, TOP + 6, y_name, "start", SOFT),
    ]
    if limit is not None:
        at = y.place(limit)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, RED, 1.2, dashed=True))
        parts.append(_text(LEFT + 4, at - 5, f"limit {format_value(limit)}", "start", RED))
    legend = WIDTH - RIGHT - sum(CHARACTER * len(one.name) + 30 for one in series)
    for one in series:
        placed = " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in one.points)
        dash = ' stroke-dasharray="5 4"' if one.dashed else ""
        parts.append(f'<polyline points="{placed}" fill="none" stroke="{one.color}" stroke-width="2"{dash}/>')
        parts += [_dot(x.place(a), y.place(b), one.color) for a, b in one.points]
        parts += [_line(legend, TOP + 2, legend + 16, TOP + 2, one.color, 2.5, dashed=one.dashed)]
        parts.append(_text(legend + 20, TOP + 6, one.name, "start", INK))
        legend += CHARACTER * len(one.name) + 30
    return _svg(title, HEIGHT, parts)


def bars(title: str, x_name: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars, as long as their values are high."""
    room = CHARACTER * max((len(row.text) for row in rows), default=0) + 8
    x = Axis.over([row.value for row in rows], NAMES, WIDTH - RIGHT - room, log=False)
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [*_ticks_below(x, height - BOTTOM, TOP), _text((x.start + x.end) / 2, height - 6, x_name, "middle", SOFT)]
    for middle, row in zip(_middles(), rows, strict=False):
        end = x.place(row.value)
        parts.append(_text(NAMES - 8, middle + 4, row.name, "end", INK))
        parts.append(
            f'<rect x="{NAMES}" y="{middle - 9:.1f}" width="{max(1.0, end - NAMES):.1f}" height="18" rx="2" '
            f'fill="{row.color}"/>'
        )
        parts.append(_text(end + 6, middle + 4, row.text, "start", INK))
    return _svg(title, height, parts)


def ranges(title: str, x_name: str, rows: Sequence[Range]) -> str:
    """Horizontal ranges over a logarithmic axis."""
    room = CHARACTER * max((len(row.text) for row in rows), default=0) + 8
    x = Axis.over([mark for row in rows for mark in row.marks], NAMES, WIDTH - RIGHT - room, log=True)
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [*_ticks_below(x, height - BOTTOM, TOP), _text((x.start + x.end) / 2, height - 6, x_name, "middle", SOFT)]
    for middle, row in zip(_middles(), rows, strict=False):
        places = [x.place(mark) for mark in row.marks]
        parts.append(_text(NAMES - 8, middle + 4, row.name, "end", INK))
        parts.append(_text(WIDTH - RIGHT, middle + 4, row.text, "end", INK))
        if not places:
            continue
        parts.append(_line(places[0], middle, places[-1], middle, GREY, 1.5))
        parts.append(_line(places[0], middle, places[-2 if len(places) > 1 else 0], middle, BLUE, 5))
        parts += [_dot(place, middle, BLUE if place != places[-1] else GREY) for place in places]
    return _svg(title, height, parts)


def format_value(value: float) -> str:
    """A round value, as short as it can be read."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _middles() -> Iterator[float]:
    """Heights of the rows."""
    middle = TOP + ROW / 2
    while True:
        yield middle
        middle += ROW


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    heading = f'<text x="8" y="14" font-weight="600" fill="{INK}">{html.escape(title)}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html.escape(title, quote=True)}" '
        f'font-size="12">{heading}{"".join(parts)}</svg>'
    )


def _grid_across(y: Axis, left: float, right: float) -> list[str]:
    parts = []
    for value in y.ticks():
        at = y.place(value)
        parts += [_line(left, at, right, at, LINE, 1), _text(left - 6, at + 4, format_value(value), "end", SOFT)]
    return parts


def _ticks_below(x: Axis, bottom: float, top: float | None) -> list[str]:
    """Values below an axis, with lines up to `top`."""
    parts = []
    for value in x.ticks():
        at = x.place(value)
        parts.append(_line(at, bottom, at, bottom + 4 if top is None else top, LINE if top is not None else GREY, 1))
        parts.append(_text(at, bottom + 16, format_value(value), "middle", SOFT))
    return [*parts, _line(x.start, bottom, x.end, bottom, GREY, 1)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width:g}"{dash}/>'


def _dot(x: float, y: float, color: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>'


def _text(x: float, y: float, text: str, anchor: str, color: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{html.escape(text)}</text>'
