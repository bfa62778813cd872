"""The plots of a comparison, as SVG to be embedded in a page, and the computations behind them.

Knows nothing about files and pages. Each panel is a separate picture, so that a page can arrange them freely; its text
is text in the font of the page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from monitor import beat
from training import compare, data, metrics, models
from training.split import SplitKind

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

INK, FAINT = "#3e4c59", "#9aa5b1"
CLASS_COLORS = {2: ("#3b7ea1", "#c8553d"), 5: ("#3b7ea1", "#d9902f", "#c8553d", "#4c9f70", "#7d6b9e")}
CHOSEN_COLOR, OTHER_COLORS = "#1f5f8b", ("#7a5ea8", "#d07c9a", "#c99a3b", "#5ba37d")
STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": "#e4e9ee",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "svg.fonttype": "none",
    "svg.hashsalt": "ecgwatch",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDE, HIGH = 4.6, 3.3
"""Size of a standard panel in inches."""
POINTS = 200
"""Maximum number of points drawn per curve."""
OCCLUSION_S = 0.08
"""Length of the occluded segment."""
STRIDE = 2
"""Samples from one occluded segment to the next."""
MIN_SHARE = 0.1
"""Fraction of beats that must still have signal for their mean to be drawn."""


def draw(
    title: str,
    *paint: Callable[[Axes], None],
    width: float = WIDE,
    height: float = HIGH,
    shares: Sequence[float] = (1,),
) -> str:
    """Draw one panel as SVG: axes below each other, with their shares of the height."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(paint), squeeze=False, height_ratios=shares)[:, 0]
        axes[0].set_title(title, loc="left")
        for one, painter in zip(axes, paint, strict=True):
            painter(one)
        return _svg(figure, title)


