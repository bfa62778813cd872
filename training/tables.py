"""The tables and texts of a comparison, in Markdown and in HTML.

Presents what `training.compare` measured, and decides nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training import compare, metrics, plots
from training.data import BINARY
from training.plots import SPLIT_NAMES
from training.split import SplitKind, split_kinds

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
DISCLAIMER = (
    "Research software, not a medical device: no approval, no clinical test, no claim. An absence of alerts does not "
    "mean an absence of disease."
)
WHOLE_RECORDINGS = (
    "The labels belong to whole recordings: a beat is labelled abnormal because its recording was, even where the beat "
    "itself looks normal. No network can be perfect on such labels; distrust any that is."
)
SPLIT_SENTENCES: dict[SplitKind, str] = {
    "patient": "No network has seen the patients it is evaluated on: this is what a new wearer can expect.",
    "beat": "The same patients are in training and evaluation, as in most publications: these figures are optimistic. "
    "For new patients, see the table above.",
}
SOURCES = {
    "ptbdb": ("PTB Diagnostic ECG Database", "ODC-By 1.0", "Bousseljot, Kreiseler and Schnabel 1995", "ptbdb"),
    "ptbxl": ("PTB-XL", "CC BY 4.0", "Wagner et al. 2020", "ptb-xl"),
    "mitdb": ("MIT-BIH Arrhythmia Database", "ODC-By 1.0", "Moody and Mark 2001", "mitdb"),
    "mitbih": ("MIT-BIH Arrhythmia Database", "ODC-By 1.0", "Moody and Mark 2001", "mitdb"),
}
"""Name of a data set -> title, licence, citation, its name on PhysioNet."""


@dataclass(frozen=True)
class Column:
    """A figure of a table."""

    key: str
    """In `metrics.Figures`."""
    heading: str
    main: bool = False
    """Whether its interval is shown."""
    lower: bool = False
    """Whether lower is better."""


COLUMNS = (
    Column("accuracy", "accuracy"),
    Column("ppv", "precision (PPV)"),
    Column("sensitivity", "recall (sensitivity)"),
    Column("specificity", "specificity"),
    Column("f1", "F1"),
    Column("balanced_accuracy", "balanced accuracy", main=True),
    Column("roc_auc", "ROC-AUC", main=True),
    Column("pr_auc", "PR-AUC", main=True),
    Column("record_auc", "record ROC-AUC", main=True),
    Column("brier", "Brier", lower=True),
    Column("calibration_error", "calibration error", lower=True),
    Column("sensitivity_at_95", "sensitivity at 95 % specificity"),
    Column("roc_auc_varied", "ROC-AUC, augmented beats"),
)
"""Of two classes."""
MEANINGS = (
    "PPV: the fraction of beats predicted abnormal that are. Balanced accuracy: mean of sensitivity and specificity. "
    "ROC-AUC: the chance that an abnormal beat gets a higher probability than a normal one. PR-AUC: mean PPV over all "
    "sensitivities. Record ROC-AUC: of whole records, by the mean probability of their beats. Brier: mean squared "
    "difference of probability and label. Calibration error: mean difference of the probability and the fraction of "
    "abnormal beats (Naeini et al. 2015). Augmented beats: the same beats as another device, detector or hour might "
    "have recorded them."
)


def columns(classes: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns for a network on some classes."""
    if len(classes) == 2:
        return COLUMNS
    counted = [*(one for one in classes[1:] if one in metrics.MACRO), classes[0]]
    return (
        Column("class_accuracy", "class accuracy"),
        Column("macro_f1", "macro F1 (N S V F)", main=True),
        *(
            Column(f"{key} {one}", f"{heading} {one}", main=key == "f1")
            for one in counted
            for key, heading in (("sensitivity", "sens."), ("ppv", "PPV"), ("f1", "F1"))
        ),
        Column("roc_auc", "ROC-AUC, abnormal", main=True),
        Column("pr_auc", "PR-AUC, abnormal", main=True),
        Column("brier", "Brier", lower=True),
    )


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table that can be written as Markdown and as HTML."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    """Number of leading columns that hold text."""
    marked: frozenset[int] = field(default=frozenset())
    """Rows of the chosen network."""
    grouped: bool = False
    """Whether rows with the same first cell are grouped."""


def title_of(task: compare.Task) -> str:
    """Describe a task in words."""
    many = len(task.beats.classes)
    return "Normal or abnormal" if many == 2 else f"{many} classes of beats: {' '.join(task.beats.classes)}"


def figures_table(task: compare.Task, split: SplitKind) -> Table:
    """A line per data set and network; the best of each data set is highlighted."""
    shown = columns(task.beats.classes)
    of_split = [line for line in task.lines if line.split == split]
    lines = [line for name in dict.fromkeys(one.data for one in of_split) for line in of_split if line.data == name]

    def best(column: Column, line: compare.Line) -> bool:
        values = [round(one.figures[column.key], 3) for one in lines if one.data == line.data]
        known = [value for value in values if math.isfinite(value)]
        value = round(line.figures[column.key], 3)
        return len(known) > 1 and value == (min(known) if column.lower else max(known))

    def cell(column: Column, line: compare.Line) -> Cell:
        interval = line.intervals.get(column.key) if column.main else None
        return Cell(show_number(line.figures[column.key]), show_interval(interval), best(column, line))

    return Table(
        ["data", "network", *(column.heading for column in shown)],
        [
            [
                Cell(name_data(task, line.data)),
                Cell(_named(task, line.network)),
                *(cell(column, line) for column in shown),
            ]
            for line in lines
        ],
        words=2,
        marked=frozenset(i for i, line in enumerate(lines) if line.network == task.chosen.title),
        grouped=True,
    )


def _named(task: compare.Task, title: str) -> str:
    return f"{title} (chosen)" if title == task.chosen.title else title


def name_data(task: compare.Task, name: str) -> str:
    """Name of a data set, with a warning where it could not be split by patient."""
    unknown = split_kinds(task.beats, "patient").get(name) == "beat"
    return f"{name} (patients unknown: intra-patient)" if unknown else name


def show_number(value: float) -> str:
    """Three decimals, or a dash."""
    return f"{value:.3f}" if math.isfinite(value) else DASH


def show_interval(found: tuple[float, float] | None) -> str:
    """Low and high bound in parentheses, or nothing."""
    return f"({found[0]:.3f}{DASH}{found[1]:.3f})" if found and all(map(math.isfinite, found)) else ""


def beats_table(task: compare.Task) -> Table:
    """Beats, patients and records of each class."""
    beats = task.beats
    rows = []
    for name in beats.names():
        of_set = beats.datasets == name
        for label, of_class in enumerate(beats.classes):
            inside = of_set & (beats.labels == label)
            people, records = (len(set(ids[inside].tolist()) - {""}) for ids in (beats.patients, beats.records))
            n = np.count_nonzero(inside)
            counts = [
                f"{n}",
                f"{100 * n / np.count_nonzero(of_set):.1f} %",
                *(f"{k}" if k or not n else "?" for k in (people, records)),
            ]
            rows.append([Cell(name), Cell(of_class), *map(Cell, counts)])
    return Table(["data", "class", "beats", "share", "patients", "records"], rows, words=2, grouped=True)


def costs_table(task: compare.Task) -> Table:
    """The cost of each network."""
    slow = task.costs[compare.REFERENCE].us_per_beat if compare.REFERENCE in task.costs else math.nan
    return Table(
        ["network", "parameters", "file, kB", "µs per beat", f"times as fast as {compare.REFERENCE}"],
        [
            [
                Cell(_named(task, title)),
                Cell(f"{cost.parameters:,}"),
                Cell(f"{cost.file_bytes / 1000:.0f}"),
                Cell(f"{cost.us_per_beat:.1f}"),
                Cell(_times(slow / cost.us_per_beat)),
            ]
            for title, cost in task.costs.items()
        ],
        marked=frozenset(i for i, title in enumerate(task.costs) if title == task.chosen.title),
    )


def _times(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else DASH


def ablation_table(task: compare.Task) -> Table:
    """The augmentation left out in training, and the change against the full recipe."""
    shown = [("roc_auc", "ROC-AUC"), ("roc_auc_varied", "ROC-AUC, augmented beats")]
    if len(task.beats.classes) > 2:
        shown.insert(0, ("macro_f1", "macro F1"))
    full = {line.data: line for line in task.lines if (line.network, line.split) == ("compact", "patient")}
    left_out = {
        one.recipe.title: one.recipe.without or "all of it" for one in task.ablation
    }  # "beats not varied" leaves out all kinds
    lines = [line for line in task.ablation_lines if line.data in task.beats.names() and line.data in full]

    def cells(line: compare.Line) -> list[Cell]:
        of_full = full[line.data].figures
        changes = [(line.figures[key], line.figures[key] - of_full[key]) for key, _ in shown]
        return [Cell(text) for value, change in changes for text in (show_number(value), _signed(change))]

    rows = []
    for name in task.beats.names():
        mine = [line for line in lines if line.data == name]
        if mine:
            of_full = [Cell(text) for key, _ in shown for text in (show_number(full[name].figures[key]), "")]
            rows.append([Cell(name), Cell("nothing: the full recipe"), *of_full])
        rows += [[Cell(name), Cell(left_out[line.network]), *cells(line)] for line in mine]
    headings = [heading for _, one in shown for heading in (one, "change")]
    return Table(["data", "left out in training", *headings], rows, words=2, grouped=True)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS) if math.isfinite(value) else DASH


def groups_table(task: compare.Task) -> Table:
    """Inter-patient figures of the chosen network by group."""
    shown = [column for column in columns(task.beats.classes) if column.key in ("roc_auc", "pr_auc", "macro_f1")]
    shown += [Column(key, key.replace("_", " ")) for key in ("balanced_accuracy", "sensitivity", "specificity")]
    return Table(
        ["by", "group", "patients", "beats", *(column.heading for column in shown)],
        [
            [
                Cell(kind),
                Cell(group),
                Cell(f"{figures['patients']:.0f}"),
                Cell(f"{figures['beats']:.0f}"),
                *(Cell(show_number(figures[column.key])) for column in shown),
            ]
            for kind, group, figures in task.groups
        ],
        words=2,
        grouped=True,
    )


def notes_of(task: compare.Task) -> list[str]:
    """Return what a reader of the figures must know about the data."""
    unknown = [name for name, kind in split_kinds(task.beats, "patient").items() if kind == "beat"]
    return [
        *([WHOLE_RECORDINGS] if tuple(task.beats.classes) == BINARY else []),
        *task.beats.notes,
        *(
            f"{name}: its files do not identify the patients. Its beats are split at random in every table, so its "
            "figures are optimistic everywhere."
            for name in unknown
        ),
    ]


def method(settings: compare.Settings, tasks: Sequence[compare.Task]) -> list[str]:
    """Describe how the figures were obtained."""
    taught = {one.recipe.title: one.recipe.teachers for task in tasks for one in task.judged if one.recipe.teachers}
    return [
        f"Inter-patient: {settings.folds}-fold cross-validation over patients; every beat is judged once, by a network "
        "that was trained on the other folds and has seen no beat of its patient.",
        f"Intra-patient: one of {settings.folds} folds of beats is judged, by a network that was trained on the "
        "others, regardless of patient. In both splits, identical windows are on one side.",
        f"All networks are trained the same way: {settings.epochs} epochs, seed {settings.seed}, the last epoch "
        "counts. Neither weights nor operating points are chosen on the evaluated beats; the network is, by the rule.",
        *(
            f"{title}: learns from the mean probability of {', '.join(teachers)}, trained on the same beats, in "
            "addition to the labels (Hinton, Vinyals and Dean 2015)."
            for title, teachers in taught.items()
        ),
        "The operating point of a fold is the one that is best on the held-out beats of the other folds: with two "
        "classes the threshold of the highest balanced accuracy, with more the offsets of the highest macro F1. In "
        "the intra-patient split, each half gets the point of the other.",
        f"Intervals hold 95 % of {metrics.RESAMPLES} bootstrap resamples of patients, each with all their beats (Efron "
        "and Tibshirani 1993); they reflect the variation between patients, not between training runs.",
        "Microseconds per beat: the median under ONNX Runtime, one thread, batches of 64, all networks interleaved.",
    ]


def sources(tasks: Sequence[compare.Task]) -> list[tuple[str, str]]:
    """Return (sentence, URL or "") for each data set."""
    found = []
    for name in dict.fromkeys(name for task in tasks for name in task.beats.names()):
        if name in SOURCES:
            title, licence, cite, address = SOURCES[name]
            found.append((f"{name}: {title}, {licence}; {cite}", f"https://physionet.org/content/{address}/"))
        else:
            found.append((f"{name}: source and licence are not known here", ""))
    return found


ABLATION_CAPTION = (
    "What changes when a kind of augmentation is left out of training, inter-patient, network compact: a minus means "
    "that the kind helped. Shift: R peak detected early or late; pace: another heart rate or sampling rate; smoothing: "
    "a device's low-pass filter; wander: breathing; motion: electrode motion; noise: muscles and electrodes; ending: a "
    "window that ends elsewhere; rhythm: QRS complexes detected early or late."
)
GROUPS_CAPTION = (
    "The chosen network, inter-patient, by group; a diagnosis is compared with all normal beats. Small groups mean "
    "little: look at the number of patients first. Signal quality is measured by the noise of the window itself."
)


def headline(task: compare.Task) -> str:
    """Return the chosen network and its cost, in one sentence."""
    cost = task.costs[task.chosen.title]
    found = f"{task.chosen.title}: {cost.parameters:,} parameters, {cost.us_per_beat:.1f} µs per beat"
    if compare.REFERENCE in task.costs and task.chosen.title != compare.REFERENCE:
        times = task.costs[compare.REFERENCE].us_per_beat / cost.us_per_beat
        found += f", {_times(times)} times as fast as {compare.REFERENCE}"
    return found


def summary_table(tasks: Sequence[compare.Task]) -> Table:
    """The figure of merit of the chosen networks, inter-patient and intra-patient."""
    rows = []
    for task in tasks:
        key, name = plots.merit_of(task)
        for dataset in task.beats.names():
            lines = [plots.line_of(task, task.chosen.title, split, dataset) for split in compare.SPLITS]
            cells = [Cell(show_number(line.figures[key]), show_interval(line.intervals.get(key))) for line in lines]
            rows.append(
                [Cell(title_of(task)), Cell(name_data(task, dataset)), Cell(task.chosen.title), Cell(name), *cells]
            )
    return Table(["task", "data", "chosen network", "figure", *(SPLIT_NAMES[one] for one in compare.SPLITS)], rows, 4)


def plain(text: str) -> str:
    """Escape text for Markdown."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*").replace("`", "\\`")


