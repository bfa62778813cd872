"""What a model says of itself: the description inside its file, and the card beside it.

Every figure is taken from the runs; only the prose stands here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from export.onnx import OPSET
from monitor import beat
from monitor.classify import ModelInfo
from training.data import CLASSES
from training.metrics import Figures
from training.run import Run

DATA_SETS = {
    "ptbdb": (
        "PTB Diagnostic ECG Database, lead II, healthy controls against patients",
        "ODC-By 1.0",
        "Bousseljot R, Kreiseler D, Schnabel A. Nutzung der EKG-Signaldatenbank CARDIODAT der PTB über das Internet. "
        "Biomedizinische Technik 40, S317 (1995). https://doi.org/10.13026/C28C71",
    ),
    "ptbxl": (
        "PTB-XL, lead II, NORM against any of MI, STTC, CD, HYP",
        "CC BY 4.0",
        "Wagner P, Strodthoff N, Bousseljot R-D, et al. PTB-XL, a large publicly available electrocardiography "
        "dataset. Scientific Data 7, 154 (2020). https://doi.org/10.1038/s41597-020-0495-6",
    ),
}
"""Name of a data set -> what it is, its licence, how to cite it."""
COLUMNS = {
    "auc": "ROC-AUC",
    "auc_late": "ROC-AUC, R peaks a sample late",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "f1": "F1",
}
SPLITS = {"patient": "patients apart", "beat": "beats at random"}

TEMPLATE = """\
# Model card: `{name}`

Judges one heartbeat as normal or abnormal. Written by `python -m export onnx`; the figures come from the runs.

| | |
| --- | --- |
| file | `{file}`, {size} bytes, ONNX opset {opset} |
| SHA-256 | `{sha256}` |
| network | `{network}`, {parameters} parameters |
| input | `beats` (n, {length}) float32: `{contract}`, {rate_hz:g} Hz, each window scaled to 0..1, zero-padded |
| output | `probabilities` (n, {columns}) float32: {classes} |
| threshold | {threshold!r}: a beat counts as abnormal from this probability on |
| largest difference from PyTorch | {difference:.1e} |

## Intended use
Research, teaching, and showing how a live ECG monitor can be built. **It is not a medical device**, it has not been
tested in any clinic, and nobody's treatment may depend on it. An absence of alerts does not mean an absence of disease.

## Data
{data}
The labels belong to whole recordings: every beat of a patient with a diagnosis counts as abnormal, also one that looks
normal. No data are part of the project.

{notes}
## How it was trained
Binary cross-entropy, Adam 1e-3, batch 64, at most {epochs} epochs, ended after {patience} without a better validation
AUC; the weights kept are a running mean over the training steps, as it was after epoch {best_epoch}.
In the training part only, each data set has its rarer class repeated until both are equally frequent.{augmentation}
The threshold is the one of the highest balanced accuracy on the validation part. Networks, epochs and threshold were
chosen by the validation part; the test part was looked at more than once while the training code was written, so only
patients nobody has used yet can show the true figures.

## Figures
Two kinds of split, side by side. *Patients apart*: nobody in validation or test is in training; this is what a new
wearer can expect. *Beats at random*: the usual way in publications; the same people are on every side, so the figures
flatter. The bundled model is `{network}`, patients apart; the other rows are there for comparison.

{figures}

Commands:

```
{commands}
```

## Limits
- Few patients: the PTB Diagnostic parts hold a handful each, so their figures swing by tenths from split to split.
- One beat at a time, lead II, adults in hospital at rest. Wearables see other leads, movement and other people.
- A window starts at its own R peak, so it does not show how early the beat came: premature beats of normal shape are
  not what this model finds.
