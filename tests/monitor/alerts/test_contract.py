"""What holds for every detector of the registry, a new one included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, cast, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.alerts.detection import Detection
from monitor.alerts.detector import Detector, Tracker
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, GONE, NORMAL, WITHHELD, Beats, Need, SeenBeat
from monitor.alerts.registry import make_detectors

DETECTORS = make_detectors(AlertSettings())
START_S = 1_700_000_000.0
SET_BACK_S = 3600.0


class Beat(NamedTuple):
    """A beat as detectors see it."""

    after_s: float
    """Since the finding before."""
    verdict: int
    probability: float = 0.0
    is_poor: bool = False
    outdated: bool = False


class Moment(NamedTuple):
    """Something else that was found."""

    after_s: float
    what: str


Step = Beat | Moment


class Event(NamedTuple):
    what: str
    time_s: float
    seq: int
    completed_s: float


@dataclass
class Device:
    id: str = "a"
    trackers: dict[wire.Kind, Tracker] = field(default_factory=dict)


class FakeBeats:
    """`monitor.alerts.finding.Beats` of one device."""

    classes = ("N", "V")
    threshold = 0.5

    def __init__(self, device: Device, beats: Sequence[Beat], times_s: Sequence[float]) -> None:
        n = len(beats)
        self.devices = [device]
        self.streams, self.seq, self.rr = np.zeros(n, np.int64), np.zeros(n, np.int64), np.full(n, 100)
        self.time_s = np.array(times_s)
        self.completed_s = self.time_s + 1
        self.verdicts = np.array([beat.verdict for beat in beats], np.uint8)
        self.columns = (self.verdicts == ABNORMAL).astype(np.int64)
        self.probability = np.array([beat.probability for beat in beats])
        self.is_poor = np.array([beat.is_poor for beat in beats])
        self.outdated = np.array([beat.outdated for beat in beats])

    def describe(self, i: int) -> dict[str, Any]:
        return {"label": self.classes[self.columns[i]]}


class Player:
    """Lets detectors observe one device, step by step."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = detectors
        self.detection = Detection(detectors)
        self.device = Device()
        self.now_s = START_S
        self.alerts: list[wire.Alert] = []

    def play(self, steps: Sequence[Step]) -> list[wire.Alert]:
        """Observe steps, neighbouring beats together; return the alerts."""
        beats: list[Beat] = []
        times_s: list[float] = []
        for step in steps:
            self.now_s += step.after_s
            if isinstance(step, Beat):
                beats.append(step)
                times_s.append(self.now_s)
                continue
            self._follow(beats, times_s)
            beats, times_s = [], []
            self.detection.observe(self.device, Event(step.what, self.now_s, 0, self.now_s))
        self._follow(beats, times_s)
        alerts = self.detection.take()
        self.alerts += alerts
        return alerts

    def restart(self) -> None:
        """Go on in another process."""
        snapshots = {kind: tracker.snapshot() for kind, tracker in self.device.trackers.items()}
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshots))
        self.detection = Detection(self.detectors)
        self.device = Device(trackers=self.detection.restore(saved))

    def _follow(self, beats: Sequence[Beat], times_s: Sequence[float]) -> None:
        if beats:
            self.detection.follow(cast(Beats, FakeBeats(self.device, beats, times_s)))


BEATS = {
    "normal": Beat(0.8, NORMAL, 0.1),
    "at the edge": Beat(0.8, NORMAL, 0.45),
    "abnormal": Beat(0.8, ABNORMAL, 0.9),
    "poor": Beat(0.8, WITHHELD, is_poor=True),
    "no rhythm": Beat(0.8, WITHHELD),
    "outdated": Beat(0.8, NORMAL, 0.1, outdated=True),
}
MOMENTS = {need: Moment(1.0, need) for need in get_args(Need) if need != "beats"}
STIMULI: dict[str, list[Step]] = {name: [beat] * 40 for name, beat in BEATS.items()}
STIMULI |= {name: [moment] for name, moment in MOMENTS.items()}
"""What may begin an alert: a detector that none of these begins needs another one here."""

AFTER_S = st.sampled_from([0.2, 0.8, 0.8, 0.8, 5.0, 40.0, -1.0, -100.0])
FINDINGS: st.SearchStrategy[Step] = st.sampled_from([*BEATS.values(), *MOMENTS.values()])
STEPS = st.lists(st.tuples(FINDINGS, AFTER_S, st.integers(1, 8)), max_size=25).map(
    lambda parts: [step._replace(after_s=after_s) for step, after_s, n in parts for _ in range(n)]
)
each = pytest.mark.parametrize("detector", DETECTORS, ids=lambda one: one.kind)
each_and_all = pytest.mark.parametrize(
    "detectors", [*([one] for one in DETECTORS), DETECTORS], ids=[*(one.kind for one in DETECTORS), "all"]
)


