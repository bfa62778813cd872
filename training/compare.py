"""Networks trained the same way and evaluated on the same beats, inter-patient and intra-patient.

Inter-patient: k-fold cross-validation over patients; every beat is judged once, by a network that has seen no beat of
its patient. Intra-patient: one of k folds of beats, regardless of patient. The operating point of a fold is chosen on
the out-of-fold beats of the others, never on its own. All results are kept in the output folder, fold by fold; an
interrupted comparison resumes from there.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from monitor import beat
from training import data, fit, metrics, models
from training.augment import KINDS, augment
from training.cost import Cost, measure
from training.run import WEIGHTS, Recipe, Run
from training.split import SplitKind, fold_beats, hash_rows, split_kinds

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

TEACHERS = ("cnn", "cnn-lstm", "compact")
"""Networks that teach the taught one (knowledge distillation), each trained on the same beats."""
JUDGED = "judged.npz"
"""Output of a fold: the held-out rows, their probabilities, and those of the same beats augmented."""
OWNER = "comparison-of.json"
"""File that identifies the comparison whose networks are in the output folder: data and settings."""
REFERENCE = "cnn"
FASTER = 8
"""To be chosen, a network must judge this many times as many beats per second as the reference network."""
RULE = (
    "Of the networks that judge at least {faster} times as many beats per second as `{reference}`, the one with the "
    "highest inter-patient {figure}."
)
SPLITS: tuple[SplitKind, ...] = ("patient", "beat")

console = Console(stderr=True)


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison."""

    data: list[str]
    """Directories of data sets."""
    out: str
    nets: list[str]
    folds: int
    epochs: int
    seed: int
    device: str
    jobs: int
    """Networks that are trained in parallel, each in its own process."""
    command: str


@dataclass(frozen=True)
class Judged:
    """Predictions of one recipe's networks on the beats that were held out from each."""

    recipe: Recipe
    split: SplitKind
    rows: Ints
    """(k,) rows of `Task.beats`, each once."""
    fold: Ints
    """(k,) fold in which each was held out."""
    probabilities: Floats
    """(k, classes), with the offsets of the operating points applied."""
    thresholds: Floats
    """(k,)"""
    augmented: Floats
    """(k,) probability of not being normal of the same beats, augmented as training beats are."""
    histories: list[list[dict[str, float]]]
    """Rows of `history.csv`, fold by fold."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    network: str
    """`Recipe.title`"""
    split: SplitKind
    data: str
    """Data set, or the published validation part of one."""
    figures: metrics.Figures
    intervals: dict[str, tuple[float, float]]
    """95 %, over patients; empty for the ablation."""


@dataclass(frozen=True)
class Task:
    """All results on the data sets that share one set of classes."""

    name: str
    beats: data.Beats
    judged: list[Judged]
    """Candidates on the inter-patient split, then on the intra-patient split."""
    ablation: list[Judged]
    """Inter-patient, with kinds of augmentation left out."""
    costs: dict[str, Cost]
    """By `Recipe.title`."""
    lines: list[Line]
    ablation_lines: list[Line]
    groups: list[tuple[str, str, metrics.Figures]]
    """Of the chosen network, inter-patient: kind of group, group, figures."""
    rule: str
    chosen: Recipe


def compare(settings: Settings) -> list[Task]:
    """Train and evaluate everything, and retrain the chosen networks on all beats.

    Raises
    ------
    ValueError
        The data cannot be read, or have fewer patients than there are folds, or the folder holds a comparison of
        other data or settings.
    """
    loaded = data.load_tasks(settings.data)
    names = [next(name for name, classes in data.TASKS.items() if classes == beats.classes) for beats in loaded]
    for beats in loaded:
        for note in beats.notes:
            console.print(f"[bold yellow]Note:[/] {escape(note)}")
        for kind in SPLITS:  # refuse data that cannot be split before hours are spent
            fold_beats(beats, kind, settings.folds, settings.seed)
    _claim(settings, loaded)
    _train_all(settings, loaded, names)
    tasks = [_measure(settings, beats, name) for beats, name in zip(loaded, names, strict=True)]
    _train_final(settings, tasks)
    return tasks


def _claim(settings: Settings, loaded: Sequence[data.Beats]) -> None:
    """Claim the output folder for this comparison; refuse one that holds networks of other data or settings."""
    rows = [hash_rows(beats, np.full(len(beats), "")) for beats in loaded]
    mine = {name: getattr(settings, name) for name in ("folds", "epochs", "seed")} | {"sha256": rows}
    path = Path(settings.out) / OWNER
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine, indent=1) + "\n")
    elif (theirs := json.loads(path.read_text())) != mine:
        raise ValueError(f"{settings.out}: got a comparison of {theirs}, expected one of {mine}; choose another --out.")


def candidates(settings: Settings, beats: data.Beats) -> list[Recipe]:
    """Return the recipes to compare: every network plain, and the compact one taught by some of them."""
    plain = Recipe("", beats.has_rr, epochs=settings.epochs, seed=settings.seed, device=settings.device)
    recipes = [replace(plain, net=net) for net in settings.nets]
    teachers = tuple(net for net in settings.nets if net in TEACHERS)
    return recipes + [replace(one, teachers=teachers) for one in recipes if one.net == "compact"]


def ablations(settings: Settings, beats: data.Beats) -> list[Recipe]:
    """Return the compact network without any augmentation, and without each kind in turn; for two classes only.

    The five classes have too few records to resolve such small differences.
    """
    if "compact" not in settings.nets or len(beats.classes) > 2:
        return []
    plain = Recipe("compact", beats.has_rr, epochs=settings.epochs, seed=settings.seed, device=settings.device)
    kinds = [kind for kind in KINDS if kind != "rhythm"]  # only affects the RR context
    return [replace(plain, augment=False), *(replace(plain, without=kind) for kind in kinds)]


@dataclass(frozen=True)
class _Job:
    """One network to train."""

    task: int
    split: SplitKind
    recipe: Recipe
    fold: int | None
    """The held-out fold; None: nothing is held out."""
    folder: Path
    teachers: tuple[Path, ...]
    """Folders of the recipe's teachers, trained on the same fold."""


