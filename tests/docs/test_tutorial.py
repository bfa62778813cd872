"""The tutorial, followed to the letter but for the port: it ends with an alert from one's own device."""

from __future__ import annotations

import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from simulator.broker import free_port
from tests.brokers import listens

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "TUTORIAL.md").read_text(encoding="utf-8")
TYPED = [line for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
(SHOWN,) = re.findall(r"```text\n(.*?)\n```", TEXT)


def _typed(*begin: str) -> list[str]:
    """Return the one command of the tutorial that begins so."""
    (found,) = [line for line in TYPED if shlex.split(line)[: len(begin)] == list(begin)]
    return shlex.split(found)


class _Reader:
    """Reads what a command prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def wait_for(self, pattern: str, seconds: float = 60.0) -> str:
        until_s, seen = time.monotonic() + seconds, list[str]()
        while time.monotonic() < until_s:
            try:
                seen.append(self._lines.get(timeout=0.2))
            except queue.Empty:
                continue
            if re.search(pattern, seen[-1]):
                return seen[-1]
        raise AssertionError(f"no {pattern!r} in {seen}")


class _Desk:
    """The terminals of somebody who follows the tutorial."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        self._broker = f"--broker=mqtt://127.0.0.1:{self.port}"

    def words(self, typed: list[str]) -> list[str]:
        """Return what is typed, for another port and folder than the usual."""
        if typed[0] == "python":
            return [sys.executable, str(ROOT / typed[1]), *typed[2:], "127.0.0.1", str(self.port)]
        verb = typed[1]
        more = ["--port", str(self.port)] if verb == "broker" else [self._broker]
        return [sys.executable, "-m", *typed, *more, *([f"--state={self.folder}"] if verb == "run" else [])]

    def start(self, typed: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.words(typed), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.running.append(process)
        return process

    def ask(self, typed: list[str]) -> None:
        assert main([*typed[1:], self._broker]) == 0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[_Desk]:
    made = _Desk(tmp_path)
    yield made
    for process in reversed(made.running):
        process.terminate()
        process.communicate(timeout=30)


def test_it_ends_with_an_alert_from_ones_own_device(desk: _Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.start(_typed("ecgwatch", "broker"))
    until_s = time.monotonic() + 60
    while not listens(desk.port) and time.monotonic() < until_s:
        time.sleep(0.1)
    desk.start(_typed("ecgwatch", "run"))
    watch = _Reader(desk.start(_typed("ecgwatch", "watch")))
    device = desk.start(_typed("python", "examples/device.py"))
    while "streaming" not in capsys.readouterr().out and time.monotonic() < until_s:
        desk.ask(["ecgwatch", "devices"])
    desk.ask(_typed("ecgwatch", "device", "set"))
    first = watch.wait_for("NEW")  # and nothing was alerted before
    assert re.sub(r"[\d:]{8}", "", first).split() == re.sub(r"[\d:]{8}", "", SHOWN).split()
    inline = re.findall(r"`((?:ecgwatch ack|--limits) [^`]+)`", TEXT)
    ack, limits = (shlex.split(text) for text in inline)
    desk.ask(ack)
    desk.ask(["ecgwatch", "device", "set", "my-device", *limits])
    watch.wait_for(r"my-device +END +medium +tachycardia")
    device.send_signal(signal.SIGINT)
    watch.wait_for(r"my-device +NEW +technical +device-silent")
