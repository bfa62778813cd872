"""A measured number, and what it was counted from. Knows nothing of what is measured, nor of targets."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One number; its value is None where there was nothing to measure."""

    name: str
    value: float | None
    unit: str = "%"
    counts: str = ""
    """What it was counted from, such as "3 of 40"."""


def share(name: str, part: float, whole: float, what: str = "") -> Figure:
    """Return how many percent a part is of the whole; both are counts, unless `what` says of what."""
    return Figure(name, 100 * part / whole if whole else None, "%", f"{part:.0f} of {whole:.0f} {what}".strip())


def rate(name: str, count: int, seconds: float) -> Figure:
    """Return how often something was in an hour."""
    return Figure(name, 3600 * count / seconds if seconds else None, "/h", f"{count} in {seconds / 3600:.1f} h")
