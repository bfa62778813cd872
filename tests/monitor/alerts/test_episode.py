"""When an alert begins, goes on, and ends."""

from __future__ import annotations

import pytest

from monitor.alerts.episode import SET_BACK_S, AlertSettings, Episode


def _tell(pattern: str, **numbers: float) -> str:
    """Feed one observation a second: x abnormal, . calm, ? neither; return n, u, e or - for each."""
    settings = {"n": 3, "m": 5, "update_s": 10.0, "refractory_s": 30.0} | numbers
    episode = Episode(int(settings["n"]), int(settings["m"]), settings["update_s"], settings["refractory_s"])
    told = [episode.observe(float(t), c == "x", c == ".") for t, c in enumerate(pattern)]
    return "".join("-" if state is None else state[0] for state in told)


def test_two_abnormal_beats_are_no_alert() -> None:
    assert _tell("..x..x....x") == "-----------"


def test_three_of_five_begin_an_episode() -> None:
    assert _tell("x.x.x") == "----n"


def test_five_calm_beats_in_a_row_end_it() -> None:
    assert _tell("xxx.....") == "--n----e"
    assert _tell("xxx....x.....") == "--n---------e"


def test_a_beat_between_the_thresholds_neither_begins_nor_ends_it() -> None:
    assert _tell("??????") == "------"
    assert _tell("xxx..?..?...") == "--n---------"


def test_updates_come_after_their_time_and_only_on_abnormal_beats() -> None:
    assert _tell("xxxxxxxxxxxxxxx") == "--n---------u--"
    assert _tell("xxx??????????x") == "--n----------u"


def test_no_new_episode_within_the_refractory_time() -> None:
    assert _tell("xxx.....xxxxx", refractory_s=30) == "--n----e-----"
    assert _tell("xxx.....xxxxx", refractory_s=0) == "--n----e--n--"


def test_an_episode_knows_since_when_and_how_many() -> None:
    episode = Episode(2, 3, 10.0, 30.0)
    for t, event in enumerate([False, True, False, True, True]):
        episode.observe(float(t), event, not event)
    assert (episode.since_s, episode.count) == (1.0, 3)


def test_only_what_lies_far_before_the_latest_observation_says_that_the_clock_was_set_back() -> None:
    episode = Episode(2, 3, 10.0, 30.0)
    assert not episode.was_set_back(0.0)
    for time_s in (1000.0, 990.0):
        episode.observe(time_s, True, False)
    assert not episode.was_set_back(1000.0 - SET_BACK_S)
    assert episode.was_set_back(999.0 - SET_BACK_S)
    assert Episode(2, 3, 10.0, 30.0, *episode.memory()).was_set_back(999.0 - SET_BACK_S)


@pytest.mark.parametrize(("n", "m"), [(0, 5), (6, 5), (1, 2000), (-1, -1)])
def test_numbers_no_stream_could_satisfy_are_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"got {n} of {m}"):
        AlertSettings(n=n, m=m)


@pytest.mark.parametrize(
    "setting", [{"exit_ratio": 0.0}, {"exit_ratio": 1.5}, {"update_s": -1.0}, {"refractory_s": float("nan")}]
)
def test_other_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        AlertSettings(**setting)  # type: ignore[arg-type]
