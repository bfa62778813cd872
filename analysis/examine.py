"""A recording straight through the engine, as fast as it goes: the same beats and alerts as live.

Rules
-----
* The device's clock begins with the recording, whenever that was: the same signal gives the same beats, whatever format
  it came in.
* Samples go in as a device would send them, 16 bits of `recordings.recording.choose_resolution`.
* Times of what was found are seconds since the start of the recording.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.classify import Classifier
from monitor.engine import Engine, Output
from monitor.panel import Panel
from recordings.recording import Recording, choose_resolution

DEVICE = "recording"
PACKET_S = 10.0
"""Length of a packet: how a stream is cut makes no difference, and few are cheaper."""
FLUSH_S = 60.0
"""So much signal is judged in one go, and is one step of the progress."""

Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""


@dataclass(frozen=True, eq=False)
class Episode:
    """An alert from its begin to its end."""

    kind: str
    severity: str
    begin_s: float
    end_s: float | None
    """None where the recording ended first."""
    text: str
    alert: dict[str, Any]
    """The alert that began it, as it would have been published."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What the engine found in a recording."""

    model: str
    classes: tuple[str, ...]
    """Of the model, the normal one first."""
    beats: tuple[wire.Beat, ...]
    """By time of the QRS complex."""
    alerts: tuple[wire.Alert, ...]
    """In the order in which they would have been published."""
    computing_s: float
    """What the engine took for it."""

    @property
    def qrs_s(self) -> npt.NDArray[np.float64]:
        """(n,) main deflections of the QRS complexes, seconds since the start."""
        return np.array([beat.qrs_s for beat in self.beats])

    @property
    def labels(self) -> list[str]:
        """(n,) class of each beat, or "withheld"."""
        return [beat.label or "withheld" for beat in self.beats]

    def since(self, start_s: float) -> Findings:
        """Return the same with times that count from another moment."""
        beats = tuple(
            msgspec.structs.replace(one, qrs_s=one.qrs_s - start_s, r_peak_s=one.r_peak_s - start_s)
            for one in self.beats
        )
        alerts = tuple(
            msgspec.structs.replace(one, time_s=one.time_s - start_s, since_s=one.since_s - start_s)
            for one in self.alerts
        )
        return replace(self, beats=beats, alerts=alerts)

    def episodes(self) -> list[Episode]:
        """Alerts from begin to end, by begin."""
        begun = {alert.episode: alert for alert in self.alerts if alert.state == "new"}
        ends = {alert.episode: alert for alert in self.alerts if alert.state == "end"}
        found = []
        for episode, alert in begun.items():
            end = ends.get(episode)
            is_cut = end is None or end.reason == "gone"
            said = msgspec.to_builtins(alert)
            end_s = None if is_cut or end is None else end.time_s
            found.append(Episode(alert.kind, alert.severity, alert.since_s, end_s, str(said.get("text") or ""), said))
        return sorted(found, key=lambda one: one.begin_s)


def examine(
    recording: Recording,
    models: Classifier | Panel,
    alerts: AlertSettings | None = None,
    progress: Progress = lambda share: None,
) -> Findings:
    """Play a recording through an engine of its own.

    Parameters
    ----------
    recording
        Any.
    models
        What judges the beats.
    alerts
        Limits of the detectors.
    progress
        Called now and then.

    Raises
    ------
    ValueError
        The rate is not allowed on the wire.
    """
    resolution_uv, _ = choose_resolution(recording.samples_uv)
    about = wire.Info(rate_hz=recording.rate_hz, lead=recording.lead, resolution_uv=resolution_uv, first_seen_s=0.0)
    packets = cut_packets(recording, resolution_uv)
    return examine_packets(DEVICE, packets, about, models, alerts, progress=progress, seconds=recording.seconds)


def examine_packets(
    device: str,
    packets: Iterable[wire.Packet],
    about: wire.Info | None,
    models: Classifier | Panel,
    alerts: AlertSettings | None = None,
    *,
    progress: Progress = lambda share: None,
    seconds: float = math.inf,
) -> Findings:
    """Play packets through an engine, exactly as they are; times of what is found are those of the packets.

    Parameters
    ----------
    device
        Id.
    packets
        In the order in which they came.
    about
        What the device says of itself.
    models, alerts
        What judges the beats, and limits of the detectors.
    progress, seconds
        Called now and then; how long the packets last together.
    """
    engine = Engine(models, alerts)
    if about is not None:
        engine.describe(device, about, 0.0)
    began_s = time.perf_counter()
    beats: list[wire.Beat] = []
    found: list[wire.Alert] = []
    for output in _play(engine, device, packets, progress, seconds):
        beats += output.beats
        found += output.alerts
    info = models.info
    return Findings(
        info.name,
        tuple(info.classes),
        tuple(sorted(beats, key=lambda beat: beat.qrs_s)),
        tuple(found),
        time.perf_counter() - began_s,
    )


def check_rate(recording: Recording) -> None:
    """Refuse a rate that is not allowed on the wire."""
    if not wire.MIN_RATE_HZ <= recording.rate_hz <= wire.MAX_RATE_HZ:
        expected = f"expected {wire.MIN_RATE_HZ:g} to {wire.MAX_RATE_HZ:g}"
        raise ValueError(f"{recording.name}: got {recording.rate_hz:g} Hz, {expected}.")


def cut_packets(recording: Recording, resolution_uv: float) -> Iterator[wire.Packet]:
    """Packets of ten seconds, as a device would send them; the clock begins with the recording.

    Raises
    ------
    ValueError
        The rate is not allowed on the wire.
    """
    check_rate(recording)
    size = max(1, round(PACKET_S * recording.rate_hz))
    for seq, begin in enumerate(range(0, recording.samples_uv.size, size)):
        part = recording.samples_uv[begin : begin + size]
        counts = np.clip(np.rint(part / resolution_uv), -32767, 32767)
        samples = np.where(np.isnan(counts), wire.NO_SAMPLE, counts).astype(np.int16)
        yield wire.Packet(seq, begin / recording.rate_hz, recording.rate_hz, samples)


def _play(
    engine: Engine, device: str, packets: Iterable[wire.Packet], progress: Progress, seconds: float
) -> Iterator[Output]:
    """Feed packets, judge many beats in one go, and drop the device at the end, so that what still waits is judged."""
    played_s = due_s = 0.0
    for packet in packets:
        engine.feed(device, packet, played_s)
        played_s += packet.samples.size / packet.rate_hz
        if played_s >= due_s or engine.is_full:
            due_s = played_s + FLUSH_S
            yield engine.flush()
            progress(min(1.0, played_s / seconds))
    engine.forget(math.inf)
    yield engine.flush()
    progress(1.0)
