"""A trained network as a self-describing ONNX file, and the proof that it answers alike.

The file holds its whole description (`monitor.classify.ModelInfo`), takes any number of beats at once, and reaches its
place only after the monitor's own classifier has loaded it and answered as PyTorch does.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import Tensor, nn

from monitor import beat
from monitor.classify import INPUT, MAX_BATCH, METADATA_KEY, OUTPUT, Classifier, ModelInfo

OPSET = 17
MAX_BYTES = 1_000_000
TOLERANCE = 1e-5
"""Largest allowed difference between a probability of PyTorch and one of ONNX Runtime."""
PROOF_SEED = 0


class WithProbabilities(nn.Module):
    """A network whose one logit becomes two columns: probability of normal, of abnormal."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        """(n, 187) float32 -> (n, 2) float32."""
        p = torch.sigmoid(self.network(windows))  # (n, 1)
        return torch.cat([1 - p, p], dim=1)


def export_network(network: nn.Module, info: ModelInfo, out: Path) -> float:
    """Write a network as an ONNX file that the monitor can load.

    Parameters
    ----------
    network
        (n, 187) float32 -> (n, 1) logits, see `training.models`.
    info
        The description stored in the file.
    out
        Path of the file. What lies there is replaced only by a file that has passed `prove`.

    Returns
    -------
    float
        Largest difference of a probability from PyTorch's.

    Raises
    ------
    ValueError
        The file would be larger than 1 MB or answers differently; nothing is left behind.
    ModelMismatch
        `info` contradicts the monitor.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    unproven = out.with_name(f"{out.name}.unproven")
    try:
        _write_onnx(network, unproven)
        model = onnx.load(unproven)
        onnx.helper.set_model_props(model, {METADATA_KEY: msgspec.json.encode(info).decode()})
        onnx.save(model, unproven)
        if (size := unproven.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{out}: got {size} bytes, expected at most {MAX_BYTES}.")
        difference = prove(unproven, network)
        os.replace(unproven, out)
    finally:
        unproven.unlink(missing_ok=True)
    return difference


def _write_onnx(network: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        # PyTorch's older exporter folds batch normalisation into the convolutions and needs nothing but onnx; it calls
        # itself deprecated, and doubts that an LSTM keeps its batch free: `prove` shows that it does.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            WithProbabilities(network).eval(),
            (torch.zeros(2, beat.LENGTH),),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )


def prove(path: Path, network: nn.Module) -> float:
    """Compare a model file with its network, through the monitor's classifier, in batches of 1, 2 and the cap.

    Returns
    -------
    float
        Largest difference of a probability.

    Raises
    ------
    ModelMismatch
        The monitor refuses the file.
    ValueError
        The difference is larger than 1e-5.
    """
    classifier = Classifier(path)
    windows = proof_windows()
    with torch.no_grad():
        expected = WithProbabilities(network).eval()(torch.from_numpy(windows)).numpy()
    difference = 0.0
    for batch in (1, 2, MAX_BATCH):
        got = [classifier.probabilities(windows[i : i + batch]) for i in range(0, len(windows), batch)]
        difference = max(difference, float(np.abs(np.concatenate(got) - expected).max()))
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise ValueError(f"{path}: probabilities differ from PyTorch's: got {difference:.1e}, expected <= {TOLERANCE}.")
    return difference


def proof_windows() -> beat.Windows:
    """Windows to compare on: (256, 187) float32; all zero, all one, the shortest and the longest first.

    The others are drawn beats: a QRS complex at the start, a T wave, the next P wave and QRS complex, noise; at
    heart rates of 40 to 180 a minute.
    """
    rng = np.random.default_rng(PROOF_SEED)
    edges = [
        np.zeros(beat.LENGTH, np.float32),
        np.ones(beat.LENGTH, np.float32),
        beat.fit_window([1.0, 0.0]),
        beat.fit_window(np.linspace(1, 0, beat.LENGTH)),
    ]
    return np.stack([*edges, *(_drawn_beat(rng) for _ in range(MAX_BATCH - len(edges)))])


def _drawn_beat(rng: np.random.Generator) -> beat.Windows:
    rr_s = 60 / rng.uniform(40, 180)
    time_s = np.arange(beat.window_length(rr_s * beat.RATE_HZ)) / beat.RATE_HZ
    centers_s = np.array([0, 0.3, 0.84, 1]) * rr_s  # R, T, P, next R
    widths_s = np.array([0.015, 0.05, 0.03, 0.015]) * rng.uniform(0.7, 2, 4)
    heights = np.array([1, 0.3, 0.15, 1]) * rng.uniform(-0.3, 1.3, 4)
    waves = heights * np.exp(-0.5 * ((time_s[:, None] - centers_s) / widths_s) ** 2)  # (samples, 4)
    return beat.fit_window(waves.sum(axis=1) + rng.normal(0, 0.02, len(time_s)))
