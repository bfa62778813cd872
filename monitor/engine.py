"""All devices together: packets in, beats and alerts out.

`Engine.feed` takes one packet: it finds or makes the device's stream, and whatever beats are finished by it wait in one
batch for all devices. `Engine.flush` judges that batch in one call of the model and applies each device's alert rules.

The engine does no I/O, has no threads and never reads a clock: times come from the packets, and the caller says when it
is time to forget a device. Streams do not know of each other; whatever is wrong with one resets that one alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from monitor import beat, wire
from monitor.alert import AlertSettings, Episode, State
from monitor.classify import MAX_BATCH, Classifier
from monitor.quality import Contact, to_signal, why_unfit
from monitor.resample import Resampler
from monitor.segment import Heartbeat, Segmenter

EARLY_PACKETS = 3
"""So many packets may overtake a missing one before it counts as lost."""
LATE_PACKETS = 10
"""After so many packets in a row from the past, the device is taken to have been restarted with its clock set back."""
CLOCK_TOLERANCE_S = 0.5
"""A packet's time may be this far from where the ones before it end; more is a jump of the clock."""
CLOCK_FOLLOWS_S = 10.0
"""Time constant with which beat times follow a device whose clock drifts against its sampling rate."""
NO_BEATS_S = 6.0
"""Signal without a beat for this long is reported."""
TECHNICAL_UPDATE_S = 60.0
TECHNICAL_REFRACTORY_S = 10.0

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
class _Stream:
    """An unbroken run of packets of one device: what must start anew when it breaks."""

    rate_hz: float
    next_seq: int
    started_s: float
    samples: int = 0
    drift_s: float = 0.0
    resampler: Resampler = field(init=False)
    segmenter: Segmenter = field(init=False)
    contact: Contact = field(init=False)

    def __post_init__(self) -> None:
        self.resampler = Resampler(self.rate_hz, self.started_s)
        self.segmenter = Segmenter()
        self.contact = Contact(self.rate_hz)

    @property
    def end_s(self) -> float:
        """Where the next packet should begin, on the device's clock."""
        return self.started_s + self.samples / self.rate_hz + self.drift_s

    def time_of(self, sample: int) -> float:
        """Time of a sample of the 125 Hz stream, on the device's clock."""
        return (self.resampler.first + sample) / beat.RATE_HZ + self.drift_s


@dataclass(slots=True)
class _Device:
    """What is remembered of a device."""

    id: str
    episodes: dict[wire.Kind, Episode]
    arrived_s: float
    stream: _Stream | None = None
    resolution_uv: float | None = None
    first_seen_s: float | None = None
    early: dict[int, wire.Packet] = field(default_factory=dict)
    late: int = 0


