"""What holds for every detector of the registry, a new one included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import cast, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.alerts.detection import Detection
from monitor.alerts.detector import Detector
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, GONE, NORMAL, WITHHELD, Beats, Need, SeenBeat
from monitor.alerts.registry import make_detectors
from monitor.rhythm import Rhythms
from tests.monitor.alerts.player import START_S, Beat, Device, FakeBeats, Moment, Player, Step

DETECTORS = make_detectors(AlertSettings())
SET_BACK_S = 3600.0

BEATS = {
    "normal": Beat(0.8, NORMAL, 0.1),
    "at the edge": Beat(0.8, NORMAL, 0.45),
    "abnormal": Beat(0.8, ABNORMAL, 0.9),
    "poor": Beat(0.8, WITHHELD, is_poor=True),
    "no rhythm": Beat(0.8, WITHHELD),
    "outdated": Beat(0.8, NORMAL, 0.1, outdated=True),
    "new shape": Beat(0.8, NORMAL, 0.1, shape=0.9, unusual=True),
    "usual shape": Beat(0.8, NORMAL, 0.1, shape=0.9),
    "shape at the edge": Beat(0.8, NORMAL, 0.1, shape=0.45),
}
MOMENTS = {need: Moment(1.0, need) for need in get_args(Need) if need != "beats"}
STIMULI: dict[str, list[Step]] = {name: [beat] * 40 for name, beat in BEATS.items()}
STIMULI |= {name: [moment] for name, moment in MOMENTS.items()}
NORMAL_BEAT, EARLY, VENTRICULAR = Beat(0.8, NORMAL, 0.1), Beat(0.6, ABNORMAL, 0.9, label="S"), Beat(0.5, ABNORMAL, 0.9)
AS_IN_FIBRILLATION = np.random.default_rng(0).uniform(0.45, 1.1, 70).tolist()
MORE: dict[str, Sequence[Step]] = {
    "slow": [Beat(1.7, NORMAL, 0.1)] * 20,
    "very slow": [Beat(2.2, NORMAL, 0.1)] * 20,
    "fast": [Beat(0.4, NORMAL, 0.1)] * 40,
    "very fast": [Beat(0.3, NORMAL, 0.1)] * 40,
    "pause": [*[NORMAL_BEAT] * 10, Beat(3.5, NORMAL, 0.1)],
    "long pause": [*[NORMAL_BEAT] * 10, Beat(5.0, NORMAL, 0.1)],
    "fibrillation": [Moment(0.5, "vf")] * 20,
    "silence": [*[NORMAL_BEAT] * 10, Moment(20.0, "no-beats")],
    "run": [NORMAL_BEAT] * 5 + [VENTRICULAR] * 8,
    "couplets": ([NORMAL_BEAT] * 5 + [VENTRICULAR] * 2) * 3,
    "bigeminy": [NORMAL_BEAT, VENTRICULAR] * 10,
    "trigeminy": [NORMAL_BEAT, NORMAL_BEAT, VENTRICULAR] * 10,
    "many early ones": [NORMAL_BEAT, NORMAL_BEAT, EARLY] * 15,
    "irregular": [Beat(rr_s, NORMAL, 0.1) for rr_s in AS_IN_FIBRILLATION],
}
STIMULI |= {name: list(steps) for name, steps in MORE.items()}
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
def test_every_alert_says_in_a_sentence_what_happened(detector: Detector) -> None:
    player = _begin(detector)
    for name in ("normal", "back", "normal", "no rhythm", "lead-off"):
        player.play(STIMULI[name])
    player.play([Moment(1.0, GONE)])
    texts = {alert.state: alert.text for alert in player.alerts}
    assert {"new", "end"} <= {*texts}
    assert texts["new"] != texts["end"]
    for alert in player.alerts:
        assert re.fullmatch(r"[A-Z0-9].*\.", alert.text), alert


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
    fake = FakeBeats(Device(), beats, [START_S + i for i in range(len(beats))])
    fake.follow(Rhythms())
    seen = cast(Beats, fake)
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
