"""The self-description of a model: the metadata inside its file, and the model card beside it.

Every figure comes from the run; only the prose is here.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.onnx import Proof
from monitor import beat
from monitor.classify import INPUT, OUTPUT, RR_INPUT, ModelInfo
from training.cost import OPSET
from training.metrics import Figures
from training.run import FIGURES, FURTHER, Run

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
    "mitdb": (
        "MIT-BIH Arrhythmia Database, first lead, every beat annotated",
        "ODC-By 1.0",
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Engineering in Medicine and Biology "
        "Magazine 20(3), 45-50 (2001). https://doi.org/10.13026/C2F305",
    ),
}
"""Name of a data set -> description, licence, citation."""
LEADS = {"ptbdb": "II", "ptbxl": "II"}
"""Of the data sets that have one lead."""
OF_A_CLASS = {"sensitivity": "sensitivity", "ppv": "PPV", "f1": "F1"}
SPLITS = {"patient": "inter-patient", "beat": "intra-patient"}


@dataclass(frozen=True)
class Prose:
    """The parts of a card that are written by hand, for one kind of model."""

    task: str
    labels: str
    limits: tuple[str, ...]


TWO_CLASSES = Prose(
    "Judges one heartbeat as normal or abnormal: does its shape look like those of people with a healthy heart, or of "
    "people with infarction, ST/T changes, conduction disturbance or hypertrophy?",
    "The labels belong to whole recordings: every beat of a patient with a diagnosis counts as abnormal, even one that "
    "looks normal. So no network can reach an AUC of 1, and a few abnormal beats among many mean little.",
    (
        "Lead II, adults in hospital at rest. Wearables see other leads, movement and other people.",
        "A window starts at its own R peak, so it does not show how early the beat came: this model does not find "
        "premature beats of normal shape. The model `mitbih` is for arrhythmia.",
        '"Abnormal" mixes infarction, ST/T changes, conduction disturbance and hypertrophy; the model does not '
        "distinguish them.",
        "PTB Diagnostic has few patients: its figures vary with each of them.",
    ),
)
FIVE_CLASSES = Prose(
    "Judges one heartbeat as one of the five classes of ANSI/AAMI EC57: N (normal, bundle branch block, escape), "
    "S (supraventricular ectopic), V (ventricular ectopic), F (fusion of both), Q (paced or unclassifiable). Anything "
    "but N is abnormal. It sees the window, and how early the beat came (the RR context).",
    "Each beat was labelled by cardiologists. The records are few, and rare classes come from fewer still: nearly all "
    "F are of record 208, most S of four records. Q has too few beats for a meaningful evaluation.",
    (
        "22 records of one hospital from the 1970s, first lead (mostly modified lead II), 30 minutes each. The "
        "figures vary widely between new patients; S and F are detected poorly.",
        "Atrial fibrillation makes RR intervals irregular: its beats are classified as S more often than others.",
        "The verdict waits for the next beat (at most two median RR intervals), unlike that of the model `ptb`.",
    ),
)

TEMPLATE = """\
# Model card: `{name}`

{task}

Written by `python -m export onnx`; every figure comes from the run.

| | |
| --- | --- |
| file | `{file}`, {size} bytes, ONNX opset {opset}, {precision} |
| SHA-256 | `{sha256}` |
| network | `{network}`, {parameters} parameters |
| input | {inputs} |
| output | `{output}` (n, {columns}) float32: {classes} |
{leads}| threshold | {threshold!r}: a beat counts as abnormal when it is not {normal} with at least this probability |
| proof | {proof} |

## Intended use
Research, teaching, and showing how a live ECG monitor can be built. **It is not a medical device**, it has not been
tested in any clinic, and nobody's treatment may depend on it. An absence of alerts does not mean an absence of disease.

It must not be used for: diagnosis or treatment; monitoring of people who depend on it; children; people with
pacemakers; decisions about a person's work, insurance or fitness.

## Data
{data}
{labels} No data are part of the project.

{notes}
## How it was trained
{training}{teaching}{augmentation}
The threshold was chosen on: {threshold_from}.{on_all_beats}