def _train_all(settings: Settings, loaded: Sequence[data.Beats], names: Sequence[str]) -> None:
    """Train the networks of all folds that are missing."""
    jobs = [
        _job(settings, number, names[number], split, recipe, fold)
        for recipes_of, splits in ((candidates, SPLITS), (ablations, SPLITS[:1]))
        for number, beats in enumerate(loaded)
        for recipe in recipes_of(settings, beats)
        for split in splits
        for fold in range(settings.folds if split == "patient" else 1)
    ]
    _run(settings, jobs)


def _job(settings: Settings, task: int, name: str, split: SplitKind, recipe: Recipe, fold: int | None) -> _Job:
    out = Path(settings.out)
    plain = [replace(recipe, net=net, teachers=()) for net in recipe.teachers]
    teachers = tuple(folder_of(out, name, split, one, fold) for one in plain)
    return _Job(task, split, recipe, fold, folder_of(out, name, split, recipe, fold), teachers)


def _run(settings: Settings, jobs: Sequence[_Job]) -> None:
    """Train the missing networks in parallel, teachers before the networks they teach."""
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TextColumn("{task.description}"), console=console) as progress,
        ProcessPoolExecutor(settings.jobs, context, initializer=_load_once, initargs=(settings,)) as pool,
    ):
        bar = progress.add_task("", total=len(jobs))
        for taught in (False, True):
            futures = {pool.submit(_train, settings, job): job for job in jobs if bool(job.recipe.teachers) == taught}
            for future in as_completed(futures):
                future.result()
                progress.update(bar, advance=1, description=str(futures[future].folder.relative_to(settings.out)))


def folder_of(out: Path, task: str, split: SplitKind, recipe: Recipe, fold: int | None) -> Path:
    """Return the folder of a network of a comparison."""
    title = recipe.title.replace(", ", "-").replace(" ", "-")
    return out / task / split / title / ("all" if fold is None else f"fold-{fold}")


_loaded: list[data.Beats] = []
"""In a training process: the beats, read once."""


def _load_once(settings: Settings) -> None:
    _loaded.extend(data.load_tasks(settings.data))


