"""Train one network on beats, in one loop that reads top to bottom, and write its run folder.

See `training.run` for the contents of that folder.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from training import classic, data, metrics, models
from training.augment import augment
from training.run import DESCRIPTION, WEIGHTS, Recipe, Run, load_run
from training.shapes import IMPORTANCE
from training.split import SplitKind, hash_rows, split_beats, split_kinds

BATCH = 256
EPOCH_BEATS = 16_000
"""Beats sampled per epoch, if there are that many."""
LEARNING_RATE = 3e-3
"""Maximum of the one-cycle schedule (Smith and Topin 2018), which rises to it and then decays to zero."""
WARM_UP = 0.2
"""Fraction of the steps in which it rises."""
WEIGHT_DECAY = 1e-2
TEACHER_WEIGHT = 0.7
"""Weight of the teachers' probabilities in the loss, the labels having the rest (Hinton, Vinyals and Dean 2015)."""
CHECKPOINT = "checkpoint.pt"
HISTORY = ("epoch", "loss", "train_auc", "val_loss", "val_auc", "seconds")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
History = list[dict[str, float]]
"""Rows of `history.csv`."""
console = Console(stderr=True)


class EpochCallback(Protocol):
    """Called after every epoch with its row of `history.csv`."""

    def __call__(self, row: dict[str, float]) -> None:  # noqa: D102 # described by the class
        ...


