"""All devices together: packets in, beats and alerts out.

`Engine.feed` takes one packet to its device's stream; what it finds waits in one batch for all devices. `Engine.flush`
judges the beats of that batch in one call of the model, and applies each device's alert rules to all, in order.

A model that declares the RR context gets it. Its beats wait for the next one; those of other models do not.

The engine does no I/O, has no threads and never reads a clock: times come from the packets, and the caller says when
it is time to forget a device. Devices do not know of each other.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from monitor import beat, wire
from monitor.alert import AlertSettings, Episode
from monitor.classify import MAX_BATCH, Classifier
from monitor.resample import DELAY_S
from monitor.segment import Heartbeat
from monitor.stream import Found, Stream

TECHNICAL_UPDATE_S = 60.0
TECHNICAL_REFRACTORY_S = 10.0
POOR_SIGNAL = (4, 6)
"""So many beats withheld of the last so many are told as poor signal."""
SEVERITY: dict[wire.Kind, wire.Severity] = {
    "abnormal-beats": "warning",
    "no-beats": "warning",
    "lead-off": "technical",
    "poor-signal": "technical",
    "gap": "technical",
}


class Output(NamedTuple):
    """What a flush has to tell, in order per device."""

    beats: list[wire.Beat]
    alerts: list[wire.Alert]


@dataclass(slots=True)
class _Device:
    """What is remembered of a device."""

    id: str
    stream: Stream
    episodes: dict[wire.Kind, Episode]
    arrived_s: float
    resolution_uv: float | None = None
    first_seen_s: float | None = None


class Engine:
    """Judges the beats of any number of devices.

    Parameters
    ----------
    classifier
        The model.
    alerts
        When abnormal beats become an alert.
    """

    def __init__(self, classifier: Classifier, alerts: AlertSettings | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Running totals, by name: what came, what was judged, what was dropped and why."""
        self._classifier = classifier
        self._settings = alerts or AlertSettings()
        self._devices: dict[str, _Device] = {}
        self._waiting: list[tuple[_Device, Found]] = []
        self._alerts: list[wire.Alert] = []

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its cap and ought to be flushed."""
        return len(self._waiting) >= MAX_BATCH

    @property
    def devices(self) -> int:
        """Devices remembered."""
        return len(self._devices)

    def describe(self, device: str, info: wire.Info, arrived_s: float) -> None:
        """Take what a device says of itself; see `feed`."""
        known = self._device(device, arrived_s)
        known.resolution_uv = info.resolution_uv
        if known.first_seen_s not in (None, info.first_seen_s):
            self._waiting += [(known, found) for found in known.stream.restart()]
        known.first_seen_s = info.first_seen_s

    def feed(self, device: str, packet: wire.Packet, arrived_s: float) -> None:
        """Take one packet.

        Parameters
        ----------
        device
            Device id.
        packet
            What it sent.
        arrived_s
            When it came, on any clock of the caller's that does not run back; see `forget`.
        """
        self.counts["packets"] += 1
        known = self._device(device, arrived_s)
        self._waiting += [(known, found) for found in known.stream.feed(packet)]

    def flush(self) -> Output:
        """Judge the beats that wait, in one call of the model, and hand out all there is to tell."""
        waiting, self._waiting = self._waiting, []
        judged = iter(self._judge([found.beat for _, found in waiting if found.beat and found.unfit is None]))
        beats = []
        for known, found in waiting:
            if found.what != "beat":
                self._observe(known, found.what, found, event=True)
            elif found.unfit:
                beats.append(self._withheld(known, found))
            else:
                beats.append(self._judged(known, found, *next(judged)))
        alerts, self._alerts = self._alerts, []
        self.counts["alerts"] += len(alerts)
        return Output(beats, alerts)

    def forget(self, before_s: float) -> None:
        """Forget devices from which nothing has come since `before_s`."""
        for known in [d for d in self._devices.values() if d.arrived_s < before_s]:
            self._waiting += [(known, found) for found in known.stream.finish()]
            del self._devices[known.id]

    def _device(self, device: str, arrived_s: float) -> _Device:
        known = self._devices.get(device)
        if known is None:
            known = _Device(device, Stream(self.counts, self._classifier.needs_rr), self._new_episodes(), arrived_s)
            self._devices[device] = known
        known.arrived_s = arrived_s
        return known

    def _new_episodes(self) -> dict[wire.Kind, Episode]:
        s = self._settings
        technical = (TECHNICAL_UPDATE_S, TECHNICAL_REFRACTORY_S)
        return {
            "abnormal-beats": Episode(s.n, s.m, s.update_s, s.refractory_s),
            "no-beats": Episode(1, 1, *technical),
            "lead-off": Episode(1, 1, *technical),
            "poor-signal": Episode(*POOR_SIGNAL, *technical),
            "gap": Episode(1, 1, *technical),
        }

    def _judge(self, beats: list[Heartbeat]) -> list[tuple[str, float]]:
        """Class, and probability of not being normal, of each beat."""
        if not beats:
            return []
        windows = np.stack([beat.fit_window(one.signal) for one in beats])
        rr = _rr_context(beats) if self._classifier.needs_rr else None
        probabilities = self._classifier.probabilities(windows, rr)
        labels = self._classifier.labels(probabilities)
        return list(zip(labels, self._classifier.abnormal(probabilities).tolist(), strict=True))

    def _judged(self, known: _Device, found: Found, label: str, probability: float) -> wire.Beat:
        info = self._classifier.info
        abnormal = label != info.classes[0]
        calm = probability < info.threshold * self._settings.exit_ratio
        self._observe(known, "abnormal-beats", found, event=abnormal, calm=calm, judged=(label, probability))
        # A beat that can be judged ends whatever was wrong with the signal before it.
        for kind in ("no-beats", "lead-off", "gap", "poor-signal"):
            if kind != "lead-off" or not found.outdated:
                self._observe(known, kind, found, calm=True)
        return self._beat(known, found, "abnormal" if abnormal else "normal", label, probability)

    def _withheld(self, known: _Device, found: Found) -> wire.Beat:
        self.counts[f"withheld: {found.unfit}"] += 1
        if found.unfit not in ("rhythm unknown", "window incomplete"):
            self._observe(known, "poor-signal", found, event=True)
        return self._beat(known, found, "withheld", None, None)

    def _beat(
        self,
        known: _Device,
        found: Found,
        verdict: Literal["normal", "abnormal", "withheld"],
        label: str | None,
        probability: float | None,
    ) -> wire.Beat:
        assert found.beat is not None
        self.counts[f"beats {verdict}"] += 1
        return wire.Beat(
            id=_id(known.id, found.time_s),
            device=known.id,
            r_peak_s=found.time_s,
            qrs_s=found.time_s + (found.beat.fiducial - found.beat.r_peak) / beat.RATE_HZ,
            delay_s=(found.beat.decided - found.beat.fiducial) / beat.RATE_HZ + DELAY_S,
            verdict=verdict,
            label=label,
            probability=probability,
            reason=found.unfit,
            rr_s=None if found.beat.rr is None else found.beat.rr / beat.RATE_HZ,
            heart_rate_bpm=_heart_rate(found.beat),
            seq=found.seq,
            completed_s=found.completed_s,
        )

    def _observe(
        self,
        known: _Device,
        kind: wire.Kind,
        found: Found,
        *,
        event: bool = False,
        calm: bool = False,
        judged: tuple[str, float] | None = None,
    ) -> None:
        """Let an episode see what was found, and what the model said of it, and tell what it makes of it."""
        episode = known.episodes[kind]
        state = episode.observe(found.time_s, event, calm)
        if state is None:
            return
        alert = wire.Alert(
            id=f"{_id(known.id, found.time_s)}-{kind}-{state}",
            episode=f"{_id(known.id, episode.since_s)}-{kind}",
            device=known.id,
            kind=kind,
            severity=SEVERITY[kind],
            state=state,
            time_s=found.time_s,
            since_s=episode.since_s,
            seq=found.seq,
            completed_s=found.completed_s,
        )
        if judged is not None and found.beat is not None:
            label, probability = judged
            alert = msgspec.structs.replace(
                alert,
                beats=episode.count,
                label=label,
                probability=probability,
                threshold=self._classifier.info.threshold,
                model=self._classifier.info.name,
                model_sha256=self._classifier.sha256,
                heart_rate_bpm=_heart_rate(found.beat),
                waveform=_waveform(found.beat, found.time_s, known.resolution_uv),
            )
        self._alerts.append(alert)


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here: once, for some seconds."""
    peaks = 1000 * np.sin(np.arange(2000) * np.pi / 200) ** 50  # 8 s with a peak every 0.8 s
    Stream(Counter()).feed(wire.Packet(0, 0.0, 250.0, peaks.astype(np.int16)))


def _id(device: str, time_s: float) -> str:
    """The same for the same beat: the device and the time of the R peak in milliseconds."""
    return f"{device}-{round(time_s * 1000)}"


def _rr_context(beats: list[Heartbeat]) -> beat.RrContext:
    """(n, 3) RR context of beats whose rhythm is known."""
    before = [one.rr or math.nan for one in beats]
    after = [math.inf if one.pause_after else one.next_rr or math.nan for one in beats]
    medians = [one.median_rr or math.nan for one in beats]
    return beat.rr_context(*(np.array(samples) / beat.RATE_HZ for samples in (before, after, medians)))


def _heart_rate(heartbeat: Heartbeat) -> float | None:
    if heartbeat.median_rr is None:
        return None
    return round(60 * beat.RATE_HZ / heartbeat.median_rr, 1)


def _waveform(heartbeat: Heartbeat, start_s: float, resolution_uv: float | None) -> wire.Waveform:
    signal = heartbeat.signal * (1 if resolution_uv is None else resolution_uv)
    return wire.Waveform(
        start_s=start_s,
        rate_hz=beat.RATE_HZ,
        unit="step" if resolution_uv is None else "uV",
        samples=np.rint(signal).astype(int).tolist(),
    )