def _begin(detector: Detector) -> Player:
    """Return a device that this detector has just begun to alert."""
    for stimulus in STIMULI.values():
        player = Player([detector])
        for step in stimulus:
            if player.play([step]):
                return player
    raise AssertionError(f"No stimulus begins {detector.kind}.")


@each_and_all
@settings(deadline=None, max_examples=40)
@given(steps=STEPS, cuts=st.sets(st.integers(0, 200)))
def test_any_cut_of_the_input_gives_the_same_alerts(
    detectors: Sequence[Detector], steps: list[Step], cuts: set[int]
) -> None:
    whole, parts = Player(detectors), Player(detectors)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(steps)), len(steps)]
    for begin, end in pairwise(bounds):
        parts.play(steps[begin:end])
    assert parts.alerts == whole.play(steps)


@each_and_all
@settings(deadline=None, max_examples=40)
@given(steps=STEPS, saved_at=st.sets(st.integers(0, 200), min_size=1))
def test_saved_and_restored_gives_the_same_alerts(
    detectors: Sequence[Detector], steps: list[Step], saved_at: set[int]
) -> None:
    whole, parts = Player(detectors), Player(detectors)
    for i, step in enumerate(steps):
        if i in saved_at:
            parts.restart()
        parts.play([step])
    assert parts.alerts == whole.play(steps)


@each_and_all
@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_every_new_is_followed_by_an_end_or_by_gone(detectors: Sequence[Detector], steps: list[Step]) -> None:
    player = Player(detectors)
    player.play(steps)
    open_ = {kind for kind, tracker in player.device.trackers.items() if tracker.active}
    gone = player.play([Moment(1.0, GONE)])
    assert {alert.kind for alert in gone} == open_
    assert {(alert.state, alert.reason) for alert in gone} <= {("end", GONE)}
    assert not player.device.trackers
    for detector in detectors:
        mine = [alert for alert in player.alerts if alert.kind == detector.kind]
        assert re.fullmatch("(nu*e)*", "".join(alert.state[0] for alert in mine))
        assert {alert.severity for alert in mine} <= {detector.severity}
        for before, after in pairwise(mine):
            assert before.state == "end" or before.episode == after.episode


@each
def test_what_a_detector_does_not_need_leaves_its_alert_open(detector: Detector) -> None:
    player = _begin(detector)
    for need, moment in MOMENTS.items():
        if need not in detector.needs:
            player.play([moment])
    if "beats" not in detector.needs:
        player.play([*BEATS.values()] * 10)
    assert [alert.state for alert in player.alerts] == ["new"]


@each
def test_a_clock_set_back_ends_it(detector: Detector) -> None:
    player = _begin(detector)
    [new] = player.alerts
    player.now_s -= SET_BACK_S
    for stimulus in STIMULI.values():
        player.play(stimulus)
    end, later = player.alerts[1], player.alerts[2:]
    assert (end.state, end.episode, end.since_s) == ("end", new.episode, new.since_s)
    assert end.time_s < START_S
    assert all(alert.since_s < START_S for alert in later)


@each
@settings(deadline=None, max_examples=20)
@given(beats=st.lists(st.sampled_from(list(BEATS.values())), min_size=1))
def test_beats_are_selected_one_by_one_as_in_one_go(detector: Detector, beats: list[Beat]) -> None:
    seen = cast(Beats, FakeBeats(Device(), beats, [START_S + i for i in range(len(beats))]))
    selected = detector.select(seen) if "beats" in detector.needs else None
    one_by_one = [detector.starts(SeenBeat(seen, i, START_S + i, beats[i].verdict)) for i in range(len(beats))]
    assert one_by_one == ([False] * len(beats) if selected is None else selected.tolist())


@each
def test_nothing_is_remembered_of_a_device_that_is_well(detector: Detector) -> None:
    player = Player([detector])
    player.play(STIMULI["normal"])
    assert not player.device.trackers


def test_kinds_are_unique_and_fit_the_wire() -> None:
    kinds = [detector.kind for detector in DETECTORS]
    assert len({*kinds}) == len(kinds)
    assert msgspec.convert(kinds, list[wire.Kind]) == kinds


def test_a_snapshot_of_a_detector_that_does_not_run_is_left_out() -> None:
    assert Detection([]).restore({"no-beats": None}) == {}