class _Waiting(NamedTuple):
    """A finished beat on its way to the model, or past it if it is withheld."""

    device: _Device
    beat: Heartbeat
    r_peak_s: float
    unfit: str | None
    seq: int
    completed_s: float


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
        self._waiting: list[_Waiting] = []
        self._alerts: list[wire.Alert] = []

    @property
    def waiting(self) -> int:
        """Beats that the next flush will judge."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its cap and ought to be flushed."""
        return len(self._waiting) >= MAX_BATCH

    @property
    def devices(self) -> int:
        """Devices remembered."""
        return len(self._devices)

    def describe(self, device: str, info: wire.Info, arrived_s: float) -> None:
        """Take what a device says of itself."""
        known = self._device(device, arrived_s)
        known.resolution_uv = info.resolution_uv
        if known.first_seen_s not in (None, info.first_seen_s):
            self.counts["device restarts"] += 1
            known.stream = None
            known.early.clear()
        known.first_seen_s = info.first_seen_s

    def feed(self, device: str, packet: wire.Packet, arrived_s: float) -> None:
        """Take one packet. Packets that overtook others wait for them; doubles and latecomers are counted and dropped.

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
        stream = known.stream
        if stream is not None and packet.seq != stream.next_seq and packet.rate_hz == stream.rate_hz:
            if packet.seq > stream.next_seq:
                known.early[packet.seq] = packet
                if len(known.early) > EARLY_PACKETS:
                    self._give_up_waiting(known)
                return
            known.late += 1
            if packet.start_s < stream.end_s - CLOCK_TOLERANCE_S / 2 and known.late <= LATE_PACKETS:
                self.counts["duplicates"] += 1
                return
            # The count began again and time went on, or only the past comes: the device was restarted.
            known.early.clear()
        self._take_all(known, packet)

    def flush(self) -> Output:
        """Judge the beats that wait, in one call of the model, and hand out all there is to tell."""
        waiting, self._waiting = self._waiting, []
        fit = [w for w in waiting if w.unfit is None]
        judged = iter(self._judge(fit))
        beats = [self._tell_beat(w, *(next(judged) if w.unfit is None else (None, None))) for w in waiting]
        alerts, self._alerts = self._alerts, []
        self.counts["alerts"] += len(alerts)
        return Output(beats, alerts)

    def forget(self, before_s: float) -> None:
        """Forget devices from which nothing has come since `before_s`."""
        for known in [d for d in self._devices.values() if d.arrived_s < before_s]:
            while known.early:
                self._give_up_waiting(known)
            del self._devices[known.id]

    def _device(self, device: str, arrived_s: float) -> _Device:
        known = self._devices.get(device)
        if known is None:
            known = self._devices[device] = _Device(device, self._new_episodes(), arrived_s)
        known.arrived_s = arrived_s
        return known

    def _new_episodes(self) -> dict[wire.Kind, Episode]:
        s = self._settings
        technical = (TECHNICAL_UPDATE_S, TECHNICAL_REFRACTORY_S)
        return {
            "abnormal-beats": Episode(s.n, s.m, s.update_s, s.refractory_s),
            "lead-off": Episode(1, 1, *technical),
            "poor-signal": Episode(4, 6, *technical),
            "no-beats": Episode(1, 1, *technical),
            "gap": Episode(1, 1, *technical),
        }

    def _give_up_waiting(self, known: _Device) -> None:
        """The packets before the first early one are lost: begin anew with it."""
        self._take_all(known, known.early.pop(min(known.early)))

    def _take_all(self, known: _Device, packet: wire.Packet) -> None:
        """Take a packet and those that waited for it."""
        known.late = 0
        self._take(known, packet)
        while known.stream is not None and known.stream.next_seq in known.early:
            self._take(known, known.early.pop(known.stream.next_seq))

    def _take(self, known: _Device, packet: wire.Packet) -> None:
        """Run a packet that is next in its stream, or begins a new one, through resampler and segmenter."""
        stream = known.stream
        broken = self._why_broken(stream, packet)
        if stream is None or broken is not None:
            stream = known.stream = _Stream(packet.rate_hz, packet.seq, packet.start_s)
        elif stream.samples:
            follow = min(1.0, packet.samples.size / packet.rate_hz / CLOCK_FOLLOWS_S)
            stream.drift_s += (packet.start_s - stream.end_s) * follow
        completed_s = min(packet.start_s + packet.samples.size / packet.rate_hz, wire.MAX_TIME_S)
        if broken is not None:
            self.counts[broken] += 1
            self._observe(known, "gap", packet.start_s, True, packet.seq, completed_s)
        for place in stream.contact.push(packet.samples):
            time_s = packet.start_s + place / packet.rate_hz
            self._observe(known, "lead-off", time_s, True, packet.seq, completed_s)
        stream.samples += packet.samples.size
        stream.next_seq = packet.seq + 1
        for heartbeat in stream.segmenter.push(stream.resampler.push(to_signal(packet.samples))):
            self._waiting.append(
                _Waiting(
                    known,
                    heartbeat,
                    stream.time_of(heartbeat.r_peak),
                    "rhythm unknown" if heartbeat.median_rr is None else why_unfit(heartbeat.signal),
                    packet.seq,
                    completed_s,
                )
            )
        if stream.segmenter.since_last > NO_BEATS_S * beat.RATE_HZ and not stream.contact.is_off:
            self._observe(known, "no-beats", completed_s, True, packet.seq, completed_s)

    def _why_broken(self, stream: _Stream | None, packet: wire.Packet) -> str | None:
        if stream is None:
            return None
        if packet.rate_hz != stream.rate_hz:
            return "rate changes"
        if packet.seq < stream.next_seq:
            return "device restarts"
        if packet.seq > stream.next_seq:
            return "gaps"
        if abs(packet.start_s - stream.end_s) > CLOCK_TOLERANCE_S:
            return "clock jumps"
        return None

    def _judge(self, fit: list[_Waiting]) -> list[tuple[str, float]]:
        """Most probable class, and probability of not being normal, for each beat."""
        if not fit:
            return []
        windows = np.stack([beat.fit_window(w.beat.signal) for w in fit])
        probabilities = self._classifier.probabilities(windows)
        classes = self._classifier.info.classes
        labels = [classes[i] for i in probabilities.argmax(axis=1)]
        return list(zip(labels, self._classifier.abnormal(probabilities).tolist(), strict=True))

    def _tell_beat(self, waiting: _Waiting, label: str | None, probability: float | None) -> wire.Beat:
        known, heartbeat, r_peak_s, unfit, seq, completed_s = waiting
        threshold = self._classifier.info.threshold
        verdict: Literal["normal", "abnormal", "withheld"] = "withheld"
        if probability is not None:
            abnormal = probability >= threshold
            verdict = "abnormal" if abnormal else "normal"
            calm = probability < threshold * self._settings.exit_ratio
            self._observe(
                known, "abnormal-beats", r_peak_s, abnormal, seq, completed_s, waiting, probability, calm=calm
            )
        for kind in ("lead-off", "no-beats", "gap"):
            if unfit is None and known.episodes[kind].active:
                self._observe(known, kind, r_peak_s, False, seq, completed_s, calm=True)
        self._observe(
            known,
            "poor-signal",
            r_peak_s,
            unfit is not None and unfit != "rhythm unknown",
            seq,
            completed_s,
            calm=unfit is None,
        )
        self.counts[f"beats {verdict}"] += 1
        if unfit is not None:
            self.counts[f"withheld: {unfit}"] += 1
        return wire.Beat(
            id=_id(known.id, r_peak_s),
            device=known.id,
            r_peak_s=r_peak_s,
            verdict=verdict,
            label=label,
            probability=probability,
            reason=unfit,
            rr_s=None if heartbeat.rr is None else heartbeat.rr / beat.RATE_HZ,
            heart_rate_bpm=_heart_rate(heartbeat),
            seq=seq,
            completed_s=completed_s,
        )

    def _observe(
        self,
        known: _Device,
        kind: wire.Kind,
        time_s: float,
        event: bool,
        seq: int,
        completed_s: float,
        waiting: _Waiting | None = None,
        probability: float | None = None,
        calm: bool = False,
    ) -> None:
        """Let an episode see an observation, and tell what it makes of it."""
        episode = known.episodes[kind]
        state = episode.observe(time_s, event, calm)
        if state is not None:
            self._alerts.append(self._alert(known, kind, state, time_s, seq, completed_s, waiting, probability))

    def _alert(
        self,
        known: _Device,
        kind: wire.Kind,
        state: State,
        time_s: float,
        seq: int,
        completed_s: float,
        waiting: _Waiting | None,
        probability: float | None,
    ) -> wire.Alert:
        episode = known.episodes[kind]
        judged = waiting is not None
        return wire.Alert(
            id=f"{_id(known.id, time_s)}-{kind}-{state}",
            episode=f"{_id(known.id, episode.since_s)}-{kind}",
            device=known.id,
            kind=kind,
            severity=SEVERITY[kind],
            state=state,
            time_s=time_s,
            since_s=episode.since_s,
            beats=episode.count if judged else 0,
            probability=probability,
            threshold=self._classifier.info.threshold if judged else None,
            model=self._classifier.info.name if judged else None,
            model_sha256=self._classifier.sha256 if judged else None,
            heart_rate_bpm=_heart_rate(waiting.beat) if waiting else None,
            waveform=_waveform(waiting) if waiting else None,
            seq=seq,
            completed_s=completed_s,
        )


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here: once, for about ten seconds."""
    Segmenter().push(Resampler(250.0, 0.0).push(np.zeros(500, np.float32)))


def _id(device: str, time_s: float) -> str:
    """The same for the same beat: the device and the time of the R peak in milliseconds."""
    return f"{device}-{round(time_s * 1000)}"


def _heart_rate(heartbeat: Heartbeat) -> float | None:
    if heartbeat.median_rr is None:
        return None
    return round(60 * beat.RATE_HZ / heartbeat.median_rr, 1)


def _waveform(waiting: _Waiting) -> wire.Waveform:
    step_uv = waiting.device.resolution_uv
    signal = waiting.beat.signal * (1 if step_uv is None else step_uv)
    return wire.Waveform(
        start_s=waiting.r_peak_s,
        rate_hz=beat.RATE_HZ,
        unit="step" if step_uv is None else "uV",
        samples=np.rint(signal).astype(int).tolist(),
    )