## What to expect of people it has not met
{expectation}

## Figures
Two kinds of split. *Inter-patient*: no patient in the evaluation was in training; this is what a new wearer can
expect. *Intra-patient*: usual in publications; the same people are on both sides, so the figures are optimistic.

{figures}

Command:

```
{command}
```

## Limits
{limits}
"""
OURS = """\
Cross-entropy, AdamW with a one-cycle schedule, {epochs} epochs, batches of 256; rare classes, small data sets and
patients with few beats are oversampled."""
CLASSIC = """\
The classic recipe: binary cross-entropy on one sigmoid, Adam, at most {epochs} epochs, batches of 64, the learning rate
halved on a plateau of the validation loss, early stopping; classes balanced in the training part."""
TEACHING = """
It learned from the labels and from the mean probability of {teachers}, trained on the same beats before it."""
ON_ALL_BEATS = """
The figures are those of networks trained in this way on the other folds. The bundled one was trained on all beats:
evaluated on these data again, its figures are optimistic. Networks and recipe were developed on these data as well, so
only people and records that nobody has used yet can show the true figures."""
AUGMENTATION = """
Training beats are augmented as devices, detectors and hearts would vary them: R peak early or late, low-pass filter,
baseline wander, electrode motion, noise, pace, another end."""


def write_card(path: Path, model: Path, info: ModelInfo, proof: Proof, run: Run, folder: Path) -> None:
    """Write the card of a model file.

    Parameters
    ----------
    path
        The card.
    model
        The model file that it describes.
    info
        The description inside that file.
    proof
        What `export.onnx.prove` returned.
    run, folder
        The exported run, and its folder; a `figures.md` there, which a comparison writes, is included unchanged, and a
        `further.md` with what was measured on further people.
    """
    content = model.read_bytes()
    prose = TWO_CLASSES if len(info.classes) == 2 else FIVE_CLASSES
    compared = folder / FIGURES
    window = f"{info.rate_hz:g} Hz, each window scaled to 0..1, zero-padded"
    inputs = f"`{INPUT}` (n, {beat.LENGTH}) float32: `{info.contract}`, {window}"
    if info.context:
        inputs += f"; `{RR_INPUT}` (n, {len(info.context)}) float32: {', '.join(info.context)}"
    text = TEMPLATE.format(
        name=info.name,
        task=prose.task,
        file=model.name,
        size=len(content),
        opset=OPSET,
        precision=info.precision,
        sha256=hashlib.sha256(content).hexdigest(),
        network=info.network,
        parameters=run.parameters,
        inputs=inputs,
        output=OUTPUT,
        columns=len(info.classes),
        classes=", ".join(info.classes),
        leads=f"| leads | {', '.join(info.leads)}: on others it has no say |\n" if info.leads else "",
        threshold=info.threshold,
        normal=info.classes[0],
        proof=proof,
        data="\n".join(_data_line(name, run.sha256[name]) for name in run.split_kinds),
        labels=prose.labels,
        notes="".join(f"- {note}\n" for note in run.notes),
        training=(CLASSIC if run.recipe.classic else OURS).format(epochs=run.recipe.epochs),
        teaching=TEACHING.format(teachers=", ".join(run.recipe.teachers)) if run.recipe.teachers else "",
        augmentation=AUGMENTATION if run.recipe.augment else "",
        threshold_from=run.threshold_from,
        on_all_beats=ON_ALL_BEATS if compared.is_file() else "",
        expectation=_expectation(run, folder / FURTHER),
        figures=_lower(compared.read_text()) if compared.is_file() else "\n\n".join(_tables(run)),
        command=run.command,
        limits="\n".join(f"- {limit}" for limit in prose.limits),
    )
    path.write_text(text)


def model_info(name: str, run: Run, precision: Literal["fp32", "int8"] = "fp32") -> ModelInfo:
    """Return the description of a run's network for its model file."""
    return ModelInfo(
        name=name,
        network=run.recipe.title,
        contract=beat.CONTRACT,
        rate_hz=beat.RATE_HZ,
        length=beat.LENGTH,
        scaling="minmax",
        classes=run.classes,
        threshold=run.threshold,
        trained_on={data: _describe(data, kind, run.sha256[data]) for data, kind in run.split_kinds.items()},
        figures={
            f"{part}, {data}: {heading}": round(row[column], 3)
            for part, of_part in run.figures.items()
            for data, row in of_part.items()
            for column, heading in _columns(run).items()
            if math.isfinite(row[column])
        },
        context=list(beat.RR_CONTEXT) if run.recipe.rr else [],
        precision=precision,
        leads=_leads(run),
    )