def _svg(figure: Figure, title: str) -> str:
    """Return the SVG for embedding: without what only a standalone file needs, and scaled by the page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = file.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r' id="[a-zA-Z]+_[\w.]+"', "", body)  # ids must be unique on a page
    body = re.sub(
        r"font: (?:(bold|\d+) )?([\d.]+px)[^;\"]*",
        lambda found: f"font-weight: {found[1] or 'normal'}; font-size: {found[2]}",
        body,
    )
    box = re.search(r'viewBox="[^"]*"', body)
    assert box is not None
    label = html.escape(title, quote=True)
    return re.sub(r"<svg[^>]*>", lambda _: f'<svg {box[0]} role="img" aria-label="{label}">', body, count=1)


def class_colors(classes: Sequence[str]) -> tuple[str, ...]:
    """Color of each class."""
    return CLASS_COLORS[2 if len(classes) == 2 else 5]


def judged_of(task: compare.Task, title: str, split: SplitKind) -> compare.Judged:
    """Return the predictions of a network under one split."""
    return next(one for one in task.judged if one.recipe.title == title and one.split == split)


def line_of(task: compare.Task, title: str, split: SplitKind, dataset: str) -> compare.Line:
    """Return the figures of a network on a data set under one split."""
    return next(one for one in task.lines if (one.network, one.split, one.data) == (title, split, dataset))


def merit_of(task: compare.Task) -> tuple[str, str]:
    """Return key and name of the figure by which the network was chosen."""
    return ("macro_f1", "macro F1 (N S V F)") if len(task.beats.classes) > 2 else ("roc_auc", "ROC-AUC")


def _titles(task: compare.Task) -> list[str]:
    return list(dict.fromkeys(one.recipe.title for one in task.judged))


def _color_of(task: compare.Task, title: str) -> str:
    others = [one for one in _titles(task) if one != task.chosen.title]
    return OTHER_COLORS[others.index(title) % len(OTHER_COLORS)] if title in others else CHOSEN_COLOR


def gap(task: compare.Task, dataset: str) -> str:
    """Plot a line per network: its inter-patient figure of merit, with its interval, and the intra-patient one."""
    key, name = merit_of(task)
    titles = _titles(task)[::-1]

    def paint(axes: Axes) -> None:
        for place, title in enumerate(titles):
            color = _color_of(task, title)
            line = line_of(task, title, "patient", dataset)
            inter, intra = line.figures[key], line_of(task, title, "beat", dataset).figures[key]
            low, high = line.intervals.get(key, (inter, inter))
            axes.plot([inter, intra], [place, place], color="#cbd2d9", zorder=1)
            axes.plot([low, high], [place, place], color=color, linewidth=3, alpha=0.35, solid_capstyle="round")
            axes.plot(inter, place, "o", color=color, markersize=8, label="inter-patient" if not place else None)
            axes.plot(intra, place, "o", color=color, markersize=7, markerfacecolor="white")
            axes.annotate(f"{inter:.3f}", (inter, place), (0, 7), textcoords="offset points", ha="center", color=color)
        axes.set_yticks(range(len(titles)), titles)
        for label, title in zip(axes.get_yticklabels(), titles, strict=True):
            label.set_fontweight("bold" if title == task.chosen.title else "normal")
        axes.set_ylim(-0.6, len(titles) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(name)

    return draw(dataset, paint, height=0.9 + 0.45 * len(titles))


def speed(task: compare.Task) -> str:
    """Plot the figure of merit against cost: upper left is best."""
    key, name = merit_of(task)

    def paint(axes: Axes) -> None:
        for title, cost in task.costs.items():
            mine = [
                one.figures[key]
                for one in task.lines
                if (one.network, one.split) == (title, "patient") and one.data in task.beats.names()
            ]
            color, bold = _color_of(task, title), "bold" if title == task.chosen.title else "normal"
            axes.plot(cost.us_per_beat, np.mean(mine), "o", color=color, markersize=9)
            axes.annotate(
                title,
                (cost.us_per_beat, float(np.mean(mine))),
                (8, -3),
                textcoords="offset points",
                color=color,
                fontweight=bold,
            )
        if compare.REFERENCE in task.costs:
            limit = task.costs[compare.REFERENCE].us_per_beat / compare.FASTER
            axes.axvline(limit, color=FAINT, linestyle="--", linewidth=1, zorder=0)
            words = f" {compare.FASTER} times as fast as {compare.REFERENCE}"
            axes.text(limit, 0.01, words, color=FAINT, fontsize="small", transform=axes.get_xaxis_transform())
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.35, y=0.25)
        axes.set_xlabel("µs per beat, one thread")
        axes.set_ylabel(f"mean {name}")

    return draw("Cost and inter-patient figure of merit", paint)


def signal_lengths(windows: beat.Windows) -> Ints:
    """Length of each window without its padding, the trailing zeros: (n, 187) -> (n,)."""
    lengths: Ints = beat.LENGTH - (windows[:, ::-1] > 0).argmax(axis=1)
    return lengths


def mean_window(windows: beat.Windows) -> tuple[Floats, Floats]:
    """Mean and standard deviation of windows without padding: (n, 187) -> (187,), (187,).

    NaN where less than a tenth of the windows still have signal.
    """
    inside = np.arange(beat.LENGTH) < signal_lengths(windows)[:, None]
    mean = mean_of(windows, inside)
    return mean, np.sqrt(mean_of((windows - np.nan_to_num(mean)) ** 2, inside))


def mean_of(values: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
    """Masked column means, NaN where the mask is true in less than a tenth of the rows: (n, k), (n, k) -> (k,)."""
    count = inside.sum(axis=0)
    mean = np.where(inside, values, 0).sum(axis=0) / count.clip(min=1)
    return np.where(count >= max(1, MIN_SHARE * len(values)), mean, np.nan)


def waveforms(beats: data.Beats, dataset: str) -> list[str]:
    """Plot the mean beat of each abnormal class, with one standard deviation, over that of the normal class."""
    seconds = np.arange(beat.LENGTH) / beat.RATE_HZ
    colors = class_colors(beats.classes)
    of_set = beats.datasets == dataset

    def panel(number: int) -> str:
        def paint(axes: Axes) -> None:
            for label in (0, number):
                mean, spread = mean_window(beats.windows[of_set & (beats.labels == label)])
                axes.fill_between(seconds, mean - spread, mean + spread, color=colors[label], alpha=0.18, linewidth=0)
                axes.plot(seconds, mean, color=colors[label], label=beats.classes[label])
            axes.set_xlim(0, seconds[-1])
            axes.set_xlabel("seconds after the R peak")
            axes.set_ylabel("window height")
            axes.legend(loc="upper right")

        return draw(f"{dataset}: {beats.classes[number]} and {beats.classes[0]}", paint)

    present = set(beats.labels[of_set].tolist())
    return [panel(number) for number in range(1, len(beats.classes)) if {0, number} <= present]


SPLIT_NAMES: dict[SplitKind, str] = {"patient": "inter-patient", "beat": "intra-patient"}


def curves(task: compare.Task, split: SplitKind, dataset: str, kind: str) -> str:
    """Plot ROC or precision-recall curves of all networks on one data set.

    Parameters
    ----------
    kind
        "roc" or "pr".
    """
    curve = metrics.roc_curve if kind == "roc" else metrics.pr_curve

    of_set = task.beats.datasets == dataset
    point = line_of(task, task.chosen.title, split, dataset).figures

    def paint(axes: Axes) -> None:
        for one in (one for one in task.judged if one.split == split):
            inside = of_set[one.rows]
            x, y = curve(task.beats.labels[one.rows[inside]] > 0, metrics.abnormal(one.probabilities[inside]))
            kept = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))
            chosen = one.recipe == task.chosen
            axes.plot(
                x[kept],
                y[kept],
                color=_color_of(task, one.recipe.title),
                linewidth=2.2 if chosen else 1.2,
                zorder=3 if chosen else 2,
                label=one.recipe.title,
            )
        at = {"roc": (1 - point["specificity"], point["sensitivity"]), "pr": (point["sensitivity"], point["ppv"])}[kind]
        axes.plot(*at, "o", color=_color_of(task, task.chosen.title), markeredgecolor="white", zorder=4)
        chance = [0.0, 1.0] if kind == "roc" else [float((task.beats.labels[of_set] > 0).mean())] * 2
        axes.plot([0, 1], chance, color=FAINT, linestyle="--", linewidth=1)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        labels = ("1 - specificity", "sensitivity") if kind == "roc" else ("sensitivity (recall)", "PPV (precision)")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend()

    return draw(f"{dataset}, {SPLIT_NAMES[split]}", paint, height=3.7)


def reliability(task: compare.Task, judged: compare.Judged, dataset: str) -> str:
    """Plot the fraction of abnormal beats against the predicted probability, and a histogram of the latter."""
    chosen = task.beats.datasets[judged.rows] == dataset
    true, p = task.beats.labels[judged.rows[chosen]] > 0, metrics.abnormal(judged.probabilities[chosen])
    predicted, observed, n = metrics.calibration(true, p)
    color = _color_of(task, judged.recipe.title)

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
        axes.plot(predicted, observed, "o-", color=color, markersize=4)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_ylabel("fraction abnormal")
        axes.tick_params(labelbottom=False)

    def count(axes: Axes) -> None:
        axes.bar((np.arange(metrics.BINS) + 0.5) / metrics.BINS, n, 0.9 / metrics.BINS, color=color, alpha=0.6)
        axes.set(xlim=(-0.01, 1.01), xlabel="probability of being abnormal", ylabel="beats")

    return draw(f"{dataset}, {SPLIT_NAMES[judged.split]}", paint, count, height=4.2, shares=(3, 1))


HISTORY = {"cross-entropy": ("loss", "val_loss"), "ROC-AUC": ("train_auc", "val_auc")}
"""Name of a curve -> its columns of `history.csv`, in training and held out."""


def history(task: compare.Task, judged: compare.Judged) -> str:
    """Plot loss and ROC-AUC in training and on held-out beats, a line per fold, on the same scale for all networks."""
    colors = (FAINT, _color_of(task, judged.recipe.title))
    rows = [row for one in task.judged if one.split == judged.split for fold in one.histories for row in fold]

    def painter(what: str) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            for number, fold in enumerate(judged.histories):
                epochs = [row["epoch"] for row in fold]
                for key, color, name in zip(HISTORY[what], colors, ("training", "held out"), strict=True):
                    values = [row[key] for row in fold]
                    axes.plot(epochs, values, color=color, linewidth=0.9, label=None if number else name)
            known = np.array([row[key] for row in rows for key in HISTORY[what] if np.isfinite(row[key])])
            if known.size:
                low, high = np.quantile(known, [0, 0.99])
                margin = 0.05 * (high - low) + 1e-3
                axes.set_ylim(low - margin, high + margin)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_ylabel(what)
            if what == "ROC-AUC":
                axes.set_xlabel("epoch")
                axes.legend()

        return paint

    return draw(judged.recipe.title, *map(painter, HISTORY), width=2.9, height=3.6, shares=(1, 1))


@dataclass(frozen=True)
class Case:
    """A beat with a confident prediction, correct or not."""

    row: int
    """Of `Task.beats`."""
    record: str
    true: int
    """Its class."""
    predicted: int
    """The predicted class."""
    probability: float
    """Of the predicted class."""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is correct."""
        return self.true == self.predicted


