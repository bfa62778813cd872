"""All detectors over all devices: findings in, alerts out.

Knows no detector by name. What is remembered of a device hangs on the device (`Device.trackers`); a device for
which nothing is remembered, and whose beats interest nobody, is passed over without Python per beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts import condition
from monitor.alerts.condition import Conditions
from monitor.alerts.detector import Change, Detector, Tracker
from monitor.alerts.finding import GONE, Beats, Finding, Moment, Need, SeenBeat, make_id


class Device(Protocol):
    """What detectors' trackers hang on."""

    id: str
    trackers: dict[wire.Kind, Tracker]
    """Those that remember something, by kind of alert."""
    detectors: Mapping[wire.Kind, Detector]
    """Those that have other limits for this device."""


CutStrip = Callable[[Any, Finding, Sequence[wire.RecentBeat]], wire.Strip | None]
"""Returns the signal before a finding of a device, with the beats in it."""


class Detection:
    """Lets detectors observe, and makes alerts of what they find.

    Parameters
    ----------
    detectors
        At most one of each kind.
    cut_strip
        Where strips come from, if from anywhere.
    """

    def __init__(self, detectors: Sequence[Detector], cut_strip: CutStrip | None = None) -> None:
        self._cut_strip = cut_strip
        self._alerts: list[wire.Alert] = []
        self.replace(detectors)

    def replace(self, detectors: Sequence[Detector]) -> None:
        """Go on with other detectors of the same kinds; see `adopt` for the trackers of the earlier ones."""
        self.detectors = {detector.kind: detector for detector in detectors}
        """By kind of alert, with the limits of all devices."""
        self._needing = {need: [d for d in detectors if need in d.needs] for need in get_args(Need)}
        of_beats = self._needing["beats"]
        self._of_beats = {detector.kind for detector in of_beats}
        found = [condition.find(detector.select) for detector in of_beats]
        self._conditions = Conditions(found)
        self._others = [one for one, known in zip(of_beats, found, strict=True) if known is None and _selects(one)]

    def take(self) -> list[wire.Alert]:
        """Hand over the alerts since this was asked last, in order per device."""
        alerts, self._alerts = self._alerts, []
        return alerts

    def follow(self, beats: Beats) -> None:
        """Observe beats, where there is something to see: most devices are well."""
        streams, devices = beats.streams, beats.devices
        begins = self._find_begins(beats)
        watched = np.array([bool(device.trackers) for device in devices])
        watched[streams[begins.any(axis=0)]] = True
        which = watched[streams].nonzero()[0]
        if not which.size:
            return
        columns = (which, streams[which], beats.time_s[which], beats.verdicts[which], begins.T[which])
        for i, stream, time_s, verdict, begun in zip(*(column.tolist() for column in columns), strict=True):
            device: Device = devices[stream]
            if True in begun:
                self._begin(device, begun)
            seen = SeenBeat(beats, i, time_s, verdict)
            for kind in list(device.trackers):
                if kind in self._of_beats:
                    self._observe(device, kind, seen)

    def _begin(self, device: Device, begun: Sequence[bool]) -> None:
        """Remember what detectors need that a beat begins something for, in their order."""
        for detector, is_one in zip(self._needing["beats"], begun, strict=True):
            if is_one and detector.kind not in device.trackers and not _is_hidden(device, detector):
                self._start(device, detector)

    def _find_begins(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """(detectors, n) Which beats may begin something, by the limits of their devices."""
        begins = self._conditions.look_up(beats)
        special = [k for k, device in enumerate(beats.devices) if device.detectors]
        if special or self._others:
            for row, detector in enumerate(self._needing["beats"]):
                if detector in self._others and (mask := detector.select(beats)) is not None:
                    begins[row] = mask
                self._select_special(detector, beats, special, begins[row])
        return begins

    def _select_special(
        self, detector: Detector, beats: Beats, special: Sequence[int], begins: npt.NDArray[np.bool_]
    ) -> None:
        """Fill in which beats may begin something for a detector, of the devices that have other limits."""
        own = {k: other for k in special if (other := beats.devices[k].detectors.get(detector.kind)) is not None}
        for other in {id(one): one for one in own.values()}.values():
            of_it = np.isin(beats.streams, [k for k, one in own.items() if one is other])
            if (mask := other.select(beats)) is not None:
                begins[of_it] = mask[of_it]

    def adopt(self, device: Device) -> None:
        """Let the trackers of a device go on with its limits, which have changed."""
        device.trackers = {
            kind: self._of(device, kind).track(tracker.snapshot()) for kind, tracker in device.trackers.items()
        }

    def _of(self, device: Device, kind: wire.Kind) -> Detector:
        return device.detectors.get(kind) or self.detectors[kind]

    def observe(self, device: Device, moment: Moment) -> None:
        """Observe something that is not a beat."""
        if moment.what == GONE:
            self._end_all(device, moment)
            return
        for usual in self._needing[moment.what]:
            detector = self._of(device, usual.kind)
            is_new = detector.kind not in device.trackers and not _is_hidden(device, detector)
            if is_new and detector.starts(moment):
                self._start(device, detector)
            if detector.kind in device.trackers:
                self._observe(device, detector.kind, moment)

    def restore(
        self, snapshots: Mapping[wire.Kind, Any], own: Mapping[wire.Kind, Detector] | None = None
    ) -> dict[wire.Kind, Tracker]:
        """Return trackers that go on where others were saved; those of detectors that do not run are left out.

        Parameters
        ----------
        snapshots
            Of the trackers of a device.
        own
            The detectors that have other limits for it.

        Raises
        ------
        msgspec.ValidationError
            A snapshot is not of its detector.
        """
        known = self.detectors | dict(own or {})
        return {kind: known[kind].track(snapshot) for kind, snapshot in snapshots.items() if kind in known}

    def _start(self, device: Device, detector: Detector) -> None:
        device.trackers[detector.kind] = self._of(device, detector.kind).track()
        if len(device.trackers) > 1:
            in_order = sorted(device.trackers.items(), key=lambda item: self.detectors[item[0]].rank)
            device.trackers = dict(in_order)

    def _observe(self, device: Device, kind: wire.Kind, finding: Finding) -> None:
        if len(device.trackers) > 1 and _is_hidden(device, self._of(device, kind)):
            return
        if not self._step(device, kind, finding):
            return
        del device.trackers[kind]
        detector = self._of(device, kind)
        if detector.starts(finding):  # its clock was set back: what is left is a new one's
            self._start(device, detector)
            if self._step(device, kind, finding):
                del device.trackers[kind]

    def _step(self, device: Device, kind: wire.Kind, finding: Finding) -> bool:
        """Let a tracker observe; return whether it is done."""
        changes, is_done = device.trackers[kind].observe(finding)
        for change in changes:
            self._add(device, self.detectors[kind], change, finding)
            if change.state == "new":
                self._hide(device, kind, finding)
        return is_done

    def _hide(self, device: Device, graver: wire.Kind, finding: Finding) -> None:
        """An alert has begun: end those that it contains."""
        for kind, tracker in device.trackers.items():
            if tracker.active and graver in self.detectors[kind].hidden_by:
                self._end(device, kind, tracker, finding, graver)
                tracker.hide(finding)

    def _end(self, device: Device, kind: wire.Kind, tracker: Tracker, finding: Finding, reason: str) -> None:
        self._add(device, self.detectors[kind], tracker.end(finding).because(reason), finding)

    def _end_all(self, device: Device, moment: Moment) -> None:
        for kind, tracker in device.trackers.items():
            if tracker.active:
                self._end(device, kind, tracker, moment, moment.what)
        device.trackers = {}

    def _add(self, device: Device, detector: Detector, change: Change, finding: Finding) -> None:
        kind = detector.kind
        context = finding.context()
        if self._cut_strip is not None and _has_strip(detector, change):
            context["strip"] = self._cut_strip(device, finding, context["recent"])
        alert = wire.Alert(
            id=f"{make_id(device.id, finding.time_s)}-{kind}-{change.state}",
            episode=f"{make_id(device.id, change.since_s)}-{kind}",
            device=device.id,
            kind=kind,
            severity=detector.severity,
            state=change.state,
            time_s=finding.time_s,
            since_s=change.since_s,
            seq=finding.seq,
            completed_s=finding.completed_s,
            **context | change.details,
        )
        self._alerts.append(alert)


def _has_strip(detector: Detector, change: Change) -> bool:
    """Whether the signal before a change is of use: how the heart got over it is, how the recording did is not."""
    return change.state == "new" or (change.state == "end" and detector.severity != "technical")


def _selects(detector: Detector) -> bool:
    """Whether beats may begin something for a detector."""
    return type(detector).select is not Detector.select


def _is_hidden(device: Device, detector: Detector) -> bool:
    """Whether a graver alert of its chain is open."""
    for kind, tracker in device.trackers.items():  # noqa: SIM110 -- a generator costs more than the one or two of them
        if kind in detector.hidden_by and tracker.active:
            return True
    return False
