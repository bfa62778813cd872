"""Cost of a network in deployment: as an ONNX file, under ONNX Runtime, on one thread."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from monitor import beat
from monitor.classify import INPUT, OUTPUT, RR_INPUT
from training.models import BeatNetwork, count_parameters

OPSET = 17
BATCH = 64
ROUNDS = 60


def machine() -> str:
    """Return processor, cores, and the versions that a figure may depend on."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    processor = named[1].strip() if named else platform.processor() or platform.machine()
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "onnxruntime"))
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


@dataclass(frozen=True)
class Cost:
    """Size and inference time of a network."""

    parameters: int
    file_bytes: int
    us_per_beat: float
    """Median over the rounds, batches of 64, one thread."""


class WithProbabilities(nn.Module):
    """A network followed by a softmax."""

    def __init__(self, network: BeatNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor, rr: Tensor | None = None) -> Tensor:
        """(n, 187), (n, 3) if the network takes the RR context -> (n, classes)."""
        return torch.softmax(self.network(windows, rr), dim=1)


def write_onnx(network: BeatNetwork, path: Path) -> None:
    """Write a network as a bare ONNX file, without the description that the monitor requires; see `export.onnx`."""
    example = (torch.zeros(2, beat.LENGTH), torch.ones(2, len(beat.RR_CONTEXT)))
    inputs = [INPUT, RR_INPUT] if network.takes_rr else [INPUT]
    with warnings.catch_warnings():
        # PyTorch's older exporter folds batch normalisation into the convolutions and needs nothing but onnx. It warns
        # that it is deprecated, and that an LSTM may fix the batch size: `export.onnx` proves that it does not.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            WithProbabilities(network).eval(),
            example[: len(inputs)],
            path,
            input_names=inputs,
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "n"} for name in [*inputs, OUTPUT]},
            opset_version=OPSET,
            dynamo=False,
        )


def measure(networks: Mapping[str, BeatNetwork], files: Mapping[str, Path] | None = None) -> dict[str, Cost]:
    """Measure the cost of networks and of model files.

    Measurements are interleaved, round by round, so that a slow moment of the machine affects all. The parameters of
    a file are not counted: 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.onnx" for number, name in enumerate(networks)}
        for name, network in networks.items():
            write_onnx(network, paths[name])
        paths |= files or {}
        us = time_files(paths)
        return {
            name: Cost(count_parameters(networks[name]) if name in networks else 0, os.path.getsize(path), us[name])
            for name, path in paths.items()
        }


def time_files(paths: Mapping[str, Path]) -> dict[str, float]:
    """Microseconds per beat of ONNX files, batches of 64 on one thread: medians over interleaved rounds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for name, path in paths.items()
    }
    rng = np.random.default_rng(0)
    given = {
        name: {node.name: rng.random((BATCH, *node.shape[1:]), np.float32) for node in session.get_inputs()}
        for name, session in sessions.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            session.run(None, given[name])  # once untimed, to bring its weights back into the cache
            begin = time.perf_counter()
            session.run(None, given[name])
            taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(times)) / BATCH * 1e6 for name, times in taken.items()}