def _train(settings: Settings, job: _Job) -> None:
    """Train on all folds but one, and predict that one; do nothing if this was done before."""
    if (job.folder / WEIGHTS).is_file():
        return
    beats = _loaded[job.task]
    fold = fold_beats(beats, job.split, settings.folds, settings.seed)
    is_held_out = fold == job.fold if job.fold is not None else np.zeros(len(beats), np.bool_)
    train, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    teachers = [
        _load(folder, replace(job.recipe, net=net), beats)
        for folder, net in zip(job.teachers, job.recipe.teachers, strict=True)
    ]
    network = fit.train_network(job.recipe, beats, train, held_out, job.folder, teachers=teachers, resume=True)
    if job.fold is not None:
        windows, rr = beats.windows[held_out], beats.rr[held_out]
        augmented, augmented_rr = augment(
            torch.from_numpy(windows), torch.from_numpy(rr), torch.Generator().manual_seed(0)
        )
        np.savez(
            job.folder / JUDGED,
            rows=held_out,
            probabilities=models.probabilities(network, windows, rr),
            varied=metrics.abnormal(models.probabilities(network, augmented.numpy(), augmented_rr.numpy())),
        )
    torch.save(network.state_dict(), job.folder / WEIGHTS)
    (job.folder / fit.CHECKPOINT).unlink()


def _load(folder: Path, recipe: Recipe, beats: data.Beats) -> models.BeatNetwork:
    network = recipe.make_network(len(beats.classes))
    network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    return network.eval()


def _gather(settings: Settings, beats: data.Beats, name: str, split: SplitKind, recipe: Recipe) -> Judged:
    """Join the folds of a recipe; each gets the best operating point of the others (a single fold: by halves)."""
    folds = range(settings.folds if split == "patient" else 1)
    folders = [folder_of(Path(settings.out), name, split, recipe, fold) for fold in folds]
    read = [np.load(folder / JUDGED) for folder in folders]
    rows = np.concatenate([one["rows"] for one in read])
    fold = np.repeat(list(folds), [len(one["rows"]) for one in read])
    raw = np.concatenate([one["probabilities"] for one in read])
    probabilities, thresholds = np.empty_like(raw), np.empty(len(raw))
    side = fold if len(folds) > 1 else np.arange(len(rows)) % 2
    for number in np.unique(side):
        inside = side == number
        point = _choose_point(beats, rows[~inside], raw[~inside])
        probabilities[inside], thresholds[inside] = point.apply(raw[inside]), point.threshold
    return Judged(
        recipe,
        split,
        rows,
        fold,
        probabilities,
        thresholds,
        np.concatenate([one["varied"] for one in read]),
        [fit.read_history(folder) for folder in folders],
    )


def _choose_point(beats: data.Beats, rows: Ints, probabilities: Floats) -> metrics.OperatingPoint:
    return metrics.choose_point(beats.labels[rows], probabilities, beats.classes, beats.patients[rows])


def _measure(settings: Settings, beats: data.Beats, name: str) -> Task:
    """Compute the figures of all predictions, and choose a network."""
    recipes = candidates(settings, beats)
    judged = [_gather(settings, beats, name, split, recipe) for split in SPLITS for recipe in recipes]
    ablation = [_gather(settings, beats, name, "patient", recipe) for recipe in ablations(settings, beats)]
    plain = {one.net: one for one in recipes if not one.teachers}
    folders = {net: folder_of(Path(settings.out), name, "patient", one, 0) for net, one in plain.items()}
    of_net = measure({net: _load(folder, plain[net], beats) for net, folder in folders.items()})
    costs = {one.title: of_net[one.net] for one in recipes}  # a taught network costs what the plain one does
    lines = [line for one in judged for line in _lines(beats, one, with_intervals=True)]
    chosen = _choose(recipes, costs, lines, beats)
    best = next(one for one in judged if one.recipe == chosen and one.split == "patient")
    figure = "macro F1" if len(beats.classes) > 2 else "mean ROC-AUC of the data sets"
    return Task(
        name,
        beats,
        judged,
        ablation,
        costs,
        lines,
        [line for one in ablation for line in _lines(beats, one, with_intervals=False)],
        _figures_of_groups(beats, best),
        RULE.format(faster=FASTER, reference=REFERENCE, figure=figure),
        chosen,
    )