def choose_cases(beats: data.Beats, judged: compare.Judged, worst: int = 12, best: int = 6) -> list[Case]:
    """Choose the most confident errors, then the most confident correct beats of alternating classes; one per record.

    Where the record is unknown the patient stands for it, and where that is unknown each beat.
    """
    rows, labels = judged.rows, beats.labels[judged.rows]
    predicted = metrics.predict_classes(
        judged.probabilities, metrics.abnormal(judged.probabilities) >= judged.thresholds
    )
    p_true = np.take_along_axis(judged.probabilities, labels[:, None], axis=1)[:, 0]
    names = np.where(beats.records[rows] != "", beats.records[rows], beats.patients[rows])
    names = np.where(names != "", names, np.char.add("row ", rows.astype(np.str_)))

    def firsts(candidates: Ints) -> Ints:
        """Keep the first of each record, in the same order."""
        return candidates[np.sort(np.unique(names[candidates], return_index=True)[1])]

    order = np.argsort(p_true, kind="stable")
    wrong = firsts(order[predicted[order] != labels[order]])[:worst]
    confident = order[::-1]
    correct = firsts(confident[(predicted[confident] == labels[confident]) & ~np.isin(names[confident], names[wrong])])
    turn = pd.Series(labels[correct]).groupby(labels[correct]).cumcount().to_numpy()
    correct = correct[np.lexsort((labels[correct], turn))][:best]
    return [
        Case(
            int(rows[i]), str(names[i]), int(labels[i]), int(predicted[i]), float(judged.probabilities[i, predicted[i]])
        )
        for i in [*wrong, *correct]
    ]