def fit(
    recipe: Recipe,
    directories: list[str],
    split: SplitKind,
    out: Path,
    command: str,
    *,
    classes: Sequence[str] | None = None,
    teachers: Sequence[Path] = (),
    resume: bool = False,
    tensorboard: bool = False,
) -> Run:
    """Train a network on the train part of some data sets, and write its run folder.

    Raises
    ------
    ValueError
        The data cannot be read or split, there is no such device or network, the network takes the RR context and
        the data have none, there is nothing to resume, or the recipe does not go with the data or with what is asked.
    """
    if recipe.classic and (resume or teachers or recipe.augment):
        raise ValueError("The classic recipe has no teachers, no augmentation, and cannot be resumed.")
    started = time.monotonic()
    beats = data.load_beats(directories, classes)
    parts = split_beats(beats, split, recipe.seed, recipe.shares)
    notes = [*beats.notes, *split_notes(beats, split)]
    for note in notes:
        console.print(f"[bold yellow]Note:[/] {note}")
    hashes = hash_rows(beats, parts)
    taught_by = [_load_teacher(folder, hashes, beats) for folder in teachers]
    recipe = replace(recipe, teachers=tuple(run.recipe.title for run, _ in map(load_run, teachers)))
    (out / DESCRIPTION).unlink(missing_ok=True)  # of an earlier run, whose weights are about to be replaced
    with _progress(recipe) as progress, _tensorboard_writer(out, tensorboard) as writer:
        on_epoch = _ProgressBar(progress, recipe.epochs, writer)
        train, val = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val")
        if recipe.classic:
            network = _train_classic(recipe, beats, train, val, out, on_epoch)
        else:
            network = train_network(recipe, beats, train, val, out, on_epoch, teachers=taught_by, resume=resume)
    point = _choose_point(recipe, network, beats, val)
    finish(network, point, out)
    probabilities = models.probabilities(network, beats.windows, beats.rr)
    run = Run(
        recipe=recipe,
        data=directories,
        split=split,
        command=command,
        classes=list(beats.classes),
        parameters=models.count_parameters(network),
        split_kinds={name: str(kind) for name, kind in split_kinds(beats, split).items()},
        sha256=hashes,
        notes=notes,
        seconds=round(time.monotonic() - started, 1),
        threshold=point.threshold,
        threshold_from="the recipe" if recipe.classic else "val part",
        figures={
            part: figures_of(beats, probabilities, np.full(len(beats), point.threshold), parts == part)
            for part in ("val", "test")
        },
    )
    run.save(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return run


def _train_classic(
    recipe: Recipe, beats: data.Beats, train: Ints, val: Ints, out: Path, on_epoch: EpochCallback
) -> models.BeatNetwork:
    """Train by the classic recipe, and write `history.csv`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    network = recipe.make_network(len(beats.classes)).to(choose_device(recipe.device))
    rows: History = []

    def keep(row: dict[str, float]) -> None:
        rows.append(row)
        _write_history(out, rows)
        on_epoch(row)

    return classic.train_classic(network, beats, train, val, recipe.epochs, recipe.seed, keep)


def _choose_point(recipe: Recipe, network: models.BeatNetwork, beats: data.Beats, val: Ints) -> metrics.OperatingPoint:
    if recipe.classic:
        return metrics.OperatingPoint(classic.THRESHOLD, (0.0,))
    before = models.probabilities(network, beats.windows[val], beats.rr[val])
    return metrics.choose_point(beats.labels[val], before, beats.classes, beats.patients[val])


def _load_teacher(folder: Path, sha256: dict[str, str], beats: data.Beats) -> models.BeatNetwork:
    """Load the network of a run on the very same parts: one trained on val or test beats would leak them."""
    run, network = load_run(folder)
    if run.sha256 != sha256:
        raise ValueError(f"{folder}: got a teacher of other beats or another split, expected the same train part.")
    if network.takes_rr and not beats.has_rr:
        raise ValueError(f"{folder}: got a teacher that takes the RR context, which {', '.join(beats.names())} lack.")
    return network


def train_network(
    recipe: Recipe,
    beats: data.Beats,
    train: Ints,
    val: Ints,
    out: Path,
    on_epoch: EpochCallback | None = None,
    *,
    teachers: Sequence[models.BeatNetwork] = (),
    resume: bool = False,
) -> models.BeatNetwork:
    """Train a network, and write `history.csv`.

    Parameters
    ----------
    recipe
        How.
    beats
        n beats.
    train, val
        Row numbers: the beats it learns from, and those on which the history reports; the latter do not affect it.
    out
        Folder; created if it does not exist.
    on_epoch
        Called after each epoch, and on resuming once for each epoch before.
    teachers
        The trained networks that the recipe names.
    resume
        Continue where an interrupted run stopped, if `out` holds one of the same recipe and rows.

    Returns
    -------
    BeatNetwork
        In evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        No such network or device; the network takes the RR context and the data have none; the folder holds the
        checkpoint of a different run.
    """
    if recipe.rr and not beats.has_rr:
        raise ValueError(
            f"RR context: got none in {', '.join(beats.names())}, expected it for every beat, as WFDB records have."
        )
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(recipe.device)
    torch.manual_seed(recipe.seed)
    network = recipe.make_network(len(beats.classes)).to(device)
    teachers = [one.to(device).eval() for one in teachers]
    torch.set_num_threads(1)  # with more, floating-point sums differ from machine to machine
    rng = np.random.default_rng(recipe.seed)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    batch = min(BATCH, len(train))
    steps = min(EPOCH_BEATS, len(train)) // batch  # of an epoch
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = max(10, steps * recipe.epochs)  # the schedule needs a minimum
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total + 1, pct_start=WARM_UP)
    half = device.type == "cuda"  # mixed precision: half the memory, twice the speed; not worthwhile on other devices
    scaler = torch.amp.GradScaler("cuda", enabled=half)
    windows = torch.from_numpy(beats.windows).to(device)  # (n, 187)
    contexts = torch.from_numpy(beats.rr).to(device)  # (n, 3)
    targets = torch.from_numpy(beats.labels).to(device)  # (n,)
    chances = sampling_probabilities(beats, train)  # (train,)
    identity = {"recipe": asdict(recipe), "sha256": hash_rows(beats, _parts(len(beats), train, val))}
    stateful = {"network": network, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    checkpoint = _Checkpoint(out / CHECKPOINT, identity, stateful, generator, rng)
    history = checkpoint.restore() if resume else []
    for row in history:
        _report(on_epoch, row)
    started = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        network.train()
        losses, predicted, true = [], [], []
        drawn = rng.choice(train, (steps, batch), p=chances)
        for rows in torch.from_numpy(drawn).to(device):
            x, rr = windows[rows], contexts[rows]  # (256, 187), (256, 3)
            if recipe.augment:
                x, rr = augment(x, rr, generator, recipe.without)
            with torch.autocast(device.type, torch.float16, enabled=half):
                y = network(x, rr if recipe.rr else None)  # (256, classes)
                loss = f.cross_entropy(y, targets[rows])
                if teachers:
                    loss = (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * f.cross_entropy(
                        y, _teacher_probabilities(teachers, x, rr)
                    )
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            losses.append(loss.item())
            predicted.append(1 - y.detach().float().softmax(1)[:, 0].cpu())
            true.append((targets[rows] > 0).cpu())
        val_loss = val_auc = float("nan")
        if len(val):
            val_logits = models.logits(network, windows[val], contexts[val])  # (val, classes)
            val_loss = float(f.cross_entropy(val_logits, targets[val].cpu()))
            val_auc = metrics.auc(beats.labels[val] > 0, 1 - val_logits.softmax(1)[:, 0].numpy())
        row = {
            "epoch": float(epoch),
            "loss": float(np.mean(losses)),
            "train_auc": metrics.auc(torch.cat(true).numpy(), torch.cat(predicted).numpy()),
            "val_loss": val_loss,
            "val_auc": val_auc,
            "seconds": time.monotonic() - started,
        }
        history.append(row)
        _report(on_epoch, row)
        checkpoint.save(history)
        _write_history(out, history)
    return network.cpu().eval()


def finish(network: models.BeatNetwork, point: metrics.OperatingPoint, out: Path) -> None:
    """Fold an operating point's offsets into a network's last layer, and write `weights.pt`."""
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    last.bias.data += torch.tensor(point.offsets, dtype=last.bias.dtype)
    torch.save(network.state_dict(), out / WEIGHTS)


@torch.no_grad()
def _teacher_probabilities(teachers: Sequence[models.BeatNetwork], x: Tensor, rr: Tensor) -> Tensor:
    """Mean probability that the teachers give each class: (batch, classes)."""
    return torch.stack([one(x, rr if one.takes_rr else None).softmax(1) for one in teachers]).mean(0)


def sampling_probabilities(beats: data.Beats, train: Ints) -> npt.NDArray[np.float64]:
    """Probability of each training row (train,) to be sampled.

    A class of a data set is sampled in proportion to the square root of its number of beats, and so is a patient within
    it: rare classes and small data sets are seen often enough to be learned, yet less often than if all were balanced,
    and a patient with hours of beats does not dominate the others. Recordings count less, see `shapes.IMPORTANCE`.
    """

    def groups(of: list[Any]) -> tuple[Ints, Ints]:
        _, numbers, counts = np.unique(np.array(of), return_inverse=True, return_counts=True)
        return numbers, counts

    strata = [f"{name}/{label}" for name, label in zip(beats.datasets[train], beats.labels[train], strict=True)]
    stratum, of_stratum = groups(strata)
    patient, of_patient = groups([f"{a} {b}" for a, b in zip(strata, beats.patients[train], strict=True)])
    weight = 1 / np.sqrt(of_patient[patient])  # of a beat: the root of its patient's number of beats, divided by it
    chance: npt.NDArray[np.float64] = (
        np.sqrt(of_stratum[stratum]) * weight / np.bincount(stratum, weights=weight)[stratum]
    )
    chance *= np.array([IMPORTANCE.get(name, 1.0) for name in beats.datasets[train].tolist()])
    chance /= chance.sum()
    return chance


class _Checkpoint:
    """The checkpoint file of a run, valid for that run only."""

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any],
        stateful: dict[str, Any],
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> None:
        self._path, self._identity = path, identity
        self._stateful, self._generator, self._rng = stateful, generator, rng

    def save(self, history: History) -> None:
        """Write everything that the next epoch depends on."""
        states = {name: one.state_dict() for name, one in self._stateful.items()}
        random_states = {
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),
            "numpy": self._rng.bit_generator.state,
        }
        unfinished = self._path.with_suffix(".part")
        torch.save({**states, **random_states, "history": history, "of": self._identity}, unfinished)
        unfinished.replace(self._path)

    def restore(self) -> History:
        """Restore the state of the checkpoint, if there is one; return its history."""
        if not self._path.is_file():
            return []
        try:
            stored = torch.load(self._path, weights_only=True)
        except Exception as error:  # torch raises many kinds on a broken file
            raise ValueError(f"{self._path}: cannot be read as a checkpoint: {error}") from None
        if stored["of"] != self._identity:
            raise ValueError(f"{self._path}: got a checkpoint of {stored['of']}, expected one of {self._identity}.")
        for name, one in self._stateful.items():
            one.load_state_dict(stored[name])
        self._generator.set_state(stored["generator"])
        torch.set_rng_state(stored["torch"])
        self._rng.bit_generator.state = stored["numpy"]
        history: History = stored["history"]
        return history


def _parts(n: int, train: Ints, val: Ints) -> data.Strings:
    parts = np.full(n, "", dtype="<U5")
    parts[train], parts[val] = "train", "val"
    return parts


def _report(on_epoch: EpochCallback | None, row: dict[str, float]) -> None:
    if on_epoch is not None:
        on_epoch(row)


def read_history(out: Path) -> History:
    """Read the rows of a run folder's `history.csv`."""
    with (out / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _write_history(out: Path, history: History) -> None:
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HISTORY)
        writer.writerows([f"{row[name]:.5g}" for name in HISTORY] for row in history)


def figures_of(
    beats: data.Beats, probabilities: Floats, thresholds: npt.NDArray[np.float64], rows: npt.NDArray[np.bool_]
) -> dict[str, metrics.Figures]:
    """Compute figures on some rows, of each data set and, if there are several, of all: see `Run.figures`.

    Parameters
    ----------
    probabilities, thresholds, rows
        (n, classes), (n,), and (n,) mask of the rows to include.
    """

    def of(chosen: npt.NDArray[np.bool_]) -> metrics.Figures:
        found = metrics.figures(
            beats.labels[chosen], probabilities[chosen], thresholds[chosen], beats.classes, beats.records[chosen]
        )
        return {"patients": float(len(set(beats.patients[chosen].tolist()) - {""})), **found}

    names = [name for name in beats.names() if (rows & (beats.datasets == name)).any()]
    of_each = {name: of(rows & (beats.datasets == name)) for name in names}
    return {"all": of(rows), **of_each} if len(names) > 1 else of_each


def split_notes(beats: data.Beats, kind: SplitKind) -> list[str]:
    """Return what a reader of the figures must know about the split."""
    return [
        f"{name}: INTRA-PATIENT SPLIT: the same patients are in train and in test, so the figures do not "
        "hold for new patients." + ("" if kind == "beat" else " Its files do not identify the patients.")
        for name, of_set in split_kinds(beats, kind).items()
        if of_set == "beat"
    ]


def choose_device(device: str) -> torch.device:
    """Return the device to train on; "auto" takes CUDA or MPS if available, and prints a line if neither is.

    Raises
    ------
    ValueError
        PyTorch does not find the named device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        found = next((name for name in ("cuda", "mps") if available[name]), "cpu")
        if found == "cpu":
            print("Neither CUDA nor MPS is available: training on the CPU.", file=sys.stderr)
        return torch.device(found)
    if not available.get(device):
        raise ValueError(f"Device: got {device}, which PyTorch does not find, expected --device cpu or auto.")
    return torch.device(device)


class _ProgressBar:
    """Shows each epoch on a progress bar, and passes it to TensorBoard if wanted."""

    def __init__(self, progress: Progress, epochs: int, writer: Any) -> None:
        self._progress, self._writer = progress, writer
        self._task = progress.add_task("", total=epochs, figures="")

    def __call__(self, row: dict[str, float]) -> None:
        figures = f"loss {row['loss']:.3f}  val loss {row['val_loss']:.3f}  val AUC {row['val_auc']:.4f}"
        self._progress.update(self._task, advance=1, figures=figures)
        if self._writer is not None:
            for name in HISTORY[1:-1]:
                self._writer.add_scalar(name, row[name], int(row["epoch"]))


@contextmanager
def _tensorboard_writer(out: Path, wanted: bool) -> Iterator[Any]:
    """Yield a writer of TensorBoard's event files, or None if none is wanted."""
    if not wanted:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("TensorBoard is not installed: pip install 'ecgwatch[tensorboard]' installs it.") from None
    with SummaryWriter(str(out / "tensorboard")) as writer:
        yield writer


def _progress(recipe: Recipe) -> Progress:
    return Progress(
        TextColumn(recipe.title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )
