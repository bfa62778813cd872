"""What people ask of a monitor: granted, answered, told, kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from monitor import counters, wire
from monitor.broker.memory import MemoryBroker, Published
from monitor.broker.source import ReplyTo
from monitor.service.decisions import Decisions
from monitor.state.location import locate
from monitor.state.memory import MemoryLocation
from monitor.state.store import Transaction
from monitor.state.worker import ThreadedStore
from tests.monitor.service.one_monitor import ANSWERS, CALM, SLOW, TOPICS, Monitor, running


@pytest.fixture(autouse=True)
def _looks_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.service.states.LOOK_S", 0.0)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with running(MemoryBroker(), state=f"memory:{uuid4()}") as running_one:
        yield running_one


@pytest.fixture
def alerted(monitor: Monitor) -> Monitor:
    """A monitor that watches a slow heart."""
    monitor.play("a", SLOW)
    assert [alert.state for alert in monitor.alerts("a")] == ["new"]
    return monitor


def _episode(monitor: Monitor, device: str = "a") -> str:
    return monitor.alerts(device)[0].episode


def _text(answer: wire.Answer | None, ok: bool = True) -> str:
    assert answer is not None
    assert answer.ok is ok, answer.text
    return answer.text


def _state(monitor: Monitor, device: str = "a") -> wire.DeviceState:
    state = monitor.state(device)
    assert state is not None
    return state


def test_an_alert_that_is_acknowledged_says_by_whom(alerted: Monitor) -> None:
    assert _text(alerted.ask("acknowledge", "a", episode=_episode(alerted))) == "a: acknowledged bradycardia."
    [shown] = _state(alerted).alerts
    assert (shown.kind, shown.acknowledged_by) == ("bradycardia", "nurse")
    step = alerted.alerts("a")[-1]
    new = alerted.alerts("a")[0]
    assert (step.state, step.by, step.episode, step.since_s) == ("acknowledged", "nurse", new.episode, new.since_s)
    assert (step.kind, step.severity, step.text) == (new.kind, new.severity, new.text)


def test_the_first_who_acknowledges_is_kept(alerted: Monitor) -> None:
    alerted.ask("acknowledge", "a", by="first")
    assert "was acknowledged by first before" in _text(alerted.ask("acknowledge", "a", by="second"))
    assert _state(alerted).alerts[0].acknowledged_by == "first"
    assert [alert.state for alert in alerted.alerts("a")] == ["new", "acknowledged"]


def test_an_alert_that_is_over_can_still_be_acknowledged(alerted: Monitor) -> None:
    alerted.play("a", CALM)
    assert _state(alerted).alerts == []
    assert _text(alerted.ask("acknowledge", "a", episode=_episode(alerted)))
    assert alerted.alerts("a")[-1].state == "acknowledged"


@pytest.mark.parametrize(
    ("verb", "fields", "why"),
    [
        ("acknowledge", {}, "b has no active alert."),
        ("acknowledge", {"kind": "pause"}, "b has no active alert pause."),
        ("acknowledge", {"episode": "b-1-pause"}, "b has had no alert 'b-1-pause': expected an 'episode'"),
        ("comment", {"episode": "b-1-pause", "text": "?"}, "b has had no alert 'b-1-pause': expected an 'episode'"),
        ("comment", {"episode": "b-1-pause"}, "A comment needs an episode and a text."),
        ("judge", {"episode": "b-1-pause"}, "whether it was right"),
        ("silence", {"for_s": 600}, "A silence needs for_s, in seconds, and a reason."),
        ("silence", {"reason": "washing"}, "A silence needs for_s, in seconds, and a reason."),
        ("silence", {"reason": "r", "for_s": 1e9}, "Expected `float` <= 604800.0"),
        ("silence", {"reason": "r", "for_s": 600, "kind": "bradicardia"}, "did you mean bradycardia?"),
        ("unsilence", {}, "Nothing is silenced."),
        ("rename", {"name": " "}, "A name must not be empty"),
        ("rename", {"name": "\x1b[2J"}, "name must be printable text"),
        ("limits", {}, "Limits must be given"),
        ("limits", {"limits": {"bradicardia": {"below_bpm": 45}}}, "did you mean bradycardia?"),
        ("limits", {"limits": {"bradycardia": {"below": 45}}}, "did you mean below_bpm?"),
        ("limits", {"limits": {"bradycardia": {"below_bpm": 4000}}}, "must lie between 15 and 300: got 4000"),
        ("limits", {"limits": {"bradycardia": {"below_bpm": -1}}}, "must lie between 15 and 300: got -1"),
        ("limits", {"limits": {"asystole": {"m": 3.5}}}, "must be a whole number: got 3.5"),
        ("limits", {"limits": {"asystole": {"n": 4}}}, "n must be at most m: got 4 of 3"),
        ("limits", {"limits": {"lead-off": {"silent": 4}}}, "lead-off has no limit 'silent'"),
        ("acknowlege", {}, "There is no request 'acknowlege', did you mean acknowledge?"),
        ("acknowledge", {"id": "уже видел"}, "- at `$.id`"),
        ("acknowledge", {"id": "a\n"}, "- at `$.id`"),
        ("rename", {"by": ""}, "Expected `str` of length >= 1 - at `$.by`"),
    ],
)
def test_what_cannot_be_granted_is_refused_with_a_reason(
    monitor: Monitor, verb: str, fields: dict[str, Any], why: str
) -> None:
    assert why in _text(monitor.ask(verb, "b", **fields), ok=False)
    assert monitor.service.engine.counts[counters.REQUESTS_REFUSED] == 1
    assert monitor.service.engine.counts[counters.REQUESTS] == 0
    assert monitor.loop._parts.states._decisions.devices() == []


def test_a_silenced_alert_is_published_and_kept_and_says_that_it_is(monitor: Monitor) -> None:
    text = _text(monitor.ask("silence", "a", kind="bradycardia", for_s=600, reason="an athlete"))
    assert text.startswith("a: bradycardia silenced until ")
    monitor.play("a", SLOW)
    [alert] = monitor.alerts("a")
    assert (alert.kind, alert.silenced) == ("bradycardia", True)
    [silence] = _state(monitor).silenced
    assert (silence.kind, silence.by, silence.reason) == ("bradycardia", "nurse", "an athlete")
    assert _text(monitor.ask("unsilence", "a", kind="bradycardia"))
    assert _state(monitor).silenced == []
    monitor.play("a", CALM)
    slow = [alert for alert in monitor.alerts("a") if alert.kind == "bradycardia"]
    assert [(alert.state, alert.silenced) for alert in slow] == [("new", True), ("end", False)]


def test_a_silence_of_one_device_or_kind_is_not_that_of_another(monitor: Monitor) -> None:
    monitor.ask("silence", "a", kind="pause", for_s=600, reason="r")
    monitor.ask("silence", "b", for_s=600, reason="r")
    for device in "abc":
        monitor.play(device, SLOW)
    assert [monitor.alerts(device)[0].silenced for device in "abc"] == [False, True, False]


def test_silencing_what_is_active_is_a_step_of_its_life(alerted: Monitor) -> None:
    alerted.ask("silence", "a", for_s=600, reason="known")
    step = alerted.alerts("a")[-1]
    assert (step.state, step.kind, step.by, step.comment, step.silenced) == (
        "silenced", "bradycardia", "nurse", "known", True,
    )  # fmt: skip


def test_a_silence_ends_by_itself(monitor: Monitor) -> None:
    monitor.ask("silence", "a", for_s=0.001, reason="r")
    monitor.play("a", SLOW)
    assert not monitor.alerts("a")[0].silenced
    assert _state(monitor).silenced == []


def test_a_comment_and_a_judgement_are_told_and_kept(alerted: Monitor) -> None:
    episode = _episode(alerted)
    alerted.ask("comment", "a", episode=episode, text="asleep")
    alerted.ask("judge", "a", episode=episode, right=False, text="T waves")
    steps = [(one.state, one.comment, one.right) for one in alerted.alerts("a")[1:]]
    assert steps == [("commented", "asleep", None), ("commented", "T waves", False)]


def test_a_name_is_shown_until_it_is_taken_away(monitor: Monitor) -> None:
    assert _text(monitor.ask("rename", "a", name=" Bed 4 ")).startswith("a is called Bed 4.")
    monitor.play("a", CALM)
    assert _state(monitor).name == "Bed 4"
    monitor.ask("rename", "a", name=None)
    assert _state(monitor).name is None


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("rename", {"name": "Bed 9"}),
        ("silence", {"for_s": 60, "reason": "washing"}),
        ("limits", {"limits": {"bradycardia": {"below_bpm": 45}}}),
    ],
)
def test_what_is_decided_of_a_device_that_nobody_has_heard_of_says_so(
    monitor: Monitor, verb: str, fields: dict[str, Any]
) -> None:
    unheard = "No device of this id is heard now"
    assert _text(monitor.ask(verb, "live-57", **fields)).endswith(f"{unheard}.")
    monitor.play("live-75", CALM[:500])
    assert _text(monitor.ask(verb, "live-57", **fields)).endswith(f"{unheard}, did you mean live-75?")
    assert unheard not in _text(monitor.ask(verb, "live-75", **fields))


def test_limits_of_one_device_change_what_is_alerted_of_it_alone(monitor: Monitor) -> None:
    assert _text(monitor.ask("limits", "a", limits={"bradycardia": {"below_bpm": 20}, "pause": {"limit_s": 5}}))
    for device in "ab":
        monitor.play(device, SLOW)
    assert [alert.kind for alert in monitor.alerts("a")] == []
    assert [alert.kind for alert in monitor.alerts("b")] == ["bradycardia"]
    assert _state(monitor).limits == {"bradycardia": {"below_bpm": 20.0}, "pause": {"limit_s": 5.0}}
    monitor.ask("limits", "a", limits={"bradycardia": {}})
    assert _state(monitor).limits == {"pause": {"limit_s": 5.0}}
    monitor.play("a", SLOW)
    assert [alert.kind for alert in monitor.alerts("a")] == ["bradycardia"]


def test_closer_limits_alert_what_is_well_for_others(monitor: Monitor) -> None:
    monitor.ask("limits", "a", limits={"tachycardia": {"above_bpm": 70}})
    for device in "ab":
        monitor.play(device, CALM)
    assert [(alert.kind, alert.text) for alert in monitor.alerts("a")] == [
        ("tachycardia", "Heart rate 75/min, above 70.")
    ]
    assert monitor.alerts("b") == []


def test_a_request_is_granted_once_however_often_it_comes(monitor: Monitor) -> None:
    monitor.play("a", SLOW)
    fields = {"episode": _episode(monitor), "text": "seen", "id": "once"}
    answers = [_text(monitor.ask("comment", "a", **fields)) for _ in range(3)]
    assert len({*answers}) == 1
    assert [alert.state for alert in monitor.alerts("a")] == ["new", "commented"]
    assert "was that of another request" in _text(monitor.ask("comment", "a", **fields | {"text": "x"}), ok=False)


def test_every_granted_request_is_in_the_audit_trail(tmp_path: Path) -> None:
    with running(MemoryBroker(), state=tmp_path) as monitor:
        monitor.ask("rename", "a", name="Bed 4", by="anna")
        monitor.ask("rename", "a", name=" ", by="berta")
        monitor.ask("silence", "b", for_s=60, reason="r", by="berta")
        rows = locate(tmp_path).read_requests("monitor", 0.0)
    assert [(row.by, row.verb, row.device, row.answer[:15]) for row in rows] == [
        ("anna", "rename", "a", "a is called Bed"),
        ("berta", "silence", "b", "b: all alerts s"),
    ]
    assert json.loads(rows[0].payload)["name"] == "Bed 4"


ELSEWHERE = ("ecg/v1/a/alerts", TOPICS.monitor_status("monitor"), TOPICS.answer("other", "x"), f"{ANSWERS}/#", "")
UNSOUND = (f"{ANSWERS}/\x01", f"{ANSWERS}/\ufffe", f"{ANSWERS}/{'é' * 90}", f"{ANSWERS}/{'x' * 70_000}")
"""For these, brokers end the connection, or the client refuses them."""


@pytest.mark.parametrize("in_properties", [False, True])
def test_who_wants_an_answer_where_none_goes_is_refused(
    monitor: Monitor, in_properties: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for topic in (*ELSEWHERE, *UNSOUND):
        before = len(monitor.messages(topic))
        if in_properties:
            assert _ask_by_properties(monitor, ReplyTo(topic, None), response_topic=ANSWERS) == []
        else:
            assert monitor.ask("rename", "a", name="x", response_topic=topic) is None
        assert len(monitor.messages(topic)) == before
        is_refused_by_its_length = not in_properties and len(topic) > 200
        assert is_refused_by_its_length or f"got the response topic {topic[:200]!r}" in caplog.text
    assert "Answers go below ecg/v1/monitor/monitor/answer/ only, on topics of at most 200 bytes" in caplog.text
    counts, wanted = monitor.service.engine.counts, len(ELSEWHERE) + len(UNSOUND)
    assert (counts[counters.ANSWERS_NOWHERE], counts[counters.REQUESTS_REFUSED]) == (wanted, wanted)
    assert counts[counters.REQUESTS] == 0


def _ask_by_properties(monitor: Monitor, reply_to: ReplyTo, verb: str = "rename", **fields: Any) -> list[Published]:
    """Ask as a client of MQTT 5; return what comes below the topic of answers."""
    asked = {"by": "nurse", "device": "a", "id": uuid4().hex, "name": "x"} | fields
    before = len(monitor.broker.published)
    monitor.broker.publish(TOPICS.request("monitor", verb), json.dumps(asked).encode(), reply_to=reply_to)
    monitor.turn()
    below = TOPICS.answer("monitor", "")
    return [one for one in monitor.broker.published[before:] if one.topic.startswith(below)]


def test_a_request_in_mqtt_5_is_answered_where_its_properties_say_with_its_correlation_data(monitor: Monitor) -> None:
    there, data = TOPICS.answer("monitor", "hall/7"), b"\x00\xff"
    [answer] = _ask_by_properties(monitor, ReplyTo(there, data), name="Bed 4", response_topic=ANSWERS)
    assert (answer.topic, answer.reply_to) == (there, ReplyTo(None, data))
    assert wire.decode(answer.payload, wire.Answer).text.startswith("a is called Bed 4.")
    [answer] = _ask_by_properties(monitor, ReplyTo(there, None), name=" ")
    assert (answer.topic, answer.reply_to) == (there, None)
    assert not wire.decode(answer.payload, wire.Answer).ok
    [answer] = _ask_by_properties(monitor, ReplyTo(None, data), response_topic=ANSWERS)
    assert (answer.topic, answer.reply_to) == (ANSWERS, ReplyTo(None, data))
    [answer] = _ask_by_properties(monitor, ReplyTo(there, data), "reload")
    assert (answer.topic, answer.reply_to) == (there, ReplyTo(None, data))


def test_a_request_that_comes_twice_is_answered_to_whoever_asks_again(monitor: Monitor) -> None:
    for name in ("first", "second"):
        reply_to = ReplyTo(TOPICS.answer("monitor", name), name.encode())
        [answer] = _ask_by_properties(monitor, reply_to, id="same")
        assert (answer.topic, answer.reply_to) == (reply_to.topic, ReplyTo(None, name.encode()))
    assert monitor.service.engine.counts[counters.REQUESTS] == 1


def test_garbage_and_retained_requests_are_refused_and_disturb_nobody(monitor: Monitor) -> None:
    topic = TOPICS.request("monitor", "rename")
    for payload in (b"", b"\xff", b"{}", b"[1]", b'{"by": 1}', b"{" * 10_000):
        monitor.broker.publish(topic, payload)
    monitor.broker.publish(topic, b'{"by": "a", "device": "a", "name": "x"}', retain=True)
    monitor.turn()
    refused = monitor.service.engine.counts[counters.REQUESTS_REFUSED]
    assert refused == 6
    monitor.play("a", CALM)
    assert _state(monitor).name == "x"  # it came as it was published; kept, it does not count
    with running(monitor.broker, state=f"memory:{uuid4()}") as another:
        another.play("a", CALM)
        assert _state(another).name is None
        assert another.service.engine.counts[counters.REQUESTS_REFUSED] == 1


def test_a_flood_of_requests_is_cut_off(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.rate_limit.MESSAGE_S", 10.0)
    for _ in range(30):
        monitor.broker.publish(TOPICS.request("monitor", "rename"), b'{"by": "a", "device": "a", "name": "x"}')
    monitor.turn()
    assert 5 < monitor.service.engine.counts[counters.REQUESTS] < 15
    assert monitor.service.engine.counts[counters.REQUESTS_REFUSED] > 10


@pytest.mark.parametrize("finishes", [True, False], ids=["stopped", "killed"])
def test_what_was_decided_holds_in_the_next_process(tmp_path: Path, finishes: bool) -> None:
    broker = MemoryBroker()
    with running(broker, finishes=finishes, state=tmp_path) as first:
        first.play("a", SLOW)
        first.ask("acknowledge", "a")
        first.ask("silence", "a", kind="pause", for_s=600, reason="r")
        first.ask("rename", "a", name="Bed 4")
        first.ask("limits", "b", limits={"bradycardia": {"below_bpm": 20}})
    broker.retained.clear()
    with running(broker, state=tmp_path) as second:
        second.sent = {"a": first.sent["a"]}
        second.play("a", SLOW[:2500])
        second.play("b", SLOW)
        state = _state(second)
        assert (state.name, [one.kind for one in state.silenced]) == ("Bed 4", ["pause"])
        assert [(one.kind, one.acknowledged_by) for one in state.alerts] == [("bradycardia", "nurse")]
        assert second.alerts("b") == []
        assert [alert.state for alert in second.alerts("a")] == ["new", "acknowledged"]


def test_right_after_a_restart_a_request_meets_its_device_as_it_was_saved(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with running(broker, state=tmp_path) as first:
        for ecg in (SLOW, CALM, SLOW):
            first.play("a", ecg)
        over, active = (alert.episode for alert in first.alerts("a") if alert.state == "new")
        assert _text(first.ask("acknowledge", "a"))
    with running(broker, state=tmp_path) as second:
        assert "was acknowledged by nurse before" in _text(second.ask("acknowledge", "a"))
        assert _text(second.ask("acknowledge", "a", episode=over))
        assert [(one.episode, one.acknowledged_by) for one in _state(second).alerts] == [(active, "nurse")]


def test_what_was_acknowledged_is_kept_while_it_is_not_known_what_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    where, broker = f"memory:{uuid4()}", MemoryBroker()
    with running(broker, state=where) as first:
        for ecg in (SLOW, CALM, SLOW):
            first.play("a", ecg)
        over, active = (alert.episode for alert in first.alerts("a") if alert.state == "new")
        assert _text(first.ask("acknowledge", "a"))
    monkeypatch.setattr("monitor.state.memory.KEEP_STATE_S", -1.0)  # its state is too old
    with running(broker, state=where) as second:
        assert _text(second.ask("acknowledge", "a", episode=over))
        assert set(second.loop._parts.states._decisions.of("a").acknowledged) == {over, active}


def test_a_request_that_was_answered_before_a_crash_is_not_done_again_after_it(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with running(broker, finishes=False, state=tmp_path) as first:
        first.play("a", SLOW)
        fields = {"episode": _episode(first), "text": "seen", "id": "once"}
        first.ask("comment", "a", **fields)
    with running(broker, state=tmp_path) as second:
        assert _text(second.ask("comment", "a", **fields)) == "a: comment on bradycardia noted."
        assert [alert.state for alert in second.alerts("a")].count("commented") == 1


def test_a_request_that_was_not_answered_before_a_crash_is_done_after_it(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with running(broker, finishes=False, state=tmp_path) as first:
        first.service.source.poll(0.0, 10)
        broker.publish(TOPICS.request("monitor", "rename"), b'{"by": "a", "device": "a", "name": "x"}')
        assert first.service.source.poll(0.0, 10)  # taken, and never acknowledged
    with running(broker, state=tmp_path) as second:
        second.play("a", CALM)
        assert _state(second).name == "x"


def test_what_cannot_be_saved_is_done_and_said_and_saved_when_it_can_be() -> None:
    where = f"memory:{uuid4()}"
    location = locate(where)
    assert isinstance(location, MemoryLocation)
    with running(MemoryBroker(), state=where) as monitor:
        location.broken = "the disk is full"
        monitor.play("a", CALM)
        assert "But it is not saved" in _text(monitor.ask("rename", "a", name="Bed 4"))
        assert _state(monitor).name == "Bed 4"
        assert location.read_requests("monitor", 0.0) == []
        location.broken = None
        monitor.loop.housekeeping(time.monotonic())
        monitor.turn()
        assert [row.verb for row in location.read_requests("monitor", 0.0)] == ["rename"]
        assert b"Bed 4" in location.open("monitor").read_decisions()["a"]


def test_without_a_store_what_was_decided_holds_while_the_process_runs() -> None:
    with running(MemoryBroker()) as monitor:
        monitor.play("a", SLOW)
        assert _text(monitor.ask("acknowledge", "a"))
        assert _text(monitor.ask("rename", "a", name="Bed 4"))
        assert (_state(monitor).name, _state(monitor).alerts[0].acknowledged_by) == ("Bed 4", "nurse")


def test_each_worker_grants_what_is_asked_of_its_devices(tmp_path: Path) -> None:
    answers = []
    for number in range(2):
        with running(MemoryBroker(), state=tmp_path, shard=(number, 2)) as worker:
            answers.append({device for device in "abcdefgh" if worker.ask("rename", device, name="x") is not None})
            refused = worker.ask("rename", "no/device", name="x")
            assert (refused is None) == (number > 0)
    assert answers[0] | answers[1] == set("abcdefgh")
    assert not answers[0] & answers[1]
    with running(MemoryBroker(), state=tmp_path) as whole:
        whole.play("a", CALM)
        whole.play("b", CALM)
        assert {_state(whole, device).name for device in "ab"} == {"x"}


def _go_quiet(monitor: Monitor, device: str = "a") -> None:
    known = monitor.service.engine.record(device)
    assert known is not None
    known.arrived_s -= 11.0
    monitor.turn()


def test_nothing_is_left_of_a_device_that_is_forgotten(alerted: Monitor) -> None:
    state = alerted.service.settings.state
    assert state is not None
    alerted.play("b", SLOW)
    alerted.ask("rename", "a", name="Mrs. Miller")
    alerted.ask("comment", "a", episode=_episode(alerted), text="called")
    _go_quiet(alerted)
    published = len(alerted.broker.published)
    text = _text(alerted.ask("forget", "a"))
    assert text == "a is forgotten: nothing of it is left in memory, states, history, outbox and audit."
    assert alerted.state("a") is None
    assert not [one.payload for one in alerted.broker.published[published:] if one.topic.endswith("a/alerts")]
    location = locate(state)
    assert [one.device for one in location.read_requests("monitor", 0.0)] == [""]
    assert all(
        b"Miller" not in row.payload and b'"a"' not in row.payload for row in location.read_requests("monitor", 0.0)
    )
    assert location.read_history("monitor", 0.0, "a") == []
    assert location.read_hourly("monitor", 0.0, "a") == []
    assert location.read_history("monitor", 0.0, "b")
    assert not alerted.service.engine.knows("a")
    assert _state(alerted, "b").alerts


def test_a_forgotten_device_that_comes_back_starts_over(alerted: Monitor) -> None:
    alerted.ask("rename", "a", name="Mrs. Miller")
    _go_quiet(alerted)
    _text(alerted.ask("forget", "a"))
    alerted.play("a", CALM)
    assert _state(alerted).name is None
    assert [alert.state for alert in alerted.alerts("a") if alert.kind == "bradycardia"] == ["new"]
    assert _state(alerted).alerts == []


def test_a_device_that_sends_cannot_be_forgotten(alerted: Monitor) -> None:
    assert "a is sending" in _text(alerted.ask("forget", "a"), ok=False)
    assert _state(alerted).alerts


def test_a_device_that_nobody_knows_is_forgotten_again(monitor: Monitor) -> None:
    id_ = uuid4().hex
    assert "nothing of it is left" in _text(monitor.ask("forget", "z", id=id_))
    assert _text(monitor.ask("forget", "z", id=id_)) == "A device was forgotten."


def test_what_cannot_be_saved_cannot_be_forgotten(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    _go_quiet(monitor)
    location = locate(monitor.service.settings.state or "")
    assert isinstance(location, MemoryLocation)
    location.broken = "out of memory"
    text = _text(monitor.ask("forget", "a"), ok=False)
    assert "out of memory" in text
    location.broken = None
    monitor.loop.housekeeping(time.monotonic())
    monitor.turn()
    assert "nothing of it is left" in _text(monitor.ask("forget", "a"))


def test_a_device_is_forgotten_without_a_store() -> None:
    with running(MemoryBroker(), state=None) as monitor:
        monitor.play("a", SLOW)
        _go_quiet(monitor)
        assert "nothing of it is left" in _text(monitor.ask("forget", "a"))


def test_clearing_what_a_device_retains_is_no_message_of_it(monitor: Monitor) -> None:
    for leaf in ("info", "status"):
        monitor.broker.publish(TOPICS.of("a", leaf), b"")
    monitor.turn()
    assert not monitor.service.engine.knows("a")
    assert monitor.service.engine.counts[counters.REJECTED] == 0


def test_what_another_worker_has_decided_meanwhile_outlives_a_fault_of_the_store(tmp_path: Path) -> None:
    with (
        running(MemoryBroker(), state=tmp_path, shard=(0, 2)) as first,
        running(MemoryBroker(), state=tmp_path, shard=(1, 2)) as second,
    ):
        theirs = next(device for device in "abcdefgh" if second.ask("rename", device, name="before") is not None)
    with (
        running(MemoryBroker(), state=tmp_path, shard=(0, 2)) as first,
        running(MemoryBroker(), state=tmp_path, shard=(1, 2)) as second,
    ):
        assert _text(second.ask("rename", theirs, name="after"))
        _break_and_mend_the_store(first)
    with running(MemoryBroker(), state=tmp_path, shard=(1, 2)) as again:
        assert again.loop._parts.states._decisions.name_of(theirs) == "after"


def _break_and_mend_the_store(monitor: Monitor) -> None:
    store = monitor.loop._parts.store
    assert isinstance(store, ThreadedStore)
    store.later(lambda: store.set_fault("the disk is full"))
    for _ in range(2):  # it is seen to, and what it may lack is saved
        store.read_devices()
        monitor.loop.housekeeping(time.monotonic())
        monitor.turn()
    assert (store.fault, store.opened) == (None, 2)


def test_while_the_store_is_away_nobody_waits_for_what_it_knows(alerted: Monitor) -> None:
    alerted.play("a", CALM)
    store = alerted.loop._parts.store
    assert store is not None
    store.delay = "the database is away"
    assert "cannot be looked up now: the database is away" in _text(
        alerted.ask("comment", "a", episode=_episode(alerted), text="?"), ok=False
    )
    assert _text(alerted.ask("rename", "a", name="bed 1"))


def test_a_refresh_publishes_all_states_and_the_status_again(alerted: Monitor) -> None:
    alerted.play("b", CALM)
    alerted.broker.published.clear()
    alerted.broker.publish(TOPICS.request("monitor", wire.REFRESH), b"{}")
    alerted.turn()
    states = [one.topic for one in alerted.broker.published if one.topic.endswith("/state")]
    assert sorted(states) == [TOPICS.of("a", "state"), TOPICS.of("b", "state")]
    assert alerted.messages(TOPICS.monitor_status("monitor"))
    alerted.broker.published.clear()
    alerted.broker.publish(TOPICS.request("monitor", wire.REFRESH), b"{}")  # too soon
    alerted.turn()
    assert [one for one in alerted.broker.published if one.topic.endswith("/state")] == []


def test_a_request_to_forget_that_comes_twice_is_answered_once_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.state.worker.FIND_S", 0.01)
    with running(MemoryBroker(), state=tmp_path) as monitor:
        monitor.play("a", CALM)
        _go_quiet(monitor)
        store, may_go_on = monitor.loop._parts.store, threading.Event()
        assert isinstance(store, ThreadedStore)
        asked = {"by": "nurse", "device": "a", "id": "twice", "response_topic": ANSWERS}
        store.later(may_go_on.wait)
        for _ in range(2):
            monitor.broker.publish(TOPICS.request("monitor", "forget"), json.dumps(asked).encode())
            monitor.loop.turn(0.0)
        assert monitor.messages(ANSWERS) == []
        may_go_on.set()
        monkeypatch.undo()
        monitor.turn()
        [answer] = monitor.messages(ANSWERS)
        assert "nothing of it is left" in wire.decode(answer, wire.Answer).text


def test_no_device_is_called_forgotten_by_the_id_of_a_request_about_another(monitor: Monitor) -> None:
    for device in "ab":
        monitor.play(device, CALM)
        _go_quiet(monitor, device)
    assert "nothing of it is left" in _text(monitor.ask("forget", "a", id="same"))
    assert "was that of another request" in _text(monitor.ask("forget", "b", id="same"), ok=False)
    assert monitor.service.engine.knows("b")


def test_a_saved_limit_that_can_be_set_no_more_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decisions, store = Decisions(), locate(tmp_path).open("monitor")
    decisions.change("a").limits = {"asystole": {"limit_s": 3.0}, "bradycardia": {"below_bpm": 30.0}}
    store.submit(Transaction(decisions={"a": decisions.save("a")}))
    store.close()
    with running(MemoryBroker(), state=tmp_path) as monitor:
        monitor.play("a", SLOW)
        assert monitor.alerts("a") == []
        assert _state(monitor).limits == {"bradycardia": {"below_bpm": 30.0}}
    assert "a has the asystole limits of all devices" in caplog.text
