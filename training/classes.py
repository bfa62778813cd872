"""Train and judge a class model on `beat/2`: beats as the live monitor cuts them, people kept apart.

``ecgwatch train classes --data DIR... --noise DIR --out RUN``. Every lead of a recording, upright, upside down, and
where beats are annotated once more with recorded noise, is a wearer. All wearers of a person are in one fold. Figures
and operating point come from networks that have not met the person; the network that is kept has seen all of them.

Fusion beats are none of the classes: half V and half N in the loss, and neither right nor wrong as either when judged,
as ANSI/AAMI EC57 allows. What was found where nobody annotated a beat is learned as N, and counts as a false S or V.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f
from scipy.signal import resample_poly
from torch import Tensor

from monitor import beat2
from training.class_network import CLASSES, ClassNetwork
from training.sources import add_noise, read_noises, read_sources
from training.wearers import LABELS, NOT_S, UNKNOWN, F, N, S, Source, V, X, cut

FOLDS = 5
STEPS, BATCH = 2400, 448
LEARNING_RATE = 3e-3
"""Maximum of the one-cycle schedule (Smith and Topin 2018)."""
WEIGHT_DECAY = 2e-2
AVERAGE = 0.995
"""The network that is kept is a running mean of those of the last steps."""
JUDGED = ("mitdb", "svdb")
"""Databases in which every beat was annotated: operating points are chosen on both alike."""
IMPORTANCE = {"mitdb": 1.0, "svdb": 1.0, "cinc2017": 1.3, "cpsc2021": 0.8}
"""How often beats of a database are drawn, beside what their number asks for; 0.3 for others."""
NOISE, FLIPPED, WARP, SHIFT = 0.2, 0.25, 0.08, 2
"""Most noise, in heights; share turned upside down; most change of pace; most samples of shift."""
FIRST = "0 up"
"""The first lead as it is: what is judged."""
OFFSETS = np.arange(-1.5, 0.76, 0.25)
USUAL_OFFSET, STIFFNESS = -0.25, 0.01
"""Offsets of S and V are drawn towards this: the F1 of few patients is a rugged landscape."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Beats:
    """All beats of all wearers."""

    windows: npt.NDArray[np.float16]
    context: Floats
    labels: Ints
    """(n,) positions in `training.wearers.LABELS`."""
    database: npt.NDArray[np.str_]
    person: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    """"0 up", "1 down", "0 noise": lead, and what was done to it."""
    missed: dict[str, list[int]]
    """Of each database: annotated beats of each label that were not found, first lead."""
    withheld: dict[str, list[int]]
    """The same of found beats that the gate withheld."""


def load_beats(folders: Sequence[Path], noise: Path) -> Beats:
    """Find and cut the beats of all sources."""
    parts: list[list[npt.NDArray[Any]]] = []
    keys: list[tuple[str, str, str]] = []
    counts: dict[str, dict[str, Ints]] = {"missed": {}, "withheld": {}}
    for kind, source, sign in _list_wearers(folders, read_noises(noise)):
        found = cut(source, sign)
        known = found["labels"] != UNKNOWN
        parts.append([found[name][known] for name in ("inputs", "context", "labels")])
        keys += [(source.database, f"{source.database}/{source.person}", kind)] * int(known.sum())
        for name, so_far in counts.items() if kind == FIRST else ():
            none = np.zeros(len(LABELS), np.int64)
            so_far[source.database] = so_far.get(source.database, none) + found[name].astype(np.int64)
    windows, context, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    database, person, kinds = np.array(keys).T
    lists = {name: {db: one.tolist() for db, one in so_far.items()} for name, so_far in counts.items()}
    return Beats(windows, context, labels.astype(np.int64), database, person, kinds, lists["missed"], lists["withheld"])


def _list_wearers(folders: Sequence[Path], noises: list[npt.NDArray[np.float64]]) -> Iterator[tuple[str, Source, int]]:
    """Kind, source and sign of each wearer."""
    for source in (one for folder in folders for one in read_sources(folder)):
        lead = source.name.rpartition("_")[2] if source.name.startswith(f"{source.person}_") else "0"
        yield f"{lead} up", source, 1
        yield f"{lead} down", source, -1
        if source.database in JUDGED:
            yield f"{lead} noise", add_noise(source, noises), 1


