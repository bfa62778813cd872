"""Export a trained network as a self-describing ONNX file, and prove that its outputs match PyTorch's.

The file holds its whole description (`monitor.classify.ModelInfo`), takes batches of any size, and is moved to its
final path only after the monitor's own classifier has loaded it and given the same outputs as PyTorch.

In int8, weights and activations are 8-bit integers with static scales, calibrated on real beats. Dynamic scales for
each batch would be simpler and as fast, but then a verdict would depend on which other devices' beats happen to be in
the batch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from monitor import beat
from monitor.classify import INPUT, MAX_BATCH, METADATA_KEY, MODELS, RR_INPUT, Classifier, ModelInfo
from training import metrics
from training.cost import write_onnx
from training.data import Beats
from training.models import BeatNetwork, probabilities

MAX_BYTES = 1_000_000
TOLERANCE = 1e-5
"""Largest allowed difference between a probability of PyTorch and one of ONNX Runtime, in fp32."""
AUC_LOSS = 0.002
"""Largest allowed loss of ROC-AUC by int8, on real beats."""
PROOF_SEED = 0
CALIBRATION_BEATS = 2048
"""Number of real beats on which the scales of int8 are calibrated."""
REAL_BEATS = 20_000
"""Maximum number of real beats of a proof."""


@dataclass(frozen=True)
class Proof:
    """How closely the outputs of a model file match those of its network."""

    difference: float
    """Largest difference of a probability, over synthetic and real windows."""
    real_beats: int
    """How many of the windows were real."""
    auc_loss: float | None
    """ROC-AUC on the real beats, PyTorch's minus the file's; None without real beats of both kinds."""

    def __str__(self) -> str:
        loss = "" if self.auc_loss is None else f", ROC-AUC loss {self.auc_loss:+.5f}"
        counts = f"{MAX_BATCH} synthetic, {self.real_beats} real beats"
        return f"largest difference from PyTorch {self.difference:.1e} ({counts}{loss})"


def place_of(name: str, run: Path, out: Path | None = None, *, bundle: bool = False) -> Path:
    """Return the path for a model file: to `out` if given, into the run folder, or among the bundled models.

    Raises
    ------
    ValueError
        The name cannot be that of a bundled model, or a bundled model would be replaced without `bundle`.
    """
    if bundle:
        return MODELS / f"{check_name(name)}.onnx"
    place = out or run / f"{name}.onnx"
    if place.resolve().parent == MODELS.resolve() and place.exists():
        raise ValueError(f"{place} is a bundled model: --bundle {place.stem} replaces it.")
    return place


def check_name(name: str) -> str:
    """Return the name of a bundled model; ValueError if it could not be that of a file."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError(f"A bundled model's name must match [A-Za-z0-9_-]{{1,64}}: got {name!r}.")
    return name


