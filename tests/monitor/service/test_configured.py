"""The configuration file is read again while the monitor runs, and no beat is lost by it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ecgwatch.__main__
from monitor import counters, wire
from monitor.broker.memory import MemoryBroker
from monitor.state.location import locate
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.service.crash_harness import wait
from tests.monitor.service.one_monitor import CALM, RATE_HZ, SLOW, START_S, TOPICS, Monitor, running
from tests.subscriber import Subscriber

WIDE = "[limits]\nbradycardia-bpm = 31\n"
"""Of what SLOW is not alerted by."""


def _reload(monitor: Monitor, file: Path, text: str) -> None:
    file.write_text(text)
    monitor.service.reload()
    monitor.turn(1)


def _beats(monitor: Monitor, device: str) -> list[str]:
    return [wire.decode(payload, wire.Beat).id for payload in monitor.messages(TOPICS.of(device, "beats"))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(WIDE)
    return path


def test_limits_of_all_devices_hold_from_the_next_turn_on(file: Path) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        monitor.play("a", SLOW)
        assert monitor.alerts("a") == []
        _reload(monitor, file, "")
        monitor.play("a", SLOW)
        assert monitor.alerts("a")[0].kind == "bradycardia"


def test_limits_of_one_device_hold_for_it_alone_and_go_again(file: Path) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        _reload(monitor, file, "[devices.a]\nlimits.bradycardia.below_bpm = 31")
        for device in ("a", "b"):
            monitor.play(device, SLOW)
        assert monitor.alerts("a") == []
        assert monitor.alerts("b")[0].kind == "bradycardia"
        _reload(monitor, file, "")
        monitor.play("a", SLOW)
        assert monitor.alerts("a")[0].kind == "bradycardia"


def test_no_beat_is_lost_and_an_open_alert_goes_on(file: Path) -> None:
    file.write_text("")
    with running(MemoryBroker(), publish_beats=True) as whole:
        whole.play("a", SLOW)
        whole.play("a", CALM)
    with running(MemoryBroker(), publish_beats=True, configuration=file) as monitor:
        monitor.play("a", SLOW)
        _reload(monitor, file, "[limits]\ntachycardia-bpm = 130\n[devices.a]\nname = 'Bed 4'")
        monitor.play("a", CALM)
    assert _beats(monitor, "a") == _beats(whole, "a")
    assert [one.id for one in monitor.alerts("a")] == [one.id for one in whole.alerts("a")]
    assert {one.state for one in monitor.alerts("a")} == {"new", "end"}


def test_names_are_told_at_once_and_what_a_person_decided_goes_before_them(file: Path) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        monitor.play("a", CALM)
        _reload(monitor, file, "[devices.a]\nname = 'Bed 4'")
        monitor.turn(1)
        state = monitor.state("a")
        assert state is not None
        assert state.name == "Bed 4"
        monitor.ask("rename", "a", name="Anna")
        _reload(monitor, file, "[devices.a]\nname = 'Bed 5'\nlimits.pause.limit_s = 4")
        monitor.ask("limits", "a", limits={"bradycardia": {"below_bpm": 45}})
        state = monitor.state("a")
        assert state is not None
        assert state.name == "Anna"
        assert state.limits == {"pause": {"limit_s": 4.0}, "bradycardia": {"below_bpm": 45.0}}
        monitor.ask("rename", "a", name=None)
        state = monitor.state("a")
        assert state is not None
        assert state.name == "Bed 5"


def test_flags_go_before_the_file_that_is_read_again(file: Path) -> None:
    with running(MemoryBroker(), configuration=file, limits_given=("bradycardia-bpm=31",)) as monitor:
        _reload(monitor, file, "[limits]\nbradycardia-bpm = 45")
        monitor.play("a", SLOW)
        assert monitor.alerts("a") == []


def test_a_file_that_cannot_be_used_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        _reload(monitor, file, "[limits]\nbradycardia-bpm = 45\n[devices.a]\nlimits.pauze.limit_s = 4")
        monitor.play("a", SLOW)
        assert monitor.alerts("a") == []
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error.startswith("the configuration file is not used, all stays as it was: ")
    assert "c.toml:4: devices.a.limits: There is no alert 'pauze'" in error


def test_what_holds_after_a_restart_only_is_named(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        _reload(monitor, file, f"name = 'x'\n{WIDE}[run]\nworkers = 2\n[watch]\njson = true")
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split()[0] for line in warned] == ["name", "run.workers"]


def test_a_person_may_ask_that_it_be_read_again_and_that_is_audited(file: Path) -> None:
    broker = MemoryBroker()
    with running(broker, configuration=file, state="memory:reload") as monitor:
        monitor.play("a", CALM)
        file.write_text(f"{WIDE}[run]\nworkers = 2\n[devices.a]\nname = 'Bed 4'")
        answer = monitor.ask("reload", "a")
        state = monitor.state("a")
    assert answer is not None
    assert answer.text == f"{file} was read again. Changed, and to hold after a restart only: run.workers."
    assert state is not None
    assert state.name == "Bed 4"
    [row] = locate("memory:reload").read_requests("monitor", 0.0)
    assert (row.verb, row.by, row.device, row.answer) == ("reload", "nurse", "", answer.text)


def test_a_request_to_read_it_again_that_comes_twice_is_audited_once(file: Path) -> None:
    with running(MemoryBroker(), configuration=file, state="memory:twice") as monitor:
        first, second = monitor.ask("reload", "a", id="7"), monitor.ask("reload", "a", id="7")
    assert first == second
    assert len(locate("memory:twice").read_requests("monitor", 0.0)) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[limits]\nbradycardia-bpm = 'x'", "c.toml:2: limits.bradycardia-bpm: expected a number"),
        (None, "The monitor was started without a configuration file"),
    ],
)
def test_a_request_to_read_a_file_that_is_not_or_cannot_be_used_is_refused(
    file: Path, text: str | None, why: str
) -> None:
    with running(MemoryBroker(), configuration=None if text is None else file) as monitor:
        file.write_text(text or "")
        answer = monitor.ask("reload", "a")
        assert answer is not None
        assert not answer.ok
        assert why in answer.text
        assert monitor.service.engine.counts[counters.REQUESTS_REFUSED] == 1


@pytest.mark.parametrize("fields", [{"by": ""}, {"by": "\x1b[2J"}])
def test_a_request_to_read_it_again_says_who_asks(file: Path, fields: dict[str, str]) -> None:
    with running(MemoryBroker(), configuration=file) as monitor:
        answer = monitor.ask("reload", "a", **fields)
        assert answer is not None
        assert not answer.ok


def test_sighup_without_a_file_is_ignored_and_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monitor.service.configured")
    with running(MemoryBroker()) as monitor:
        monitor.service.reload()
        monitor.turn(2)
    [line] = [record.getMessage() for record in caplog.records if record.name == "monitor.service.configured"]
    assert line.startswith("SIGHUP is ignored: the monitor was started without a configuration file")


def _name(client: Subscriber, device: str) -> str | None:
    told = client.payloads(TOPICS.of(device, "state"))
    return wire.decode(told[-1], wire.DeviceState).name if told else None


def _play(client: Subscriber, device: str, begin_s: int, end_s: int) -> None:
    for seq in range(begin_s, end_s):
        packet = wire.Packet(seq, START_S + seq, RATE_HZ, CALM[seq * 250 : (seq + 1) * 250])
        client.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_process_reads_it_again_on_sighup(workers: str, file: Path, tmp_path: Path) -> None:
    with (
        run_mosquitto(find_mosquitto(), tmp_path) as url,
        Subscriber(url, TOPICS.of("+", "state"), TOPICS.monitor_status("ward")) as client,
    ):
        file.write_text("name = 'ward'\n[devices.a]\nname = 'Bed 4'\n[devices.b]\nname = 'Bed 7'")
        words = ["--broker", str(url), "--state", str(tmp_path / "state"), "--workers", workers, "--config", str(file)]
        command = [sys.executable, "-m", "ecgwatch", "run", "--provider", "cpu", *words]
        monitor = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: bool(client.payloads(TOPICS.monitor_status("ward"))), 60)
            for device in ("a", "b"):
                _play(client, device, 0, 12)
            wait(lambda: (_name(client, "a"), _name(client, "b")) == ("Bed 4", "Bed 7"))
            file.write_text("name = 'ward'\n[devices.a]\nname = 'Bed 5'\n[devices.b]\nname = 'Bed 8'")
            monitor.send_signal(signal.SIGHUP)
            wait(lambda: (_name(client, "a"), _name(client, "b")) == ("Bed 5", "Bed 8"))
            file.write_text(
                f"broker = '{url}'\nname = 'ward'\n[devices.a]\nname = 'Bed 6'\n[devices.b]\nname = 'Bed 9'"
            )
            assert ecgwatch.__main__.main(["config", "reload", "--config", str(file)]) == 0
            wait(lambda: (_name(client, "a"), _name(client, "b")) == ("Bed 6", "Bed 9"))
            assert monitor.poll() is None
        finally:
            monitor.terminate()
            monitor.wait(30)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_process_without_a_file_goes_on_after_sighup(workers: str, tmp_path: Path) -> None:
    with (
        run_mosquitto(find_mosquitto(), tmp_path) as url,
        Subscriber(url, TOPICS.of("+", "state"), TOPICS.monitor_status("monitor")) as client,
    ):
        command = [sys.executable, "-m", "monitor", "run", "--provider", "cpu", "--no-state"]
        monitor = subprocess.Popen([*command, "--broker", str(url), "--workers", workers], stderr=subprocess.PIPE)
        try:
            wait(lambda: bool(client.payloads(TOPICS.monitor_status("monitor"))), 60)
            monitor.send_signal(signal.SIGHUP)
            _play(client, "a", 0, 12)
            wait(lambda: bool(client.payloads(TOPICS.of("a", "state"))))
            assert monitor.poll() is None
        finally:
            monitor.terminate()
            _, log = monitor.communicate(timeout=30)
        assert log.count(b"SIGHUP is ignored") == 1