def split(beats: Beats) -> Ints:
    """Fold of each beat: people of a database are dealt out in order of how many ectopic beats they have."""
    people, number = np.unique(beats.person, return_inverse=True)
    first = beats.kind == FIRST
    ectopic = [np.sqrt(np.bincount(number, first & (beats.labels == label), people.size)) for label in (S, V)]
    fold = np.zeros(people.size, np.int64)
    deal = np.r_[np.arange(FOLDS), np.arange(FOLDS)[::-1]]
    for database in np.unique(beats.database):
        rows = np.flatnonzero(np.char.startswith(people, f"{database}/"))
        order = rows[np.argsort(-(ectopic[0] + ectopic[1] / 2)[rows], kind="stable")]
        fold[order] = deal[np.arange(order.size) % deal.size]
    return fold[number]


def chances(beats: Beats, rows: Ints) -> npt.NDArray[np.float64]:
    """How likely each row is drawn: by the square root of the size of its class, and of its person within it."""
    strata = np.char.add(beats.database[rows], beats.labels[rows].astype(np.str_))
    stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    whose, own = np.unique(np.char.add(strata, beats.person[rows]), return_inverse=True, return_counts=True)[1:]
    weight = 1 / np.sqrt(own[whose])
    chance = np.sqrt(sizes[stratum]) * weight / np.bincount(stratum, weight)[stratum]
    chance *= np.array([IMPORTANCE.get(name, 0.3) for name in beats.database[rows]])
    chance[beats.labels[rows] == X] /= 2
    result: npt.NDArray[np.float64] = chance / chance.sum()
    return result


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy; of beats that are known not to be S, of that alone."""
    logs = logits.log_softmax(1)
    target = torch.zeros_like(logits)
    for label, share in ((N, (1, 0, 0)), (X, (1, 0, 0)), (S, (0, 1, 0)), (V, (0, 0, 1)), (F, (0.5, 0, 0.5))):
        target[labels == label] = torch.tensor(share, dtype=target.dtype)
    not_s = -torch.logsumexp(logs[:, [0, 2]], dim=1) - 0.1 * logs[:, 0]  # most of them are N
    return torch.where(labels == NOT_S, not_s, -(target * logs).sum(1)).mean()


def augment(
    x: Tensor, context: Tensor, labels: Tensor, noises: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Beats as another electrode, detector or hour would have delivered them: (n, 2, 120), (n, 21) -> the same."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    at = (torch.arange(beat2.LENGTH) - beat2.BEFORE) * uniform(1 - WARP, 1 + WARP) + beat2.BEFORE
    shift = uniform(-SHIFT, SHIFT)
    x = torch.stack([_sample(x[:, 0], at + shift), _sample(x[:, 1], at + shift + uniform(-1, 1))], dim=1)
    smooth = 0.18 * torch.rand(n, 1, 1, generator=generator)
    wide = f.pad(x, (1, 1), mode="replicate")
    x = smooth * wide[:, :, :-2] + (1 - 2 * smooth) * x + smooth * wide[:, :, 2:]
    noise = NOISE * uniform(0, 1) ** 3 * noises[torch.randint(0, len(noises), (n,), generator=generator)]
    x = torch.stack([x[:, 0] * (0.1 * normal(1)).exp() + noise, x[:, 1] + 0.2 * noise.roll(1, 0)], dim=1)
    sign = torch.where(uniform(0, 1) < FLIPPED, -1.0, 1.0)[:, :, None]
    x = x * (0.1 * normal(1, 1)).exp() * sign
    spread = torch.zeros(context.shape[1])
    spread[:5], spread[10:15] = 0.02, torch.tensor([0.01, 0.02, 0.03, 0.1, 0.1])
    spread[16:] = torch.tensor([0.01, 0.03, 0.1, 0.01, 0.02])
    context = context + spread * normal(context.shape[1])
    # A heart that goes faster or slower than in the minutes before is no ectopic one.
    changing = (uniform(0, 1) < 0.5) & ((labels != S) & (labels != V))[:, None]
    ramp = torch.where(changing, uniform(math.log(0.75), math.log(1.18)).exp(), 1.0)
    pace = torch.where(changing, uniform(0.6, 1.2), uniform(0.9, 1.1))
    factor = torch.ones_like(context)
    factor[:, 3:5], factor[:, 5:6] = ramp, pace
    return x.clamp(-beat2.LIMIT, beat2.LIMIT), context * factor


def _sample(x: Tensor, at: Tensor) -> Tensor:
    at = at.clamp(0, beat2.LENGTH - 1.001)
    left = at.floor().long()
    part = at - left
    return (1 - part) * x.gather(1, left) + part * x.gather(1, left + 1)


def make_noises(folder: Path) -> Tensor:
    """(m, 120) stretches of recorded noise at 125 Hz, of unit deviation as a whole."""
    stretches = []
    for noise in read_noises(folder):
        slow = resample_poly(noise, 125, 360)
        some = np.lib.stride_tricks.sliding_window_view(slow, beat2.LENGTH)[::30]
        some = some - np.median(some, axis=1, keepdims=True)
        stretches.append(np.clip(some / some.std(), -4, 4))
    return torch.from_numpy(np.concatenate(stretches).astype(np.float32))


def train_network(beats: Beats, rows: Ints, noises: Tensor, seed: int = 0) -> ClassNetwork:
    """Train a network on some beats, and return the running mean of its weights, in evaluation mode."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    about = beats.context[rows]
    network = ClassNetwork(torch.from_numpy(about.mean(0)), torch.from_numpy(about.std(0) + 1e-3)).train()
    averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)  # type: ignore[no-untyped-call] # torch leaves it
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS + 1, pct_start=0.15)
    upto = np.cumsum(chances(beats, rows))
    for _ in range(STEPS):
        drawn = np.sort(rows[np.searchsorted(upto, rng.random(BATCH) * upto[-1])])  # in order of memory
        x = torch.from_numpy(beats.windows[drawn].astype(np.float32))  # (448, 2, 120)
        context, labels = torch.from_numpy(beats.context[drawn]), torch.from_numpy(beats.labels[drawn])
        first, second = network.both(*augment(x, context, labels, noises, generator))
        together = loss_of((first + second) / 2, labels)
        loss = together / 2 + (loss_of(first, labels) + loss_of(second, labels)) / 4
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        schedule.step()
        mean.update_parameters(network)
    print(f"trained on {rows.size} beats, last loss {float(together.detach()):.3f}", flush=True)
    kept = mean.module
    assert isinstance(kept, ClassNetwork)
    return kept.eval()


