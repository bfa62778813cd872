"""Only what somebody sees is subscribed and passed on; what is not of the contract is counted and dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import wire
from monitor.page.fleet import Fleet
from monitor.page.hub import FEW, LINGER_S, MOST_GONE, Heard, Hub
from monitor.page.viewer import Viewer
from tests.monitor.page.fake_broker import FakeBroker
from tests.monitor.page.messages import NOW_S, TOPICS, alert, beat, heard, packet, state, status

SAMPLES = TOPICS.of("a", "samples")


def _hub() -> tuple[Hub, FakeBroker]:
    broker = FakeBroker()
    return Hub(TOPICS, broker), broker


def _viewer(hub: Hub) -> Viewer:
    viewer = Viewer(lambda: None)
    hub.join(viewer)
    return viewer


def _frames(hub: Hub, viewer: Viewer) -> int:
    return sum(isinstance(message, bytes) for message in viewer.take(hub.fleet, NOW_S))


def _news(hub: Hub, viewer: Viewer) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for message in viewer.take(hub.fleet, NOW_S):
        if isinstance(message, str):
            merged |= json.loads(message)
    return merged


def test_signal_is_subscribed_only_while_somebody_sees_it() -> None:
    hub, broker = _hub()
    one, other = _viewer(hub), _viewer(hub)
    assert SAMPLES not in broker.topics
    hub.watch(one, {"a": 0.0}, NOW_S)
    hub.watch(other, {"a": 0.0}, NOW_S)
    assert SAMPLES in broker.topics
    hub.leave(one, NOW_S)
    hub.tick(NOW_S + LINGER_S + 1)
    assert SAMPLES in broker.topics
    hub.watch(other, {}, NOW_S + 20)
    hub.tick(NOW_S + 21)
    assert SAMPLES in broker.topics, "who scrolls back wants it again"
    hub.tick(NOW_S + 21 + LINGER_S)
    assert SAMPLES not in broker.topics


def test_signal_goes_to_the_pages_that_show_the_device() -> None:
    hub, _ = _hub()
    one, other = _viewer(hub), _viewer(hub)
    hub.watch(one, {"a": 0.0}, NOW_S)
    hub.watch(other, {"b": 0.0}, NOW_S)
    hub.take([heard("a", "samples", packet())], NOW_S)
    assert (_frames(hub, one), _frames(hub, other)) == (1, 0)


def test_a_page_that_was_cut_off_gets_what_it_missed() -> None:
    hub, _ = _hub()
    first = _viewer(hub)
    hub.watch(first, {"a": 0.0}, NOW_S)
    hub.take([heard("a", "samples", packet(seq, NOW_S + seq)) for seq in range(5)], NOW_S)
    hub.leave(first, NOW_S + 5)
    hub.take([heard("a", "samples", packet(seq, NOW_S + seq)) for seq in range(5, 8)], NOW_S)
    again = _viewer(hub)
    hub.watch(again, {"a": NOW_S + 5}, NOW_S + 8)
    assert _frames(hub, again) == 3


def test_beats_are_heard_of_all_devices_while_there_are_few() -> None:
    hub, broker = _hub()
    assert TOPICS.of("+", "beats") in broker.topics
    viewer = _viewer(hub)
    hub.watch(viewer, {"d0": 0.0}, NOW_S)
    hub.take([heard(f"d{i}", "state", state(f"d{i}")) for i in range(FEW + 1)], NOW_S)
    hub.tick(NOW_S)
    assert TOPICS.of("+", "beats") not in broker.topics
    assert TOPICS.of("d0", "beats") in broker.topics
    hub.watch(viewer, {"d1": 0.0}, NOW_S)
    hub.tick(NOW_S + LINGER_S + 1)
    assert TOPICS.of("d0", "beats") not in broker.topics
    assert TOPICS.of("d1", "beats") in broker.topics


def test_a_page_that_opens_a_device_gets_its_last_beats() -> None:
    hub, _ = _hub()
    hub.take([heard("a", "beats", beat(time_s=NOW_S + i)) for i in range(3)], NOW_S)
    viewer = _viewer(hub)
    hub.watch(viewer, {"a": 0.0}, NOW_S)
    assert [one["qrs_s"] for one in _news(hub, viewer)["beats"]] == [NOW_S, NOW_S + 1, NOW_S + 2]


def test_the_resolution_is_told_with_the_signal_once_it_is_known() -> None:
    hub, _ = _hub()
    viewer = _viewer(hub)
    hub.watch(viewer, {"a": 0.0}, NOW_S)
    info = b'{"rate_hz": 125, "lead": "II", "resolution_uv": 2.5}'
    hub.take([heard("a", "info", info), heard("a", "samples", packet())], NOW_S)
    assert hub.info("a") is not None
    assert _frames(hub, viewer) == 1


def test_a_monitor_s_status_reaches_every_page() -> None:
    hub, _ = _hub()
    viewer = _viewer(hub)
    hub.take([status()], NOW_S)
    assert _news(hub, viewer)["monitors"]["monitor"]["state"] == "online"


def test_a_cleared_state_takes_the_device_off_the_page() -> None:
    hub, _ = _hub()
    hub.take([heard("a", "state", state())], NOW_S)
    hub.take([heard("a", "state", b"")], NOW_S)
    assert not hub.fleet.rows


@pytest.mark.parametrize(
    ("leaf", "message"),
    [("alerts", alert("b")), ("beats", beat("b")), ("state", state("b"))],
    ids=["alerts", "beats", "state"],
)
def test_a_device_cannot_speak_for_another(leaf: str, message: object) -> None:
    hub, _ = _hub()
    hub.take([heard("a", leaf, message)], NOW_S)
    assert not hub.fleet.rows
    assert hub.refused == {leaf: 1}


def test_nothing_is_kept_of_devices_that_only_a_page_has_named() -> None:
    hub, broker = _hub()
    viewer = _viewer(hub)
    for i in range(5):
        hub.watch(viewer, {f"x{i}-{k}": 0.0 for k in range(64)}, NOW_S + i)
        hub.tick(NOW_S + i)
    assert not hub.trends
    hub.leave(viewer, NOW_S + 5)
    hub.tick(NOW_S + 6 + LINGER_S)
    assert not [topic for topic in broker.topics if "/x" in topic]


def test_trends_of_devices_that_have_left_are_bounded_and_the_latest_stay() -> None:
    hub, _ = _hub()
    for i in range(MOST_GONE + 10):
        hub.take([heard(f"d{i}", "state", state(f"d{i}")), heard(f"d{i}", "state", b"")], NOW_S)
    assert len(hub.trends) == MOST_GONE
    hub.take([heard("d10", "state", state("d10")), *(heard(f"e{i}", "state", state(f"e{i}")) for i in range(9))], NOW_S)
    hub.take([heard(f"e{i}", "state", b"") for i in range(9)], NOW_S)
    assert "d10" in hub.trends, "it is back"
    assert {"d11", "e8"} & hub.trends.keys() == {"e8"}


class _FaultyFleet(Fleet):
    """Fails with one device."""

    def take_state(self, state: wire.DeviceState, now_s: float, is_retained: bool = False) -> None:
        if state.device == "a":
            raise KeyError(state.device)
        super().take_state(state, now_s, is_retained)


def test_a_fault_with_one_message_costs_no_other() -> None:
    hub, _ = _hub()
    hub.fleet = _FaultyFleet()
    hub.take([heard(device, "state", state(device)) for device in "abc"], NOW_S)
    assert list(hub.fleet.rows) == ["b", "c"]
    assert hub.refused == {"fault": 1}


@given(st.sampled_from(["state", "alerts", "beats", "samples", "info", "status", "else"]), st.binary(max_size=200))
def test_whatever_comes_is_taken_or_counted(leaf: str, payload: bytes) -> None:
    hub, _ = _hub()
    hub.watch(_viewer(hub), {"a": 0.0}, NOW_S)
    hub.take([heard("a", leaf, payload), Heard("ecg/v1/monitor/m/status", payload), Heard("x/y", payload)], NOW_S)
    assert hub.refused["y"] == 1
    assert hub.refused["fault"] == 0


def test_nothing_is_kept_of_a_device_that_a_person_had_forgotten() -> None:
    hub, _ = _hub()
    viewer = _viewer(hub)
    for device in "ab":
        hub.take([heard(device, "state", state(device)), heard(device, "alerts", alert(device=device))], NOW_S)
        hub.take([heard(device, "beats", beat(device=device))], NOW_S)
    _news(hub, viewer)
    told = wire.encode(wire.Forgotten(device="a", time_s=NOW_S))
    hub.take([Heard(TOPICS.forgotten("monitor"), told)], NOW_S)
    assert set(hub.fleet.rows) == {"b"}
    assert {one.device for one in hub.fleet.episodes.values()} == {"b"}
    assert set(hub.trends) == {"b"}
    assert hub.fleet.gone_since(0) == ["a"]
    assert not hub.refused
