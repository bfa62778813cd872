"""What a model called annotated beats, against their classes by ANSI/AAMI EC57.

Rules:

* Only a model of those five classes is compared: what another one was trained for is not in the annotations.
* Figures are of the matched beats that were judged. Those withheld or missed stand beside them, by class: nobody judged
  these, well or badly. A class's label counts, withheld and missed together are all of its annotated beats.
* Abnormal is any class but N, in the annotations as in the verdicts.
* The macro F1 is the mean over N, S, V and F. Q is left out, as usual: the usual records hold next to none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from monitor import wire
from recordings.classes import CLASS_OF, CLASSES
from simulator.stream import Played

NORMAL = CLASSES[0]
SCORED = CLASSES[:4]
"""Classes with figures of their own."""
WITHHELD, MISSED = "withheld", "missed"

Answers = Counter[tuple[str, str]]
"""Annotated beats, by class and by what came of them: a label, `WITHHELD` or `MISSED`."""
Figures = dict[str, float | None]
"""A figure of each class of `SCORED`."""
WIDTHS = (7, 7, 7, 7, 7, 10, 8, 8, 8, 8)
"""Of the table's columns, after the class."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Annotated classes against labels. Figures are None where there is nothing to measure."""

    confusion: dict[str, dict[str, int]]
    """Beats by annotated class, and by label."""
    withheld: dict[str, int]
    """Found beats that were not judged, by annotated class."""
    missed: dict[str, int]
    """Beats that were not found, by annotated class."""
    sensitivity_percent: Figures
    ppv_percent: Figures
    f1_percent: Figures
    macro_f1_percent: float | None
    abnormal_sensitivity_percent: float | None
    abnormal_specificity_percent: float | None
    abnormal_ppv_percent: float | None


def is_comparable(classes: Sequence[str]) -> bool:
    """Whether a model tells apart what annotations do, its normal class first."""
    return classes[0] == NORMAL and sorted(classes) == sorted(CLASSES)


def count_answers(
    annotated: Sequence[Played], found: Sequence[wire.Beat], partners: Mapping[int, int | None]
) -> Answers:
    """Count annotated beats by class, and by what the monitor called them.

    Parameters
    ----------
    partners
        For each annotated beat to count, by its position, the position of the found beat it matches, or None.
    """
    return Counter(
        (CLASS_OF[annotated[i].label], MISSED if j is None else found[j].label or WITHHELD) for i, j in partners.items()
    )


def agree(answers: Answers) -> Agreement:
    """Figures of what came of annotated beats."""
    confusion = {name: {label: answers[name, label] for label in CLASSES} for name in CLASSES}
    hits = {name: confusion[name][name] for name in CLASSES}
    known = {name: sum(confusion[name].values()) for name in CLASSES}
    called = {name: sum(row[name] for row in confusion.values()) for name in CLASSES}
    f1 = {name: percent(2 * hits[name], known[name] + called[name]) for name in SCORED}
    measured = [figure for figure in f1.values() if figure is not None]
    abnormal, alarms = (sum(counts.values()) - counts[NORMAL] for counts in (known, called))
    false_alarms = known[NORMAL] - hits[NORMAL]
    return Agreement(
        confusion=confusion,
        withheld={name: answers[name, WITHHELD] for name in CLASSES},
        missed={name: answers[name, MISSED] for name in CLASSES},
        sensitivity_percent={name: percent(hits[name], known[name]) for name in SCORED},
        ppv_percent={name: percent(hits[name], called[name]) for name in SCORED},
        f1_percent=f1,
        macro_f1_percent=sum(measured) / len(SCORED) if len(measured) == len(SCORED) else None,
        abnormal_sensitivity_percent=percent(alarms - false_alarms, abnormal),
        abnormal_specificity_percent=percent(hits[NORMAL], known[NORMAL]),
        abnormal_ppv_percent=percent(alarms - false_alarms, alarms),
    )


def format_agreement(agreement: Agreement) -> Iterator[str]:
    """Lines of a table, the figures below it, and what they mean."""
    yield _line("class", [*(f"as {label}" for label in CLASSES), WITHHELD, MISSED, "Se %", "PPV %", "F1 %"])
    by_class = (agreement.sensitivity_percent, agreement.ppv_percent, agreement.f1_percent)
    for name in CLASSES:
        counts = [*agreement.confusion[name].values(), agreement.withheld[name], agreement.missed[name]]
        yield _line(name, [*map(str, counts), *(show(figures.get(name)) for figures in by_class)])
    yield f"macro F1 over {' '.join(SCORED)}: {show(agreement.macro_f1_percent)} %"
    abnormal = (
        f"Se {show(agreement.abnormal_sensitivity_percent)} %",
        f"specificity {show(agreement.abnormal_specificity_percent)} %",
        f"PPV {show(agreement.abnormal_ppv_percent)} %",
    )
    yield f"abnormal, any class but {NORMAL}: {', '.join(abnormal)}"
    yield "Rows are annotated classes (ANSI/AAMI EC57), columns what the beats were called. The figures are of"
    yield "matched beats that were judged: of none that was withheld, missed, or found but not annotated."


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<5}{''.join(f'{cell:>{size}}' for cell, size in zip(cells, WIDTHS, strict=True))}"


def percent(part: int, whole: int) -> float | None:
    """Share in percent; None of nothing."""
    return 100 * part / whole if whole else None


def show(value: float | None) -> str:
    """Cell of a table."""
    return "-" if value is None else f"{value:.2f}"