def _lines(beats: data.Beats, judged: Judged, *, with_intervals: bool) -> list[Line]:
    """Return the table lines of one recipe on one split: each data set, and its published val part if there is one."""
    lines = []
    for name in beats.names():
        of_set = beats.datasets[judged.rows] == name
        kept = {name: of_set}
        if judged.split == "patient" and (beats.given[beats.datasets == name] == "val").any():
            kept[f"{name}, published val"] = of_set & (beats.given[judged.rows] == "val")
        for what, chosen in kept.items():
            rows = judged.rows[chosen]
            given = (
                beats.labels[rows],
                judged.probabilities[chosen],
                judged.thresholds[chosen],
                beats.classes,
                beats.records[rows],
            )
            found = metrics.figures(*given)
            found["roc_auc_varied"] = metrics.auc(beats.labels[rows] > 0, judged.augmented[chosen])
            found["patients"] = float(len(set(beats.patients[rows].tolist()) - {""}))
            intervals = metrics.intervals(*given, beats.patients[rows]) if with_intervals else {}
            lines.append(Line(judged.recipe.title, judged.split, what, found, intervals))
    return lines


def _choose(recipes: Sequence[Recipe], costs: dict[str, Cost], lines: Sequence[Line], beats: data.Beats) -> Recipe:
    """Choose the network to bundle by `RULE`; without the reference network all are fast enough."""
    figure = "macro_f1" if len(beats.classes) > 2 else "roc_auc"
    slowest = costs[REFERENCE].us_per_beat / FASTER if REFERENCE in costs else float("inf")
    fast = [one for one in recipes if costs[one.title].us_per_beat <= slowest] or list(recipes)

    def merit(recipe: Recipe) -> float:
        mine = [line for line in lines if line.network == recipe.title and line.split == "patient"]
        return float(np.mean([line.figures[figure] for line in mine if line.data in beats.names()]))

    return max(fast, key=merit)


def _figures_of_groups(beats: data.Beats, judged: Judged) -> list[tuple[str, str, metrics.Figures]]:
    """Figures by sex, age, heart rate, signal quality and diagnosis; a diagnosis is compared with all normal beats."""
    rows = judged.rows
    found = []
    for kind, (order, group) in groups_of(beats).items():
        for value in order:
            of_group = group[rows] == value
            inside = of_group | (beats.labels[rows] == 0) if kind == "diagnosis" else of_group
            if len(set((beats.labels[rows[inside]] > 0).tolist())) < 2:
                continue
            figures = metrics.figures(
                beats.labels[rows[inside]],
                judged.probabilities[inside],
                judged.thresholds[inside],
                beats.classes,
                beats.records[rows[inside]],
            )
            figures["patients"] = float(len(set(beats.patients[rows[of_group]].tolist()) - {""}))
            figures["beats"] = float(np.count_nonzero(of_group))
            found.append((kind, value, figures))
    return found


def groups_of(beats: data.Beats) -> dict[str, tuple[list[str], data.Strings]]:
    """Return, by kind of group, the groups in order and the group of each beat (n,), empty where unknown."""
    age = beats.about["age"].to_numpy(float)
    lengths = beat.LENGTH - (beats.windows[:, ::-1] > 0).argmax(axis=1)
    median_s = np.where(np.isfinite(beats.rr[:, 2]), beats.rr[:, 2], lengths / beat.SPAN / beat.RATE_HZ)
    rate = np.round(60 / median_s)
    noise = _noise(beats.windows)
    third, two_thirds = np.quantile(noise, [1 / 3, 2 / 3])
    diagnosis = _diagnoses(beats.about["diagnosis"].to_numpy(np.str_), beats.labels)
    return {
        "sex": (["female", "male"], beats.about["sex"].to_numpy(np.str_)),
        "age": _cut(age, [40, 60, 75], ["under 40", "40 to 59", "60 to 74", "75 and over"]),
        "heart rate": _cut(rate, [60, 101], ["under 60 bpm", "60 to 100 bpm", "over 100 bpm"]),
        "signal quality": _cut(noise, [third, two_thirds], ["cleanest third", "middle third", "noisiest third"]),
        "diagnosis": (sorted(set(diagnosis.tolist()) - {""}), diagnosis),
    }


