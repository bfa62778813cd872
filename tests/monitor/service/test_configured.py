"""The configuration file is read again while the monitor runs, and no beat is lost by it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monitor import wire
from monitor.broker.memory import MemoryBroker
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
        _reload(monitor, file, "[limits]\nbradycardia-bpm = 42\n[devices.a]\nname = 'Bed 4'")
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
            assert monitor.poll() is None
        finally:
            monitor.terminate()
            monitor.wait(30)
