"""What it costs to monitor devices with the usual Python libraries instead of this monitor.

Method. The program one would write with a library that detects R peaks in a whole recording, and a network in PyTorch:
once a second the last 10 s of each device go to the detector; the beats of the newest second whose windows are
complete are cut by the rules of `monitor.beat`, and each is classified by itself. So each beat is classified once, 1.5
to 2.5 s after its R peak. Nothing else is included: no broker, no decoding, no signal quality, no alerts.

Figures are seconds of CPU time per second of one device's signal, computed from medians over all windows and all beats,
so that a slow moment of the machine does not count; the first windows are warm-up. The libraries are interleaved,
device by device. The network's weights are random, which does not affect its cost.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from monitor import beat
from training.models import NETWORKS

WINDOW_S, STEP_S = 10.0, 1.0
"""How much signal each detection sees, and the interval between detections."""
HOLD_S = 1.5
"""A beat is classified when this much signal follows its R peak: the longest window, 187 samples, is complete then."""
WARM_UP = 5
"""Windows of the first device that each library processes before it is timed."""

Signal = npt.NDArray[np.float64]
"""(n,) or (devices, n) millivolts."""
Detect = Callable[[Signal, float], npt.NDArray[np.int64]]
"""Detects R peaks: (n,) millivolts, Hz -> (beats,) samples."""
Judge = Callable[[beat.Windows], float]
"""Classifies one beat: (187,) -> probability that it is abnormal."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Signals of several devices.

    Raises
    ------
    ValueError
        They are too short to be measured.
    """

    signals: Signal
    """(devices, n) millivolts."""
    rate_hz: float

    def __post_init__(self) -> None:
        shortest_s = WINDOW_S + WARM_UP * STEP_S
        if self.signals.ndim != 2 or not self.signals.size or self.signals.shape[1] < shortest_s * self.rate_hz:
            raise ValueError(
                f"Streams must be (devices, samples) and at least {shortest_s:g} s long: "
                f"got {self.signals.shape} at {self.rate_hz:g} Hz."
            )

    def windows(self, device: int) -> Iterator[Signal]:
        """Yield the signal windows of a device that the detector sees, one a second."""
        size, step = round(WINDOW_S * self.rate_hz), STEP_S * self.rate_hz
        for number in range(int((self.signals.shape[1] - size) / step) + 1):
            start = round(number * step)
            yield self.signals[device, start : start + size]


@dataclass(frozen=True, slots=True)
class BaselineCost:
    """Cost of monitoring one device, in seconds of CPU time per second of its signal."""

    version: str
    device_seconds: float
    """Duration of the signal that was measured, summed over devices."""
    beats: int
    """Beats that were classified."""
    detection_s: float
    model_s: float
    """Cutting windows and classifying them, one by one."""
    devices_per_core: float
    """Devices that one core can keep up with."""
    devices_per_core_detection: float
    """The same with detection only, without classification."""


@dataclass(slots=True)
class _Times:
    """Seconds of CPU time."""

    windows: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)

    def summarise(self, version: str) -> BaselineCost:
        device_seconds = len(self.windows) * STEP_S
        detection_s = float(np.median(self.windows)) / STEP_S
        model_s = float(np.median(self.beats)) * len(self.beats) / device_seconds if self.beats else 0.0
        return BaselineCost(
            version,
            device_seconds,
            len(self.beats),
            detection_s,
            model_s,
            1 / (detection_s + model_s),
            1 / detection_s,
        )


def read_streams(path: Path) -> Streams:
    """Read streams from a .npz file: ``samples`` (devices, n) int16, ``rate_hz``, ``resolution_uv``.

    Raises
    ------
    ValueError
        The file does not have this format.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            samples, rate_hz, resolution_uv = (file[name] for name in ("samples", "rate_hz", "resolution_uv"))
            signals, rate = samples * (float(resolution_uv) / 1000), float(rate_hz)
    except (OSError, KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is not a file of streams: {error}.") from None
    return Streams(signals, rate)


def _load_sleepecg() -> Detect:
    import sleepecg

    detect: Detect = sleepecg.detect_heartbeats
    return detect


def _load_neurokit2() -> Detect:
    import neurokit2

    def detect(signal: Signal, rate_hz: float) -> npt.NDArray[np.int64]:
        _, found = neurokit2.ecg_peaks(neurokit2.ecg_clean(signal, sampling_rate=rate_hz), sampling_rate=rate_hz)
        peaks: npt.NDArray[np.int64] = found["ECG_R_Peaks"]
        return peaks

    return detect


LIBRARIES: dict[str, Callable[[], Detect]] = {"sleepecg": _load_sleepecg, "neurokit2": _load_neurokit2}
"""Package name -> loader of that library's default detector."""


def find_baselines(
    libraries: Mapping[str, Callable[[], Detect]] = LIBRARIES,
) -> tuple[dict[str, Detect], dict[str, str]]:
    """Import the installed libraries; return their detectors, and for each missing one how to install it."""
    found: dict[str, Detect] = {}
    missing: dict[str, str] = {}
    for name, load in libraries.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # NeuroKit2 imports names that scipy has deprecated
                found[name] = load()
        except ModuleNotFoundError as error:
            missing[name] = f"{name} is not measured ({error}): pip install 'ecgwatch[versus]'"
    return found, missing


def make_judge(net: str, seed: int = 0) -> Judge:
    """Return a network with random weights that classifies one beat at a time, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = NETWORKS[net](2, False).eval()

    def judge(window: beat.Windows) -> float:
        with torch.inference_mode():
            return float(network(torch.from_numpy(window)[None], None).softmax(1)[0, 1])

    return judge


def measure(detectors: Mapping[str, Detect], judge: Judge, streams: Streams) -> dict[str, BaselineCost]:
    """Time detectors on all devices, interleaved."""
    times = {name: _Times() for name in detectors}
    with warnings.catch_warnings(action="ignore"):  # a library's warnings about a window are of no interest here
        for detect in detectors.values():
            _warm_up(detect, judge, streams)
        for device in range(len(streams.signals)):
            for name, detect in detectors.items():
                for signal in streams.windows(device):
                    _process(signal, streams.rate_hz, detect, judge, times[name])
    return {name: taken.summarise(_version(name)) for name, taken in times.items()}


def new_windows(signal: Signal, peaks: npt.NDArray[np.int64], rate_hz: float) -> Iterator[beat.Windows]:
    """Cut the beats that have become complete since the previous window: those of one second, `HOLD_S` before its end.

    Parameters
    ----------
    signal
        (n,) the last 10 s.
    peaks
        (beats,) R peaks in it, samples. A single one has no RR interval, hence no window.
    """
    if len(peaks) < 2:
        return
    newest = signal.size - HOLD_S * rate_hz
    length = beat.window_length(float(np.median(np.diff(peaks))) / rate_hz * beat.RATE_HZ)
    steps = np.arange(max(min(length, beat.LENGTH), 1)) * (rate_hz / beat.RATE_HZ)
    for peak in peaks[(peaks >= newest - STEP_S * rate_hz) & (peaks < newest)]:
        yield beat.fit_window(np.interp(peak + steps, np.arange(signal.size), signal))


def _process(signal: Signal, rate_hz: float, detect: Detect, judge: Judge, times: _Times) -> None:
    """Do the work of one second for one device, and record how long it took."""
    began = time.process_time()
    peaks = detect(signal, rate_hz)
    found = time.process_time()
    classified = sum(0 <= judge(window) <= 1 for window in new_windows(signal, np.asarray(peaks), rate_hz))
    times.windows.append(found - began)
    times.beats += [(time.process_time() - found) / classified] * classified if classified else []


def _warm_up(detect: Detect, judge: Judge, streams: Streams) -> None:
    for number, signal in enumerate(streams.windows(0)):
        if number < WARM_UP:
            _process(signal, streams.rate_hz, detect, judge, _Times())
    judge(np.zeros(beat.LENGTH, np.float32))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