def _cut(values: Floats, edges: Sequence[float], names: list[str]) -> tuple[list[str], data.Strings]:
    """Return the group names and the group of each value: bins split at the edges; empty where it is NaN."""
    group = np.array(names)[np.searchsorted(edges, values, side="right")]
    return names, np.where(np.isnan(values), "", group)


def _diagnoses(diagnosis: data.Strings, labels: data.Labels) -> data.Strings:
    """Diagnosis of each abnormal beat; those of fewer than 100 beats, mostly combinations, become "other"."""
    names, counts = np.unique(diagnosis[labels > 0], return_counts=True)
    frequent = set(names[counts >= 100].tolist())
    return np.array([one if not one or one in frequent else "other" for one in np.where(labels > 0, diagnosis, "")])


def _noise(windows: beat.Windows) -> Floats:
    """Median absolute second difference of the signal after the QRS complex, in window heights: (n, 187) -> (n,)."""
    curvature = np.abs(np.diff(windows[:, 15:], n=2))
    return np.array([np.median(row[row > 0]) if (row > 0).any() else 0.0 for row in curvature])


def _train_final(settings: Settings, tasks: Sequence[Task]) -> None:
    """Train each chosen network, and its teachers, on all beats, and write its run folder."""
    jobs = [_job(settings, number, task.name, "patient", task.chosen, None) for number, task in enumerate(tasks)]
    plain = [
        _job(settings, job.task, tasks[job.task].name, "patient", replace(job.recipe, net=net, teachers=()), None)
        for job in jobs
        for net in job.recipe.teachers
    ]
    _run(settings, [*plain, *jobs])
    for task, job in zip(tasks, jobs, strict=True):
        _write_run(settings, task, job.folder)


def _write_run(settings: Settings, task: Task, folder: Path) -> None:
    """Write the run of a network trained on all beats; its operating point is the best one on all out-of-fold beats."""
    beats = task.beats
    raw = [
        np.load(folder_of(Path(settings.out), task.name, "patient", task.chosen, fold) / JUDGED)
        for fold in range(settings.folds)
    ]
    rows, probabilities = (np.concatenate([one[what] for one in raw]) for what in ("rows", "probabilities"))
    point = _choose_point(beats, rows, probabilities)
    network = _load(folder, task.chosen, beats)
    out = Path(settings.out) / task.name / "final"
    out.mkdir(exist_ok=True)
    fit.finish(network, point, out)
    of_split = {"patient": f"inter-patient, {settings.folds} folds", "beat": "intra-patient"}
    figures: dict[str, dict[str, metrics.Figures]] = {}
    for line in task.lines:
        if line.network == task.chosen.title:
            figures.setdefault(of_split[line.split], {})[line.data] = line.figures
    Run(
        recipe=task.chosen,
        data=settings.data,
        split="patient",
        command=settings.command,
        classes=list(beats.classes),
        parameters=models.count_parameters(network),
        split_kinds={name: str(kind) for name, kind in split_kinds(beats, "patient").items()},
        sha256=hash_rows(beats, np.full(len(beats), "train")),
        notes=list(beats.notes),
        seconds=fit.read_history(folder)[-1]["seconds"],
        threshold=point.threshold,
        threshold_from=f"out-of-fold beats of {settings.folds} folds of patients",
        figures=figures,
    ).save(out)


def as_json(settings: Settings, tasks: Sequence[Task], machine: str) -> str:
    """Return all figures of a comparison as JSON."""
    return json.dumps(
        {
            "settings": asdict(settings),
            "machine": machine,
            "tasks": {
                task.name: {
                    "classes": task.beats.classes,
                    "beats": {name: int(np.count_nonzero(task.beats.datasets == name)) for name in task.beats.names()},
                    "notes": task.beats.notes,
                    "costs": {title: asdict(cost) for title, cost in task.costs.items()},
                    "lines": [asdict(line) for line in task.lines],
                    "ablation": [asdict(line) for line in task.ablation_lines],
                    "groups": [{"kind": kind, "group": group, "figures": f} for kind, group, f in task.groups],
                    "rule": task.rule,
                    "chosen": task.chosen.title,
                }
                for task in tasks
            },
        },
        indent=1,
    )
