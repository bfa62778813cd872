"""The page of a comparison: one HTML file that needs nothing else. The plots are drawn by `training.plots`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import torch

from training import compare, metrics, models, plots
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
"""Most beats to look where the network looks."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    heading: str
    body: str
    """HTML."""


def page(settings: compare.Settings, tasks: Sequence[compare.Task], machine: str, out: Path) -> str:
    """The page, which needs nothing but itself.

    Parameters
    ----------
    out
        Folder of the comparison, for the network of fold 0 that is looked into.
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
    """What stands between backticks is code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _panels(pictures: Iterable[str], caption: str, kind: str = "panels") -> str:
    """Pictures side by side where there is room, and how to read them."""
    cells = "".join(f"<div>{one}</div>" for one in pictures)
    return f'<figure><div class="{kind}">{cells}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _summary_html(tasks: Sequence[compare.Task]) -> str:
    cards = "".join(_summary_card(task) for task in tasks)
    return f'<section id="summary"><h2>Summary</h2><div class="cards">{cards}</div>{_p(SUMMARY)}</section>'


SUMMARY = (
    "Large: on patients that the network never met, with the 95 % interval; expect this of a new wearer. Small: when "
    "beats are drawn at random, as is usual, and the same patients are on both sides."
)


def _summary_card(task: compare.Task) -> str:
    """The choice in ten seconds: figure of merit patients apart beside beats at random, and the cost."""
    key, name = plots.merit_of(task)
    numbers = []
    for dataset in task.beats.names():
        apart, random = (plots.line_of(task, task.chosen.title, split, dataset) for split in compare.SPLITS)
        numbers.append(
            f'<div class="number"><b>{show_number(apart.figures[key])}</b>'
            f"<small>{show_interval(apart.intervals.get(key))}</small>"
            f"<span>{escape(name)} on {escape(name_data(task, dataset))}, patients apart</span>"
            f"<span>{show_number(random.figures[key])} with beats at random</span></div>"
        )
    return (
        f"<article><h4>{escape(title_of(task))}</h4><p>Chosen: {escape(headline(task))}</p>"
        f'<div class="numbers">{"".join(numbers)}</div></article>'
    )


def task_sections(task: compare.Task, out: Path) -> list[Section]:
    """The parts of the page that are about one task."""
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
                "Mean beat of each class from its R peak on, padding left out; the band is one standard deviation to "
                "either side: where the bands part, a beat alone can tell.",
            ),
        ),
        (
            "Figures",
            _panels(
                (plots.gap(task, name) for name in names),
                "Full dots: patients apart, with 95 % interval; hollow dots: beats at random. The line between them is "
                "how much the usual split flatters.",
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
                "is guessing. The dot is where the chosen network works; each fold has its own threshold, so it may "
                "lie beside the curve.",
            )
            + _panels(
                on_each("pr"),
                "Precision-recall curves: the nearer to the upper right corner the better; the dashed line is the "
                "share of abnormal beats, which guessing reaches.",
            ),
        ),
        (
            "Confusion",
            _panels(
                (_confusion_html(task, chosen[split], name) for name in names for split in compare.SPLITS),
                "Confusion matrices of the chosen network: a row is a true class, its percentages add up to 100; the "
                "diagonal is right, small numbers are beats.",
            ),
        ),
        (
            "Calibration",
            _panels(
                (plots.reliability(task, chosen[split], name) for name in names for split in compare.SPLITS),
                "Of the beats that were given a probability of about p, what share is abnormal? On the dashed line the "
                "probability can be taken at its word; bars count the beats.",
            ),
        ),
        (
            "Training",
            _panels(
                (plots.history(task, one) for one in candidates),
                "Epoch by epoch, patients apart, a thin line per fold: grey on the varied training beats, in colour on "
                "held-out patients. Where colour turns back while grey goes on, a network learns by heart. The "
                "training loss of a taught network is measured against its teachers as well.",
                "panels small",
            ),
        ),
        (
            "Cost, and the choice",
            as_html(costs_table(task))
            + _panels(
                [plots.speed(task)],
                "Upper left is best: good on new patients, and cheap; networks left of the dashed line are fast enough "
                "to be chosen.",
            )
            + f"<p>{_code(f'Rule: {task.rule} It chose `{task.chosen.title}`.')}</p>",
        ),
        (
            "Variation in training",
            f"{as_html(ablation_table(task))}<p class='note'>{escape(ABLATION_CAPTION)}</p>" if task.ablation else "",
        ),
        ("By group", f"{as_html(groups_table(task))}<p class='note'>{escape(GROUPS_CAPTION)}</p>"),
        ("Best and worst", _cases_html(task, chosen["patient"])),
        ("Where it looks", _attention_html(task, chosen["patient"], out)),
    ]
    return [Section(f"{task.name}-{number}", heading, body) for number, (heading, body) in enumerate(sections) if body]


