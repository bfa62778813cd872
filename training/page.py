"""The page of a comparison: one HTML file that needs nothing else. The plots are drawn by `training.plots`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    return PAGE.substitute(nav="".join(links), body="\n".join(body), disclaimer=escape(DISCLAIMER))


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


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison of networks</title>
<style>
:root {
  --ink: #1f2933; --soft: #52606d; --faint: #9aa5b1; --line: #e4e9ee; --paper: #fff; --desk: #f4f6f8; --blue: #1f5f8b;
  color-scheme: light;
}
* { box-sizing: border-box }
html { scroll-behavior: smooth; scroll-padding-top: 4rem }
body { margin: 0; background: var(--desk); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
a { color: var(--blue) }
p, ul { margin: .5rem 0; max-width: 46rem }
ul { padding-left: 1.2rem }
h1 { margin: .5rem 0 .25rem; font-size: 1.7rem; letter-spacing: -.01em }
h2 { margin: 0 0 .75rem; font-size: 1.35rem }
h2.task { margin: 2.5rem 0 .75rem }
h3 { margin: 0 0 .75rem; font-size: 1.1rem }
h4 { margin: 1.25rem 0 .25rem }
h5 { margin: 0 0 .4rem; font-size: .85rem }
pre { overflow-x: auto; background: var(--desk); padding: .7rem .9rem; border-radius: 6px; font-size: .82rem }
.page { display: grid; grid-template-columns: minmax(0, 1fr); max-width: 1240px; margin: 0 auto }
main { padding: 1rem; min-width: 0 }
section {
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem 1.2rem; margin: 0 0 1rem;
}
.disclaimer {
  border-left: 4px solid #d9902f; border-radius: 0 6px 6px 0; background: #fdf6ea;
  padding: .5rem .9rem; margin: .75rem 0; max-width: none;
}
.note, figcaption { color: var(--soft); font-size: .85rem; max-width: 46rem }

nav {
  position: sticky; top: 0; z-index: 5; display: flex; gap: 1rem; overflow-x: auto; white-space: nowrap;
  padding: .6rem 1rem; background: var(--paper); border-bottom: 1px solid var(--line); font-size: .85rem;
}
nav a { color: var(--soft); text-decoration: none }
nav a:hover { color: var(--blue); text-decoration: underline }
nav .task { color: var(--ink); font-weight: 600 }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 1rem }
article { border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem }
article h4 { margin: 0; color: var(--soft); font-weight: 600; font-size: .9rem }
article p { margin: .2rem 0 .8rem; font-weight: 600 }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 1.75rem }
.number b { font-size: 2.1rem; line-height: 1.1; color: var(--blue) }
.number small { color: var(--soft); margin-left: .4rem }
.number span { display: block; font-size: .85rem; color: var(--soft) }

figure { margin: 1rem 0 }
figcaption { margin-top: .5rem }
svg { display: block; width: 100%; height: auto }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1rem }
.panels.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)) }
.panels > div { min-width: 0; max-width: 480px }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: .75rem }
.cases > div { border: 1px solid var(--line); border-radius: 8px; padding: .5rem .6rem; min-width: 0 }
.cases p { margin: .35rem 0 0; font-size: .75rem; line-height: 1.35; color: var(--soft); overflow-wrap: anywhere }
.cases b { display: block; color: var(--ink) }
.balance { display: flex; align-items: center; gap: .75rem; margin: .3rem 0 }
.balance span { width: 5rem; font-size: .85rem }
.balance div { display: flex; flex: 1; height: 1.1rem; border-radius: 4px; overflow: hidden }
.legend { display: flex; gap: 1rem; flex-wrap: wrap; font-size: .85rem }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem }

.scroll { overflow-x: auto; margin: .5rem 0 }
table { border-collapse: separate; border-spacing: 0; font-size: .82rem; line-height: 1.35 }
th, td {
  padding: .35rem .6rem; text-align: right; font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--line);
  vertical-align: top;
}
thead th {
  min-width: 4.2rem; color: var(--soft); font-weight: 600; vertical-align: bottom; border-bottom-color: var(--faint);
}
.word { text-align: left; white-space: nowrap }
.word:first-child { position: sticky; left: 0; background: var(--paper) }
td small { display: block; color: var(--soft); font-size: .72rem; white-space: nowrap }
.group th { text-align: left; padding-top: .8rem }
.group span { position: sticky; left: .6rem }
.chosen td, .chosen .word:first-child { background: #eaf2f8 }
.confusion td {
  background: rgb(31 95 139 / var(--share)); text-align: center; border: 2px solid var(--paper); min-width: 3.6rem;
}
.confusion .dark { color: #fff }
.confusion small { color: inherit; opacity: .85 }
.confusion th { border: 0 }
.confusion thead th { text-align: center }

@media (min-width: 1080px) {
  html { scroll-padding-top: 1rem }
  .page { grid-template-columns: 200px minmax(0, 1fr) }
  nav {
    flex-direction: column; gap: .3rem; align-self: start; max-height: 100vh; overflow-y: auto; white-space: normal;
    background: none; border: 0; padding: 2rem 0 2rem 1rem;
  }
  nav .task { margin-top: .6rem }
  nav a:not(.task) { padding-left: .6rem }
}
@media print {
  nav { display: none }
  section { break-inside: avoid }
}
</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents">$nav</nav>
<main>
<header><h1>Comparison of networks</h1><p class="disclaimer">$disclaimer</p></header>
$body
</main>
</div>
</body>
</html>
""")
