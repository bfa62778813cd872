"""Alerts about ectopic beats."""

from __future__ import annotations

import pytest

from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, NORMAL, WITHHELD
from monitor.alerts.registry import make_detectors
from tests.monitor.alerts.player import Beat, Player, Step

N, V = Beat(0.8, NORMAL, 0.1), Beat(0.5, ABNORMAL, 0.9, label="V")
S, SLOW_V = Beat(0.6, ABNORMAL, 0.9, label="S"), Beat(0.8, ABNORMAL, 0.9, label="V")
NOISE = Beat(0.5, WITHHELD, is_poor=True)
V_IN_NOISE, N_IN_NOISE = NOISE._replace(ventricular=0.9), NOISE._replace(ventricular=0.1)
BEATS = {"n": N, "v": V, "s": S, "w": SLOW_V, "?": NOISE, "!": V_IN_NOISE, "-": N_IN_NOISE}


def _kinds(pattern: str, states: tuple[str, ...] = ("new",)) -> list[str]:
    player = Player(make_detectors(AlertSettings()))
    steps: list[Step] = [BEATS[letter] for letter in pattern]
    player.play(steps)
    return [alert.kind for alert in player.alerts if alert.state in states and alert.severity != "technical"]


def test_single_ectopic_beats_are_no_alert() -> None:
    assert _kinds("nnnnnnvnnnnnnnnsnnnnnnnvnnnn") == []


def test_two_in_a_row_are_a_couplet_once_no_third_follows() -> None:
    assert _kinds("nnnnvv") == []
    assert _kinds("nnnnvvn") == ["couplet"]


@pytest.mark.parametrize("run", [3, 4])
def test_three_or_four_in_a_row_are_a_run(run: int) -> None:
    assert _kinds("nnnn" + "v" * run + "nnnnnnnn") == ["ventricular-run"]


def test_five_in_a_row_are_a_tachycardia_which_takes_the_place_of_the_run() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*[N] * 4, *[V] * 6, *[N] * 10])
    told = [(a.kind, a.state) for a in player.alerts]
    assert told == [
        ("ventricular-run", "new"),
        ("ventricular-tachycardia", "new"),
        ("ventricular-run", "end"),
        ("ventricular-tachycardia", "end"),
    ]
    assert player.alerts[1].text == "5 ventricular beats in a row at 120/min."
    assert player.alerts[1].severity == "high"


def test_a_slow_ventricular_rhythm_is_neither() -> None:
    assert not {"ventricular-run", "ventricular-tachycardia"} & {*_kinds("nnnn" + "w" * 20)}


@pytest.mark.parametrize(("after_s", "told"), [(0.5, False), (0.44, False), (0.4, True), (0.35, True)])
def test_beats_that_only_look_ventricular_at_an_unchanged_rate_are_neither(after_s: float, told: bool) -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*[N._replace(after_s=0.5)] * 20, *[V._replace(after_s=after_s)] * 12])
    assert ("ventricular-tachycardia" in [alert.kind for alert in player.alerts]) == told


def test_one_beat_of_bad_signal_does_not_end_a_run() -> None:
    assert "ventricular-tachycardia" in _kinds("nnnnvv?vvvv")
    assert "ventricular-tachycardia" not in _kinds("nnnnvv??vvv")


@pytest.mark.parametrize("noise", ["!" * 8, "!!?!!!", "!?!!!?!!!!"])
def test_a_run_of_which_the_gate_withholds_most_is_a_tachycardia_until_others_are_judged(noise: str) -> None:
    assert "ventricular-tachycardia" in _kinds("n" * 12 + "vv" + noise)
    assert "ventricular-tachycardia" not in _kinds("n" * 12 + "vv" + noise, ("end",))
    assert "ventricular-tachycardia" in _kinds("n" * 12 + "vv" + noise + "nnnnn", ("end",))


def _played(*steps: Step) -> list[str]:
    player = Player(make_detectors(AlertSettings()))
    player.play(steps)
    return [f"{alert.kind} {alert.state}" for alert in player.alerts if alert.kind == "ventricular-tachycardia"]


