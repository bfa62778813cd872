"""Train one network on beats: one loop, read top to bottom, that leaves a run folder behind.

See `training.run` for what that folder holds.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from monitor import beat
from training import data, metrics, models
from training.augment import augment
from training.run import DESCRIPTION, WEIGHTS, Run, Settings

BATCH = 64
LEARNING_RATE = 1e-3
AVERAGING = 0.998
"""Share of the running mean of the weights that a step keeps: it remembers about 500 steps."""

console = Console(stderr=True)


def fit(settings: Settings, out: Path, command: str) -> Run:
    """Train a network and write its run folder.

    Raises
    ------
    ValueError
        The data cannot be read or split, or there is no such device or network.
    """
    started = time.monotonic()
    if settings.net not in models.NETWORKS:
        raise ValueError(f"Network: got {settings.net!r}, expected one of {', '.join(models.NETWORKS)}.")
    device = choose_device(settings.device)
    beats = data.load_beats(settings.data)
    parts = data.split_beats(beats, settings.split, settings.seed)
    notes = [*beats.notes, *split_notes(beats, settings.split)]
    for note in notes:
        console.print(f"[bold yellow]Note:[/] {note}")

    torch.set_num_threads(1)  # with more, sums are rounded differently from machine to machine
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator(device).manual_seed(settings.seed)
    network = models.NETWORKS[settings.net]().to(device)
    mean = models.NETWORKS[settings.net]().to(device)  # running mean of the network's weights: what is kept
    mean.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    loss_of = nn.BCEWithLogitsLoss()
    windows = torch.from_numpy(beats.windows).to(device)  # (n, 187)
    targets = torch.from_numpy(beats.labels).to(device, torch.float32).unsqueeze(1)  # (n, 1)
    train, val = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val")

    out.mkdir(parents=True, exist_ok=True)
    (out / DESCRIPTION).unlink(missing_ok=True)  # of an earlier run, whose weights are about to go
    best_auc, best_epoch, epoch, step = -1.0, 0, 0, 0
    with (out / "history.csv").open("w", newline="") as file, _progress() as progress:
        history = csv.writer(file)
        history.writerow(["epoch", "train_loss", "val_auc", "seconds"])
        task = progress.add_task(settings.net, total=settings.epochs, figures="")
        for epoch in range(1, settings.epochs + 1):
            network.train()
            order = train[data.balance(beats.labels[train], beats.datasets[train], rng)]
            losses = []
            for rows in torch.split(torch.from_numpy(order).to(device), BATCH):
                if len(rows) == 1:
                    continue  # one beat has no batch statistics
                x = augment(windows[rows], generator) if settings.augment else windows[rows]  # (64, 187)
                loss = loss_of(network(x), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                follow(mean, network, keep=min(AVERAGING, (1 + step) / (10 + step)))
                losses.append(loss.item())
            p = models.probabilities(mean, windows[val]).numpy()  # (val beats,)
            auc = metrics.auc(beats.labels[val], p)
            train_loss = float(np.mean(losses))
            history.writerow([epoch, f"{train_loss:.5f}", f"{auc:.5f}", f"{time.monotonic() - started:.1f}"])
            file.flush()
            if auc > best_auc:
                best_auc, best_epoch = auc, epoch
                torch.save(mean.state_dict(), out / WEIGHTS)
            progress.update(task, advance=1, figures=f"loss {train_loss:.3f}  val AUC {auc:.4f}  best {best_auc:.4f}")
            if epoch - best_epoch >= settings.patience:
                break

    mean.load_state_dict(torch.load(out / WEIGHTS, weights_only=True))
    p = models.probabilities(mean, windows).numpy()  # (n,)
    threshold = metrics.best_threshold(beats.labels[val], p[val])
    run = Run(
        settings=settings,
        command=command,
        parameters=models.count_parameters(network),
        split_kinds={name: str(kind) for name, kind in data.split_kinds(beats, settings.split).items()},
        sha256=data.hash_rows(beats, parts),
        notes=notes,
        epochs=epoch,
        best_epoch=best_epoch,
        seconds=round(time.monotonic() - started, 1),
        threshold=threshold,
        figures=figures_of(mean, beats, parts, threshold),
    )
    run.save(out)
    return run


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, keep: float) -> None:
    """Move a running mean of weights, and of batch statistics, by one step: keep x mean + (1 - keep) x network."""
    for average, current in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(current, 1 - keep)


def figures_of(
    network: nn.Module, beats: data.Beats, parts: data.Strings, threshold: float
) -> dict[str, dict[str, metrics.Figures]]:
    """Figures on val and test, of each data set and of all: see `Run.figures`.

    "auc_late" is the AUC on the same beats with their R peaks found one sample late, as a live detector may.
    """
    p = models.probabilities(network, torch.from_numpy(beats.windows)).numpy()  # (n,)
    late = np.stack([beat.fit_window(window[1:]) for window in beats.windows])  # (n, 187)
    p_late = models.probabilities(network, torch.from_numpy(late)).numpy()  # (n,)
    names = beats.names()

    def of(rows: npt.NDArray[np.bool_]) -> metrics.Figures:
        return {
            "patients": float(len(set(beats.patients[rows].tolist()) - {""})),
            **metrics.figures(beats.labels[rows], p[rows], threshold),
            "auc_late": metrics.auc(beats.labels[rows], p_late[rows]),
        }

    return {
        part: {
            **({"all": of(parts == part)} if len(names) > 1 else {}),
            **{name: of((parts == part) & (beats.datasets == name)) for name in names},
        }
        for part in ("val", "test")
    }


def split_notes(beats: data.Beats, kind: data.SplitKind) -> list[str]:
    """What a reader must know of how the beats were split."""
    return [
        f"{name}: BEATS SPLIT AT RANDOM: the same patient is in train and in test; figures say how well known patients "
        "are recognised, not how well new ones are."
        + ("" if kind == "beat" else " Its files do not say who the patients are.")
        for name, of_set in data.split_kinds(beats, kind).items()
        if of_set == "beat"
    ]


def choose_device(device: str) -> torch.device:
    """The device to train on; "auto" takes CUDA where there is one, and says so where there is none."""
    if device == "cpu" or torch.cuda.is_available():
        return torch.device("cpu" if device == "cpu" else "cuda")
    if device == "cuda":
        raise ValueError("Device: got cuda, which PyTorch does not find here, expected --device cpu or auto.")
    print("No CUDA here: training on the CPU.", file=sys.stderr)
    return torch.device("cpu")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    )
