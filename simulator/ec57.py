"""What a model called annotated beats, against their classes by ANSI/AAMI EC57.

Rules:

* Only a model of those classes is compared, N, S and V at least: what another one was trained for is not in the
  annotations. Beats of a class that it does not have (F, Q) are listed, and count in no figure: what it calls them is
  neither right nor wrong, as EC57 has it of fusion beats that are called N or V.
* Figures are of the matched beats that were judged. Those withheld or missed stand beside them, by class: nobody judged
  these, well or badly. A class's label counts, withheld and missed together are all of its annotated beats.
* Abnormal is any class but N, in the annotations as in the verdicts.
* The macro F1 is the mean over those of N, S, V and F that the model has. Q is left out, as usual: the usual records
  hold next to none.
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
"""Classes with figures of their own, if the model has them."""
NEEDED = CLASSES[:3]
WITHHELD, MISSED = "withheld", "missed"

Answers = Counter[tuple[str, str]]
"""Annotated beats, by class and by what came of them: a label, `WITHHELD` or `MISSED`."""
Figures = dict[str, float | None]
"""A figure of each class of `SCORED`."""
LABEL_WIDTH, WIDTHS = 7, (10, 8, 8, 8, 8)
"""Of the table's columns, after the class: one of each label, and the others."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Annotated classes against labels. Figures are None where there is nothing to measure."""

    confusion: dict[str, dict[str, int]]
    """Beats by annotated class, and by label: one of the model's classes."""
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
    distinct = set(classes)
    return classes[0] == NORMAL and set(NEEDED) <= distinct <= set(CLASSES) and len(distinct) == len(classes)


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


def agree(answers: Answers, classes: Sequence[str] = CLASSES) -> Agreement:
    """Figures of what came of annotated beats.

    Parameters
    ----------
    answers
        Of `count_answers`.
    classes
        Of the model, see `is_comparable`.
    """
    labels = [name for name in CLASSES if name in classes]
    confusion = {name: {label: answers[name, label] for label in labels} for name in CLASSES}
    hits = {name: confusion[name][name] for name in labels}
    known = {name: sum(confusion[name].values()) for name in labels}
    called = {label: sum(confusion[name][label] for name in labels) for label in labels}
    scored = [name for name in SCORED if name in labels]
    f1 = {name: percent(2 * hits[name], known[name] + called[name]) for name in scored}
    measured = [figure for figure in f1.values() if figure is not None]
    abnormal, alarms = (sum(counts.values()) - counts[NORMAL] for counts in (known, called))
    false_alarms = known[NORMAL] - hits[NORMAL]
    return Agreement(
        confusion=confusion,
        withheld={name: answers[name, WITHHELD] for name in CLASSES},
        missed={name: answers[name, MISSED] for name in CLASSES},
        sensitivity_percent={name: percent(hits[name], known[name]) for name in scored},
        ppv_percent={name: percent(hits[name], called[name]) for name in scored},
        f1_percent=f1,
        macro_f1_percent=sum(measured) / len(scored) if len(measured) == len(scored) else None,
        abnormal_sensitivity_percent=percent(alarms - false_alarms, abnormal),
        abnormal_specificity_percent=percent(hits[NORMAL], known[NORMAL]),
        abnormal_ppv_percent=percent(alarms - false_alarms, alarms),
    )


def format_agreement(agreement: Agreement) -> Iterator[str]:
    """Lines of a table, the figures below it, and what they mean."""
    labels = list(agreement.confusion[NORMAL])
    yield _line("class", [*(f"as {label}" for label in labels), WITHHELD, MISSED, "Se %", "PPV %", "F1 %"], len(labels))
    by_class = (agreement.sensitivity_percent, agreement.ppv_percent, agreement.f1_percent)
    for name in CLASSES:
        counts = [*agreement.confusion[name].values(), agreement.withheld[name], agreement.missed[name]]
        yield _line(name, [*map(str, counts), *(show(figures.get(name)) for figures in by_class)], len(labels))
    yield f"macro F1 over {' '.join(agreement.f1_percent)}: {show(agreement.macro_f1_percent)} %"
    abnormal = (
        f"Se {show(agreement.abnormal_sensitivity_percent)} %",
        f"specificity {show(agreement.abnormal_specificity_percent)} %",
        f"PPV {show(agreement.abnormal_ppv_percent)} %",
    )
    yield f"abnormal, any class but {NORMAL}: {', '.join(abnormal)}"
    yield "Rows are annotated classes (ANSI/AAMI EC57), columns what the beats were called. The figures are of"
    yield "matched beats that were judged: of none that was withheld, missed, or found but not annotated."
    if others := [name for name in CLASSES if name not in labels]:
        yield f"The model does not have {' and '.join(others)}: what it calls these is neither right nor wrong."


def _line(name: str, cells: Sequence[str], labels: int) -> str:
    widths = [LABEL_WIDTH] * labels + list(WIDTHS)
    return f"{name:<5}{''.join(f'{cell:>{size}}' for cell, size in zip(cells, widths, strict=True))}"


def percent(part: int, whole: int) -> float | None:
    """Share in percent; None of nothing."""
    return 100 * part / whole if whole else None


def show(value: float | None) -> str:
    """Cell of a table."""
    return "-" if value is None else f"{value:.2f}"
