"""Limits of one device: detectors of which some parameters are set to other values.

What can be set is every number of a detector that is above 0 and finite as it stands in the registry, to a tenth up to
ten times of that, and within `Detector.BOUNDS`: what lies beyond is a slip of the finger, or would switch an alert off
unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from monitor import wire
from monitor.alerts.detector import Detector
from monitor.alerts.rates import Rate
from monitor.nearest import nearest

WITHIN = 10.0
"""A parameter may be so many times smaller or larger than usual."""
NOT_SET = ("rank", "cycle")
"""Numbers of a detector that are no parameters: another one would be another kind of alert."""


def parameters(detector: Detector) -> dict[str, float]:
    """Return what can be set of a detector, with its value."""
    values = {one.name: getattr(detector, one.name) for one in fields(detector) if one.name not in NOT_SET}
    return {name: value for name, value in values.items() if _is_number(value) and 0 < value < math.inf}


class Range(NamedTuple):
    """What a parameter can be set to."""

    usual: float
    """As it is for all devices."""
    low: float
    high: float
    is_whole: bool


def ranges(detector: Detector, usual: Mapping[str, float] | None = None) -> dict[str, Range]:
    """Return what each parameter of a detector can be set to; `usual` are those that have another value by now."""
    return {
        name: _range(detector, name, (usual or {}).get(name, value)) for name, value in parameters(detector).items()
    }


def differing(detectors: Mapping[wire.Kind, Detector], usual: Mapping[wire.Kind, Detector]) -> wire.Limits:
    """Return the parameters of detectors that have another value than usual: kind -> parameter -> value."""
    found = {
        kind: {name: value for name, value in parameters(one).items() if value != parameters(usual[kind]).get(name)}
        for kind, one in detectors.items()
        if kind in usual
    }
    return {kind: values for kind, values in found.items() if values}


def override(detectors: Mapping[wire.Kind, Detector], limits: wire.Limits) -> dict[wire.Kind, Detector]:
    """Return the detectors that limits change.

    Parameters
    ----------
    detectors
        As they are for all devices.
    limits
        Kind -> parameter -> value.

    Raises
    ------
    ValueError
        There is no such kind or parameter, or its value lies out of range: in words for whoever has set it.
    """
    changed = {kind: _replace(find(detectors, kind), values) for kind, values in limits.items() if values}
    _check_rates({**detectors, **changed})
    return changed


def _check_rates(detectors: Mapping[wire.Kind, Detector]) -> None:
    """Refuse limits by which every heart rate would be too low or too high."""
    low = max(((one.below_bpm, kind) for kind, one in detectors.items() if isinstance(one, Rate)), default=(0, ""))
    high = min(((one.above_bpm, kind) for kind, one in detectors.items() if isinstance(one, Rate)), default=(1, ""))
    if low[0] >= high[0]:
        got = f"{low[1]} below {low[0]:g} and {high[1]} above {high[0]:g}"
        raise ValueError(f"The limit of a low heart rate must lie below that of a high one: got {got}.")


def _range(detector: Detector, name: str, usual: float) -> Range:
    least, most = detector.BOUNDS.get(name, (0, math.inf))
    low, high, is_whole = max(least, usual / WITHIN), min(most, usual * WITHIN), isinstance(usual, int)
    return Range(usual, math.ceil(low) if is_whole else low, high, is_whole)


def find(detectors: Mapping[wire.Kind, Detector], kind: str) -> Detector:
    """Return the detector of a kind, or raise ValueError with the nearest one that there is."""
    if kind not in detectors:
        raise ValueError(f"There is no alert {kind!r}{_meant(kind, detectors)}")
    return detectors[kind]


def _replace(detector: Detector, values: Mapping[str, float]) -> Detector:
    usual = parameters(detector)
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in usual:
            raise ValueError(f"{detector.kind} has no limit {name!r}{_meant(name, usual)}")
        _, low, high, is_whole = _range(detector, name, usual[name])
        if not low <= value <= high:
            raise ValueError(f"{detector.kind} {name} must lie between {low:g} and {high:g}: got {value:g}.")
        if is_whole and not float(value).is_integer():
            raise ValueError(f"{detector.kind} {name} must be a whole number: got {value:g}.")
        changed[name] = type(usual[name])(value)
    made = replace(detector, **changed)
    n, m = getattr(made, "n", 1), getattr(made, "m", 1)
    if n > m:
        raise ValueError(f"{detector.kind} n must be at most m: got {n} of {m}.")
    return made


def _meant(word: str, known: Iterable[str]) -> str:
    return nearest(word, known) or f": expected one of {', '.join(known)}."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
