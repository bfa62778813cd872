"""A process beside the monitor: it ends with it, also with one that is killed, and is started again if it dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.service.companion import run_beside

COMPANION = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).open("a").write(f"{os.getpid()}\\n")
print("http://here/", flush=True)
sys.stdin.buffer.read()
"""


def _wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def _pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _command(file: Path) -> list[str]:
    return [sys.executable, "-c", COMPANION, str(file)]


def test_a_companion_runs_as_long_as_its_monitor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with run_beside(_command(tmp_path / "pids")):
        _wait_for(lambda: bool(_pids(tmp_path / "pids")) and "http://here/" in caplog.text)
    [pid] = _pids(tmp_path / "pids")
    _wait_for(lambda: not _is_alive(pid))


def test_a_companion_that_dies_is_started_again(tmp_path: Path) -> None:
    with run_beside(_command(tmp_path / "pids")):
        _wait_for(lambda: len(_pids(tmp_path / "pids")) == 1)
        os.kill(_pids(tmp_path / "pids")[0], signal.SIGKILL)
        _wait_for(lambda: len(_pids(tmp_path / "pids")) == 2)


def test_a_companion_ends_with_a_monitor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from monitor.service.companion import run_beside\n"
        "with run_beside(sys.argv[1:]): time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, *_command(tmp_path / "pids")]) as monitor:
        _wait_for(lambda: bool(_pids(tmp_path / "pids")))
        monitor.kill()
    [pid] = _pids(tmp_path / "pids")
    _wait_for(lambda: not _is_alive(pid))


def test_without_a_companion_nothing_runs() -> None:
    with run_beside(None):
        pass
