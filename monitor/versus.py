"""What a device costs here, beside what one would otherwise write, on the same streams in one run.

Method. A hundred simulated devices, a minute each, lie in memory as packets of one second. One core: the engine takes
the packets of a second from all devices, then tells its verdicts; its processor time for each such second is noted, the
first seconds left out, and the median taken. Once with the model, and once with one that costs nothing. Between these
rounds the usual libraries take their turn, in a process of their own, on some of the same devices (`training.rivals`
says how): sleepecg or NeuroKit2 on a sliding window, and the usual CNN in PyTorch, one beat at a time. Figures are
medians over the rounds; no broker and no decoding on either side.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from monitor import beat, wire
from monitor.bench import describe_machine
from monitor.classify import Classifier, Provider
from monitor.engine import Engine, warm_up

DEVICES, SECONDS = 100, 60
RIVAL_DEVICES = 10
"""The rivals get some of the devices only: they take so long."""
WARM_UP = 10
"""Seconds of signal before anything is measured: rhythms must become known."""
NAMES = {"sleepecg": "sleepecg", "neurokit2": "NeuroKit2"}


@dataclass(frozen=True, slots=True)
class VersusSettings:
    """What to compare with.

    Raises
    ------
    ValueError
        There is no round to measure, or the rate is not allowed on the wire.
    """

    rounds: int = 3
    rate_hz: float = 250.0
    model: str = "ptb"
    provider: Provider = "cpu"
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"There must be a round to measure: got {self.rounds}.")
        if not wire.MIN_RATE_HZ <= self.rate_hz <= wire.MAX_RATE_HZ:
            raise ValueError(
                f"The rate must be {wire.MIN_RATE_HZ:g} to {wire.MAX_RATE_HZ:g} Hz: got {self.rate_hz:g} Hz."
            )


@dataclass(frozen=True, slots=True)
class Cost:
    """What it costs to watch one device."""

    name: str
    microseconds: float
    """Processor time per second of a device's signal, median over the rounds."""
    lowest: float
    highest: float
    detection: float | None = None
    """The same of finding the beats alone, where that was measured."""

    @property
    def devices(self) -> float:
        """Devices that one core could watch in real time, if it did nothing else."""
        return 1e6 / self.microseconds


