"""Export the network of a `training.classes` run: a self-describing ONNX file, proven, timed, with its card.

``ecgwatch export classes RUN --name NAME --out DIR``; with ``--folds DIR`` also those of its folds.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from torch import Tensor, nn

from monitor import beat2
from monitor.class_model import INPUTS, OUTPUT, SCALING, ClassModel
from monitor.classify import METADATA_KEY, ModelInfo
from training.class_network import CLASSES, ClassNetwork
from training.cost import OPSET

TOLERANCE = 1e-5
"""Largest allowed difference between a probability of PyTorch and one of ONNX Runtime."""
THRESHOLD = 0.5
BATCH, ROUNDS = 64, 200
CITED = {
    "mitdb": "MIT-BIH Arrhythmia Database, half DS1 (Moody and Mark 2001)",
    "svdb": "MIT-BIH Supraventricular Arrhythmia Database, 52 records (Greenwald 1990)",
    "vfdb": "MIT-BIH Malignant Ventricular Ectopy Database, beats in annotated VT, VFL, VF (Greenwald 1986)",
    "cpsc2021": "CPSC 2021, beats in annotated atrial fibrillation: none of them is S (Wang et al. 2021)",
    "cinc2017": "PhysioNet/CinC Challenge 2017, hand-held, N: normal; A: none is S (Clifford et al. 2017)",
    "tele_ecg": "TELE, lead I with dry electrodes at home: normal (Khamis et al. 2016)",
    "ptbxl": "PTB-XL, continuous lead II of NORM: normal (Wagner et al. 2020)",
}
CARD = """\
# Model card: `{name}`

Tells the class of a heartbeat: N (normal, bundle branch block, escape), S (supraventricular ectopic) or V (ventricular
ectopic), from the beat beside the wearer's usual one and the RR intervals before it (window contract `beat/2`). Fusion
beats (F) cannot be told: nearly all known ones are of one person. They count as V or N, as ANSI/AAMI EC57 allows.

Written by `ecgwatch export classes`; every figure comes from the run.

| | |
| --- | --- |
| file | `{name}.onnx`, {size} bytes, ONNX opset {opset}, fp32, {parameters} parameters |
| SHA-256 | `{sha256}` |
| input | `beats` (n, 2, 120) float32: window from 0.36 s before to 0.6 s after the QRS fiducial at\
 125 Hz, and template, both in heights of the template's QRS complex; `context` (n, {width})\
 float32, see `monitor.beat2.CONTEXT` |
| output | `probabilities` (n, 3) float32: N, S, V |
| decision | N, unless P(N) <= {threshold}: then the likelier of S and V.\
 Offsets of S and V, {offsets}, chosen out of fold, are part of the file |
| proof | largest difference from PyTorch {difference:.1e} ({proven} real beats, batches of 1, 2, 64 and all) |
| cost | {us:.1f} us a beat (ONNX Runtime, one thread, batches of 64, median) |

## Intended use
Research, teaching, and showing how a live ECG monitor can be built. **It is not a medical device**, it has not been
tested in any clinic, and nobody's treatment may depend on it. An absence of alerts does not mean an absence of disease.
Not for children or people with pacemakers: it has seen neither.

## Data
{data}

Beats were found, gated and cut by the stages of the live monitor; each lead, upright and upside down, is a wearer of
its own, and where beats are annotated once more with recorded noise (NSTDB). No data are part of the project.

## Figures
Out of fold: five folds of people; each beat is judged by a network that has not met its person, with offsets chosen on
the other folds. Se and PPV of beats that the gate lets pass; a beat where nobody annotated one counts as false; F as
neither right nor wrong. The bundled network has seen all these people, so measured on them again it flatters.

| database, lead, signal | V Se / PPV | V F1 | S Se / PPV | S F1 | macro F1 of N, S, V |
| --- | ---: | ---: | ---: | ---: | ---: |
{table}

What beats of other kinds are called, of people whom the network has not met. "N": recordings that are normal as a
whole. "not S": atrial fibrillation. "V": in annotated ventricular tachycardia, flutter, fibrillation. "F": fusion
beats. "X": found where nobody annotated a beat.

| database, lead, signal, beats are | beats | called N | called S | called V |
| --- | ---: | ---: | ---: | ---: |
{shares}

Not judged, first lead, upright: annotated beats that were not found {missed}; found ones that the gate withheld
{withheld}.

