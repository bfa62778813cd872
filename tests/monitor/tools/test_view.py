"""What a person at a terminal sees: the gravest first, nothing that is not text, and the signal as it is."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.broker.source import Message
from monitor.tools.board import LIVE_S, Board
from monitor.tools.view import braille, draw, span
from monitor.tools.watch import plain
from tests.subscriber import Subscriber

TOPICS = wire.Topics()
TIME_S = 1_700_000_100.0
SIZE = (120, 40)


def _board(*states: wire.DeviceState, monitor: wire.MonitorState = "online") -> Board:
    board = Board(TOPICS)
    status = wire.MonitorStatus(state=monitor, version="1", model="m", model_sha256="", since_s=0)
    _take(board, TOPICS.monitor_status("ward"), wire.encode(status))
    for state in states:
        _take(board, TOPICS.of(state.device, "state"), wire.encode(state))
    return board


def _take(board: Board, topic: str, payload: bytes, now_s: float = 0.0, is_retained: bool = False) -> None:
    board.take(Message(topic, payload, 1, is_retained), now_s, TIME_S)


def _state(device: str, *alerts: wire.ActiveAlert, **fields: Any) -> wire.DeviceState:
    return wire.DeviceState(
        device=device, alerts=list(alerts), **{"connection": "streaming", "time_s": TIME_S, **fields}
    )


def _active(
    kind: str, severity: wire.Severity, since_s: float = TIME_S - 42, by: str | None = None
) -> wire.ActiveAlert:
    return wire.ActiveAlert(
        episode=f"e-{kind}", kind=kind, severity=severity, since_s=since_s, text=f"{kind} it is.", acknowledged_by=by
    )


def _lines(board: Board, focus: str | None = None, size: tuple[int, int] = SIZE, now_s: float = 0.0) -> list[str]:
    console = Console(width=size[0], height=size[1], file=io.StringIO(), force_terminal=True, record=True)
    console.print(draw(board, focus, size, now_s, TIME_S))
    return console.export_text().splitlines()


def _positions(lines: list[str], *words: str) -> list[int]:
    return [next(at for at, line in enumerate(lines) if word in line) for word in words]


def test_what_needs_a_person_stands_first() -> None:
    board = _board(
        _state("calm", heart_rate_bpm=61.6),
        _state("gone", connection="silent"),
        _state("seen", _active("asystole", "high", by="anna")),
        _state("low", _active("bigeminy", "low")),
        _state("grave", _active("bradycardia", "medium"), _active("gap", "technical")),
    )
    assert [state.device for state in board.sorted()] == ["grave", "low", "gone", "seen", "calm"]
    lines = _lines(board)
    fleet = lines[_positions(lines, "Fleet: 5 devices, 4 live")[0] :]
    assert _positions(fleet, "grave", "low", "gone", "seen", "calm") == sorted(
        _positions(fleet, "grave", "low", "gone", "seen", "calm")
    )
    assert re.search(r"calm +62 +live", "\n".join(fleet))
    assert re.search(r"gone +-- +no signal", "\n".join(fleet))


def test_devices_that_need_nobody_stand_in_the_order_in_which_people_count() -> None:
    board = _board(*(_state(f"x{number}", name=f"Bed {number}") for number in (10, 2, 1)), _state("x3", name="bed 3"))
    assert [state.name or state.device for state in board.sorted()] == ["Bed 1", "Bed 2", "bed 3", "Bed 10"]


def test_an_active_alert_is_told_with_its_priority_age_and_answer() -> None:
    lines = _lines(
        _board(
            _state("a", _active("asystole", "high"), name="Bed 4"),
            _state("b", _active("pause", "medium", by="anna")),
            _state(
                "c",
                _active("gap", "technical"),
                silenced=[wire.Silence(kind=None, until_s=TIME_S + 60, by="jo", reason="washing")],
            ),
        )
    )
    text = "\n".join(lines)
    assert "Alerts: 3 active, 1 unanswered" in text
    assert re.search(r"!!! +Bed 4 +Asystole +for 42 s +asystole it is\.", text)
    assert re.search(r"!! +b +Pause +for 42 s +seen by anna", text)
    assert re.search(r"⚙ +c +Gap +for 42 s +silenced by jo: washing", text)


@pytest.mark.parametrize("size", [(200, 60), (120, 40), (80, 24), (60, 20), (40, 12)])
def test_a_fleet_of_any_size_fits_the_terminal_and_says_what_is_left_out(size: tuple[int, int]) -> None:
    states = [_state(f"d-{number:04}", _active("pause", "medium")) for number in range(300)]
    lines = _lines(_board(*states), "d-0000", size)
    assert len(lines) <= size[1]
    assert max(len(line) for line in lines) <= size[0]
    if size[0] >= 60:
        assert len(re.findall("not shown", "\n".join(lines))) == 2
    assert "d-0000" in "\n".join(lines)


def _status(name: str = "ward", **fields: Any) -> bytes:
    given: dict[str, Any] = {"state": "online", "version": "1", "model": "m", "model_sha256": "", "since_s": 0}
    return wire.encode(wire.MonitorStatus(**(given | fields)))


def test_a_monitor_that_stands_still_watches_nobody() -> None:
    board = _board(_state("a", heart_rate_bpm=61.0))
    console = Console(width=160, height=40, file=io.StringIO(), force_terminal=True, record=True)
    console.print(draw(board, None, (160, 40), 0.0, TIME_S + 60))
    text = console.export_text()
    assert "THE MONITOR DOES NOT ANSWER since" in text.splitlines()[0]
    assert "ward does not answer" in text.splitlines()[0]
    assert re.search(r"a +61 +not watched", text)
    assert "Fleet: 1 device, 0 live" in text


def test_what_was_retained_long_ago_says_nothing_of_now_and_the_monitor_is_asked() -> None:
    board = Board(TOPICS)
    _take(board, TOPICS.monitor_status("ward"), _status(time_s=TIME_S - 600), is_retained=True)
    assert board.doubtful == {"ward"}
    assert "NOT KNOWN YET whether anybody is watched" in _lines(board)[0]
    _take(board, TOPICS.monitor_status("ward"), _status(time_s=TIME_S))
    assert "ward online" in _lines(board)[0]


def test_of_two_monitors_only_the_devices_of_the_one_that_is_away_are_not_watched() -> None:
    board = _board(_state("a", monitor="ward"), _state("b", monitor="west"))
    _take(board, TOPICS.monitor_status("west"), _status("west", state="offline"))
    lines = "\n".join(_lines(board))
    assert re.search(r"a +-- +live", lines)
    assert re.search(r"b +-- +not watched", lines)


def test_nobody_takes_the_absence_of_a_monitor_for_the_absence_of_alerts() -> None:
    board = _board(monitor="offline")
    assert "NO MONITOR IS ONLINE" in _lines(board)[0]
    board.is_connected = False
    assert "NO CONNECTION" in _lines(board)[0]
    assert "NO MONITOR" not in _lines(_board())[0]


def test_names_and_texts_are_text_and_neither_markup_nor_commands_to_the_terminal() -> None:
    evil = "[red]x[/red]\x1b[2J\x07"
    board = _board(_state("a", _active("pause", "low"), name=evil, rhythm=evil))
    alert = _alert(text=evil)
    _take(board, TOPICS.of("a", "alerts"), wire.encode(alert))
    console = Console(width=160, height=40, file=io.StringIO(), force_terminal=True, record=True)
    console.print(draw(board, "a", (160, 40), 0.0, TIME_S))
    text = console.export_text()
    assert plain(evil) in text
    assert not set("\x1b\x07") & set(text)


def test_a_device_that_is_forgotten_and_what_cannot_be_read_leave_no_trace() -> None:
    board = _board(_state("a"))
    _take(board, TOPICS.of("a", "state"), b"")
    for topic in (TOPICS.of("b", "state"), TOPICS.of("b", "alerts"), TOPICS.monitor_status("x"), "elsewhere"):
        _take(board, topic, b"garbage")
    assert not board.states
    assert list(board.monitors) == ["ward"]
    assert not board.recent


def _alert(**fields: Any) -> wire.Alert:
    given: dict[str, Any] = {
        "device": "a",
        "time_s": TIME_S,
        "since_s": TIME_S,
        "seq": 0,
        "completed_s": TIME_S,
    } | fields
    return wire.Alert(id="1", episode="e", kind="pause", severity="high", state="new", **given)


def test_the_strip_of_an_alert_is_shown_until_the_signal_comes_live_and_again_when_that_stops() -> None:
    board = _board(_state("a"))
    strip = wire.Strip(start_s=TIME_S, rate_hz=125, unit="uV", samples=[0, 500, None, 0] * 100)
    _take(board, TOPICS.of("a", "alerts"), wire.encode(_alert(strip=strip)))
    board.follow("a")
    past = board.trace("a", 0.0)
    assert past is not None
    assert (past.is_live, past.seconds) == (False, 3.2)
    packet = wire.Packet(0, TIME_S, 250.0, np.arange(250, dtype=np.int16))
    _take(board, TOPICS.of("a", "samples"), wire.encode_packet(packet), 1.0)
    live = board.trace("a", 1.5)
    assert live is not None
    assert (live.is_live, live.samples.tolist()) == (True, list(range(250)))
    again = board.trace("a", 1.5 + LIVE_S)
    assert again is not None
    assert not again.is_live
    assert "around its last alert" in "\n".join(_lines(board, "a", now_s=1.5 + LIVE_S))


def test_live_signal_stands_where_its_times_say() -> None:
    board = _board(_state("a"))
    board.follow("a")
    for second in (2, 0, 3, 9):  # out of order, with a gap
        samples = np.full(250, second, dtype=np.int16)
        samples[0] = wire.NO_SAMPLE
        packet = wire.Packet(second, TIME_S + second, 250.0, samples)
        _take(board, TOPICS.of("a", "samples"), wire.encode_packet(packet))
    trace = board.trace("a", 0.0)
    assert trace is not None
    assert trace.seconds == 6.0  # from 4 s to 10 s
    assert np.isnan(trace.samples[: 5 * 250 + 1]).all()
    assert (trace.samples[5 * 250 + 1 :] == 9).all()


def test_signal_of_other_devices_is_not_shown() -> None:
    board = _board(_state("a"), _state("b"))
    board.follow("a")
    _take(board, TOPICS.of("b", "samples"), wire.encode_packet(wire.Packet(0, TIME_S, 250.0, np.ones(9, np.int16))))
    assert board.trace("a", 0.0) is None
    assert board.trace("b", 0.0) is None


def _dots(lines: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(4 * height, 2 * width) Read braille back: by the standard's numbers of the dots, not by our table."""
    numbers = [[1, 4], [2, 5], [3, 6], [7, 8]]
    dots = np.zeros((4 * len(lines), 2 * len(lines[0])), dtype=bool)
    for (row, column), _ in np.ndenumerate(dots):
        cell = ord(lines[row // 4][column // 2]) - 0x2800
        dots[row, column] = cell >> (numbers[row % 4][column % 2] - 1) & 1
    return dots


def test_braille_draws_each_sample_where_it_is() -> None:
    samples = np.round(7.5 + 7.5 * np.sin(np.linspace(0, 12, 40)))
    dots = _dots(braille(samples, 20, 4))
    for column, sample in enumerate(samples):
        assert dots[15 - int(sample), column]
    assert dots.any(axis=0).all()


def test_braille_leaves_a_gap_where_samples_are_missing_and_shows_one_narrow_peak() -> None:
    samples = np.zeros(1000)
    samples[300] = 100.0
    samples[600:700] = np.nan
    dots = _dots(braille(samples, 50, 4))
    assert dots[0].nonzero()[0].tolist() == [30]
    assert not dots[:, 61:69].any()
    assert dots[:, 71:].any(axis=0).all()


@pytest.mark.parametrize("samples", [np.zeros(0), np.full(5, np.nan), np.zeros(1), np.full(1000, 7.0)])
def test_braille_of_nothing_and_of_a_flat_line_are_lines_of_the_same_size(samples: np.ndarray[Any, Any]) -> None:
    lines = braille(samples, 30, 3)
    assert [len(line) for line in lines] == [30, 30, 30]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (59, "59 s"), (61, "1 min"), (7290, "2 h 1 min"), (200_000, "2 d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text


def _screen(command: list[str], until: str, seconds: float = 30.0) -> str:
    """Run a command on a pseudo terminal of 100 x 30 until its output has a word; return the output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown, until_s = b"", time.monotonic() + seconds
    try:
        while until.encode() not in shown:
            assert time.monotonic() < until_s, shown[-2000:]
            shown += os.read(ours, 65536)
    finally:
        process.terminate()
        process.communicate(timeout=20)
        os.close(ours)
    return shown.decode(errors="replace")


def test_on_a_terminal_the_fleet_is_shown(broker_url: BrokerUrl) -> None:
    topic = wire.Topics("terminal").of("a", "state")  # others may have left devices on this broker
    command = [sys.executable, "-m", "ecgwatch", "watch", "--broker", str(broker_url), "--prefix", "terminal"]
    with Subscriber(broker_url) as publisher:
        publisher.publish(topic, wire.encode(_state("a", name="Bed 4")), retain=True)
        shown = _screen(command, "1 device, 0 live")
        assert "NO MONITOR IS ONLINE" in shown
        assert "\x1b[?1049h" in shown  # a screen of its own: what stood there comes back
        assert "Bed 4" in shown
        publisher.publish(topic, b"", retain=True)


def test_in_a_pipe_only_the_alerts_of_the_device_asked_for_are_printed(broker_url: BrokerUrl) -> None:
    command = [sys.executable, "-m", "ecgwatch", "watch", "--broker", str(broker_url), "--device", "b"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert "connected" in process.stderr.readline()
        with Subscriber(broker_url) as publisher:
            for device in ("a", "b"):
                publisher.publish(TOPICS.of(device, "alerts"), wire.encode(_alert(device=device)))
            assert " b " in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_without_rich_alerts_are_lines_on_a_terminal_too(broker_url: BrokerUrl, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['rich'] = None\n")
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ecgwatch", "watch", "--broker", str(broker_url)]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, text=True)
    os.close(theirs)
    assert process.stderr is not None
    try:
        assert "pip install 'ecgwatch[terminal]'" in process.stderr.readline()
        assert "connected" in process.stderr.readline()
        with Subscriber(broker_url) as publisher:
            publisher.publish(TOPICS.of("a", "alerts"), wire.encode(_alert()))
            assert b"pause" in os.read(ours, 4096)
    finally:
        process.terminate()
        process.communicate(timeout=20)
        os.close(ours)
