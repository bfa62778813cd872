"""The page of a comparison: one self-contained HTML file. The plots are drawn by `training.plots`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import torch

from training import compare, metrics, plots
from training.plots import SPLIT_NAMES
from training.run import WEIGHTS
from training.tables import (
    ABLATION_CAPTION,
    DASH,
    DISCLAIMER,
    GROUPS_CAPTION,
    MEANINGS,
    SPLIT_SENTENCES,
    ablation_table,
    as_html,
    beats_table,
    costs_table,
    escape,
    figures_table,
    groups_table,
    headline,
    method,
    name_data,
    notes_of,
    show_interval,
    show_number,
    sources,
    title_of,
)

OCCLUDED = 400
"""Maximum number of beats for the occlusion plot."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    heading: str
    body: str
    """HTML."""


def page(settings: compare.Settings, tasks: Sequence[compare.Task], machine: str, out: Path) -> str:
    """Return the page, which is self-contained.

    Parameters
    ----------
    out
        Folder of the comparison, which holds the network of fold 0 for the occlusion plot.
    """
    chapters = [(task.name, title_of(task), task_sections(task, out)) for task in tasks]
    end = [
        Section("method", "Method", _method_html(settings, tasks, machine)),
        Section("data", "Data", _sources_html(tasks)),
    ]
    links = ['<a href="#summary">Summary</a>']
    for name, title, sections in chapters:
        links.append(f'<a class="task" href="#{escape(name)}">{escape(title)}</a>')
        links += [f'<a href="#{escape(one.anchor)}">{escape(one.heading)}</a>' for one in sections]
    links += [f'<a class="task" href="#{one.anchor}">{one.heading}</a>' for one in end]
    body = [_summary_html(tasks)]
    for name, title, sections in chapters:
        body.append(f'<h2 class="task" id="{escape(name)}">{escape(title)}</h2>')
        body += [_section_html(one) for one in sections]
    body += [_section_html(one) for one in end]
    return Template(_read("page.html")).substitute(
        style=_read("page.css"), nav="".join(links), body="\n".join(body), disclaimer=escape(DISCLAIMER)
    )


def _section_html(section: Section) -> str:
    return f'<section id="{escape(section.anchor)}"><h3>{escape(section.heading)}</h3>{section.body}</section>'