## Limits
- S is the weakest class. Runs of supraventricular tachycardia that last for minutes become the wearer's usual rhythm
  and are called N (svdb 865: {s865}; 822: {s822} of S found; without these two records F1 on svdb is {s_without:.2f}).
  Aberrantly conducted ones are called V (201, 207, 861).
- The first beats of a wearer have no reliable template; a template learned in a ventricular rhythm makes that usual.
- An early beat in atrial fibrillation is still called S at times, see the tables.
- Most people stem from two databases of one city. What is normal elsewhere (hand-held, dry electrodes) was learned
  from labels of whole recordings.
- Few people carry most S and V beats: the figures of single people vary widely.
"""


class WithProbabilities(nn.Module):
    """A network followed by a softmax."""

    def __init__(self, network: ClassNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor, context: Tensor) -> Tensor:
        """(n, 2, 120), (n, 21) -> (n, 3)."""
        return torch.softmax(self.network(windows, context), dim=1)


def load_network(weights: Path) -> ClassNetwork:
    """Return the network of a file of weights, in evaluation mode."""
    width = len(beat2.CONTEXT)
    network = ClassNetwork(torch.zeros(width), torch.ones(width))
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def write_file(network: ClassNetwork, info: ModelInfo, path: Path) -> None:
    """Write a network with its description."""
    example = torch.zeros(2, 2, beat2.LENGTH), torch.zeros(2, len(beat2.CONTEXT))
    names = [*INPUTS, OUTPUT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see `training.cost.write_onnx`
        torch.onnx.export(
            WithProbabilities(network).eval(),
            example,
            path,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "n"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: msgspec.json.encode(info).decode()})
    onnx.save(model, path)


@torch.no_grad()
def prove(path: Path, network: ClassNetwork, windows: beat2.Windows, context: beat2.Context) -> float:
    """Return the largest difference of a probability, in batches of 1, 2, 64 and all.

    Raises
    ------
    ValueError
        It is more than 1e-5.
    """
    model = ClassModel(path)
    expected = WithProbabilities(network)(torch.from_numpy(windows), torch.from_numpy(context)).numpy()
    difference = 0.0
    for batch, count in ((1, 100), (2, 200), (BATCH, 6400), (len(windows), len(windows))):
        for begin in range(0, min(count, len(windows)), batch):
            part = slice(begin, begin + batch)
            given = model.probabilities(windows[part], context[part])
            difference = max(difference, float(np.abs(given - expected[part]).max()))
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise ValueError(f"{path}: probabilities differ from PyTorch's: got {difference:.1e}, expected <= {TOLERANCE}.")
    return difference


def time_file(path: Path, windows: beat2.Windows, context: beat2.Context) -> float:
    """Microseconds a beat, one thread, batches of 64: the median."""
    model, taken = ClassModel(path), []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        model.probabilities(windows[:BATCH], context[:BATCH])
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken)) / BATCH * 1e6


def describe(name: str, about: dict[str, Any]) -> ModelInfo:
    """The description that the file holds of itself."""
    figures = {
        f"{figure}, {of}, out of fold": round(value, 4)
        for of, values in about["figures"].items()
        for figure, value in values.items()
        if of in ("mitdb, lead 0 up", "svdb, lead 0 up")
    }
    return ModelInfo(
        name=name,
        network="class network",
        contract=beat2.CONTRACT,
        rate_hz=beat2.RATE_HZ,
        length=beat2.LENGTH,
        scaling=SCALING,
        classes=list(CLASSES),
        threshold=THRESHOLD,
        trained_on={db: f"{about['people'][db]} people, {about['beats'][db]} beats" for db in about["people"]},
        figures=figures | {f"offset {name}": one for name, one in zip("SV", about["offsets"], strict=True)},
        context=list(beat2.CONTEXT),
    )


def write_card(name: str, path: Path, about: dict[str, Any], parameters: int, difference: float, us: float) -> str:
    """Text of the card."""
    figures = about["figures"]
    table = [
        f"| {of} | {one['Se V']:.3f} / {one['PPV V']:.3f} | {one['F1 V']:.3f} | {one['Se S']:.3f} / {one['PPV S']:.3f} "
        f"| {one['F1 S']:.3f} | {one['macro F1']:.3f} |"
        for of, one in figures.items()
        if "Se V" in one
    ]
    shares = [
        f"| {of} | {one['beats']:.0f} | {one['called N']:.2%} | {one['called S']:.2%} | {one['called V']:.2%} |"
        for of, one in figures.items()
        if "called N" in one
    ]

    def found_s(record: str) -> str:
        row = about["records"].get(f"svdb/{record}", [[0] * 3] * 2)[1]
        return f"{row[1]} of {sum(row)}"

    counted = {
        of: ", ".join(f"{db} {sum(one[:4])}" for db, one in about[of].items() if db in ("mitdb", "svdb"))
        for of in ("missed", "withheld")
    }
    return CARD.format(
        name=name,
        size=path.stat().st_size,
        opset=OPSET,
        parameters=parameters,
        sha256=ClassModel(path).sha256,
        width=len(beat2.CONTEXT),
        threshold=THRESHOLD,
        offsets=" and ".join(f"{one:+.2f}" for one in about["offsets"]),
        difference=difference,
        proven=about["proven"],
        us=us,
        data="\n".join(
            f"- `{db}`: {CITED.get(db, db)}; {about['people'][db]} people, {n} beats."
            for db, n in about["beats"].items()
        ),
        table="\n".join(table),
        shares="\n".join(shares),
        missed=counted["missed"],
        withheld=counted["withheld"],
        s865=found_s("865"),
        s822=found_s("822"),
        s_without=_s_without(about["records"], ("svdb/865", "svdb/822")),
    )


def _s_without(records: dict[str, list[list[int]]], without: Sequence[str]) -> float:
    """F1 of S on svdb, some records left out."""
    tables = [table for name, table in records.items() if name.startswith("svdb/") and name not in without]
    of_class, of_predicted = (
        sum(some) for some in ([sum(t[1]) for t in tables], [sum(row[1] for row in t) - t[3][1] for t in tables])
    )
    return 2 * sum(table[1][1] for table in tables) / max(1, of_class + of_predicted)


def _read_about(run: Path) -> dict[str, Any]:
    """What a run says of itself."""
    try:
        about: dict[str, Any] = json.loads((run / "classes.json").read_text())
    except FileNotFoundError:
        raise ValueError(f"{run}: got no classes.json, expected the run folder of 'ecgwatch train classes'.") from None
    return about


def export(run: Path, name: str, out: Path) -> str:
    """Write ``<name>.onnx`` and ``<name>.md`` to a folder; return a line about them."""
    about = _read_about(run)
    network, path = load_network(run / "weights.pt"), out / f"{name}.onnx"
    with np.load(run / "proof.npz") as stored:
        windows, context = stored["windows"], stored["context"]
    about["proven"] = len(windows)
    out.mkdir(parents=True, exist_ok=True)
    unproven = path.with_suffix(".unproven")
    try:
        write_file(network, describe(name, about), unproven)
        difference, us = prove(unproven, network, windows, context), time_file(unproven, windows, context)
        os.replace(unproven, path)
    finally:
        unproven.unlink(missing_ok=True)
    parameters = sum(weights.numel() for weights in network.parameters())
    (out / f"{name}.md").write_text(write_card(name, path, about, parameters, difference, us))
    return f"{path}: {path.stat().st_size} bytes, {us:.1f} us a beat, largest difference from PyTorch {difference:.1e}"


def export_folds(run: Path, out: Path) -> str:
    """Write the networks of a run's folds, ``fold0.onnx`` and so on, and ``people.json``; return a line about them.

    Each has the offsets that were chosen on the other folds, so it knows nothing of the people who were held out of its
    fold: `people.json` lists these.

    Raises
    ------
    ValueError
        The run has none, or a file does not answer as its network does.
    """
    about = _read_about(run)
    if "people of folds" not in about:
        raise ValueError(
            f"{run}: got a run without fold networks, expected one of the present 'ecgwatch train classes'."
        )
    with np.load(run / "proof.npz") as stored:
        windows, context = stored["windows"], stored["context"]
    out.mkdir(parents=True, exist_ok=True)
    people = {}
    for k, held_out in enumerate(about["people of folds"]):
        network, offsets = load_network(run / f"fold{k}.pt"), about["offsets of folds"][k]
        network.bias.data = torch.tensor([0.0, *offsets])
        path = out / f"fold{k}.onnx"
        write_file(network, describe(path.stem, about | {"offsets": offsets}), path)
        prove(path, network, windows, context)
        people[f"{k}"] = held_out
    (out / "people.json").write_text(json.dumps(people, indent=1) + "\n")
    return f"{out}: {len(people)} fold networks, each with the people whom it has not met"
