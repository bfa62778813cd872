"""All devices together: packets in, beats and alerts out.

`Engine.feed` takes one packet to its device's stream; what it was given waits in one batch for all devices.
`Engine.flush` processes the batch, judges the beats that come out in one call of the model, and lets
the detectors observe all that was found, in order. It knows no detector by name.

A model that declares the RR context gets it. Its beats wait for the next one; those of other models do not. Those of a
class model wait for what stands around them, and are seen beside what is usual for their wearer; that is remembered of
a device across gaps.

The engine does no I/O, has no threads and never reads a clock: times come from the packets, and the caller says when
it is time to forget a device. Devices do not know of each other.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, cast, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from monitor import beat, counters, judge, rhythm, wire
from monitor.alerts import condition
from monitor.alerts.detection import Detection
from monitor.alerts.detector import Detector
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import GONE, VERDICTS, WITHHELD
from monitor.alerts.limits import SHORTEST_SILENCE_S
from monitor.alerts.override import override
from monitor.alerts.registry import make_detectors
from monitor.class_model import ClassModel
from monitor.classify import MAX_BATCH, Classifier
from monitor.devices import MAX_DEVICES, Device, Devices, Hourly
from monitor.ecg import batch as signal_path
from monitor.ecg import segment, tape, wearer
from monitor.ecg.batch import Batch, Beats, Event, fit_windows
from monitor.ecg.kernels import compiled_exactly
from monitor.ecg.quality import REASONS
from monitor.ecg.tape import Piece, SavedTape, Tapes
from monitor.judge import Judged
from monitor.panel import Panel
from monitor.rate_limit import Allowance
from monitor.rhythm import STATE, Rhythms
from monitor.stream import Notice, SavedStream, Stream
from monitor.strip import make_strip
from monitor.table import Table

STARTS = 4
"""Starts of a device that are remembered."""
SILENT_S = 10.0
"""A device from which nothing came for longer is silent."""
MOST_SAVED_BYTES = 2**20
"""A saved device is smaller before it is compressed: what is larger is none."""
LOOK_S = 10.0
"""How often it is looked at whether the packets of devices are taken."""
QUIET_S = 5.0
"""Without a beat for so long, the heart rate is not known."""
IRREGULAR = 0.0
"""Log odds of atrial fibrillation from which a rhythm is called irregular."""
UPSIDE_DOWN = (
    "the signal is upside down: P waves, QRS complexes and T waves point down. Models see it turned over, the record "
    "keeps it as it is. Swap the electrodes, or the sign."
)
LAYOUT = hashlib.sha256(repr([signal_path.LAYOUT, STATE.descr, wearer.STATE.descr]).encode()).hexdigest()[:16]
"""Of all that is saved of a device: what was saved with another one cannot be restored."""


_BEATS = [counters.BEATS.of(verdict) for verdict in VERDICTS]
_WITHHELD = [counters.WITHHELD.of(reason) for reason in REASONS]


class SavedDevice(msgspec.Struct, frozen=True, array_like=True):
    """A device as it was between two packets."""

    layout: str
    """`LAYOUT`"""
    resolution_uv: float | None
    first_seen_s: tuple[float, ...]
    stream: SavedStream
    trackers: dict[wire.Kind, Any]
    """Snapshots of what detectors remember."""
    rhythm: bytes
    """What `monitor.rhythm` remembers of its beats."""
    wearer: bytes
    """What `monitor.ecg.wearer` remembers of its wearer."""
    lead: str | None
    tape: SavedTape
    active: list[wire.ActiveAlert]
    is_away: bool = False
    has_left: bool = False
    refused_s: float | None = None


class Tally(NamedTuple):
    """How many devices are how; each stands in one of them."""

    streaming: int
    lead_off: int
    """Those that send, but whose electrode is off."""
    silent: int
    """Those from which nothing came for `SILENT_S`."""


CONNECTIONS: tuple[wire.Connection, ...] = get_args(wire.Connection)
OFF, SILENT, LEFT = (CONNECTIONS.index(one) for one in ("lead-off", "silent", "offline"))


class Look(NamedTuple):
    """How devices are: arrays of one length, and their records."""

    devices: list[Device]
    rows: npt.NDArray[np.int64]
    """A number of its own for each, while it is known."""
    connections: npt.NDArray[np.int64]
    """Positions in `CONNECTIONS`."""
    rate_bpm: npt.NDArray[np.float64]
    """Heart rates; NaN where not known now."""
    judged: npt.NDArray[np.float64]
    """Shares of the beats of the last minute that could be judged; NaN without beats."""


class Output:
    """What a flush has found, in order per device."""

    def __init__(self, judged: list[Judged], alerts: list[wire.Alert]) -> None:
        self.judged = judged
        """All beats, as models and detectors see them."""
        self.alerts = alerts

    @cached_property
    def beats(self) -> list[wire.Beat]:
        """Every beat with its verdict: made when asked for, since not everybody does."""
        return [judged.message(i) for judged in self.judged for i in range(judged.verdicts.size)]


class Engine:
    """Judges the beats of any number of devices.

    Parameters
    ----------
    models
        The model, or the models, that judge.
    alerts
        Of the detectors.
    """

    def __init__(self, models: Classifier | ClassModel | Panel, alerts: AlertSettings | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Running totals, by name: what came, what was judged, what was dropped and why."""
        self._panel = models if isinstance(models, Panel) else Panel(models)
        self._batch = Batch(MAX_DEVICES, _waits(self._panel), SHORTEST_SILENCE_S)
        self._devices = Devices(self._batch, self.counts)
        settings = alerts or AlertSettings()
        self._rhythms = Rhythms(waits_for_p_waves=self._panel.class_model is not None)
        self._wearers = Table(wearer.STATE)
        self._tapes = Tapes(MAX_DEVICES)
        self._detection = Detection(make_detectors(settings), partial(make_strip, self._tapes))
        self._silent_s = settings.silent_s
        self._tick_due_s = -math.inf  # no device can count as silent before

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
        silent = sum([known.arrived_s < since_s for known in self._devices])
        off = sum([known.arrived_s >= since_s for known in self._batch.find_off()])
        return Tally(len(self._devices) - silent - off, off, silent)

    def look(self, now_s: float, wanted: Iterable[str] | None = None) -> Look:
        """Return how devices are, at next to no cost for each.

        Parameters
        ----------
        now_s
            On the clock of `feed`.
        wanted
            Their ids; None: all. Those of which nothing was found yet are left out.
        """
        since_s = now_s - SILENT_S
        known: Iterable[Device | None] = self._devices if wanted is None else map(self._devices.get, wanted)
        devices = [one for one in known if one is not None and one in self._rhythms]
        rows, rate_bpm, judged = self._rhythms.summarise(devices)
        lanes = np.array([one.stream.lane for one in devices], np.int64)
        off, quiet_s = self._batch.look(lanes)
        away = [LEFT if one.has_left else SILENT * (one.is_away or one.arrived_s < since_s) for one in devices]
        connections = np.where(away, away, OFF * (off & (lanes >= 0)))
        rate_bpm[(connections > 0) | (lanes < 0) | (quiet_s > QUIET_S)] = math.nan
        return Look(devices, rows, connections, rate_bpm, judged)

    def is_irregular(self, device: str) -> bool | None:
        """Whether a device's latest beats follow irregularly; None if too few are known."""
        odds = self._rhythms.irregularity(self._devices[device])
        return None if math.isnan(odds) else odds > IRREGULAR

    def describe(self, device: str, info: wire.Info, arrived_s: float) -> None:
        """Take what a device says of itself; see `feed`.

        One that began to stream at another time than it named before has restarted, whatever its clock shows now,
        unless its packets simply go on: some devices send the current time with every message. A time that was named
        before, of late, is ignored: a broker resends what was not acknowledged.
        """
        known = self._devices.obtain(device, arrived_s)
        if known is None:
            return
        if info.first_seen_s in known.first_seen_s[:-1]:
            return
        known.resolution_uv, known.lead = info.resolution_uv, info.lead
        known.shape_speaks = self._panel.speaks_of(info.lead)
        if info.first_seen_s is None or info.first_seen_s in known.first_seen_s:
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
        known = self._devices.obtain(device, arrived_s)
        if known is None:
            return
        known.sent_s = arrived_s
        if known.is_away:
            self._welcome(known, packet)
        else:
            known.stream.feed(packet)

    def refuse(self, device: str, arrived_s: float, time_s: float) -> None:
        """Note that something came which is no packet: whoever sends nothing else is not watched, and must be told of.

        Parameters
        ----------
        device, arrived_s
            As of `feed`.
        time_s
            The same in seconds since 1970.
        """
        known = self._devices.obtain(device, arrived_s)
        if known is None:
            return
        known.sent_s = arrived_s
        if known.refused_s is None:
            known.refused_s = time_s

    def status(self, device: str, status: wire.DeviceStatus, arrived_s: float) -> None:
        """Take a device's status, perhaps its last will; see `feed`. One that is not known is none of ours."""
        known = self._devices.get(device)
        if known is None:
            return
        if status.state == "online":
            known.arrived_s, known.has_left = arrived_s, False
        else:
            self._miss([known], "offline")
            known.has_left = True

    def tick(self, now_s: float) -> list[str]:
        """Find the devices that have fallen silent, or send nothing of use any more; to be called every second.

        Parameters
        ----------
        now_s
            On the clock of `feed`.

        Returns
        -------
        list of str
            Their ids. What is remembered of them has changed without a packet.
        """
        if now_s < self._tick_due_s:
            return []
        heard = [known for known in self._devices if not known.is_away]
        since_s = now_s - self._silent_s
        for known in heard:
            if (latest := known.stream.latest) != known.taken:
                known.taken, known.taken_s = latest, known.arrived_s
        idle = [known for known in heard if known.taken_s < since_s]
        silent = [known for known in idle if known.sent_s < since_s]
        unusable = [known for known in idle if known.sent_s >= since_s]
        self._miss(silent, "silent")
        self._miss(unusable, "unusable")
        oldest_s = min((known.taken_s for known in heard if not known.is_away), default=now_s)
        self._tick_due_s = min(oldest_s + self._silent_s, now_s + LOOK_S)
        return [known.id for known in (*silent, *unusable)]

    def flush(self) -> Output:
        """Take what waits, judge its beats in one call of each model, and return all that was found."""
        log = self._batch.collect()
        judged = judge.judge(self._panel, [entry for entry in log if isinstance(entry, Beats)], self._wearers)
        for one in judged:
            self._count(one)
            self._add_up(one)
        in_order = iter(judged)
        for entry in log:
            if isinstance(entry, Piece):
                self._tapes.append(entry)
            elif isinstance(entry, Event):
                self._detection.observe(entry.owner, self._rhythms.observe(entry.owner, entry))
                if entry.what == GONE:
                    self._drop_tables(entry.owner)
            else:
                one = next(in_order)
                one.follow(self._rhythms)
                self._detection.follow(one)
        alerts = self._detection.take()
        self.counts[counters.ALERTS] += len(alerts)
        self._note_active(alerts)
        return Output(judged, alerts)

    def _note_upside_down(self, judged: Judged) -> None:
        for i in np.flatnonzero(judged.lies == wearer.TURNED_NEW):
            device = judged.devices[judged.streams[i]]
            self._devices.notices.append(Notice(device, "polarity", UPSIDE_DOWN, int(judged.seq[i])))

    @property
    def detectors(self) -> Mapping[wire.Kind, Detector]:
        """Those that run, by kind of alert, with the limits of all devices."""
        return self._detection.detectors

    def set_all_limits(self, alerts: AlertSettings) -> None:
        """Set the limits of all devices in place of those they had; those of single ones must be set again after it.

        What the engine was given must have been flushed. Open alerts go on by the new limits.

        Parameters
        ----------
        alerts
            Of the detectors; how long a device must be silent stays as it was.
        """
        self._detection.replace(make_detectors(alerts))
        self._devices.detectors.clear()
        for known in self._devices:
            known.detectors = {}
            if known.trackers:
                self._detection.adopt(known)

    def set_limits(self, device: str, limits: wire.Limits) -> None:
        """Set the limits of one device, in place of those it had; the rest is as for all devices.

        What the engine was given must have been flushed.

        Raises
        ------
        ValueError
            See `monitor.alerts.override.override`.
        """
        own = override(self.detectors, limits)
        if own:
            self._devices.detectors[device] = own
        else:
            self._devices.detectors.pop(device, None)
        if (known := self._devices.get(device)) is not None:
            known.detectors = own
            self._detection.adopt(known)

    def take_notices(self) -> list[Notice]:
        """Return what is wrong with what devices send, once for each device (the owner is its id) and reason."""
        notices = self._devices.notices
        taken = [notice._replace(owner=notice.owner.id) for notice in notices]
        notices.clear()
        return taken

    def knows(self, device: str) -> bool:
        """Whether anything is remembered of a device."""
        return device in self._devices

    def next_seq(self, device: str) -> int | None:
        """Sequence number of the packet that a device's stream needs next; what lies before is not needed any more."""
        return self._devices[device].stream.next_seq

    def save(self, device: str) -> bytes:
        """All that is remembered of a device, to go on from in another process.

        The engine that restores it, and is fed the packets that came after, finds the same beats and reports the same
        alerts as this one. What this one was given must have been flushed.
        """
        known = self._devices[device]
        trackers = {kind: tracker.snapshot() for kind, tracker in known.trackers.items()}
        saved = SavedDevice(
            LAYOUT, known.resolution_uv, known.first_seen_s, known.stream.save(), trackers,
            self._rhythms.save(known), self._wearers.save(known), known.lead, self._tapes.save(known),
            list(known.active.values()), known.is_away, known.has_left, known.refused_s,
        )  # fmt: skip
        return _compress.compress(_to_msgpack.encode(saved))

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
            state = _saved.decode(_decompress.decompress(saved, MOST_SAVED_BYTES))
            trackers = self._detection.restore(state.trackers, self._devices.detectors.get(device))
        except (msgspec.MsgspecError, zstandard.ZstdError) as error:
            raise ValueError(f"The saved state of device {device} is damaged: {error}.") from None
        if state.layout != LAYOUT:
            raise ValueError(f"The saved state of device {device} is of another version: {state.layout}, not {LAYOUT}.")
        known = self._devices.obtain(device, arrived_s)
        if known is None:
            return
        known.trackers = trackers
        try:
            self._fill(known, state)
        except Exception:
            self._devices.remove(known)
            self._drop_tables(known)
            raise

    def _fill(self, known: Device, state: SavedDevice) -> None:
        known.resolution_uv, known.first_seen_s = state.resolution_uv, state.first_seen_s
        known.stream.restore(state.stream)
        known.is_away, known.has_left, known.refused_s = state.is_away, state.has_left, state.refused_s
        known.lead, known.shape_speaks = state.lead, self._panel.speaks_of(state.lead)
        known.active = {alert.kind: alert for alert in state.active}
        self._rhythms.restore(known, state.rhythm)
        self._wearers.restore(known, state.wearer)
        self._tapes.restore(known, state.tape)

    def forget(self, before_s: float) -> None:
        """Forget devices from which nothing has come since `before_s`."""
        self._devices.forget(before_s)

    def discard(self, partitions: Container[int | None]) -> list[str]:
        """Drop the devices of partitions that another process goes on with, and report nothing; return their ids.

        What the engine was given must have been flushed.
        """
        gone = self._devices.discard(partitions)
        for known in gone:
            self._drop_tables(known)
        return [known.id for known in gone]

    def erase(self, device: str) -> None:
        """Drop all that is remembered of a device, its limits too, and report nothing; see `Devices.erase`.

        What the engine was given must have been flushed.
        """
        if (known := self._devices.erase(device)) is not None:
            self._drop_tables(known)

    def has_forgotten(self, device: str) -> bool:
        """Whether a device was forgotten and is not buried: a saved state of it must not be restored."""
        return self._devices.has_forgotten(device)

    @property
    def tombstones(self) -> Mapping[str, list[Hourly]]:
        """Devices that were forgotten or evicted; see `Devices.tombstones`."""
        return self._devices.tombstones

    def take_tombstones(self) -> dict[str, list[Hourly]]:
        """Take them, to have them buried or to put them back; see `Devices.take_tombstones`."""
        return self._devices.take_tombstones()

    def bury(self, devices: Iterable[str]) -> None:
        """Forget that these were forgotten: no store holds a state of them any more."""
        self._devices.bury(devices)

    def put_back(self, tombstones: Mapping[str, list[Hourly]]) -> None:
        """Have tombstones again that could not be buried."""
        self._devices.put_back(tombstones)

    def record(self, device: str) -> Device | None:
        """Return all that is remembered of a device."""
        return self._devices.get(device)

    def records(self) -> Iterator[Device]:
        """Return all that is remembered, device by device."""
        return iter(self._devices)

    def allowance(self, device: str) -> Allowance:
        """Return how much a client may send, whether it is a device or not."""
        return self._devices.allowance(device)

    def forget_allowances(self, now_s: float) -> None:
        """Forget the allowances that do not matter any more; `now_s` is on the clock of `Allowance`."""
        self._devices.forget_allowances(now_s)

    def _drop_tables(self, known: Device) -> None:
        """Drop what is remembered of a device outside of its record."""
        self._rhythms.drop(known)
        self._wearers.drop(known)
        self._tapes.drop(known)

    def _miss(self, devices: list[Device], what: Literal["silent", "unusable", "offline"]) -> None:
        """Note that nothing more comes from devices, after all that came."""
        if devices and self._batch.waiting:
            self._batch.advance()
        for known in devices:
            if not known.is_away and (latest := known.latest) is not None:
                seq, end_s = latest
                self._batch.add(Event(known, what, end_s, seq, end_s))
            known.is_away = True

    def _welcome(self, known: Device, packet: wire.Packet) -> None:
        """Take a packet of a device that was missed. It is back if the packet is taken: a broker repeats old ones."""
        before = known.stream.latest
        known.stream.feed(packet)
        if known.stream.latest == before:
            return
        known.is_away = known.has_left = False
        known.taken_s = known.arrived_s
        end_s = packet.start_s + packet.samples.size / packet.rate_hz
        self._batch.add(Event(known, "back", packet.start_s, packet.seq, end_s))

    def _note_active(self, alerts: list[wire.Alert]) -> None:
        for alert in alerts:
            if (known := self._devices.get(alert.device)) is None:
                continue
            if alert.state == "end":
                known.active.pop(alert.kind, None)
            else:
                known.active[alert.kind] = wire.ActiveAlert(
                    episode=alert.episode,
                    kind=alert.kind,
                    severity=alert.severity,
                    since_s=alert.since_s,
                    text=alert.text,
                )

    def _count(self, judged: Judged) -> None:
        found, counts = judged.found, self.counts
        verdicts, reasons, slow, is_new = _tally(judged.verdicts, found.reasons, found.beats, judged.lies)
        for verdict, n in enumerate(verdicts.tolist()):
            if n:
                counts[_BEATS[verdict]] += n
        if slow:
            counts[counters.WINDOWS_TRUNCATED] += slow
        if verdicts[WITHHELD]:
            for reason, n in enumerate(reasons.tolist()):
                if n and reason:
                    counts[_WITHHELD[reason]] += n
        if is_new:
            self._note_upside_down(judged)

    def _add_up(self, judged: Judged) -> None:
        """Add beats to their hours."""
        found, classes = judged.found, judged.classes
        rows = (
            found.beats["stream"],
            found.time_s // 3600,
            judged.verdicts,
            judged.columns,
            found.beats["median_rr"] * found.pace * 1000 / beat.RATE_HZ,
        )
        for stream, hour, verdict, column, median_ms in zip(*(row.tolist() for row in rows), strict=True):
            hourly, is_withheld = found.stretches[stream].owner.hourly, verdict == WITHHELD
            what = int(hour), VERDICTS[WITHHELD] if is_withheld else classes[column]
            n, rr_ms = hourly.get(what, (0, 0))
            hourly[what] = n + 1, rr_ms + (0 if is_withheld else int(median_ms))


