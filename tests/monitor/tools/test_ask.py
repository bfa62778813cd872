"""Asking a running monitor from the command line, through real brokers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.service.run import Service
from monitor.service.settings import ServiceSettings
from monitor.tools.ask import describe_state, parse_limits
from tests.monitor.service.one_monitor import RATE_HZ, SLOW, START_S, TOPICS
from tests.subscriber import Subscriber


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def asked(broker_url: BrokerUrl, folder: Path) -> Iterator[str]:
    """The device of a monitor that has alerted it."""
    device = f"asked-{broker_url.port}"
    service = Service(ServiceSettings(broker=broker_url, name="asked", provider="cpu", state=folder))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        with Subscriber(broker_url, TOPICS.of(device, "alerts"), TOPICS.monitor_status("asked")) as client:
            _wait(lambda: bool(client.received))
            for seq in range(40):
                packet = wire.Packet(seq, START_S + seq, RATE_HZ, SLOW[seq * 250 : (seq + 1) * 250])
                client.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))
            _wait(lambda: any(topic.endswith("alerts") for topic, _ in client.received))
            yield device
    finally:
        service.stop()
        thread.join(20)


def _wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)


def _ask(broker_url: BrokerUrl, *words: str) -> int:
    return main([*words, "--monitor", "asked", "--by", "anna", "--broker", str(broker_url)])


def _state(broker_url: BrokerUrl, device: str, capsys: pytest.CaptureFixture[str]) -> wire.DeviceState:
    capsys.readouterr()
    assert main(["devices", "--json", "--monitor", "asked", "--broker", str(broker_url)]) == 0
    states = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [state] = [state for state in states if state["device"] == device]
    return wire.decode(json.dumps(state).encode(), wire.DeviceState)


def test_each_command_is_answered_in_words_and_shows_in_the_device_s_state(
    broker_url: BrokerUrl, asked: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alert] = _state(broker_url, asked, capsys).alerts
    assert _ask(broker_url, "ack", asked) == 0
    assert capsys.readouterr().out == f"{asked}: acknowledged bradycardia.\n"
    assert _ask(broker_url, "silence", asked, "--kind", "pause", "--for", "10m", "--reason", "washing") == 0
    assert f"{asked}: pause silenced until " in capsys.readouterr().out
    assert _ask(broker_url, "device", "set", asked, "--name", "Bed 4", "--limits", "pause.limit_s=4") == 0
    assert capsys.readouterr().out == f"{asked} is called Bed 4.\n{asked}: pause limit_s 4.\n"
    state = _state(broker_url, asked, capsys)
    assert (state.name, state.limits) == ("Bed 4", {"pause": {"limit_s": 4.0}})
    assert state.alerts[0].acknowledged_by == "anna"
    assert [(one.kind, one.reason) for one in state.silenced] == [("pause", "washing")]
    assert _ask(broker_url, "unsilence", asked) == 0
    assert _ask(broker_url, "comment", asked, alert.episode, "asleep") == 0
    assert _ask(broker_url, "judge", asked, alert.episode, "wrong", "--text", "T waves") == 0
    assert _ask(broker_url, "device", "set", asked, "--name", "", "--limits", "pause=") == 0
    state = _state(broker_url, asked, capsys)
    assert (state.name, state.limits, state.silenced) == (None, {}, [])

    assert main(["labels", "--monitor", "asked", "--state", str(folder)]) == 0
    labels = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [label] = [label for label in labels if label["device"] == asked]
    assert (label["right"], label["by"], label["text"]) == (False, "anna", "T waves")
    assert label["alert"]["episode"] == alert.episode
    assert label["alert"]["strip"]["samples"]
    assert main(["audit", "--monitor", "asked", "--device", asked, "--state", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert "anna" in lines[0]
    assert lines[0].endswith(f"{asked}: acknowledged bradycardia.")


def test_a_state_that_cannot_be_read_is_named_and_hides_no_other_device(
    broker_url: BrokerUrl, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = TOPICS.of("strange", "state")
    with Subscriber(broker_url) as client:
        client.publish(topic, b'{"device": 5}', retain=True)
        try:
            assert main(["devices", "--monitor", "asked", "--broker", str(broker_url)]) == 0
        finally:
            client.publish(topic, b"", retain=True)
    told = capsys.readouterr()
    assert asked in told.out
    assert f"left out, on {topic}: Not a message of kind DeviceState" in told.err


def test_states_of_a_monitor_that_is_offline_are_called_old(
    broker_url: BrokerUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = wire.MonitorStatus(state="offline", version="1", model="m", model_sha256="", since_s=0.0)
    topic = TOPICS.monitor_status("gone")
    with Subscriber(broker_url, topic) as client:
        client.publish(topic, wire.encode(gone), retain=True)
        _wait(lambda: bool(client.received))
        try:
            assert main(["devices", "--json", "--broker", str(broker_url)]) == 0
            shown = capsys.readouterr()
            assert "the monitor gone is offline: what it said of devices is old" in shown.err
            assert "gone" not in shown.out
        finally:
            client.publish(topic, b"", retain=True)


def test_a_monitor_that_stands_still_is_named_within_seconds(
    broker_url: BrokerUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    said_s, topic = time.time() - 90, TOPICS.monitor_status("frozen")
    frozen = wire.MonitorStatus(
        state="online", version="1", model="m", model_sha256="", since_s=0.0, time_s=said_s
    )  # fmt: skip
    with Subscriber(broker_url, topic) as client:
        client.publish(topic, wire.encode(frozen), retain=True)
        _wait(lambda: bool(client.received))
        try:
            began_s = time.monotonic()
            assert main(["devices", "--broker", str(broker_url)]) == 0
            assert time.monotonic() - began_s < 15
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said_s))
            assert f"the monitor frozen has said nothing since {at}, 9" in capsys.readouterr().err
        finally:
            client.publish(topic, b"", retain=True)


def test_a_monitor_that_only_says_so_seldom_is_asked_and_not_called_away(
    broker_url: BrokerUrl, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = TOPICS.monitor_status("asked")
    with Subscriber(broker_url, topic) as client:
        _wait(lambda: bool(client.received))
        old = msgspec.structs.replace(wire.decode(client.received[-1][1], wire.MonitorStatus), time_s=time.time() - 90)
        client.publish(topic, wire.encode(old), retain=True)
        assert main(["devices", "--monitor", "asked", "--broker", str(broker_url)]) == 0
    shown = capsys.readouterr()
    assert asked in shown.out
    assert "monitor asked" not in shown.err


def test_a_refusal_is_said_on_stderr_with_exit_status_1(
    broker_url: BrokerUrl, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ask(broker_url, "device", "set", asked, "--limits", "bradicardia.below_bpm=45") == 1
    assert "did you mean bradycardia?" in capsys.readouterr().err


def test_what_is_no_request_is_said_before_anybody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for words, why in (
        (["ack", "no device"], "at `$.device`"),
        (["silence", "a", "--for", "30d", "--reason", "r"], "got 2592000 s, expected more than 0 and at most 7d"),
        (["device", "set", "a"], "expected --name NAME, --limits KIND.PARAMETER=VALUE, or both"),
        (["device", "set", "a", "--limits", "pause"], "Not a limit: got 'pause'"),
        (["device", "set", "a", "--limits", "pause.limit_s=x"], "expected KIND.PARAMETER=NUMBER"),
        (["device", "set", "a", "--limits", "pause.limit_s="], "Not a limit"),
    ):
        assert main([*words, "--broker", "mqtt://127.0.0.1:1"]) == 2
        assert why in capsys.readouterr().err


def test_a_monitor_that_does_not_answer_is_one_clear_line(
    broker_url: BrokerUrl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monitor.tools.ask.ANSWER_S", 0.3)
    assert main(["ack", "a", "--monitor", "nobody", "--broker", str(broker_url)]) == 2
    assert "No answer from the monitor nobody" in capsys.readouterr().err


def test_limits_are_read_one_by_one_or_joined() -> None:
    assert parse_limits(["bradycardia.below_bpm=45,pause.limit_s=4", "asystole="]) == {
        "bradycardia": {"below_bpm": 45.0}, "pause": {"limit_s": 4.0}, "asystole": {},
    }  # fmt: skip


def test_a_state_is_one_line_for_a_person() -> None:
    alert = wire.ActiveAlert(
        episode="e", kind="pause", severity="medium", since_s=1.0, acknowledged_by="anna", acknowledged_s=2.0
    )
    silence = wire.Silence(kind=None, until_s=9.0, by="anna", reason="r")
    state = wire.DeviceState(
        device="a", name="Bed 4", connection="streaming", heart_rate_bpm=72.4, rhythm="regular", alerts=[alert],
        silenced=[silence], time_s=3.0,
    )  # fmt: skip
    words = describe_state(state).split()
    assert words[:6] == ["a", "Bed", "4", "streaming", "72/min", "regular"]
    assert " ".join(words[6:]) == "MEDIUM pause (seen by anna) [silenced: all]"