@torch.no_grad()
def logits_of(network: ClassNetwork, beats: Beats, rows: Ints) -> Floats:
    """(n, 3)."""
    parts = [
        network(torch.from_numpy(beats.windows[some].astype(np.float32)), torch.from_numpy(beats.context[some])).numpy()
        for some in np.array_split(rows, rows.size // 4096 + 1)
    ]
    return np.concatenate(parts)


def predict(logits: Floats, offsets: Sequence[float]) -> Ints:
    """Class of each beat: N, or where that is less likely than not, the likelier of S and V: (n, 3) -> (n,)."""
    moved = logits + np.array([0.0, *offsets])
    others = np.logaddexp(moved[:, 1], moved[:, 2])
    return np.where(others >= moved[:, 0], 1 + moved[:, 1:].argmax(1), 0)


def score(labels: Ints, predicted: Ints) -> dict[str, float]:
    """Sensitivity, PPV and F1 of each class, and their macro F1; F counts for neither side."""
    found = {}
    counted = labels != F
    for number, name in enumerate(CLASSES):
        true, said = counted & (labels == number), counted & (predicted == number)
        hits, of_class, of_predicted = (int(np.count_nonzero(some)) for some in (true & said, true, said))
        found[f"Se {name}"] = hits / max(1, of_class)
        found[f"PPV {name}"] = hits / max(1, of_predicted)
        found[f"F1 {name}"] = 2 * hits / max(1, of_class + of_predicted)
    return found | {"macro F1": float(np.mean([found[f"F1 {name}"] for name in CLASSES]))}


def choose_offsets(beats: Beats, logits: Floats, allowed: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Offsets of S and V with the best mean macro F1 of the judged databases on the allowed beats, first lead."""
    parts = [allowed & (beats.kind == FIRST) & (beats.database == name) for name in JUDGED]

    def worth(offsets: tuple[float, float]) -> float:
        scores = [score(beats.labels[part], predict(logits[part], offsets))["macro F1"] for part in parts]
        return float(np.mean(scores)) - STIFFNESS * sum((one - USUAL_OFFSET) ** 2 for one in offsets)

    return max(((float(s), float(v)) for s in OFFSETS for v in OFFSETS), key=worth)


def figures_of(beats: Beats, predicted: Ints) -> dict[str, dict[str, float]]:
    """Figures of each database and kind of wearer: scores where beats are annotated, else shares of N, S, V."""
    found: dict[str, dict[str, float]] = {}
    for name in np.unique(beats.database):
        for kind in np.unique(beats.kind[beats.database == name]):
            part = (beats.database == name) & (beats.kind == kind)
            if name in JUDGED:
                found[f"{name}, lead {kind}"] = score(beats.labels[part], predicted[part])
            for label in np.unique(beats.labels[part & ((name not in JUDGED) | (beats.labels >= F))]):
                some = predicted[part & (beats.labels == label)]
                shares = np.bincount(some, minlength=len(CLASSES)) / some.size
                found[f"{name}, lead {kind}, {LABELS[label]}"] = {
                    "beats": float(some.size),
                    **{f"called {one}": float(share) for one, share in zip(CLASSES, shares, strict=True)},
                }
    return found


def judge_by_record(beats: Beats, predicted: Ints) -> dict[str, list[list[int]]]:
    """Annotated N, S, V, F, X (rows) against predicted N, S, V of each record of the judged databases, first lead."""
    found = {}
    for person in np.unique(beats.person[np.isin(beats.database, JUDGED)]):
        part = (beats.person == person) & (beats.kind == FIRST)
        table = np.zeros((X + 1, len(CLASSES)), int)
        np.add.at(table, (beats.labels[part], predicted[part]), 1)
        found[str(person)] = table.tolist()
    return found


def run(folders: Sequence[Path], noise: Path, out: Path) -> None:
    """Train one network for each fold and one on all beats; write weights, those of the folds too, and figures."""
    beats, noises = load_beats(folders, noise), make_noises(noise)
    fold, rows = split(beats), np.arange(beats.labels.size)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{rows.size} beats of {np.unique(beats.person).size} people", flush=True)
    logits = np.zeros((rows.size, len(CLASSES)), np.float32)
    for k in range(FOLDS):
        network = train_network(beats, rows[fold != k], noises)
        logits[fold == k] = logits_of(network, beats, rows[fold == k])
        torch.save(network.state_dict(), out / f"fold{k}.pt")
    predicted, tried = np.zeros(rows.size, np.int64), []
    for k in range(FOLDS):
        tried.append(choose_offsets(beats, logits, fold != k))
        predicted[fold == k] = predict(logits[fold == k], tried[-1])
    offsets = choose_offsets(beats, logits, rows >= 0)
    network = train_network(beats, rows, noises)
    network.bias.data = torch.tensor([0.0, *offsets])
    torch.save(network.state_dict(), out / "weights.pt")
    about = {
        "folders": [folder.name for folder in folders],
        "beats": {str(name): int((beats.database == name).sum()) for name in np.unique(beats.database)},
        "people": {
            str(name): np.unique(beats.person[beats.database == name]).size for name in np.unique(beats.database)
        },
        "offsets": offsets,
        "offsets of folds": tried,
        "people of folds": [np.unique(beats.person[fold == k]).tolist() for k in range(FOLDS)],
        "figures": figures_of(beats, predicted),
        "records": judge_by_record(beats, predicted),
        "missed": beats.missed,
        "withheld": beats.withheld,
    }
    (out / "classes.json").write_text(json.dumps(about, indent=1))
    some = np.sort(np.random.default_rng(0).permutation(rows.size)[:20_000])
    np.savez(out / "proof.npz", windows=beats.windows[some].astype(np.float32), context=beats.context[some])
