"""What is served to Prometheus and to whoever asks whether the monitor is well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from monitor import wire
from monitor.__main__ import main
from monitor.broker.memory import MemoryBroker
from monitor.service import metrics
from monitor.service.metrics import Address, HealthBoard, serve
from simulator.broker import free_port
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.service.one_monitor import SLOW, running

STATUS = wire.MonitorStatus(
    state="overloaded",
    version="1",
    model="ptb",
    model_sha256="ab",
    since_s=5.0,
    counts={
        "packets": 7,
        "beats normal": 3,
        "withheld: noise": 2,
        "refused: too many devices": 4,
        "gaps": 1,
        "worker restarts": 6,
    },
    devices=8,
    streaming=5,
    lead_off=2,
    silent=1,
    behind_s=6.5,
    unsettled=9,
    lateness_s=0.25,
    fault="the disk is full",
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9188", Address("127.0.0.1", 9188)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("host:0", Address("host", 0)),
    ],
)
def test_an_address_is_a_port_and_maybe_a_host(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":80",
        "host:65536",
        "host:-1",
        "host:٣",
        "127.0.0.1:22:1",
        "[host]:80",
        "[::1:80",
        "[]:80",
        "::1",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected \[HOST:\]PORT"):
        Address.parse(text)


@pytest.fixture
def board() -> HealthBoard:
    return HealthBoard()


@pytest.fixture
def url(board: HealthBoard) -> Iterator[str]:
    with serve(Address.parse("0"), board) as address:
        yield f"http://{address}"


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _figures(url: str) -> dict[str, float]:
    status, text = _get(f"{url}/metrics")
    assert status == 200
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    }


def test_whatever_stands_in_the_status_is_a_metric(board: HealthBoard, url: str) -> None:
    board.note(msgspec.structs.replace(STATUS, heard_s=time.time() - 30))
    figures = _figures(url)
    for name, value in {
        "ecgwatch_packets_total": 7,
        "ecgwatch_alerts_total": 0,
        "ecgwatch_rejected_total": 0,
        "ecgwatch_restarts_total": 6,
        'ecgwatch_beats_total{verdict="normal"}': 3,
        'ecgwatch_beats_total{verdict="abnormal"}': 0,
        'ecgwatch_beats_total{verdict="withheld"}': 0,
        'ecgwatch_withheld_total{reason="noise"}': 2,
        'ecgwatch_refused_total{reason="too many devices"}': 4,
        'ecgwatch_events_total{event="gaps"}': 1,
        'ecgwatch_info{model="ptb",model_sha256="ab",version="1"}': 1,
        "ecgwatch_connected": 0,
        'ecgwatch_devices{state="streaming"}': 5,
        'ecgwatch_devices{state="lead off"}': 2,
        'ecgwatch_devices{state="silent"}': 1,
        "ecgwatch_behind_seconds": 6.5,
        "ecgwatch_unsettled_packets": 9,
        "ecgwatch_lateness_seconds": 0.25,
        "ecgwatch_overloaded": 1,
        "ecgwatch_store_fault": 1,
        "ecgwatch_start_time_seconds": 5,
    }.items():
        assert figures.pop(name) == value
    assert 0 <= figures.pop("ecgwatch_status_age_seconds") < 5
    assert 30 <= figures.pop("ecgwatch_silence_seconds") < 40
    assert not figures


def test_each_device_has_metrics_where_that_was_asked_for(url: str, board: HealthBoard) -> None:
    assert not any("device" in name for name in _figures(url))
    alerts = [wire.ActiveAlert(episode=word, kind="pause", severity="high", since_s=0) for word in "xy"]
    states = [
        wire.DeviceState(
            device="a", name='"4"', connection="streaming", heart_rate_bpm=61.5, judged=0.5, alerts=alerts, time_s=0
        ),
        wire.DeviceState(device="b", connection="silent", time_s=0),
    ]
    board.states = {state.device: state for state in states}
    none = {
        f'ecgwatch_device_active_alerts{{device="{device}",severity="{severity}"}}': 0.0
        for device in "ab"
        for severity in ("high", "medium", "low", "technical")
    }
    assert _figures(url) == none | {
        'ecgwatch_device_info{device="a",name="\\"4\\""}': 1,
        'ecgwatch_device_info{device="b",name="b"}': 1,
        'ecgwatch_device_heart_rate_bpm{device="a"}': 61.5,
        'ecgwatch_device_judged_ratio{device="a"}': 0.5,
        'ecgwatch_device_connection{connection="streaming",device="a"}': 1,
        'ecgwatch_device_connection{connection="silent",device="b"}': 1,
        'ecgwatch_device_active_alerts{device="a",severity="high"}': 2,
    }


def test_the_metrics_of_a_device_are_its_latest_state_and_go_with_it() -> None:
    with running(MemoryBroker(), metrics_devices=True) as monitor:
        states = monitor.service.board.states
        assert states == {}
        monitor.play("a", SLOW)
        assert states["a"] == monitor.state("a")
        assert [alert.kind for alert in states["a"].alerts] == ["bradycardia"]
        monitor.service.engine.forget(float("inf"))
        monitor.turn()
        assert states == {}
    with running(MemoryBroker()) as monitor:
        assert monitor.service.board.states is None


def test_no_metric_names_a_device_that_was_forgotten_on_request() -> None:
    with running(MemoryBroker(), metrics_devices=True) as monitor:
        monitor.play("a", SLOW)
        known = monitor.service.engine.record("a")
        assert known is not None
        known.arrived_s -= 11.0  # it has been quiet for so long
        answer = monitor.ask("forget", "a")
        assert answer is not None
        assert "nothing of it is left in memory" in answer.text
        assert monitor.service.board.states == {}


def test_how_late_packets_are_is_a_metric_between_two_published_statuses() -> None:
    with running(MemoryBroker(), metrics=Address("127.0.0.1", 0)) as monitor:
        monitor.play("a", SLOW)
        health = monitor.loop._health
        health.turn(time.monotonic() + 60.0)
        (*_, told) = monitor.messages(wire.Topics().monitor_status("monitor"))
        noted = monitor.service.board.status
        assert noted is not None
        assert noted.lateness_s is not None
        assert noted.lateness_s == wire.decode(told, wire.MonitorStatus).lateness_s


@pytest.mark.parametrize("words", [[], ["--metrics", "0", "--workers", "2"]])
def test_metrics_of_devices_without_metrics_or_of_several_workers_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--metrics-devices", *words]) == 2
    assert "--metrics-devices needs --metrics, and one worker" in capsys.readouterr().err


def test_before_the_first_status_there_are_no_metrics(url: str) -> None:
    assert _figures(url) == {}


def test_it_is_alive_while_the_loop_turns_and_ready_while_packets_can_come_in(board: HealthBoard, url: str) -> None:
    assert (_get(f"{url}/healthz")[0], _get(f"{url}/readyz")[0]) == (200, 503)
    board.ready = True
    assert (_get(f"{url}/healthz")[0], _get(f"{url}/readyz")[0]) == (200, 200)
    board.turned_s = time.monotonic() - metrics.LATE_S
    assert (_get(f"{url}/healthz")[0], _get(f"{url}/readyz")[0]) == (503, 503)


def test_anything_else_is_not_found(url: str) -> None:
    assert _get(f"{url}/")[0] == 404


def test_a_client_that_says_nothing_keeps_nobody_waiting(url: str) -> None:
    address = Address.parse(url.removeprefix("http://"))
    with socket.create_connection((address.host, address.port)):
        assert _get(f"{url}/healthz")[0] == 200


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            command = [sys.executable, "-m", "monitor", "run", "--metrics", str(port), "--workers", workers]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2
            assert done.stderr == f"monitor: Metrics cannot be served at 127.0.0.1:{port}: Address already in use.\n"


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _is(url: str, status: int) -> bool:
    try:
        return _get(url)[0] == status
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_monitor_is_ready_until_the_broker_goes_away(workers: int, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with run_mosquitto(find_mosquitto(), tmp_path) as broker:
        command = [sys.executable, "-m", "monitor", "run", "--broker", str(broker), "--provider", "cpu"]
        command += ["--metrics", str(port), "--workers", str(workers)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _wait(lambda: _is(f"{url}/readyz", 200))
        _wait(lambda: _figures(url).get("ecgwatch_connected") == 1)
        assert _figures(url)["ecgwatch_status_age_seconds"] < 5
    try:
        _wait(lambda: _is(f"{url}/readyz", 503))
        time.sleep(2)
        assert _figures(url)["ecgwatch_connected"] == 0
        assert _figures(url)["ecgwatch_overloaded"] == 0
        assert _figures(url)["ecgwatch_status_age_seconds"] < 5
        assert _is(f"{url}/healthz", 200)
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_worker_that_dies_makes_it_unready_until_the_next_one_reports(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with run_mosquitto(find_mosquitto(), tmp_path) as broker:
        command = [sys.executable, "-m", "monitor", "run", "--broker", str(broker), "--provider", "cpu"]
        process = subprocess.Popen([*command, "--metrics", str(port), "--workers", "2"], stderr=subprocess.DEVNULL)
        try:
            _wait(lambda: _is(f"{url}/readyz", 200))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            [worker, _] = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
            os.kill(int(worker), signal.SIGKILL)
            _wait(lambda: _is(f"{url}/readyz", 503))
            assert _is(f"{url}/healthz", 200)
            _wait(lambda: _is(f"{url}/readyz", 200))
            _wait(lambda: _figures(url)["ecgwatch_restarts_total"] == 1)
        finally:
            process.terminate()
            assert process.wait(30) == 0
