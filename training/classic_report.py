"""The classic recipe beside ours: what publications report, inter-patient and intra-patient, in one report.

Trains the two usual networks by `training.classic`, and the compact one by our own recipe, on the same 70, 15 and 15 %
of the beats, once with patients kept apart and once regardless of patient. All figures are of the test part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from training import classic, data, fit, metrics, models, plots
from training.cost import machine
from training.data import BINARY
from training.plots import SPLIT_NAMES
from training.run import Recipe, load_run
from training.split import SplitKind, split_beats
from training.tables import (
    DISCLAIMER,
    SPLIT_SENTENCES,
    WHOLE_RECORDINGS,
    Cell,
    Table,
    as_html,
    as_markdown,
    escape,
    show_number,
)

SPLITS: tuple[SplitKind, ...] = ("patient", "beat")
COLUMNS = {
    "accuracy": "accuracy",
    "ppv": "precision",
    "sensitivity": "recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
}
COLORS = (*plots.OTHER_COLORS[:2], plots.CHOSEN_COLOR)
OURS_EPOCHS = 10


@dataclass(frozen=True)
class Tested:
    """A network, and its word on the test part."""

    title: str
    split: SplitKind
    true: npt.NDArray[np.bool_]
    """(k,)"""
    probabilities: npt.NDArray[np.floating]
    """(k,) of being abnormal."""
    threshold: float
    figures: dict[str, metrics.Figures]
    """By data set; "all", if there are several."""
    history: fit.History

    def confusion(self) -> npt.NDArray[np.int64]:
        """(2, 2): labelled normal or abnormal, by called normal or abnormal."""
        called = self.probabilities >= self.threshold
        return np.array([[np.count_nonzero((self.true == t) & (called == c)) for c in (False, True)] for t in (0, 1)])


def compare_classic(
    directories: list[str], out: Path, command: str, *, epochs: int = classic.EPOCHS, seed: int = 0, device: str = "cpu"
) -> list[Path]:
    """Train and test all networks under both splits, and write the reports; finished runs are not trained again.

    Returns
    -------
    list of Path
        `classic.md`, `classic.json`, `classic.html`.

    Raises
    ------
    ValueError
        See `training.fit.fit`.
    """
    recipes = [
        Recipe(net, augment=False, epochs=epochs, seed=seed, device=device, classic=True, shares="70/15/15")
        for net in models.CLASSIC
    ]
    recipes.append(Recipe("compact", epochs=OURS_EPOCHS, seed=seed, device=device, shares="70/15/15"))
    beats = data.load_beats(directories, BINARY)
    tested = []
    for split in SPLITS:
        for recipe in recipes:
            folder = out / split / recipe.title.replace(", ", "-")
            if not _is_done(folder, recipe, split):
                fit.fit(recipe, directories, split, folder, command, classes=BINARY)
            tested.append(_test(folder, beats))
    return _write(beats, tested, out, command)


def _is_done(folder: Path, recipe: Recipe, split: SplitKind) -> bool:
    try:
        run, _ = load_run(folder)
    except ValueError:
        return False
    return (run.recipe, run.split) == (recipe, split)


def _test(folder: Path, beats: data.Beats) -> Tested:
    run, network = load_run(folder)
    rows = split_beats(beats, run.split, run.recipe.seed, run.recipe.shares) == "test"
    p = metrics.abnormal(models.probabilities(network, beats.windows[rows], beats.rr[rows]))
    history = fit.read_history(folder)
    return Tested(run.recipe.title, run.split, beats.labels[rows] > 0, p, run.threshold, run.figures["test"], history)


def _write(beats: data.Beats, tested: Sequence[Tested], out: Path, command: str) -> list[Path]:
    texts = {
        "classic.md": _markdown(beats, tested, command),
        "classic.json": json.dumps(_plain(tested, command), indent=1) + "\n",
        "classic.html": _html(beats, tested, command),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def _plain(tested: Sequence[Tested], command: str) -> dict[str, object]:
    """All that was measured, in plain types."""
    runs = [
        {
            "network": one.title,
            "split": SPLIT_NAMES[one.split],
            "threshold": one.threshold,
            "figures": {name: metrics.known(figures) for name, figures in one.figures.items()},
            "confusion_matrix": one.confusion().tolist(),
            "history": one.history,
        }
        for one in tested
    ]
    return {"command": command, "machine": machine(), "runs": runs}


def figures_table(tested: Sequence[Tested], split: SplitKind) -> Table:
    """The figures of the test part under one split, by data set."""
    rows = [
        [Cell(name), Cell(one.title), *(Cell(show_number(figures[key])) for key in COLUMNS)]
        for one in tested
        if one.split == split
        for name, figures in one.figures.items()
    ]
    rows.sort(key=lambda row: row[0].text)
    return Table(["data", "network", *COLUMNS.values()], rows, 2)


def confusion_table(tested: Sequence[Tested], split: SplitKind) -> Table:
    """Beats of the test part by label and verdict, a row a network."""
    headings = [f"{label}, called {called}" for label in BINARY for called in BINARY]
    rows = [
        [Cell(one.title), *(Cell(f"{count}") for count in one.confusion().ravel())]
        for one in tested
        if one.split == split
    ]
    return Table(["network", *headings], rows, 1)


def _markdown(beats: data.Beats, tested: Sequence[Tested], command: str) -> str:
    parts = ["# The classic recipe beside ours", f"**{DISCLAIMER}**", *_method(command)]
    for split in SPLITS:
        parts += [
            f"## {SPLIT_NAMES[split].capitalize()}",
            SPLIT_SENTENCES[split],
            as_markdown(figures_table(tested, split)),
            as_markdown(confusion_table(tested, split)),
        ]
    return "\n\n".join([*parts, *(f"- {note}" for note in beats.notes)]) + "\n"


def _method(command: str) -> list[str]:
    return [
        f"`cnn, classic` and `cnn-lstm, classic`: Adam at {classic.LEARNING_RATE:g}, batches of {classic.BATCH}, "
        "binary cross-entropy on one sigmoid, classes balanced in the training part only, the learning rate halved "
        f"after {classic.PLATEAU_EPOCHS} epochs without a lower validation loss, an end after {classic.STOP_EPOCHS}, "
        "threshold 0.5. `compact`: our own recipe, threshold chosen on the validation part. All on the same 70, 15 "
        "and 15 % of the beats; the figures are of the test part.",
        WHOLE_RECORDINGS,
        f"Command: `{command}`. Machine: {machine()}.",
    ]


def _html(beats: data.Beats, tested: Sequence[Tested], command: str) -> str:
    body = ["<section>", *(f"<p>{escape(text)}</p>" for text in [*_method(command), *beats.notes]), "</section>"]
    for split in SPLITS:
        name = SPLIT_NAMES[split]
        mine = [one for one in tested if one.split == split]
        pictures = "".join(f"<div>{one}</div>" for one in [roc(mine), *map(history, mine)])
        body += [
            f'<section id="{escape(name)}"><h2>{escape(name.capitalize())}</h2><p>{escape(SPLIT_SENTENCES[split])}</p>',
            as_html(figures_table(tested, split)),
            as_html(confusion_table(tested, split)),
            f'<figure><div class="panels">{pictures}</div><figcaption>ROC curves of the test part, with the operating '
            "points; loss and ROC-AUC in training and on the validation part.</figcaption></figure></section>",
        ]
    nav = "".join(
        f'<a href="#{escape(SPLIT_NAMES[one])}">{escape(SPLIT_NAMES[one].capitalize())}</a>' for one in SPLITS
    )
    template, style = (
        files("training").joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css")
    )
    return Template(template).substitute(style=style, nav=nav, body="\n".join(body), disclaimer=escape(DISCLAIMER))


def roc(tested: Sequence[Tested]) -> str:
    """Plot the ROC curves of the test part, as SVG."""

    def paint(axes: Axes) -> None:
        for one, color in zip(tested, COLORS, strict=True):
            x, y = metrics.roc_curve(one.true, one.probabilities)
            kept = np.unique(np.linspace(0, len(x) - 1, plots.POINTS).astype(int))
            axes.plot(
                x[kept], y[kept], color=color, label=f"{one.title} {metrics.auc(one.true, one.probabilities):.3f}"
            )
            (right, false), (missed, found) = one.confusion()
            axes.plot(false / (right + false), found / (missed + found), "o", color=color, markeredgecolor="white")
        axes.plot([0, 1], [0, 1], color=plots.FAINT, linestyle="--", linewidth=1)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity (recall)")
        axes.legend(loc="lower right")

    return plots.draw(f"ROC, {SPLIT_NAMES[tested[0].split]}", paint, height=3.7)


def history(tested: Tested) -> str:
    """Plot the training curves of a network, as SVG."""

    def painter(what: str) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            epochs = [row["epoch"] for row in tested.history]
            for key, color, name in zip(
                plots.HISTORY[what], (plots.FAINT, plots.CHOSEN_COLOR), ("training", "validation"), strict=True
            ):
                axes.plot(epochs, [row[key] for row in tested.history], color=color, label=name)
            axes.set_ylabel(what)
            axes.legend()

        return paint

    return plots.draw(tested.title, *map(painter, plots.HISTORY), width=2.9, height=3.6, shares=(1, 1))