def _p(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _code(text: str) -> str:
    """Escape text; text between backticks becomes code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _panels(pictures: Iterable[str], caption: str, kind: str = "panels") -> str:
    """Return pictures side by side where there is room, with a caption."""
    cells = "".join(f"<div>{one}</div>" for one in pictures)
    return f'<figure><div class="{kind}">{cells}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _summary_html(tasks: Sequence[compare.Task]) -> str:
    cards = "".join(_summary_card(task) for task in tasks)
    return f'<section id="summary"><h2>Summary</h2><div class="cards">{cards}</div>{_p(SUMMARY)}</section>'


SUMMARY = (
    "Large: inter-patient, on patients that the network has not seen, with the 95 % interval: what a new wearer can "
    "expect. Small: intra-patient, as is usual, with the same patients in training and evaluation."
)


def _summary_card(task: compare.Task) -> str:
    """Summarise a task: figure of merit, inter-patient and intra-patient, and the cost of the chosen network."""
    key, name = plots.merit_of(task)
    numbers = []
    for dataset in task.beats.names():
        inter, intra = (plots.line_of(task, task.chosen.title, split, dataset) for split in compare.SPLITS)
        numbers.append(
            f'<div class="number"><b>{show_number(inter.figures[key])}</b>'
            f"<small>{show_interval(inter.intervals.get(key))}</small>"
            f"<span>{escape(name)} on {escape(name_data(task, dataset))}, inter-patient</span>"
            f"<span>{show_number(intra.figures[key])} intra-patient</span></div>"
        )
    return (
        f"<article><h4>{escape(title_of(task))}</h4><p>Chosen: {escape(headline(task))}</p>"
        f'<div class="numbers">{"".join(numbers)}</div></article>'
    )


def task_sections(task: compare.Task, out: Path) -> list[Section]:
    """Return the sections of the page about one task."""
    names, chosen = task.beats.names(), {one: plots.judged_of(task, task.chosen.title, one) for one in compare.SPLITS}
    candidates = [one for one in task.judged if one.split == "patient"]

    def on_each(kind: str) -> list[str]:
        return [plots.curves(task, split, name, kind) for name in names for split in compare.SPLITS]

    sections = [
        (
            "Beats",
            _balance_html(task)
            + as_html(beats_table(task))
            + _list(notes_of(task))
            + _panels(
                (one for name in names for one in plots.waveforms(task.beats, name)),
                "Mean beat of each class from its R peak on, without padding; the band is one standard deviation to "
                "either side: where the bands separate, a single beat is informative.",
            ),
        ),
        (
            "Figures",
            _panels(
                (plots.gap(task, name) for name in names),
                "Full dots: inter-patient, with 95 % interval; hollow dots: intra-patient. The line between them is "
                "how optimistic the usual split is.",
            )
            + "".join(
                f"<h4>{SPLIT_NAMES[split].capitalize()}</h4>{_p(SPLIT_SENTENCES[split])}"
                + as_html(figures_table(task, split))
                for split in compare.SPLITS
            )
            + f'<p class="note">{escape(MEANINGS)}</p>',
        ),
        (
            "ROC and precision",
            _panels(
                on_each("roc"),
                "ROC curves, abnormal against normal: the nearer to the upper left corner the better; the dashed line "
                "is chance. The dot is the operating point of the chosen network; each fold has its own threshold, so "
                "it may lie beside the curve.",
            )
            + _panels(
                on_each("pr"),
                "Precision-recall curves: the nearer to the upper right corner the better; the dashed line is the "
                "fraction of abnormal beats, which is chance.",
            ),
        ),
        (
            "Confusion",
            _panels(
                (_confusion_html(task, chosen[split], name) for name in names for split in compare.SPLITS),
                "Confusion matrices of the chosen network: a row is a true class, its percentages add up to 100; the "
                "diagonal is correct, small numbers are beats.",
            ),
        ),
        (
            "Calibration",
            _panels(
                (plots.reliability(task, chosen[split], name) for name in names for split in compare.SPLITS),
                "Of the beats with a predicted probability of about p, what fraction is abnormal? On the dashed line "
                "the probability is calibrated; bars count the beats.",
            ),
        ),
        (
            "Training",
            _panels(
                (plots.history(task, one) for one in candidates),
                "Epoch by epoch, inter-patient, a thin line per fold: grey on the augmented training beats, in colour "
                "on held-out patients. Where colour turns back while grey continues, a network overfits. The training "
                "loss of a taught network includes the one against its teachers.",
                "panels small",
            ),
        ),
        (
            "Cost, and the choice",
            as_html(costs_table(task))
            + _panels(
                [plots.speed(task)],
                "Upper left is best: accurate on new patients, and cheap; networks left of the dashed line are fast "
                "enough to be chosen.",
            )
            + f"<p>{_code(f'Rule: {task.rule} It chose `{task.chosen.title}`.')}</p>",
        ),
        (
            "Augmentation",
            f"{as_html(ablation_table(task))}<p class='note'>{escape(ABLATION_CAPTION)}</p>" if task.ablation else "",
        ),
        ("By group", f"{as_html(groups_table(task))}<p class='note'>{escape(GROUPS_CAPTION)}</p>"),
        ("Best and worst", _cases_html(task, chosen["patient"])),
        ("Occlusion", _attention_html(task, chosen["patient"], out)),
    ]
    return [Section(f"{task.name}-{number}", heading, body) for number, (heading, body) in enumerate(sections) if body]


def _balance_html(task: compare.Task) -> str:
    """Return a bar per data set, divided by class."""
    colors = plots.class_colors(task.beats.classes)
    bars = []
    for name in task.beats.names():
        shares = [np.mean(task.beats.labels[task.beats.datasets == name] == label) for label in range(len(colors))]
        parts = "".join(
            f'<i style="flex:{share:.4f};background:{color}"></i>'
            for share, color in zip(shares, colors, strict=True)
            if share
        )
        bars.append(f'<div class="balance"><span>{escape(name)}</span><div>{parts}</div></div>')
    legend = "".join(
        f'<span><i style="background:{color}"></i>{escape(one)}</span>'
        for one, color in zip(task.beats.classes, colors, strict=True)
    )
    return _panels(
        [f'{"".join(bars)}<p class="legend">{legend}</p>'],
        "Class balance: the length of a colour is the fraction of beats of that class.",
        "plain",
    )


def _confusion_html(task: compare.Task, judged: compare.Judged, dataset: str) -> str:
    """Return a confusion matrix as a table, shaded by row."""
    classes = task.beats.classes
    inside = task.beats.datasets[judged.rows] == dataset
    labels, probabilities = task.beats.labels[judged.rows[inside]], judged.probabilities[inside]
    predicted = metrics.predict_classes(probabilities, metrics.abnormal(probabilities) >= judged.thresholds[inside])
    counts = np.bincount(labels * len(classes) + predicted, minlength=len(classes) ** 2).reshape(len(classes), -1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    rows = []
    for label, of_class in enumerate(classes):
        cells = "".join(
            f'<td class="{"dark" if share > 0.5 else "light"}" style="--share:{share:.3f}">'
            f"{f'{100 * share:.1f} %' if counts[label].any() else DASH}<small>{count}</small></td>"
            for share, count in zip(shares[label], counts[label], strict=True)
        )
        rows.append(f"<tr><th>{escape(of_class)}</th>{cells}</tr>")
    head = "".join(f"<th>{escape(one)}</th>" for one in classes)
    title = f"{dataset}, {SPLIT_NAMES[judged.split]}"
    return (
        f'<h5>{escape(title)}</h5><div class="scroll"><table class="confusion">'
        f"<thead><tr><th>true ↓ &nbsp; predicted →</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cases_html(task: compare.Task, judged: compare.Judged) -> str:
    cases, classes = plots.choose_cases(task.beats, judged), task.beats.classes

    def card(case: plots.Case, picture: str) -> str:
        words = f"true {classes[case.true]}, predicted {classes[case.predicted]} with {100 * case.probability:.1f} %"
        return f"{picture}<p><b>{escape(case.record)}</b>{escape(words)}</p>"

    cards = [card(*one) for one in zip(cases, plots.sparklines(task.beats, cases), strict=True)]
    wrong, correct = (
        [one for one, case in zip(cards, cases, strict=True) if case.is_correct is kind] for kind in (False, True)
    )
    return _panels(
        wrong,
        "The most confident errors of the chosen network, inter-patient, at most one beat per record: the beat in the "
        "colour of its true class over the mean of that class in grey.",
        "cases",
    ) + (
        _panels(
            correct,
            "And its most confident correct predictions, alternating between classes, from other records.",
            "cases",
        )
        if correct
        else ""
    )


def _attention_html(task: compare.Task, judged: compare.Judged, out: Path) -> str:
    """Return the occlusion plots of held-out beats of fold 0."""
    folder = compare.folder_of(out, task.name, "patient", task.chosen, 0)
    network = task.chosen.make_network(len(task.beats.classes))
    network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    held_out = judged.rows[judged.fold == 0]
    rows = held_out[plots.choose_rows(task.beats.labels[held_out], OCCLUDED)]
    seconds, change = plots.occlusion(network, task.beats.windows[rows], task.beats.rr[rows])
    return _panels(
        plots.attention(task.beats, rows, seconds, change),
        "Coloured: mean change of the probability of being abnormal when 0.08 s around that moment are replaced by a "
        "straight line (occlusion, Zeiler and Fergus 2014); black: the mean beat. High means that the network relies "
        "on that part. Held-out beats of one fold; padding is never occluded.",
    )


def _method_html(settings: compare.Settings, tasks: Sequence[compare.Task], machine: str) -> str:
    return (
        f"{_list(method(settings, tasks))}<p>Machine: {escape(machine)}.</p>"
        f"<p>Command:</p><pre>{escape(settings.command)}</pre>"
    )


def _sources_html(tasks: Sequence[compare.Task]) -> str:
    lines = "".join(
        f"<li>{escape(text)}{f' (<a href={chr(34)}{address}{chr(34)}>PhysioNet</a>)' if address else ''}</li>"
        for text, address in sources(tasks)
    )
    return (
        f"<ul>{lines}</ul><p>From PhysioNet (Goldberger et al. 2000). The page holds no recording: only mean beats, "
        "and the few single beats that are shown above.</p>"
    )


def _read(name: str) -> str:
    """Read a text file of this package."""
    return files("training").joinpath(name).read_text(encoding="utf-8")
