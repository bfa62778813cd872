"""What the beats before a beat say of it."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts.finding import ABNORMAL, NORMAL, WITHHELD, Beats, Rhythm
from monitor.alerts.limits import Limits
from monitor.rhythm import FEATURES, KEPT, STATE, Rhythms, find_features
from tests.monitor.alerts.player import START_S, Beat, Device, Event, FakeBeats


def _follow(rr_s: list[float], labels: str | None = None, cuts: tuple[int, ...] = ()) -> Rhythm:
    """Follow beats of one device, cut into batches; "?" is a beat of bad signal."""
    labels = labels or "N" * len(rr_s)
    times_s = START_S + np.cumsum(rr_s)
    rhythms, device = Rhythms(), Device()
    parts = []
    for begin, end in zip((0, *cuts), (*cuts, len(rr_s)), strict=True):
        beats = [_beat(rr, label) for rr, label in zip(rr_s[begin:end], labels[begin:end], strict=True)]
        fake = FakeBeats(device, beats, times_s[begin:end].tolist())
        parts.append(rhythms.follow(cast(Beats, fake)))
    return Rhythm(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _beat(rr_s: float, label: str) -> Beat:
    if label == "?":
        return Beat(rr_s, WITHHELD, is_poor=True)
    return Beat(rr_s, NORMAL if label == "N" else ABNORMAL, 0.5, label=label)


def _naive_rate(rr_s: list[float]) -> float:
    """Heart rate by the rule of bedside monitors; the first interval is not known."""
    known = rr_s[1:]
    if len(known) < 3:
        return float("nan")
    over = 4 if len(known) >= 4 and min(known[-3:]) > 1.2 else 12
    return 60 / float(np.mean(known[-over:]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.4, 0.8, 1.0, 1.3, 1.9]), min_size=1, max_size=40))
def test_the_heart_rate_is_the_mean_that_monitors_show(rr_s: list[float]) -> None:
    expected = [_naive_rate(rr_s[: i + 1]) for i in range(len(rr_s))]
    assert _follow(rr_s).rate_bpm == pytest.approx(np.array(expected), rel=2e-3, nan_ok=True)


def test_the_heart_rate_in_bigeminy_counts_all_beats() -> None:
    assert _follow([0.5, 1.0] * 20).rate_bpm[-1] == pytest.approx(80, abs=0.2)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0.3, 4.0), st.sampled_from("NNSV?")), min_size=2, max_size=60),
    st.sets(st.integers(1, 59)),
)
def test_any_cut_gives_the_same(beats: list[tuple[float, str]], cuts: set[int]) -> None:
    rr_s, labels = [rr for rr, _ in beats], "".join(label for _, label in beats)
    whole = _follow(rr_s, labels)
    parts = _follow(rr_s, labels, tuple(sorted(cut for cut in cuts if cut < len(rr_s))))
    for name, one, other in zip(Rhythm._fields, whole, parts, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_an_interval_beside_a_beat_of_bad_signal_is_not_known() -> None:
    assert np.isnan(_follow([0.8] * 6, "NNN?NN").interval_s).tolist() == [True, False, False, True, True, False]


def test_runs_are_counted_and_known_when_they_end() -> None:
    rhythm = _follow([0.5] * 10, "NNVVVNNVVN")
    assert rhythm.run.tolist() == [0, 0, 1, 2, 3, 0, 0, 1, 2, 0]
    assert rhythm.ended.tolist() == [0, 0, 0, 0, 0, 3, 0, 0, 0, 2]
    assert rhythm.run_bpm[4] == pytest.approx(120)


def test_a_rhythm_of_which_little_is_known_has_no_irregularity() -> None:
    irregularity = _follow([0.8] * 30).irregularity
    assert np.isnan(irregularity[:16]).all()
    assert (irregularity[16:] < -5).all()


def test_irregular_intervals_are_told_from_alternating_ones() -> None:
    chance = np.random.default_rng(1).uniform(0.45, 1.1, 40).tolist()
    limit = Limits().fibrillation_odds
    assert _follow(chance).irregularity[-1] > limit + 1
    assert _follow([0.7, 0.9] * 20).irregularity[-1] < limit - 0.5


def test_features_do_not_depend_on_the_heart_rate_but_for_entropy_large_differences_and_the_rate() -> None:
    rr_s = np.random.default_rng(2).uniform(0.5, 1.0, 30)
    linked = np.ones(30, bool)
    slow, fast = np.empty(FEATURES), np.empty(FEATURES)
    assert find_features(rr_s * 1.5, linked, slow)
    assert find_features(rr_s, linked, fast)
    same = [0, 1, 2, 3, 4, 7, 9, 10, 11]
    np.testing.assert_allclose(slow[same], fast[same])


def test_devices_do_not_know_of_each_other() -> None:
    rhythms = Rhythms()
    devices = [Device(str(k)) for k in range(200)]
    for device in devices:
        rhythms.follow(cast(Beats, FakeBeats(device, [Beat(0.8, NORMAL)] * 3, [START_S, START_S + 0.8, START_S + 1.6])))
    rhythms.drop(devices[7])
    newcomer = Device("new")
    rhythms.follow(cast(Beats, FakeBeats(newcomer, [Beat(0.8, NORMAL)], [START_S + 2.4])))
    assert len(rhythms.recent(devices[8], 3, START_S + 1.6, START_S + 1.6)) == 3
    assert len(rhythms.recent(newcomer, 1, START_S + 2.4, START_S + 2.4)) == 1


def test_what_is_saved_is_small_and_of_this_version() -> None:
    rhythms, device = Rhythms(), Device()
    assert rhythms.save(device) == b""
    rhythms.follow(cast(Beats, FakeBeats(device, [Beat(0.8, NORMAL)] * KEPT, [START_S + k for k in range(KEPT)])))
    saved = rhythms.save(device)
    assert len(saved) == STATE.itemsize < 700
    with pytest.raises(ValueError, match="buffer size"):
        Rhythms().restore(Device(), saved[:-1])


def test_more_devices_than_there_was_room_for_go_on_where_they_were_saved() -> None:
    rhythms, saved = Rhythms(), []
    for number in range(200):
        device = Device(str(number))
        rhythms.follow(cast(Beats, FakeBeats(device, [Beat(0.8, NORMAL)], [START_S + number])))
        saved.append(rhythms.save(device))
    others = Rhythms()
    devices = [Device(str(number)) for number in range(200)]
    for device, state in zip(devices, saved, strict=True):
        others.restore(device, state)
    assert [others.save(device) for device in devices] == saved


def test_an_interval_in_which_the_electrode_came_off_is_not_known_however_late_its_beats_are_finished() -> None:
    rhythms, device = Rhythms(), Device()
    for time_s in (5.0, 9.0):
        rhythms.observe(device, Event("lead-off", START_S + time_s, 0, START_S + time_s, 0.0))
    times_s = [START_S + k for k in range(12)]
    rhythm = rhythms.follow(cast(Beats, FakeBeats(device, [Beat(1.0, NORMAL)] * 12, times_s)))
    known = [bool(np.isfinite(interval_s)) for interval_s in rhythm.interval_s]
    assert [k for k in range(1, 12) if not known[k]] == [6, 10]
