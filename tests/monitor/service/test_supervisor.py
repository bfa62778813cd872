"""Several workers speak with one voice."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from monitor.service.metrics import Address
from monitor.service.settings import ServiceSettings
from monitor.service.supervisor import Workers, _Worker
from monitor.summary import add_up
from simulator.broker import EmbeddedBroker, free_port


def _status(state: wire.MonitorState = "online", **fields: Any) -> wire.MonitorStatus:
    return wire.MonitorStatus(state=state, version="1", model="ptb", model_sha256="ab", since_s=1.0, **fields)


BLANK = wire.MonitorStatus(state="online", version="1", model="", model_sha256="", since_s=0.0)


def test_counts_are_added_up_and_the_worst_of_all_else_is_told() -> None:
    one = _status(
        counts={"packets": 3, "gaps": 1}, devices=3, streaming=1, lead_off=1, silent=1, behind_s=0.1, heard_s=9.0
    )
    other = _status(
        "overloaded",
        counts={"packets": 4},
        devices=2,
        streaming=2,
        behind_s=7.0,
        overloaded_since_s=50.0,
        lateness_s=8.0,
        heard_s=20.0,
    )
    told = add_up(BLANK, [one, other])
    assert told.counts == {"packets": 7, "gaps": 1}
    assert (told.devices, told.streaming, told.lead_off, told.silent) == (5, 3, 1, 1)
    assert (told.state, told.behind_s, told.overloaded_since_s, told.lateness_s) == ("overloaded", 7.0, 50.0, 8.0)
    assert (told.model, told.since_s, told.heard_s) == ("ptb", 0.0, 20.0)


def test_who_says_goodbye_is_not_overloaded() -> None:
    offline = add_up(_status("offline"), [_status("overloaded", overloaded_since_s=50.0)])
    assert (offline.state, offline.overloaded_since_s) == ("offline", None)


def test_without_any_worker_nothing_is_known() -> None:
    assert add_up(BLANK, []) == BLANK


@contextmanager
def _monitor(url: BrokerUrl, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Two workers in a process group of their own; killed at the end, if they still run."""
    command = [sys.executable, "-m", "monitor", "run", "--broker", str(url), "--name", name, "--workers", "2"]
    command += ["--provider", "cpu", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _end(process: subprocess.Popen[str]) -> str:
    """Stop it in good order, and return what it said."""
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


@contextmanager
def _statuses(url: BrokerUrl, name: str, prefix: str = wire.PREFIX) -> Iterator[list[wire.MonitorStatus]]:
    """What a monitor says of itself, as it comes."""
    told: list[wire.MonitorStatus] = []
    client = connection.make_client(url, f"test-{time.time_ns()}")
    client.on_message = lambda _c, _d, message: told.append(wire.decode(bytes(message.payload), wire.MonitorStatus))
    client.on_connect = lambda client, *_: client.subscribe(wire.Topics(prefix).monitor_status(name), 1)
    connection.connect(client, url)
    client.loop_start()
    try:
        yield told
    finally:
        client.disconnect()
        client.loop_stop()


def _wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the workers."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.parametrize("broker_url", ["mosquitto"], indirect=True)
def test_a_second_monitor_of_a_name_is_silent_until_the_first_has_stopped(
    broker_url: BrokerUrl, tmp_path: Path
) -> None:
    name, state = "handed-over", ("--state", str(tmp_path / "state"))
    with _statuses(broker_url, name) as told, _monitor(broker_url, name, *state) as first:
        _wait(lambda: told)
        with _monitor(broker_url, name, *state) as second, _monitor(broker_url, name, *state) as third:
            time.sleep(6)  # the first one's next status, and more than the others need to start
            assert {status.since_s for status in told} == {told[0].since_s}
            assert "offline" not in {status.state for status in told}
            assert "waiting until it stops" in _end(third)
            _end(first)
            _wait(lambda: told[-1].state == "online" and told[-1].since_s > told[0].since_s)
            assert [status.state for status in told if status.state == "offline"] == ["offline"]
            _end(second)


def test_monitors_that_remember_nothing_do_not_throw_each_other_out() -> None:
    one, other = (Workers(ServiceSettings(name="a", state=state), 2) for state in (None, Path("somewhere")))
    assert str(os.getpid()) in one._client._client_id.decode()
    assert other._client._client_id == b"ecgwatch-a-workers"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.2])