def export_network(network: BeatNetwork, info: ModelInfo, out: Path, beats: Beats | None = None) -> Proof:
    """Write a network as an ONNX file that the monitor can load.

    Parameters
    ----------
    network
        See `training.models`; in evaluation mode.
    info
        The description stored in the file; its `precision` says how to write the weights.
    out
        Path of the file. An existing file is replaced only by one that has passed `prove`.
    beats
        Labelled real beats for the proof, and for int8 to calibrate the scales.

    Raises
    ------
    ValueError
        The file would be larger than 1 MB or its outputs differ, or int8 is requested without beats; no file is left
        behind.
    ModelMismatch
        `info` contradicts the monitor.
    """
    if info.precision == "int8" and beats is None:
        raise ValueError(f"{out}: got no beats, expected real ones to calibrate the scales of int8: --data DIR.")
    out.parent.mkdir(parents=True, exist_ok=True)
    unproven = out.with_name(f"{out.name}.unproven")
    try:
        write_onnx(network, unproven)
        if info.precision == "int8" and beats is not None:
            _quantise(unproven, beats, network.takes_rr)
        model = onnx.load(unproven)
        onnx.helper.set_model_props(model, {METADATA_KEY: msgspec.json.encode(info).decode()})
        onnx.save(model, unproven)
        if (size := unproven.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{out}: got {size} bytes, expected at most {MAX_BYTES}.")
        proof = prove(unproven, network, beats)
        os.replace(unproven, out)
    finally:
        unproven.unlink(missing_ok=True)
    return proof


def _quantise(path: Path, beats: Beats, takes_rr: bool) -> None:
    """Replace an fp32 file by its int8 form (ONNX Runtime's static quantisation, QDQ, a scale for each column)."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    rows = np.random.default_rng(PROOF_SEED).permutation(len(beats))[:CALIBRATION_BEATS]
    batches = [
        {INPUT: beats.windows[some]} | ({RR_INPUT: beats.rr[some]} if takes_rr else {})
        for some in np.array_split(rows, max(1, len(rows) // MAX_BATCH))
    ]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
        def get_next(self) -> Any:
            return batches.pop() if batches else None

    prepared = path.with_name(f"{path.name}.prepared")
    logging.disable(logging.WARNING)  # it recommends the pre-processing that was just done
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(str(prepared), str(path), Reader(), per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
        prepared.unlink(missing_ok=True)


def prove(path: Path, network: BeatNetwork, beats: Beats | None = None) -> Proof:
    """Compare a model file with its network, through the monitor's classifier, in batches of 1, 2 and the cap.

    Raises
    ------
    ModelMismatch
        The monitor refuses the file.
    ValueError
        A probability of an fp32 file differs by more than 1e-5, or int8 loses more than 0.002 of ROC-AUC on the real
        beats; or the file does not match the network or the beats.
    """
    classifier = Classifier(path)
    if (declared := classifier.needs_rr) != network.takes_rr or len(classifier.info.classes) != network.classes:
        raise ValueError(
            f"{path}: got a file of {len(classifier.info.classes)} classes {'with' if declared else 'without'} RR "
            f"context, expected {network.classes} {'with' if network.takes_rr else 'without'} it as in the run."
        )
    windows, rr = proof_windows(), _proof_contexts()
    expected = probabilities(network, windows, rr)
    difference = 0.0
    for batch in (1, 2, MAX_BATCH):
        got = [
            classifier.probabilities(windows[i : i + batch], rr[i : i + batch]) for i in range(0, len(windows), batch)
        ]
        difference = max(difference, float(np.abs(np.concatenate(got) - expected).max()))
    proof = Proof(difference, 0, None) if beats is None else _prove_on(beats, classifier, network, difference)
    precision = classifier.info.precision
    if precision == "fp32" and not proof.difference <= TOLERANCE:  # NaN is refused as well
        raise ValueError(
            f"{path}: probabilities differ from PyTorch's: got {proof.difference:.1e}, expected <= {TOLERANCE}."
        )
    if precision == "int8" and not (proof.auc_loss is not None and proof.auc_loss <= AUC_LOSS):
        got_loss = "no real beats of both kinds" if proof.auc_loss is None else f"{proof.auc_loss:.4f}"
        raise ValueError(f"{path}: ROC-AUC lost by int8: got {got_loss}, expected a loss <= {AUC_LOSS}.")
    return proof


def _prove_on(beats: Beats, classifier: Classifier, network: BeatNetwork, difference: float) -> Proof:
    """Compare on real beats as well, on a random sample if there are very many."""
    if list(beats.classes) != classifier.info.classes:
        raise ValueError(f"Classes: got beats of {list(beats.classes)}, expected {classifier.info.classes}.")
    rows = np.sort(np.random.default_rng(PROOF_SEED).permutation(len(beats))[:REAL_BEATS])
    windows, rr, true = beats.windows[rows], beats.rr[rows], beats.labels[rows] > 0
    expected = probabilities(network, windows, rr)
    got = classifier.probabilities(windows, rr)
    difference = max(difference, float(np.abs(got - expected).max()))
    if not true.any() or true.all():
        return Proof(difference, len(rows), None)
    loss = metrics.auc(true, metrics.abnormal(expected)) - metrics.auc(true, metrics.abnormal(got))
    return Proof(difference, len(rows), loss)


def describe(path: Path) -> str:
    """Return checksum, opset and size of a model file, in one line."""
    content = path.read_bytes()
    opset = onnx.load_model_from_string(content).opset_import[0].version
    return f"SHA-256 {hashlib.sha256(content).hexdigest()}, opset {opset}, {len(content)} bytes"


def proof_windows() -> beat.Windows:
    """Return windows to compare on: (256, 187) float32; all zero, all one, the shortest and the longest first.

    The others are synthetic beats: a QRS complex at the start, a T wave, the next P wave and QRS complex, noise; at
    heart rates of 40 to 180 a minute.
    """
    rng = np.random.default_rng(PROOF_SEED)
    edges = [
        np.zeros(beat.LENGTH, np.float32),
        np.ones(beat.LENGTH, np.float32),
        beat.fit_window([1.0, 0.0]),
        beat.fit_window(np.linspace(1, 0, beat.LENGTH)),
    ]
    return np.stack([*edges, *(_synthetic_beat(rng) for _ in range(MAX_BATCH - len(edges)))])


def _proof_contexts() -> beat.RrContext:
    """Return RR contexts to compare on: (256, 3), from far too early to the limit."""
    rng = np.random.default_rng(PROOF_SEED)
    median = rng.uniform(0.3, 2.0, MAX_BATCH)
    return beat.rr_context(median * rng.uniform(0.2, 2.5, MAX_BATCH), median * rng.uniform(0.2, 2.5, MAX_BATCH), median)


def _synthetic_beat(rng: np.random.Generator) -> beat.Windows:
    rr_s = 60 / rng.uniform(40, 180)
    time_s = np.arange(beat.window_length(rr_s * beat.RATE_HZ)) / beat.RATE_HZ
    centers_s = np.array([0, 0.3, 0.84, 1]) * rr_s  # R, T, P, next R
    widths_s = np.array([0.015, 0.05, 0.03, 0.015]) * rng.uniform(0.7, 2, 4)
    heights = np.array([1, 0.3, 0.15, 1]) * rng.uniform(-0.3, 1.3, 4)
    waves = heights * np.exp(-0.5 * ((time_s[:, None] - centers_s) / widths_s) ** 2)  # (samples, 4)
    return beat.fit_window(waves.sum(axis=1) + rng.normal(0, 0.02, len(time_s)))