def sparklines(beats: data.Beats, cases: Sequence[Case]) -> list[str]:
    """Draw each beat as a sparkline over the mean beat of its class in its data set."""
    kinds = {(str(beats.datasets[case.row]), case.true) for case in cases}
    means = {
        (name, label): mean_window(beats.windows[(beats.datasets == name) & (beats.labels == label)])[0]
        for name, label in kinds
    }
    return [_sparkline(beats, case, means[str(beats.datasets[case.row]), case.true]) for case in cases]


def _sparkline(beats: data.Beats, case: Case, mean: Floats) -> str:
    window = beats.windows[case.row][: signal_lengths(beats.windows[[case.row]])[0]]

    def line(values: Floats, stroke: str, width: float) -> str:
        points = " ".join(f"{x},{74 - 68 * y:.1f}" for x, y in enumerate(values.tolist()) if np.isfinite(y))
        return f'<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="{width}"/>'

    label = html.escape(f"Beat of {case.record}", quote=True)
    lines = line(mean, "#cbd2d9", 2.5) + line(window, class_colors(beats.classes)[case.true], 1.6)
    return f'<svg viewBox="0 0 187 80" role="img" aria-label="{label}">{lines}</svg>'


def occlusion(network: models.BeatNetwork, windows: beat.Windows, rr: beat.RrContext) -> tuple[Floats, Floats]:
    """Measure how much a network's output depends on each part of the window (Zeiler and Fergus 2014).

    A segment of 0.08 s is replaced by a straight line between its ends, and slid over the window.

    Parameters
    ----------
    network
        Any network.
    windows, rr
        (n, 187), (n, 3).

    Returns
    -------
    seconds, change
        (k,) middles of the segments, seconds after the R peak; (n, k) absolute change of the probability of not being
        normal, NaN where the segment reaches into the padding.
    """
    width = round(OCCLUSION_S * beat.RATE_HZ)
    starts = np.arange(0, beat.LENGTH - width, STRIDE)
    before = metrics.abnormal(models.probabilities(network, windows, rr))
    lengths = signal_lengths(windows)
    change = np.full((len(windows), len(starts)), np.nan)
    for place, start in enumerate(starts):
        inside = start + width < lengths
        if inside.any():
            occluded = windows[inside]
            line = np.linspace(occluded[:, start], occluded[:, start + width], width + 1, axis=1)
            occluded[:, start : start + width + 1] = line
            after = metrics.abnormal(models.probabilities(network, occluded, rr[inside]))
            change[inside, place] = np.abs(after - before[inside])
    return (starts + width / 2) / beat.RATE_HZ, change