@compiled_exactly
def _tally(verdicts: Any, reasons: Any, beats: Any, lies: Any) -> tuple[Any, Any, int, bool]:
    """How many beats have each verdict and reason, and a window that is cut short; whether any is newly upside down."""
    by_verdict, by_reason = np.zeros(len(VERDICTS), np.int64), np.zeros(len(REASONS), np.int64)
    slow, is_new = 0, False
    for i in range(verdicts.size):
        by_verdict[verdicts[i]] += 1
        by_reason[reasons[i]] += 1
        slow += beat.SPAN * beats[i].median_rr >= beat.LENGTH + 1
        is_new = is_new or lies[i] == wearer.TURNED_NEW
    return by_verdict, by_reason, slow, is_new


def _waits(panel: Panel) -> int:
    """For what beats wait, besides their windows: what the models see."""
    if panel.class_model is not None:
        return segment.FOR_SURROUNDINGS
    return segment.FOR_NEXT if cast(Classifier, panel.main).needs_rr else 0


_to_msgpack = msgspec.msgpack.Encoder()
_saved = msgspec.msgpack.Decoder(SavedDevice)
_compress, _decompress = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here: once, for some seconds."""
    peaks = 1000 * np.sin(np.arange(2000) * np.pi / 200) ** 50  # 8 s with a peak every 0.8 s, and 6 s without
    peaks = np.append(peaks, np.arange(1500) % 4)
    batch, state = Batch(1, segment.FOR_SURROUNDINGS, SHORTEST_SILENCE_S), np.zeros(1, wearer.STATE)
    stream = Stream(None, batch, Counter())
    stream.feed(wire.Packet(0, 0.0, 250.0, peaks.astype(np.int16)))
    batch.advance()
    stream.save()
    stream.finish()
    for found in batch.collect():
        if isinstance(found, Beats):
            fit_windows(found.signals, found.beats["length"], np.arange(found.reasons.size))
            rows = np.zeros(found.reasons.size, np.int64)
            around = np.nan_to_num(found.surroundings)
            wearer.observe_p_waves(state, rows, around, *wearer.observe(state, rows, around, found.beats["rr"]))
            wearer.observe_shapes(state, rows, np.zeros(rows.size, np.bool_))
    nothing = np.zeros(0, np.uint8)
    _tally(nothing, nothing, np.zeros(0, segment.BEAT), nothing)
    signal_path.warm_up()
    rhythm.warm_up()
    tape.warm_up()
    judge.warm_up()
    condition.warm_up()