class FreeModel:
    """A stand-in for a model that costs nothing: every beat is normal."""

    sha256 = "0" * 64
    needs_rr = False

    def __init__(self, like: Classifier) -> None:
        self.info = like.info

    def probabilities(self, windows: beat.Windows, _rr: beat.RrContext | None) -> npt.NDArray[np.float32]:
        """Certainty, for each window."""
        return np.tile(np.eye(1, len(self.info.classes), dtype=np.float32), (len(windows), 1))

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As `Classifier.abnormal`."""
        return probabilities[:, 1]

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """As `Classifier.columns`."""
        return np.zeros(len(probabilities), np.int64)


def run_versus(settings: VersusSettings) -> int:
    """Measure, print, and return the exit status.

    Raises
    ------
    ValueError
        The streams cannot be made, or the model cannot be used.
    """
    classifier = Classifier(settings.model, settings.provider)
    free = cast(Classifier, FreeModel(classifier))
    warm_up()
    rounds: list[dict[str, tuple[float, float | None]]] = []
    with tempfile.TemporaryDirectory() as folder:
        streams, fewer = Path(folder) / "streams.npz", Path(folder) / "fewer.npz"
        _make_streams(streams, settings.rate_hz)
        samples = _share(streams, fewer)
        for _ in range(settings.rounds):
            measured: dict[str, tuple[float, float | None]] = {
                "engine without the model": (time_engine(free, samples, settings.rate_hz), None),
                "engine": (time_engine(classifier, samples, settings.rate_hz), None),
            }
            rounds.append(measured | _time_rivals(fewer))
    costs = summarise(rounds)
    machine = describe_machine(classifier)
    if settings.as_json:
        told = {
            cost.name: {"us_per_device_second": cost.microseconds, "devices_per_core": cost.devices} for cost in costs
        }
        print(json.dumps({"machine": machine, "rate_hz": settings.rate_hz, "rounds": settings.rounds, "costs": told}))
    else:
        print("  ".join(f"{key} {value}" for key, value in machine.items()))
        print(f"{DEVICES} devices at {settings.rate_hz:g} Hz, packets of 1 s, medians of {settings.rounds} rounds\n")
        print(format_costs(costs, settings.rate_hz))
    return 0


def time_engine(classifier: Classifier, samples: npt.NDArray[np.int16], rate_hz: float) -> float:
    """Median processor time of an engine, in microseconds per second of one device's signal.

    Parameters
    ----------
    classifier
        The model.
    samples
        (devices, n) steps.
    rate_hz
        Their rate.
    """
    size = round(rate_hz)
    engine = Engine(classifier)
    ids = [f"device-{number}" for number in range(len(samples))]
    taken_s = []
    for seq in range(samples.shape[1] // size):
        part = samples[:, seq * size : (seq + 1) * size]
        packets = [wire.Packet(seq, seq * size / rate_hz, rate_hz, row) for row in part]
        start_s = time.process_time()
        for device, packet in zip(ids, packets, strict=True):
            engine.feed(device, packet, 0.0)
            if engine.is_full:
                engine.flush()
        engine.flush()
        taken_s.append(time.process_time() - start_s)
    return 1e6 * statistics.median(taken_s[WARM_UP:]) / (len(samples) * size / rate_hz)


def summarise(rounds: Sequence[dict[str, tuple[float, float | None]]]) -> list[Cost]:
    """Medians over the rounds of what was measured in all of them."""
    costs = []
    for name in rounds[0]:
        totals = [measured[name][0] for measured in rounds]
        detections = [found for measured in rounds if (found := measured[name][1]) is not None]
        detection = statistics.median(detections) if detections else None
        costs.append(Cost(name, statistics.median(totals), min(totals), max(totals), detection))
    return costs


def format_costs(costs: Sequence[Cost], rate_hz: float) -> str:
    """One line for each, and how many times as many devices the engine watches."""
    ours = next(cost for cost in costs if cost.name == "engine")
    lines = [f"{'one core':<28}{'us/device-s':>12}{'range':>18}{'devices':>10}{'samples/s':>12}{'engine carries':>18}"]
    for cost in costs:
        spread = f"{cost.lowest:.4g} to {cost.highest:.4g}"
        ratio = f"{cost.microseconds / ours.microseconds:.1f} x" if cost.name in NAMES.values() else ""
        row = f"{cost.name:<28}{cost.microseconds:>12.4g}{spread:>18}{cost.devices:>10.0f}"
        lines.append(f"{row}{cost.devices * rate_hz:>12.3g}{ratio:>18}")
        if cost.detection is not None:
            share = (
                f"{cost.detection:>12.4g}{'':>18}{1e6 / cost.detection:>10.0f}{1e6 / cost.detection * rate_hz:>12.3g}"
            )
            lines.append(f"{'  finding the beats alone':<28}{share}")
    return "\n".join(lines)


def _make_streams(path: Path, rate_hz: float) -> None:
    options = ["--devices", str(DEVICES), "--seconds", str(SECONDS), "--rate", str(rate_hz), "--write", str(path)]
    made = subprocess.run(
        [sys.executable, "-m", "simulator", "load", *options], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise ValueError(f"The streams could not be made: {made.stderr.strip()}")


def _share(streams: Path, fewer: Path) -> npt.NDArray[np.int16]:
    """Read the streams, and write those that the rivals get."""
    with np.load(streams) as file:
        stored = dict(file)
    samples: npt.NDArray[np.int16] = stored.pop("samples")
    np.savez(fewer, samples=samples[:RIVAL_DEVICES], **stored)
    return samples


def _time_rivals(streams: Path) -> dict[str, tuple[float, float | None]]:
    """What the libraries take that are installed: in all, and for finding the beats."""
    done = subprocess.run(
        [sys.executable, "-m", "training", "rivals", str(streams), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr:
        print(done.stderr.strip(), file=sys.stderr)
    if done.returncode:
        return {}
    rivals: dict[str, dict[str, Any]] = json.loads(done.stdout)["rivals"]
    return {
        NAMES[name]: (1e6 * (cost["detection_s"] + cost["model_s"]), 1e6 * cost["detection_s"])
        for name, cost in rivals.items()
    }
