"""What a device costs here, beside what one would otherwise write, on the same streams in one run.

Method. A hundred simulated devices, a minute each, lie in memory as packets of one second. One core: the engine takes
the packets of a second from all devices, then returns its verdicts; its processor time for each such second is noted,
the first seconds left out, and the median taken. Once with the model, and once with one that costs nothing. Between
these rounds the usual libraries take their turn, in a process of their own, on some of the same devices (see
`training.baselines`): sleepecg or NeuroKit2 on a sliding window, and the usual CNN in PyTorch, one beat at a time.
Figures are medians over the rounds, ratios those of the same round; no broker and no decoding on either side.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from monitor import beat, beat2, wire
from monitor.class_model import ClassModel
from monitor.classify import Classifier
from monitor.engine import Engine, warm_up
from monitor.panel import Panel
from monitor.tools.bench import harness
from monitor.tools.bench.report import Cost, Ratio, Versus

DEVICES, SECONDS = 100, 60
BASELINE_DEVICES = 10
"""The baselines get some of the devices only: they take so long."""
MODEL_BATCH, MODEL_ROUNDS = 64, 200
LEAD = "II"
"""Of the devices: the shape model has a say on it."""
WARM_UP = 10
"""Seconds of signal before anything is measured: rhythms must become known."""
MAKE_S = 300.0
"""How long it may take to make the streams."""
NAMES = {"sleepecg": "sleepecg", "neurokit2": "NeuroKit2"}
ENGINE, WITHOUT = "engine", "engine without the model"
CNN, ALONE = "and PyTorch", "detection alone"
"""What is measured of each baseline: detection and the usual CNN, or only the first."""

Round = dict[str, float]
"""What each takes, in microseconds of processor time per second of a device's signal."""


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

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"There must be a round to measure: got {self.rounds}.")
        if not wire.MIN_RATE_HZ <= self.rate_hz <= wire.MAX_RATE_HZ:
            raise ValueError(
                f"The rate must be {wire.MIN_RATE_HZ:g} to {wire.MAX_RATE_HZ:g} Hz: got {self.rate_hz:g} Hz."
            )