def _balance_html(task: compare.Task) -> str:
    """A bar per data set, divided by class."""
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
        "Class balance: the length of a colour is the share of beats of that class.",
        "plain",
    )


def _confusion_html(task: compare.Task, judged: compare.Judged, dataset: str) -> str:
    """A confusion matrix as a table, shaded by row."""
    classes = task.beats.classes
    inside = task.beats.datasets[judged.rows] == dataset
    labels, probabilities = task.beats.labels[judged.rows[inside]], judged.probabilities[inside]
    said = metrics.decide(probabilities, metrics.abnormal(probabilities) >= judged.thresholds[inside])
    counts = np.bincount(labels * len(classes) + said, minlength=len(classes) ** 2).reshape(len(classes), -1)
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
        f"<thead><tr><th>is ↓ &nbsp; said →</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cases_html(task: compare.Task, judged: compare.Judged) -> str:
    cases, classes = plots.choose_cases(task.beats, judged), task.beats.classes

    def card(case: plots.Case, picture: str) -> str:
        words = f"is {classes[case.truth]}, said {classes[case.said]} with {100 * case.probability:.1f} %"
        return f"{picture}<p><b>{escape(case.record)}</b>{escape(words)}</p>"

    cards = [card(*one) for one in zip(cases, plots.sparklines(task.beats, cases), strict=True)]
    wrong, right = (
        [one for one, case in zip(cards, cases, strict=True) if case.right is kind] for kind in (False, True)
    )
    return _panels(
        wrong,
        "The most confident errors of the chosen network, patients apart, at most one beat a record: the beat in the "
        "colour of its true class over the mean of that class in grey.",
        "cases",
    ) + (
        _panels(right, "And its most confident right verdicts, the classes taking turns, of other records.", "cases")
        if right
        else ""
    )


def _attention_html(task: compare.Task, judged: compare.Judged, out: Path) -> str:
    """Occlusion of held-out beats of fold 0."""
    folder = compare.folder_of(out, task.name, "patient", task.chosen, 0)
    network = models.NETWORKS[task.chosen.net](len(task.beats.classes), task.chosen.rr)
    network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    held_out = judged.rows[judged.fold == 0]
    rows = held_out[plots.choose_rows(task.beats.labels[held_out], OCCLUDED)]
    seconds, change = plots.occlusion(network, task.beats.windows[rows], task.beats.rr[rows])
    return _panels(
        plots.attention(task.beats, rows, seconds, change),
        "Coloured: how much the probability of being abnormal changes, on average, when 0.08 s around that moment are "
        "covered by a straight line (occlusion, Zeiler and Fergus 2014); black: the mean beat. High means that the "
        "network looks there. Held-out beats of one fold; padding is never covered.",
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
        "and the few single beats that are drawn above.</p>"
    )


def _read(name: str) -> str:
    """Text of a file of this package."""
    return files("training").joinpath(name).read_text(encoding="utf-8")
