"""What the beats before a beat say of it."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts.finding import ABNORMAL, NORMAL, WITHHELD, Beats, Rhythm
from monitor.alerts.limits import Limits
from monitor.ecg.wearer import P_WAVE_NUMBERS
from monitor.fibrillation import (
    EARLY,
    EPSILON,
    FEATURES,
    KNOWN,
    LATE,
    MATCHES,
    NARROW,
    NETWORK,
    OF_RR,
    PLAINLY_REGULAR,
    QUANTILES,
    REGULAR,
    REGULAR_BELOW,
    TOLERANCE_S,
    UNKNOWN,
    WIDE,
    WINDOW,
    answer,
    find_features,
)  # fmt: skip
from monitor.rhythm import KEPT, LOOK_EVERY, STATE, Rhythms
from tests.monitor.alerts.player import START_S, Beat, Device, Event, FakeBeats


def _follow(rr_s: list[float], labels: str | None = None, cuts: tuple[int, ...] = ()) -> Rhythm:
    """Follow beats of one device, cut into batches; "?" is a beat of bad signal, "!" one of bad signal that is plainly
    ventricular, "~" one that may be, "n" a normal one that is unsure."""
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
    if label in "!~":
        return Beat(rr_s, WITHHELD, is_poor=True, ventricular=0.9 if label == "!" else 0.6)
    if label in "Nn":
        return Beat(rr_s, NORMAL, 0.4, label="N", ventricular=0.0 if label == "N" else 0.4)
    return Beat(rr_s, ABNORMAL, 0.5, label=label)


def _naive_rate(rr_s: list[float]) -> float:
    """Heart rate by the rule of bedside monitors; the first interval is not known."""
    known = rr_s[1 + max((i for i, rr in enumerate(rr_s[1:], 1) if rr > 4.0), default=0) :]  # after a silence: anew
    if len(known) < 3:
        return float("nan")
    over = 4 if len(known) >= 4 and min(known[-3:]) > 1.2 else 12
    return 60 / float(np.mean(known[-over:]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.4, 0.8, 0.8, 1.0, 1.3, 1.9, 3.9, 4.1, 12.0]), min_size=1, max_size=40))
def test_the_heart_rate_is_the_mean_that_monitors_show(rr_s: list[float]) -> None:
    expected = [_naive_rate(rr_s[: i + 1]) for i in range(len(rr_s))]
    assert _follow(rr_s).rate_bpm == pytest.approx(np.array(expected), rel=2e-3, nan_ok=True)


def test_the_heart_rate_in_bigeminy_counts_all_beats() -> None:
    assert _follow([0.5, 1.0] * 20).rate_bpm[-1] == pytest.approx(80, abs=0.2)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0.3, 4.0), st.sampled_from("NNSVn?!~")), min_size=2, max_size=60),
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


def test_the_rate_of_a_run_is_that_of_its_latest_five_beats() -> None:
    rhythm = _follow([0.8] * 6 + [0.4] * 6, "NN" + "V" * 10)
    assert rhythm.run[5:].tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert rhythm.run_bpm[5:] == pytest.approx([75, 60 / 0.7, 100, 120, 150, 150, 150], abs=0.1)


@pytest.mark.parametrize("rr_s", [[0.4] * 5, [0.36, 0.44, 0.4, 0.4, 0.4], [0.45] * 5])
def test_a_run_at_the_rate_that_was_there_before_has_none_of_its_own(rr_s: list[float]) -> None:
    assert np.isnan(_follow([0.4] * 9 + rr_s, "N" * 9 + "V" * 5).run_bpm[-3:]).all()
    assert np.isnan(_follow([0.4] * 9 + rr_s, "NNNNVNNNN" + "V" * 5).run_bpm[-3:]).all()


@pytest.mark.parametrize("rr_s", [[0.3] * 5, [0.32, 0.4, 0.4, 0.4, 0.4], [0.4, 0.4, 0.33, 0.33, 0.33], [0.48] * 5])
def test_one_that_begins_early_or_at_another_rate_has(rr_s: list[float]) -> None:
    assert _follow([0.4] * 9 + rr_s, "N" * 9 + "V" * 5).run_bpm[-1] > 100


def test_one_after_others_or_after_too_few_beats_has_too() -> None:
    assert _follow([0.4] * 14, "NNNVVNNNN" + "V" * 5).run_bpm[-1] == pytest.approx(150)
    assert _follow([0.4] * 12, "NNNNNNN" + "V" * 5).run_bpm[-1] == pytest.approx(150)


def test_a_beat_of_bad_signal_before_a_run_does_not_make_it_faster() -> None:
    assert _follow([0.8] * 8, "NNN?VVVV").run_bpm[-1] == pytest.approx(75)


def test_a_single_unsure_beat_does_not_end_a_fast_run_of_three_or_more() -> None:
    assert _follow([0.5] * 9, "NNVVnVnVV").run.tolist() == [0, 0, 1, 2, 0, 3, 0, 5, 6]  # of four, one counts
    assert _follow([0.5] * 9, "NNVVNVNVV").run.tolist() == [0, 0, 1, 2, 0, 1, 0, 1, 2]
    assert _follow([0.5] * 9, "NNVVnnVVV").run.tolist() == [0, 0, 1, 2, 0, 0, 1, 2, 3]
    assert _follow([0.5] * 6, "NNNVnV").run.tolist() == [0, 0, 0, 1, 0, 1]


def test_an_unsure_beat_that_is_followed_by_a_pause_ends_a_run() -> None:
    assert _follow([0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.5], "NNVVnVV").run[-1] == 2


def test_a_run_that_an_unsure_beat_might_have_gone_on_with_ends_with_the_next() -> None:
    assert _follow([0.5] * 8, "NNVVnNNN").ended.tolist() == [0, 0, 0, 0, 0, 2, 0, 0]
    assert _follow([0.5] * 8, "NNVVnnNN").ended.tolist() == [0, 0, 0, 0, 0, 2, 0, 0]
    assert _follow([0.5] * 8, "NNVV?NNN").ended.tolist() == [0, 0, 0, 0, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("labels", "run"),
    [
        ("NNNNNNNNVV!!!", 5),  # most before it were judged, and so were two of it
        ("NNNNNNNNV!V!!!!", 7),
        ("???NNNNNVVV!?!", 5),
        ("NNNNNNNNV!!!!!!", 7),
        ("NNNNNNNN!!!!V", 5),
        ("NNNNNNNNVV!!", 0),  # too short
        ("NNNNNNNNVVV!", 0),
        ("NNNNNNNNV~~~~~", 0),  # not plainly ventricular
        ("NNN?????VV!!!!!", 0),  # the signal was bad before
        ("NNNNNNNN!!!!!!!", 0),
        ("VV!!!", 0),  # nothing before it
    ],
)
def test_what_is_withheld_as_noise_and_plainly_ventricular_counts_with_a_long_run_that_began_in_good_signal(
    labels: str, run: int
) -> None:
    assert _follow([0.5] * len(labels), labels).run[-1] == run


def test_beats_of_bad_signal_count_as_such_though_they_look_ventricular() -> None:
    there, alike = _follow([0.5] * 60, "NNNNNNV!N?" * 6), _follow([0.5] * 60, "NNNNNNV?N?" * 6)
    for one, other in zip(there, alike, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rhythm_of_which_little_is_known_has_no_irregularity() -> None:
    irregularity = _follow([0.8] * 30).fibrillation
    assert np.isnan(irregularity[:16]).all()
    assert (irregularity[16:] < -5).all()


def test_irregular_intervals_are_told_from_alternating_ones() -> None:
    chance = np.random.default_rng(1).uniform(0.45, 1.1, 40).tolist()
    limit = Limits().fibrillation_odds
    assert _follow(chance).fibrillation[-1] > limit + 1
    assert _follow([0.7, 0.9] * 20).fibrillation[-1] < limit - 0.5


@pytest.mark.parametrize(("labels", "is_known"), [("N", True), ("NNN?", True), ("NN?", True), ("N?", False)])
def test_where_more_than_a_third_is_withheld_intervals_alone_tell_nothing(labels: str, is_known: bool) -> None:
    rr_s = np.random.default_rng(1).uniform(0.45, 1.1, 48).tolist()
    odds = _follow(rr_s, (labels * 48)[:48]).fibrillation[-1]
    assert odds > Limits().fibrillation_odds if is_known else np.isnan(odds)


CHANCE = np.random.default_rng(3).uniform(0.6, 1.0, 40).tolist()
A_P_WAVE = (0.9, 0.1, -2.8, -2.0, -4.3, -3.9, -3.6, -4.5, 0.93, 0.9, 0.08)
"""`P_WAVE_NUMBERS` of a sinus rhythm, and of atrial fibrillation, both in a clean signal."""
NONE = (0.15, 0.5, -4.3, -3.2, -3.5, -3.3, -3.0, -4.5, 0.93, 0.75, 0.1)
NOT_KNOWN = (np.nan,) * len(P_WAVE_NUMBERS)


def _odds(rr_s: list[float], p_wave: tuple[float, ...]) -> float:
    """Log odds of atrial fibrillation at the last beat."""
    rhythms, device, times_s = Rhythms(), Device(), (START_S + np.cumsum(rr_s)).tolist()
    beats = [Beat(rr, NORMAL, p_wave=p_wave) for rr in rr_s]
    return float(rhythms.follow(cast(Beats, FakeBeats(device, beats, times_s))).fibrillation[-1])


def test_irregular_intervals_without_p_waves_are_fibrillation_and_with_them_less_so() -> None:
    assert _odds(CHANCE, NONE) > _odds(CHANCE, A_P_WAVE) + 2
    assert _odds(CHANCE, NONE) > Limits().fibrillation_odds


def test_regular_intervals_are_none_with_or_without_p_waves() -> None:
    assert _odds([0.8] * 40, NONE) < -5


@pytest.mark.parametrize("missed", [0.2, 0.33])
@pytest.mark.parametrize("rr_s", [0.2, 0.21, 0.23])
def test_a_fast_regular_rhythm_of_which_beats_are_missed_is_no_fibrillation(rr_s: float, missed: float) -> None:
    random = np.random.default_rng(4)
    found_s = np.cumsum(random.normal(rr_s, 0.004, 300))[random.random(300) > missed]
    intervals_s = (np.round(np.diff(found_s)[:60] * 125) / 125).tolist()
    assert _odds(intervals_s, NONE) == REGULAR
    assert _follow(intervals_s).fibrillation[-1] == REGULAR


def test_intervals_that_vary_as_widely_without_being_multiples_are_fibrillation() -> None:
    fast = np.random.default_rng(4).uniform(0.2, 0.7, 60).tolist()
    assert _odds(fast, NONE) > Limits().fibrillation_odds


def test_nine_intervals_are_enough_where_p_waves_are_known() -> None:
    assert np.isnan(_odds(CHANCE[:9], NONE))
    assert np.isfinite(_odds(CHANCE[:11], NONE))
    assert np.isnan(_odds(CHANCE[:11], NOT_KNOWN))


def test_nothing_is_said_before_anything_is_known_of_p_waves_where_a_class_model_judges() -> None:
    beats = [Beat(rr, NORMAL, p_wave=NOT_KNOWN) for rr in CHANCE] + [Beat(rr, NORMAL, p_wave=NONE) for rr in CHANCE]
    fake = cast(Beats, FakeBeats(Device(), beats, (START_S + np.cumsum([beat.after_s for beat in beats])).tolist()))
    odds = Rhythms(waits_for_p_waves=True).follow(fake).fibrillation
    assert np.isnan(odds[: len(CHANCE)]).all()
    assert odds[-1] > Limits().fibrillation_odds
    assert np.isfinite(Rhythms().follow(fake).fibrillation[len(CHANCE) - 1])


def test_odds_are_looked_at_at_every_second_beat_however_beats_come_in_batches() -> None:
    odds = _follow(CHANCE).fibrillation[17:]
    assert (odds[1::2] == odds[2::2]).all() or (odds[0::2] == odds[1::2]).all()
    assert np.unique(odds).size > odds.size // 3


def test_what_looks_like_fibrillation_in_noise_and_between_withheld_beats_does_so_less() -> None:
    noisy = (*NONE[:5], -2.0, -1.5, -2.2, 0.75, 0.4, 0.4)
    assert _odds(CHANCE, NONE) > _odds(CHANCE, noisy)


def test_what_is_measured_is_what_the_odds_are_of() -> None:
    beats = [Beat(rr, NORMAL, p_wave=NONE) for rr in [*CHANCE, *[0.8] * 40]]
    times_s = (START_S + np.cumsum([beat.after_s for beat in beats])).tolist()
    fake = cast(Beats, FakeBeats(Device(), beats, times_s))
    odds, numbers = Rhythms().follow(fake).fibrillation[::LOOK_EVERY], Rhythms().measure(fake)[::LOOK_EVERY]
    np.testing.assert_array_equal(np.isnan(odds), np.isnan(numbers[:, 0]))
    is_regular = odds == REGULAR
    assert is_regular.any()
    np.testing.assert_array_equal(is_regular, numbers[:, 0] == REGULAR)
    told = np.isfinite(odds) & ~is_regular
    np.testing.assert_allclose([answer(row, NETWORK) for row in numbers[told]], odds[told])


def test_intervals_beside_beats_of_bad_signal_are_not_irregular_where_p_waves_are_known() -> None:
    rr_s = [step for _ in range(12) for step in (0.8, 0.8, 0.8, 0.5, 1.1)]
    kinds = [(NORMAL, False), (NORMAL, False), (NORMAL, False), (WITHHELD, True), (NORMAL, False)] * 12
    told = []
    for p_wave in (NONE, NOT_KNOWN):
        beats = [
            Beat(rr, verdict, is_poor=poor, p_wave=NOT_KNOWN if poor else p_wave)
            for rr, (verdict, poor) in zip(rr_s, kinds, strict=True)
        ]
        fake = FakeBeats(Device(), beats, (START_S + np.cumsum(rr_s)).tolist())
        told.append(float(Rhythms().follow(cast(Beats, fake)).fibrillation[-1]))
    assert told[0] < -5
    assert told[1] > -5


def test_what_is_known_of_p_waves_holds_until_more_is() -> None:
    rhythms, device = Rhythms(), Device()
    known = [Beat(rr, NORMAL, p_wave=NONE) for rr in CHANCE]
    withheld = [Beat(0.7, WITHHELD, is_poor=True)]
    first = rhythms.follow(cast(Beats, FakeBeats(device, known, (START_S + np.cumsum(CHANCE)).tolist())))
    after_s = START_S + sum(CHANCE) + 0.7
    later = rhythms.follow(cast(Beats, FakeBeats(device, withheld, [after_s])))
    assert later.fibrillation[0] == pytest.approx(first.fibrillation[-1], abs=2)
    restored = Rhythms()
    restored.restore(device, rhythms.save(device))
    again = [Beat(0.7, WITHHELD, is_poor=True)]
    odds = [
        one.follow(cast(Beats, FakeBeats(device, again, [after_s + 0.7]))).fibrillation[0]
        for one in (rhythms, restored)
    ]
    assert odds[0] == odds[1]


def test_features_do_not_depend_on_the_heart_rate_but_for_entropy_large_differences_and_the_rate() -> None:
    rr_s = np.random.default_rng(2).uniform(0.5, 1.0, 30)
    linked = np.ones(30, bool)
    slow, fast = np.empty(FEATURES), np.empty(FEATURES)
    assert find_features(rr_s * 1.5, linked, slow) == KNOWN
    assert find_features(rr_s, linked, fast) == KNOWN
    same = [k for k in range(FEATURES) if OF_RR[k] not in ("entropy", "large_steps", "mean_rr")]
    np.testing.assert_allclose(slow[same], fast[same], atol=1e-4)


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
    assert len(saved) == STATE.itemsize < 730
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


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(300, 1500), min_size=20, max_size=30), st.integers(0, 2**30 - 1))
def test_features_are_those_of_a_naive_twin(rr_ms: list[int], breaks: int) -> None:
    rr_s = np.array(rr_ms) / 1000
    linked = np.array([i > 0 and (i % 5 > 0 or breaks >> i & 1 > 0) for i in range(rr_s.size)])
    found = np.empty(FEATURES)
    first = np.sort([abs(rr_s[i] - rr_s[i - 1]) / rr_s.mean() for i in np.flatnonzero(linked)])
    known = find_features(rr_s, linked, found)
    if known != KNOWN:
        assert known == UNKNOWN or first[first.size // 2] < REGULAR_BELOW
        return
    expected = [np.log(first[int(q * (first.size - 1))] + EPSILON) for q in QUANTILES]
    assert found[: len(QUANTILES)] == pytest.approx(expected)
    tolerance_s = TOLERANCE_S
    pairs, matches = _naive_matches(rr_s, linked, tolerance_s)
    while matches < MATCHES and tolerance_s <= 8 * TOLERANCE_S:
        tolerance_s *= 2
        pairs, matches = _naive_matches(rr_s, linked, tolerance_s)
    assert found[5] == pytest.approx(np.log(max(pairs, 1) / max(matches, 0.5) * 2 * tolerance_s / rr_s.mean()))
    in_order = np.sort(rr_s)
    low, high = (in_order[int(q * (rr_s.size - 1))] for q in (0.25, 0.75))
    assert found[11] == pytest.approx(np.log((high - low) / rr_s.mean() + EPSILON))
    middle, by_name = in_order[rr_s.size // 2], dict(zip(OF_RR, found.tolist(), strict=True))
    for name, width in (("narrow", NARROW), ("wide", WIDE)):
        counts = [np.count_nonzero((rr_s >= one) & (rr_s - one <= width * rr_s.mean())) for one in rr_s]
        assert by_name[name] == pytest.approx(max(counts) / rr_s.size)
    deviations = np.sort(abs(rr_s - middle))
    assert by_name["deviation"] == pytest.approx(np.log(deviations[rr_s.size // 2] / middle + EPSILON))
    assert by_name["early"] == np.mean(rr_s < EARLY * middle)
    assert by_name["late"] == np.mean(rr_s > LATE * middle)
    assert by_name["known"] == rr_s.size / WINDOW
    neighbours = [(rr_s[i - 1] - rr_s.mean(), rr_s[i] - rr_s.mean()) for i in np.flatnonzero(linked)]
    both, power = sum(a * b for a, b in neighbours), sum(a * a + b * b for a, b in neighbours) / 2
    assert by_name["correlation"] == pytest.approx(both / power, rel=1e-3, abs=1e-4)


def test_too_few_intervals_are_neither_regular_nor_irregular() -> None:
    linked, out = np.ones(8, bool), np.empty(FEATURES)
    assert find_features(np.full(8, 0.8), linked, out) == UNKNOWN
    assert find_features(np.full(9, 0.8), np.ones(9, bool), out) == PLAINLY_REGULAR


def _naive_matches(rr_s: np.ndarray, linked: np.ndarray, tolerance_s: float) -> tuple[int, int]:
    starts = [i for i in range(rr_s.size - 1) if linked[i + 1]]
    pairs = [(i, j) for i in starts for j in starts if i < j and abs(rr_s[i] - rr_s[j]) <= tolerance_s]
    return len(pairs), sum(abs(rr_s[i + 1] - rr_s[j + 1]) <= tolerance_s for i, j in pairs)
