"""The brokers of the tests, as processes that can be stopped, killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST, free_port

DEPLOYED = Path(__file__).parents[1] / "deploy" / "mosquitto.conf"
Kind = Literal["iotcore", "mosquitto", "mosquitto without persistence", "mosquitto by default"]
"""The embedded one; mosquitto as in deploy/, as there but without a file, and with its own settings."""
WAIT_S = 60.0
"""How long it may take to start or to end."""


class Server:
    """A command that listens on a port of this machine.

    Parameters
    ----------
    command
        The command; it is started at once.
    port
        Where it listens.
    """

    def __init__(self, command: Sequence[str], port: int) -> None:
        self._command, self._port = list(command), port
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._wait_until_it_listens(True)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal."""
        self._signal(how)
        self._process.wait(WAIT_S)
        self._wait_until_it_listens(False)

    def restart(self, how: signal.Signals, away_s: float) -> None:
        """End it by a signal, and start it again after a while."""
        self.end(how)
        time.sleep(away_s)
        self.start()

    def freeze(self, seconds: float) -> None:
        """Stop it for a while; its connections stay open."""
        self._signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)  # iotcore has a process of its own below

    def _wait_until_it_listens(self, listening: bool) -> None:
        until_s = time.monotonic() + WAIT_S
        while listens(self._port) != listening:
            status = self._process.poll()
            assert status is None or not listening, f"the broker ended with status {status}"
            assert time.monotonic() < until_s, f"the broker did not {'start' if listening else 'end'}"
            time.sleep(0.02)


class Broker(Server):
    """A broker on a port of its own.

    Parameters
    ----------
    kind
        Which, and how.
    folder
        For its files.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.url = BrokerUrl(HOST, free_port())
        super().__init__(self._prepare(kind, folder), self.url.port)

    def _prepare(self, kind: Kind, folder: Path) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "iotcore":
            return [sys.executable, "-m", "simulator", "broker", "--port", str(self.url.port)]
        settings = DEPLOYED.read_text().replace("/var/lib/mosquitto/", f"{folder}/")
        if kind == "mosquitto without persistence":
            settings = settings.replace("persistence true", "persistence false")
        if kind == "mosquitto by default":
            settings = "listener 1883 127.0.0.1\nallow_anonymous true\n"
        # Started by root, it must stay root: others cannot write where the tests have their files.
        settings = settings.replace("listener 1883", f"user root\nlistener {self.url.port}")
        config = folder / "mosquitto.conf"
        config.write_text(settings)
        return [find_mosquitto(), "-c", str(config)]


@contextmanager
def run_mosquitto(_path: str, folder: Path) -> Iterator[BrokerUrl]:
    """Run mosquitto with the settings of deploy/mosquitto.conf, on a free port and with its files in `folder`."""
    broker = Broker("mosquitto", folder)
    try:
        yield broker.url
    finally:
        broker.end()


@contextmanager
def serve_mosquitto(path: str, config: Path, port: int) -> Iterator[None]:
    """Run mosquitto with a configuration that has it listen on that port."""
    server = Server([path, "-c", str(config)], port)
    try:
        yield
    finally:
        server.end()


def find_mosquitto() -> str:
    """Return the path of mosquitto; without one skip the test, or fail it on CI."""
    path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        reason = "mosquitto is not installed: apt-get install mosquitto (or brew install mosquitto)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