def _leads(run: Run) -> list[str]:
    """Leads that all of the data were recorded with; empty if that is not known of some, or there are many."""
    leads = {LEADS.get(data) for data in run.split_kinds}
    return [] if None in leads else sorted(lead for lead in leads if lead is not None)


def _columns(run: Run) -> dict[str, str]:
    """Return key of a figure -> its heading, the most informative first."""
    if len(run.classes) == 2:
        return {
            "roc_auc": "ROC-AUC",
            "record_auc": "ROC-AUC of records",
            "balanced_accuracy": "balanced accuracy",
            "sensitivity": "sensitivity",
            "specificity": "specificity",
            "ppv": "PPV",
            "f1": "F1",
            "accuracy": "accuracy",
        }
    of_each = {f"{key} {name}": f"{word} {name}" for name in "VSFN" for key, word in OF_A_CLASS.items()}
    return {"macro_f1": "macro F1", **of_each, "roc_auc": "ROC-AUC, abnormal"}


def _expectation(run: Run, further: Path) -> str:
    """Inter-patient figures, and those that were measured on further people, if there are any."""
    columns = {**_columns(run), "calibration_error": "calibration error"}
    shown = [
        key for key in ("roc_auc", "macro_f1", "calibration_error", "sensitivity", "specificity") if key in columns
    ]
    of_patients = {
        name: row
        for part, of_part in run.figures.items()
        if part.startswith(SPLITS["patient"]) or (part == "test" and run.split == "patient")
        for name, row in of_part.items()
    }
    lines = [
        f"| data | patients | {' | '.join(columns[key] for key in shown)} |",
        f"| --- |{' ---: |' * (1 + len(shown))}",
        *(
            f"| {name} | {row['patients']:.0f} | {' | '.join(f'{row[key]:.3f}' for key in shown)} |"
            for name, row in of_patients.items()
        ),
    ]
    told = "\n".join(lines) if of_patients else "Not known: the split was by beat, so these people are on both sides."
    return f"{told}\n\n{further.read_text().strip()}" if further.is_file() else told


def _describe(data: str, kind: str, sha256: str) -> str:
    what = DATA_SETS[data][0] if data in DATA_SETS else data
    return f"{what}; {SPLITS[kind]}; rows sha256:{sha256}"


def _data_line(name: str, sha256: str) -> str:
    if name not in DATA_SETS:
        return f"- `{name}`. SHA-256 of its rows and parts `{sha256}`."
    what, licence, citation = DATA_SETS[name]
    return f"- `{name}`: {what}. Licence {licence}. {citation}. SHA-256 of its rows and parts `{sha256}`."


def _lower(markdown: str) -> str:
    """Move the headings of Markdown two levels down, below those of the card."""
    return re.sub(r"^#", "###", markdown.strip(), flags=re.MULTILINE)


def _tables(run: Run) -> list[str]:
    return [_table(part, of_part, run) for part, of_part in run.figures.items()]


def _table(part: str, of_part: dict[str, Figures], run: Run) -> str:
    columns = _columns(run)
    lines = [
        f"| {part}, {SPLITS[run.split]} | beats | patients | {' | '.join(columns.values())} |",
        f"| --- |{' ---: |' * (2 + len(columns))}",
    ]
    for name, row in of_part.items():
        counts = f"{row['beats']:.0f} | {row['patients']:.0f}"
        lines.append(f"| {name} | {counts} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |")
    return "\n".join(lines)