def attention(beats: data.Beats, rows: Ints, seconds: Floats, change: Floats) -> list[str]:
    """Plot for each class the mean of `occlusion` over the mean beat.

    Parameters
    ----------
    rows
        (n,) rows of `beats` to which `change` (n, k) belongs.
    """
    labels = beats.labels[rows]
    known = np.isfinite(change)
    means = {one: mean_of(change[labels == one], known[labels == one]) for one in sorted(set(labels.tolist()))}
    highest = max(float(np.nan_to_num(mean).max()) for mean in means.values())

    def panel(label: int) -> str:
        color = class_colors(beats.classes)[label]

        def paint(axes: Axes) -> None:
            mean, _ = mean_window(beats.windows[rows[labels == label]])
            axes.fill_between(seconds, 0, means[label], color=color, alpha=0.35, linewidth=0)
            axes.plot(seconds, means[label], color=color, linewidth=1)
            axes.set(xlim=(0, (beat.LENGTH - 1) / beat.RATE_HZ), ylim=(0, 1.08 * highest + 1e-9))
            axes.set_xlabel("seconds after the R peak")
            axes.set_ylabel("change of probability")
            over = axes.twinx()
            over.plot(np.arange(beat.LENGTH) / beat.RATE_HZ, mean, color=INK, linewidth=1.4)
            over.set(ylim=(0, 1.08), yticks=[])
            over.grid(visible=False)

        return draw(f"{beats.classes[label]}, {np.count_nonzero(labels == label)} beats", paint)

    return [panel(label) for label in means]


def choose_rows(labels: Ints, limit: int) -> Ints:
    """Draw at most `limit` positions in `labels` (n,) at random, the same number of each class as far as it goes."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    drawn = [rng.permutation(np.flatnonzero(labels == one))[: limit // len(classes)] for one in classes]
    return np.sort(np.concatenate(drawn))