def as_markdown(table: Table) -> str:
    """Format a table in Markdown."""

    def cell(one: Cell) -> str:
        text = plain(f"{one.text} {one.interval}".strip())
        return f"**{text}**" if one.best else text

    rule = ["---"] * table.words + ["---:"] * (len(table.headings) - table.words)
    rows = [[plain(one) for one in table.headings], rule, *([cell(one) for one in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_html(table: Table) -> str:
    """Format a table in HTML, in a box of its own that scrolls; grouped rows get their first cell as a heading."""
    skip = 1 if table.grouped else 0
    words = table.words - skip
    head = "".join(f"<th{_side(i, words)}>{escape(one)}</th>" for i, one in enumerate(table.headings[skip:]))
    body, last = [], None
    for number, row in enumerate(table.rows):
        if table.grouped and row[0].text != last:
            last = row[0].text
            body.append(f'<tr class="group"><th colspan="{len(row) - 1}"><span>{escape(last)}</span></th></tr>')
        cells = "".join(f"<td{_side(i, words)}>{_cell(one)}</td>" for i, one in enumerate(row[skip:]))
        body.append(f'<tr class="chosen">{cells}</tr>' if number in table.marked else f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _side(column: int, words: int) -> str:
    return ' class="word"' if column < words else ""


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    return f"{text}<small>{escape(cell.interval)}</small>" if cell.interval else text


def escape(text: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(text), quote=True)