@pytest.mark.parametrize("rr_s", [0.4, 0.5, 0.58])
def test_a_steady_tachycardia_that_becomes_usual_goes_on_while_its_rate_does(rr_s: float) -> None:
    before, run = [N] * 20, [V._replace(after_s=rr_s)] * 20
    drifting = [N._replace(after_s=rr_s * (1 - 0.001 * k)) for k in range(200)]
    assert not any("end" in one for one in _played(*before, *run, *drifting))
    assert any("end" in one for one in _played(*before, *run, *drifting, *[N] * 8))


@pytest.mark.parametrize("rr_s", [0.4, 0.5, 0.58])
def test_a_short_tachycardia_is_over_with_its_beats_whatever_the_rate(rr_s: float) -> None:
    run, after = [V._replace(after_s=rr_s)] * 7, [N._replace(after_s=rr_s)] * 8
    assert any("end" in one for one in _played(*[N] * 20, *run, *after))


@pytest.mark.parametrize("change", [0.85, 1.15, 1.5])
def test_a_tachycardia_is_over_once_others_come_at_another_rate(change: float) -> None:
    run, after = [V._replace(after_s=0.5)] * 20, [N._replace(after_s=0.5 * change)] * 8
    assert any("end" in one for one in _played(*[N] * 20, *run, *after))


def test_noise_alone_is_no_tachycardia_however_ventricular_it_looks() -> None:
    assert "ventricular-tachycardia" not in _kinds("n" * 12 + "!" * 40)


def test_noise_that_lasts_and_does_not_look_ventricular_ends_a_tachycardia() -> None:
    begins = "n" * 12 + "v" * 6
    assert "ventricular-tachycardia" not in _kinds(begins + "-" * 20, ("end",))
    assert "ventricular-tachycardia" in _kinds(begins + "-" * 26, ("end",))
    assert "ventricular-tachycardia" not in _kinds(begins + "!" * 60, ("end",))
    assert "ventricular-tachycardia" not in _kinds(begins + "?" * 60, ("end",))


def test_every_second_beat_is_a_bigeminy_and_every_third_a_trigeminy() -> None:
    assert _kinds("nnnnvnvnv") == ["bigeminy"]
    assert _kinds("nnnnvnnvnnv") == ["trigeminy"]
    assert _kinds("nnnnvnnnvnnnvnnnv") == []


def test_a_bigeminy_goes_on_until_it_is_over() -> None:
    kinds = _kinds("nnnn" + "vn" * 40 + "n" * 20, ("new", "end"))
    assert [kind for kind in kinds if kind == "bigeminy"] == ["bigeminy", "bigeminy"]


def test_many_ectopic_beats_within_a_minute_are_alerted() -> None:
    assert _kinds("nnnnv" * 12) == ["ventricular-ectopy"]
    assert _kinds("nnnns" * 12) == ["supraventricular-ectopy"]
    assert _kinds("nnnnnnnnnnv" * 8) == []


def test_the_beats_of_an_alert_have_their_classes() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*[N] * 4, *[V] * 3])
    assert "".join(str(beat.label) for beat in player.alerts[0].recent) == "NNNNVVV"


@pytest.mark.parametrize("rr_s", [0.4, 0.8, 1.2])
def test_beats_at_a_new_steady_rate_are_no_ectopic_ones(rr_s: float) -> None:
    """A heart of 33/min that goes on at another rate: a class model may call the beats early until it is used to it."""
    player = Player(make_detectors(AlertSettings()))
    slow, fast = N._replace(after_s=1.8), S._replace(after_s=rr_s)
    irregular = [fast._replace(after_s=rr_s * (1 + 0.04 * (-1) ** i)) for i in range(15)]
    player.play([*[slow] * 20, *irregular, *[N._replace(after_s=rr_s)] * 20])
    assert not {alert.kind for alert in player.alerts} & {"supraventricular-ectopy", "abnormal-beats"}


def test_early_beats_in_pairs_and_in_bigeminy_are_ectopic_all_the_same() -> None:
    assert "supraventricular-ectopy" in _kinds("nnnss" * 8)
    assert "supraventricular-ectopy" in _kinds("nnnsss" * 8)
    assert "supraventricular-ectopy" in _kinds("ns" * 12)


def test_a_new_rate_ends_the_alert_of_ectopic_beats() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*[N, S] * 12, *[N] * 3, *[S] * 30])
    told = [alert.state for alert in player.alerts if alert.kind == "supraventricular-ectopy"]
    assert told == ["new", "end"]