- "Abnormal" mixes infarction, ST/T changes, conduction disturbance and hypertrophy; the model does not tell them apart.
- No figures by sex, age or origin.
"""


AUGMENTATION = """
Its beats vary as devices, detectors and hearts would have them: R peak a sample early or late, mild low-pass, baseline
wander, noise, pace, another end. The rows "beats not varied" show what that brings: little on beats as they stand in
the files, most on those whose R peak is found a sample late, as happens live; that is why the varied one is bundled."""


def write_card(path: Path, model: Path, info: ModelInfo, difference: float, runs: Sequence[Run]) -> None:
    """Write the card of a model file.

    Parameters
    ----------
    path
        The card.
    model
        The model file that it describes.
    info
        The description inside that file.
    difference
        What `export.onnx.prove` returned.
    runs
        The run that was exported, then those to show beside it.
    """
    run = runs[0]
    content = model.read_bytes()
    text = TEMPLATE.format(
        name=info.name,
        file=model.name,
        size=len(content),
        opset=OPSET,
        sha256=hashlib.sha256(content).hexdigest(),
        network=info.network,
        parameters=run.parameters,
        length=beat.LENGTH,
        contract=info.contract,
        rate_hz=info.rate_hz,
        columns=len(info.classes),
        classes=", ".join(info.classes),
        threshold=info.threshold,
        difference=difference,
        data="\n".join(_data_line(name, kind, run.sha256[name]) for name, kind in run.split_kinds.items()),
        notes="".join(f"- {note}\n" for note in run.notes),
        epochs=run.settings.epochs,
        patience=run.settings.patience,
        best_epoch=run.best_epoch,
        augmentation=AUGMENTATION if run.settings.augment else "",
        figures="\n\n".join(_table(part, runs) for part in ("test", "val")),
        commands="\n".join(one.command for one in runs),
    )
    path.write_text(text)


def model_info(name: str, run: Run) -> ModelInfo:
    """The description of a run's network that is stored in its model file."""
    return ModelInfo(
        name=name,
        network=run.settings.net,
        contract=beat.CONTRACT,
        rate_hz=beat.RATE_HZ,
        length=beat.LENGTH,
        scaling="minmax",
        classes=CLASSES,
        threshold=run.threshold,
        trained_on={data: _describe(data, kind, run.sha256[data]) for data, kind in run.split_kinds.items()},
        figures={
            f"{part}, {data}, {SPLITS[run.settings.split]}: {heading}": round(row[column], 3)
            for part, of_part in run.figures.items()
            for data, row in of_part.items()
            for column, heading in COLUMNS.items()
        },
    )


def _describe(data: str, kind: str, sha256: str) -> str:
    what = DATA_SETS[data][0] if data in DATA_SETS else data
    return f"{what}; {SPLITS[kind]}; rows sha256:{sha256}"


def _data_line(name: str, kind: str, sha256: str) -> str:
    if name not in DATA_SETS:
        return f"- `{name}`: {SPLITS[kind]}; SHA-256 of its rows and parts `{sha256}`."
    what, licence, citation = DATA_SETS[name]
    return f"- `{name}`: {what}. Licence {licence}. {citation}. {SPLITS[kind].capitalize()}; SHA-256 `{sha256}`."


def _table(part: str, runs: Sequence[Run]) -> str:
    lines = [
        f"| {part} part of | network | split | beats | patients | {' | '.join(COLUMNS.values())} |",
        f"| --- | --- | --- |{' ---: |' * (2 + len(COLUMNS))}",
    ]
    for name in runs[0].figures[part]:
        lines += [_row(name, run, run.figures[part][name]) for run in runs if name in run.figures[part]]
    return "\n".join(lines)


def _row(name: str, run: Run, row: Figures) -> str:
    kind = SPLITS[run.settings.split]
    counts = f"{row['beats']:.0f} | {row['patients']:.0f}"
    net = run.settings.net if run.settings.augment else f"{run.settings.net}, beats not varied"
    return f"| {name} | {net} | {kind} | {counts} | {' | '.join(f'{row[c]:.3f}' for c in COLUMNS)} |"
