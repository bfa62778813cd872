"""All devices together: packets in, beats and alerts out.

`Engine.feed` takes one packet to its device's stream; what it was given waits in one batch for all devices.
`Engine.flush` processes the batch, judges the beats that come out in one call of the model, and applies
each device's alert rules to all, in order.

A model that declares the RR context gets it. Its beats wait for the next one; those of other models do not.

The engine does no I/O, has no threads and never reads a clock: times come from the packets, and the caller says when
it is time to forget a device. Devices do not know of each other.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor import beat, counters, wire
from monitor.alerts.episode import AlertSettings, Episode, Memory, State
from monitor.classify import MAX_BATCH, Classifier
from monitor.ecg.batch import LAYOUT, Batch, Beats, Event, fit_windows
from monitor.ecg.quality import INCOMPLETE, NO_RHYTHM, REASONS
from monitor.ecg.resample import DELAY_S
from monitor.ecg.segment import PAUSE
from monitor.stream import SavedStream, Stream

MAX_DEVICES = 20_000
"""Most devices that are remembered at a time: one more pushes out the oldest of those heard once, or is refused."""
STARTS = 4
"""Starts of a device that are remembered."""
SILENT_S = 10.0
"""A device from which nothing came for longer is silent."""
NO_BEATS_S = 6.0
"""Signal without a beat for this long is told."""
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
NORMAL, ABNORMAL, WITHHELD = 0, 1, 2
VERDICTS: tuple[wire.Verdict, ...] = ("normal", "abnormal", "withheld")


@dataclass(slots=True, eq=False)
class _Device:
    """What is remembered of a device."""

    id: str
    arrived_s: float
    stream: Stream = field(init=False)
    episodes: dict[wire.Kind, Episode] = field(default_factory=dict)
    """Those that hold something."""
    resolution_uv: float | None = None
    first_seen_s: tuple[float, ...] = ()
    """When it said that it had begun to stream, the latest last: of late."""
    heard_once: bool = True
    """Whether it has sent a single message so far."""


class _Judged(NamedTuple):
    """Beats with their verdicts: arrays of one length, and the model that judged."""

    found: Beats
    verdicts: npt.NDArray[np.uint8]
    """(n,) positions in `VERDICTS`."""
    columns: npt.NDArray[np.int64]
    """(n,) positions in the classes of the model; no meaning where withheld."""
    probability: npt.NDArray[np.float64]
    """(n,) of not being normal; no meaning where withheld."""
    classifier: Classifier


_Cause = Event | tuple[_Judged, int]
"""What an episode saw: an event, or one of many beats."""


class SavedDevice(msgspec.Struct, frozen=True, array_like=True):
    """A device as it was between two packets."""

    layout: str
    """`monitor.ecg.batch.LAYOUT`"""
    resolution_uv: float | None
    first_seen_s: tuple[float, ...]
    stream: SavedStream
    episodes: dict[wire.Kind, Memory]


Hourly = dict[tuple[int, str], tuple[int, int]]
"""Beats of a device by the hour since 1970 and by what they were (a class of the model, or "withheld"): how many, and
the sum of the median RR intervals in ms of those that were judged."""


class Tally(NamedTuple):
    """How many devices are how; each stands in one of them."""

    streaming: int
    lead_off: int
    """Those that send, but whose electrode is off."""
    silent: int
    """Those from which nothing came for `SILENT_S`."""


class Output:
    """What a flush has to tell, in order per device."""

    def __init__(self, judged: list[_Judged], alerts: list[wire.Alert]) -> None:
        self._judged = judged
        self.alerts = alerts

    @cached_property
    def beats(self) -> list[wire.Beat]:
        """Every beat with its verdict: made when asked for, since not everybody does."""
        return [_beat_message(judged, i) for judged in self._judged for i in range(judged.verdicts.size)]


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
        self.hourly: dict[str, Hourly] = {}
        """Beats of each device, hour by hour, for whoever keeps them to take out."""
        self._classifier = classifier
        self._settings = alerts or AlertSettings()
        self._devices: dict[str, _Device] = {}
        self._heard_once: OrderedDict[str, _Device] = OrderedDict()
        self._forgotten: set[str] = set()
        self._batch = Batch(MAX_DEVICES, classifier.needs_rr, NO_BEATS_S)
        self._alerts: list[wire.Alert] = []

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its cap and ought to be flushed."""
        return self._batch.waiting >= MAX_BATCH

    @property
    def devices(self) -> int:
        """Devices remembered."""
        return len(self._devices)

    def tally(self, now_s: float) -> Tally:
        """Count the devices by how they are.

        Parameters
        ----------
        now_s
            On the clock of `feed`.
        """
        since_s = now_s - SILENT_S
        silent = sum([known.arrived_s < since_s for known in self._devices.values()])
        off = sum([known.arrived_s >= since_s for known in self._batch.find_off()])
        return Tally(len(self._devices) - silent - off, off, silent)

    def describe(self, device: str, info: wire.Info, arrived_s: float) -> None:
        """Take what a device says of itself; see `feed`.

        One that began to stream at another time than was said was started again, whatever its clock says now. A time
        that was said before, of late, comes again: a broker sends again what was not acknowledged.
        """
        known = self._device(device, arrived_s)
        if known is None:
            return
        if info.first_seen_s in known.first_seen_s[:-1]:
            return
        known.resolution_uv = info.resolution_uv
        if info.first_seen_s in known.first_seen_s:
            return
        if known.first_seen_s:
            known.stream.restart()
        known.first_seen_s = (*known.first_seen_s, info.first_seen_s)[-STARTS:]

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
        self.counts[counters.PACKETS] += 1
        known = self._device(device, arrived_s)
        if known is not None:
            known.stream.feed(packet)

    def flush(self) -> Output:
        """Take what waits, judge its beats in one call of the model, and hand out all there is to tell."""
        log = self._batch.collect()
        judged = self._judge([entry for entry in log if isinstance(entry, Beats)])
        in_order = iter(judged)
        for entry in log:
            if isinstance(entry, Event):
                self._observe(entry.owner, entry.what, entry.time_s, entry, event=True)
            else:
                self._follow(next(in_order))
        alerts, self._alerts = self._alerts, []
        self.counts[counters.ALERTS] += len(alerts)
        return Output(judged, alerts)

    def knows(self, device: str) -> bool:
        """Whether anything is remembered of a device."""
        return device in self._devices

    def next_seq(self, device: str) -> int | None:
        """Sequence number of the packet that a device's stream needs next; what lies before is not needed any more."""
        return self._devices[device].stream.next_seq

    def save(self, device: str) -> bytes:
        """All that is remembered of a device, to go on from in another process.

        The engine that restores it, and is fed the packets that came after, finds the same beats and tells the same
        alerts as this one. What this one was given must have been flushed.
        """
        known = self._devices[device]
        episodes = {kind: episode.memory() for kind, episode in known.episodes.items()}
        saved = SavedDevice(LAYOUT, known.resolution_uv, known.first_seen_s, known.stream.save(), episodes)
        return _to_msgpack.encode(saved)

    def restore(self, device: str, saved: bytes, arrived_s: float) -> None:
        """Go on where a device was saved.

        Parameters
        ----------
        device
            Device id; nothing of it may be known yet.
        saved
            Of `save`.
        arrived_s
            As of `feed`.

        Raises
        ------
        ValueError
            It was not saved by this version of the monitor, or is damaged.
        """
        try:
            state = _saved.decode(saved)
        except msgspec.MsgspecError as error:
            raise ValueError(f"The saved state of device {device} is damaged: {error}.") from None
        if state.layout != LAYOUT:
            raise ValueError(f"The saved state of device {device} is of another version: {state.layout}, not {LAYOUT}.")
        known = self._device(device, arrived_s)
        if known is None:
            return
        known.resolution_uv, known.first_seen_s = state.resolution_uv, state.first_seen_s
        known.stream.restore(state.stream)
        for kind, memory in state.episodes.items():
            known.episodes[kind] = self._new_episode(kind, memory)

    def forget(self, before_s: float) -> None:
        """Forget devices from which nothing has come since `before_s`."""
        for known in [known for known in self._devices.values() if known.arrived_s < before_s]:
            self._drop(known)

    def has_forgotten(self, device: str) -> bool:
        """Whether a device was forgotten since `take_forgotten` was asked last: it begins anew if it comes back."""
        return device in self._forgotten

    def take_forgotten(self) -> list[str]:
        """Hand over the ids of the devices that were forgotten, or pushed out by others, since this was asked last."""
        forgotten = list(self._forgotten)
        self._forgotten.clear()
        return forgotten

    def _drop(self, known: _Device) -> None:
        known.stream.finish()
        del self._devices[known.id]
        self._heard_once.pop(known.id, None)
        self._forgotten.add(known.id)

    def _device(self, device: str, arrived_s: float) -> _Device | None:
        known = self._devices.get(device)
        if known is None:
            if not self._has_room():
                self.counts[counters.TOO_MANY_DEVICES] += 1
                return None
            known = _Device(device, arrived_s)
            known.stream = Stream(known, self._batch, self.counts)
            self._devices[device] = self._heard_once[device] = known
        elif known.heard_once:
            known.heard_once = False
            del self._heard_once[device]
        known.arrived_s = arrived_s
        return known

    def _has_room(self) -> bool:
        """Make room for a device: whoever sends under ever new names must not keep those out that come to stay."""
        if len(self._devices) < MAX_DEVICES:
            return True
        if not self._heard_once:
            return False
        oldest = next(iter(self._heard_once.values()))
        self._drop(oldest)
        self.counts[counters.DEVICES_EVICTED] += 1
        return True

    def _judge(self, found: list[Beats]) -> list[_Judged]:
        """Verdicts on all beats, with one call of the model."""
        if not found:
            return []
        classifier = self._classifier
        fit = [np.flatnonzero(one.reasons == 0) for one in found]
        windows = [fit_windows(one.signals, one.beats["length"], rows) for one, rows in zip(found, fit, strict=True)]
        rr = None
        if classifier.needs_rr:
            rr = np.concatenate([_rr_context(one.beats[rows]) for one, rows in zip(found, fit, strict=True)])
        probabilities = classifier.probabilities(np.concatenate(windows), rr)
        columns, abnormal = classifier.columns(probabilities), classifier.abnormal(probabilities)
        judged, begin = [], 0
        for one, rows in zip(found, fit, strict=True):
            part = slice(begin, begin := begin + rows.size)
            judged.append(_verdicts(classifier, one, rows, columns[part], abnormal[part]))
            self._count(judged[-1])
            self._add_up(judged[-1])
        return judged

    def _count(self, judged: _Judged) -> None:
        for verdict, n in enumerate(np.bincount(judged.verdicts, minlength=len(VERDICTS)).tolist()):
            if n:
                self.counts[counters.BEATS.of(VERDICTS[verdict])] += n
        if slow := int((beat.SPAN * judged.found.beats["median_rr"] >= beat.LENGTH + 1).sum()):
            self.counts[counters.WINDOWS_TRUNCATED] += slow
        for reason, n in enumerate(np.bincount(judged.found.reasons).tolist()):
            if n and reason:
                self.counts[counters.WITHHELD.of(REASONS[reason])] += n

    def _add_up(self, judged: _Judged) -> None:
        """Add beats to their hours."""
        found, classes = judged.found, judged.classifier.info.classes
        rows = found.beats["stream"], found.time_s, judged.verdicts, judged.columns, found.beats["median_rr"]
        for stream, time_s, verdict, column, median_rr in zip(*(row.tolist() for row in rows), strict=True):
            hourly = self.hourly.setdefault(found.stretches[stream].owner.id, {})
            hour, withheld = int(time_s // 3600), verdict == WITHHELD
            what = hour, VERDICTS[WITHHELD] if withheld else classes[column]
            n, rr_ms = hourly.get(what, (0, 0))
            hourly[what] = n + 1, rr_ms + (0 if withheld else int(median_rr * 1000 / beat.RATE_HZ))

    def _follow(self, judged: _Judged) -> None:
        """Let the alert rules see the beats, where there is something to see: most devices are well."""
        found, verdicts = judged.found, judged.verdicts
        poor = (verdicts == WITHHELD) & (found.reasons != INCOMPLETE) & (found.reasons != NO_RHYTHM)
        streams = found.beats["stream"]
        watched = np.array([bool(stretch.owner.episodes) for stretch in found.stretches])
        watched[streams[poor | (verdicts == ABNORMAL)]] = True
        calm = judged.probability < self._classifier.info.threshold * self._settings.exit_ratio
        which = np.flatnonzero(watched[streams])
        columns = (which, streams[which], verdicts[which], found.time_s[which], calm[which])
        for i, stream, verdict, time_s, is_calm in zip(*(column.tolist() for column in columns), strict=True):
            known, cause = found.stretches[stream].owner, (judged, i)
            if verdict == WITHHELD:
                if poor[i]:
                    self._observe(known, "poor-signal", time_s, cause, event=True)
                continue
            self._observe(known, "abnormal-beats", time_s, cause, event=verdict == ABNORMAL, calm=is_calm)
            # A beat that can be judged ends whatever was wrong with the signal before it.
            for kind in [kind for kind in known.episodes if kind != "abnormal-beats"]:
                if kind != "lead-off" or not found.outdated[i]:
                    self._observe(known, kind, time_s, cause, calm=True)

    def _observe(
        self, known: _Device, kind: wire.Kind, time_s: float, cause: _Cause, *, event: bool = False, calm: bool = False
    ) -> None:
        """Let an episode see what was found, and tell what it makes of it."""
        episode = known.episodes.get(kind)
        if episode is not None and episode.was_set_back(time_s):
            if episode.active:
                self._alerts.append(self._alert(known, kind, "end", episode, cause))
            del known.episodes[kind]
            episode = None
        if episode is None:
            if not event:
                return
            episode = known.episodes[kind] = self._new_episode(kind)
        state = episode.observe(time_s, event, calm)
        if state is not None:
            self._alerts.append(self._alert(known, kind, state, episode, cause))
        if not event and episode.is_idle(time_s):
            del known.episodes[kind]

    def _new_episode(self, kind: wire.Kind, memory: Memory | tuple[()] = ()) -> Episode:
        s = self._settings
        if kind == "abnormal-beats":
            return Episode(s.n, s.m, s.update_s, s.refractory_s, *memory)
        n, m = POOR_SIGNAL if kind == "poor-signal" else (1, 1)
        return Episode(n, m, TECHNICAL_UPDATE_S, TECHNICAL_REFRACTORY_S, *memory)

    def _alert(self, known: _Device, kind: wire.Kind, state: State, episode: Episode, cause: _Cause) -> wire.Alert:
        told: Event | wire.Beat = cause if isinstance(cause, Event) else _beat_message(*cause)
        time_s = told.time_s if isinstance(told, Event) else told.r_peak_s
        alert = wire.Alert(
            id=f"{_id(known.id, time_s)}-{kind}-{state}",
            episode=f"{_id(known.id, episode.since_s)}-{kind}",
            device=known.id,
            kind=kind,
            severity=SEVERITY[kind],
            state=state,
            time_s=time_s,
            since_s=episode.since_s,
            seq=told.seq,
            completed_s=told.completed_s,
        )
        if kind != "abnormal-beats" or isinstance(cause, Event) or isinstance(told, Event):
            return alert
        info = self._classifier.info
        return msgspec.structs.replace(
            alert,
            beats=episode.count,
            label=told.label,
            probability=told.probability,
            threshold=info.threshold,
            model=info.name,
            model_sha256=self._classifier.sha256,
            heart_rate_bpm=told.heart_rate_bpm,
            waveform=_waveform(*cause, known.resolution_uv),
        )


_to_msgpack = msgspec.msgpack.Encoder()
_saved = msgspec.msgpack.Decoder(SavedDevice)


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here: once, for some seconds."""
    peaks = 1000 * np.sin(np.arange(2000) * np.pi / 200) ** 50  # 8 s with a peak every 0.8 s
    batch = Batch(1, False, NO_BEATS_S)
    stream = Stream(None, batch, Counter())
    stream.feed(wire.Packet(0, 0.0, 250.0, peaks.astype(np.int16)))
    stream.finish()
    for found in batch.collect():
        assert isinstance(found, Beats)
        fit_windows(found.signals, found.beats["length"], np.arange(found.reasons.size))


def _verdicts(
    classifier: Classifier,
    found: Beats,
    fit: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    abnormal: npt.NDArray[np.float32],
) -> _Judged:
    """Spread what the model said of the beats that were fit to be judged over all beats."""
    n = found.reasons.size
    verdicts, spread, probability = np.full(n, WITHHELD, np.uint8), np.zeros(n, np.int64), np.zeros(n)
    verdicts[fit], spread[fit], probability[fit] = columns > 0, columns, abnormal
    return _Judged(found, verdicts, spread, probability, classifier)


def _id(device: str, time_s: float) -> str:
    """The same for the same beat: the device and the time of the R peak in milliseconds."""
    return f"{device}-{round(time_s * 1000)}"


def _beat_message(judged: _Judged, i: int) -> wire.Beat:
    found, verdict = judged.found, int(judged.verdicts[i])
    one, time_s, withheld = found.beats[i], float(found.time_s[i]), verdict == WITHHELD
    device = found.stretches[one["stream"]].owner.id
    median_rr = float(one["median_rr"])
    return wire.Beat(
        id=_id(device, time_s),
        device=device,
        r_peak_s=time_s,
        qrs_s=time_s + int(one["fiducial"] - one["r_peak"]) / beat.RATE_HZ,
        delay_s=int(one["decided"] - one["fiducial"]) / beat.RATE_HZ + DELAY_S,
        verdict=VERDICTS[verdict],
        label=None if withheld else judged.classifier.info.classes[judged.columns[i]],
        probability=None if withheld else float(judged.probability[i]),
        reason=REASONS[found.reasons[i]],
        rr_s=int(one["rr"]) / beat.RATE_HZ or None,
        heart_rate_bpm=None if math.isnan(median_rr) else round(60 * beat.RATE_HZ / median_rr, 1),
        seq=int(found.seq[i]),
        completed_s=float(found.completed_s[i]),
    )


def _rr_context(beats: npt.NDArray[np.void]) -> beat.RrContext:
    """(n, 3) RR context of beats whose rhythm is known."""
    before = np.where(beats["rr"] > 0, beats["rr"], np.nan)
    after = np.where(beats["next_rr"] > 0, beats["next_rr"], np.where(beats["next_rr"] == PAUSE, np.inf, np.nan))
    return beat.rr_context(before / beat.RATE_HZ, after / beat.RATE_HZ, beats["median_rr"] / beat.RATE_HZ)


def _waveform(judged: _Judged, i: int, resolution_uv: float | None) -> wire.Waveform:
    found = judged.found
    signal = found.signals[i, : found.beats["length"][i]] * (1 if resolution_uv is None else resolution_uv)
    return wire.Waveform(
        start_s=float(found.time_s[i]),
        rate_hz=beat.RATE_HZ,
        unit="step" if resolution_uv is None else "uV",
        samples=np.rint(signal).astype(int).tolist(),
    )
