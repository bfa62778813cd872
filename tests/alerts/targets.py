"""Between what bounds each figure is meant to be: family -> name of the figure -> lowest and highest value."""

from __future__ import annotations

from math import inf

Bounds = tuple[float, float]


def _least(value: float) -> Bounds:
    return value, inf


def _most(value: float) -> Bounds:
    return 0.0, value


TARGETS: dict[str, dict[str, Bounds]] = {
    "mitdb": {
        "false alerts of high or medium priority": _most(0.25),
        "false alerts of all priorities but technical": _most(1),
        "episodes of 3 abnormal in 5 beats alerted": _least(85),
        "calm time in an alert": _most(0.5),
        "sinus-rhythm time in an alert": _most(3),
        "false alerts of high priority": _most(0.1),
        "false asystole": _most(0.05),
        "ventricular tachycardias of 5 beats or more found": _least(90),
        "fibrillation of the ventricles told in time": _least(90),
        "R peaks within 150 ms, F1": _least(99.85),
        "R peaks within 36 ms, F1": _least(99.3),
        "V sensitivity": _least(93),
        "V PPV": _least(93),
        "S F1": _least(40),
        "macro F1 of N S V": _least(76),
    },
    "svdb": {
        "false asystole": _most(0.05),
        "ventricular tachycardias of 5 beats or more found": _least(90),
        "S F1": _least(70),
        "macro F1 of N S V": _least(86),
    },
    "vfdb": {"fibrillation of the ventricles told in time": _least(90), "false alerts of high priority": _most(1)},
    "cudb": {"fibrillation of the ventricles told in time": _least(90)},
    "bedside": {"score of the challenge": _least(0.7), "true alarms told": _least(95)},
    "handheld": {
        "normal ones with an alert of high or medium priority": _most(3),
        "normal ones with a technical alert": _most(10),
    },
    "motion": {
        "judged abnormal in grade 1": _most(2),
        "withheld in grade 1": _most(2),
        "withheld in grade 4": _least(90),
        "alerts of high or medium priority, at rest": _most(0.5),
        "alerts of high or medium priority, walking": _most(2),
        "alerts of high or medium priority, running": _most(6),
    },
    "strap": {"alerts of high or medium priority": _most(0.5)},
    "tele": {"withheld inside the expert's artefacts": _least(90), "withheld elsewhere": _most(3)},
    "ec13": {
        "heart rate after 20 s of 3a": (75, 85),
        "heart rate after 20 s of 3b": (55, 65),
        "heart rate after 20 s of 3c": (115, 125),
        "heart rate after 20 s of 3d": (85, 95),
        **{f"time to alarm on {name}": _most(11) for name in ("4a", "4a_d", "4a_h", "4b", "4b_d", "4b_h")},
        "heart rate with T waves of 1.2 mV": (75, 85),
    },
    "splices": {
        "flat line: told": _least(98),
        "P waves: told": _least(98),
        "smooth noise: told": _least(98),
        "fibrillation: told": _least(98),
        "alerts of high priority before the splice": _most(0.05),
    },
}
"""None of them for a chest strap in sport or a patch without ectopic beats, of which there is no recording."""


def is_met(bounds: Bounds, value: float | None) -> bool:
    """Whether a figure is within its bounds; one of which there was nothing to measure is not."""
    return value is not None and bounds[0] <= value <= bounds[1]


def show(bounds: Bounds) -> str:
    """Format a target."""
    lowest, highest = bounds
    if highest == inf:
        return f"≥ {lowest:g}"
    return f"{lowest:g} to {highest:g}" if lowest else f"≤ {highest:g}"