def test_an_interrupt_while_workers_start_ends_them_without_a_word(
    broker_url: BrokerUrl, after_s: float, tmp_path: Path
) -> None:
    with _monitor(broker_url, "interrupted", "--state", str(tmp_path)) as process:
        _wait(lambda: _children(process))
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in said
        assert "died" not in said


@contextmanager
def _running(settings: ServiceSettings) -> Iterator[None]:
    """Two workers of this process; leaving the context stops them."""
    workers = Workers(settings, 2)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(workers.run)
        try:
            yield
        finally:
            workers.stop()
            done.result(60)


def _told(status: wire.MonitorStatus, *counts: str) -> list[int]:
    return [status.counts.get(name, 0) for name in counts]


RESTARTS, HUNG = "worker restarts", "workers killed as unresponsive"


@pytest.mark.parametrize("broker_url", ["mosquitto"], indirect=True)
def test_a_worker_that_hangs_is_no_longer_counted_in_and_started_again(
    broker_url: BrokerUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.service.supervisor.LATE_S", 4.0)
    monkeypatch.setattr("monitor.service.supervisor.HUNG_S", 8.0)
    monkeypatch.setattr("monitor.service.supervisor.ALIVE_S", 0.5)
    often = Address("127.0.0.1", free_port())  # with metrics workers report every second
    prefix = "hanging/v1"  # the broker remembers devices of other tests
    settings = ServiceSettings(
        broker=broker_url, name="hanging", provider="cpu", state=tmp_path, metrics=often, prefix=prefix
    )
    device = connection.make_client(broker_url, f"test-{time.time_ns()}")
    connection.connect(device, broker_url)
    device.loop_start()

    def play(seq: int) -> None:
        for number in range(8):
            packet = wire.encode_packet(wire.Packet(seq, 1e9 + seq, 250.0, np.ones(250, np.int16)))
            device.publish(wire.Topics(prefix).of(f"hanging-{number}", "samples"), packet, 1).wait_for_publish(10)

    with _statuses(broker_url, "hanging", prefix) as told, _running(settings):
        _wait(lambda: told and told[-1].state == "online")
        play(0)
        _wait(lambda: told[-1].devices == 8)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGSTOP)
        play(1)
        _wait(lambda: told[-1].devices < 8)
        assert (told[-1].state, _told(told[-1], RESTARTS, HUNG)) == ("online", [0, 0])
        assert told[-1].counts["packets"] >= 8
        _wait(lambda: _told(told[-1], RESTARTS, HUNG) == [1, 1])
        _wait(lambda: told[-1].counts["packets"] == 16 and told[-1].devices == 8)
    assert _told(told[-1], RESTARTS, HUNG) == [1, 1]
    device.disconnect()
    device.loop_stop()


def test_a_worker_that_starts_or_waits_for_a_former_one_is_not_taken_for_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.service.supervisor.HUNG_S", 4.0)
    with EmbeddedBroker(port=0) as broker, (tmp_path / "starting.1.lock").open("w") as former:
        fcntl.flock(former, fcntl.LOCK_EX)
        settings = ServiceSettings(broker=broker.url, name="starting", provider="cpu", state=tmp_path)
        with _statuses(broker.url, "starting") as told, _running(settings):
            time.sleep(10.0)
            assert told == []
            former.close()
            _wait(lambda: told)
            assert (told[-1].state, _told(told[-1], RESTARTS)) == ("online", [0])


def test_while_no_worker_reports_nothing_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.service.supervisor._Worker.start", lambda self: None)
    one, other = _Worker(ServiceSettings()), _Worker(ServiceSettings())
    workers = Workers(ServiceSettings(), 2)
    one.silence_s, one.status = 14.0, _status(counts={"packets": 3}, devices=2)
    other.silence_s, other.status = 16.0, _status(counts={"packets": 4}, devices=5)
    assert workers._state([one, other]) == "online"
    told = workers._sum([one, other], "online")
    assert (told.devices, told.counts["packets"]) == (2, 7)
    one.silence_s = None
    assert workers._state([one, other]) == "offline"