class FreeModel:
    """A stand-in for a model that costs nothing: every beat is normal."""

    sha256 = "0" * 64
    needs_rr = False

    def __init__(self, like: Classifier | ClassModel) -> None:
        self.info = like.info

    def probabilities(self, windows: npt.NDArray[np.float32], _about: object) -> npt.NDArray[np.float32]:
        """Certainty, for each window."""
        return np.tile(np.eye(1, len(self.info.classes), dtype=np.float32), (len(windows), 1))

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As `Classifier.abnormal`."""
        return probabilities[:, 1]

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """As `Classifier.columns`."""
        return np.zeros(len(probabilities), np.int64)


def free_panel(panel: Panel) -> Panel:
    """Return the same models, but that they cost nothing: what they see is still made."""
    shape = None if panel.shape is None else cast(Classifier, FreeModel(panel.shape))
    return Panel(cast(Classifier, FreeModel(panel.main)), shape)


@dataclass(slots=True)
class _Baselines:
    """The libraries that are installed."""

    streams: Path
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def time(self) -> Round:
        """What each takes; empty if none is installed."""
        command = [sys.executable, "-m", "training", "baselines", str(self.streams), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("training: ")
            self.missing = reason.rstrip(".").split("; ")
            return {}
        answer: dict[str, Any] = json.loads(done.stdout)
        self.missing = list(answer["missing"].values())
        self.versions = {NAMES[name]: cost["version"] for name, cost in answer["rivals"].items()}
        return {
            f"{NAMES[name]} {what}": 1e6 * seconds
            for name, cost in answer["rivals"].items()
            for what, seconds in ((CNN, cost["detection_s"] + cost["model_s"]), (ALONE, cost["detection_s"]))
        }


def measure_versus(settings: VersusSettings, panel: Panel) -> Versus:
    """Measure the engine and whatever libraries are installed, in turns.

    Raises
    ------
    ConnectionError
        The streams cannot be made.
    """
    free = free_panel(panel)
    warm_up()
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        streams, fewer = Path(folder) / "streams.npz", Path(folder) / "fewer.npz"
        _make_streams(streams, settings.rate_hz)
        samples, baselines = _share(streams, fewer), _Baselines(fewer)
        for number in range(settings.rounds):
            ours = {
                WITHOUT: time_engine(free, samples, settings.rate_hz),
                ENGINE: time_engine(panel, samples, settings.rate_hz),
            }
            rounds.append(ours | (baselines.time() if number == 0 or baselines.versions else {}))
            harness.report_progress(f"versus: round {number + 1} of {settings.rounds} done")
    return Versus(
        devices=DEVICES,
        seconds=SECONDS,
        rival_devices=min(BASELINE_DEVICES, DEVICES),
        rate_hz=settings.rate_hz,
        rounds=settings.rounds,
        costs=summarise(rounds),
        versions=baselines.versions,
        missing=baselines.missing,
        models_us=time_models(panel),
    )


def time_models(panel: Panel) -> dict[str, float]:
    """Median time of each model for a beat, by its name, in microseconds: batches of `MODEL_BATCH`."""
    rng, rr = np.random.default_rng(0), np.ones((MODEL_BATCH, len(beat.RR_CONTEXT)), np.float32)
    windows = rng.random((MODEL_BATCH, beat.LENGTH), np.float32)
    two, context = rng.random((MODEL_BATCH, 2, beat2.LENGTH), np.float32), np.ones((MODEL_BATCH, len(beat2.CONTEXT)))
    calls = {}
    if panel.class_model is not None:
        calls[panel.info.name] = partial(panel.class_model.probabilities, two, context.astype(np.float32))
    else:
        calls[panel.info.name] = partial(cast(Classifier, panel.main).probabilities, windows, rr)
    if panel.shape is not None:
        calls[panel.shape.info.name] = partial(panel.shape.probabilities, windows)
    taken_s: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(MODEL_ROUNDS):
        for name, call in calls.items():
            start_s = time.perf_counter()
            call()
            taken_s[name].append(time.perf_counter() - start_s)
    return {name: 1e6 * statistics.median(times) / MODEL_BATCH for name, times in taken_s.items()}


def time_engine(models: Classifier | Panel, samples: npt.NDArray[np.int16], rate_hz: float) -> float:
    """Median processor time of an engine, in microseconds per second of one device's signal.

    Parameters
    ----------
    models
        The model, or the models, that judge; all of them have a say.
    samples
        (devices, n) steps.
    rate_hz
        Their rate.
    """
    size = round(rate_hz)
    engine = Engine(models)
    ids = [f"device-{number}" for number in range(len(samples))]
    for device in ids:
        engine.describe(device, wire.Info(rate_hz=rate_hz, lead=LEAD, resolution_uv=1.0), 0.0)
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


def summarise(rounds: Sequence[Mapping[str, float]]) -> list[Cost]:
    """Medians over the rounds of what was measured in all of them."""
    return [_cost(name, rounds) for name in rounds[0] if all(name in one for one in rounds)]


def _cost(name: str, rounds: Sequence[Mapping[str, float]]) -> Cost:
    ahead, values, rival = None, [one[name] for one in rounds], name not in (ENGINE, WITHOUT)
    if rival:
        ours = WITHOUT if name.endswith(ALONE) else ENGINE  # like with like
        ratios = [one[name] / one[ours] for one in rounds]
        ahead = Ratio(median=statistics.median(ratios), lowest=min(ratios), highest=max(ratios))
    return Cost(
        name=name,
        us_per_device_second=statistics.median(values),
        lowest=min(values),
        highest=max(values),
        rival=rival,
        ahead=ahead,
    )


def format_versus(versus: Versus) -> str:
    """One line for each, and what is missing."""
    lines = [
        f"{'one core':<26}{'devices':>10}{'samples/s':>12}{'us/device-s':>13}  {'range':<18}{'engine carries':<18}"
    ]
    for cost in versus.costs:
        spread = f"{cost.lowest:.4g} to {cost.highest:.4g}"
        row = f"{cost.name:<26}{cost.devices_per_core:>10,.0f}{cost.devices_per_core * versus.rate_hz:>12.3g}"
        lines.append(f"{row}{cost.us_per_device_second:>13.4g}  {spread:<18}{format_ratio(cost.ahead)}".rstrip())
    if versus.models_us:
        each = ", ".join(f"{name} {us:.1f}" for name, us in versus.models_us.items())
        lines += ["", f"models: {sum(versus.models_us.values()):.1f} us a beat in batches of {MODEL_BATCH}: {each}"]
    lines += ["", *versus.missing] if versus.missing else []
    return "\n".join(lines)


def format_ratio(ratio: Ratio | None) -> str:
    """The median, and how far the rounds were apart."""
    return "" if ratio is None else f"{ratio.median:.1f} x ({ratio.lowest:.1f} to {ratio.highest:.1f})"


def explain(versus: Versus) -> list[str]:
    """How it was measured, in a few sentences."""
    sentences = [
        f"Processor time of {versus.devices} devices of {versus.seconds:g} s at {versus.rate_hz:g} Hz, in packets of "
        f"1 s in memory; medians of {versus.rounds} rounds.",
        "Devices: in real time on one core that does nothing else, which is also device-seconds per second.",
    ]
    if versus.versions:
        names = " and ".join(f"{name} {number}" for name, number in versus.versions.items())
        sentences.append(
            f"Baselines ({names}) took turns with the engine, on {versus.rival_devices} of the devices: each second "
            "they look at the last 10 s, and a CNN in PyTorch judges each new beat by itself."
        )
        sentences.append(
            "Ratios compare like with like, round by round: a baseline with PyTorch against the engine, detection "
            "alone against the engine without the model."
        )
    return sentences


def _make_streams(path: Path, rate_hz: float) -> None:
    options = ["--devices", str(DEVICES), "--seconds", str(SECONDS), "--rate", str(rate_hz), "--write", str(path)]
    with harness.running("The simulator", "simulator", "load", *options) as simulator:
        simulator.wait(MAKE_S)


def _share(streams: Path, fewer: Path) -> npt.NDArray[np.int16]:
    """Read the streams, and write those that the baselines get."""
    with np.load(streams) as file:
        stored = dict(file)
    samples: npt.NDArray[np.int16] = stored.pop("samples")
    np.savez(fewer, samples=samples[:BASELINE_DEVICES], **stored)
    return samples
