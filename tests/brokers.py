"""Brokers that can be stopped, killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST, free_port
from tests.conftest import DEPLOYED, find_mosquitto, listens

Kind = Literal["iotcore", "mosquitto", "mosquitto without persistence", "mosquitto by default"]
"""The embedded one; mosquitto as in deploy/, as there but without a file, and with its own settings."""
WAIT_S = 60.0
"""How long it may take to start or to end."""


class Broker:
    """A broker on a port of its own, as a process.

    Parameters
    ----------
    kind
        Which, and how.
    folder
        For its files.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.url = BrokerUrl(HOST, free_port())
        self._command = self._prepare(kind, folder)
        self.start()

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
        """Let it do nothing for a while; its connections stay open."""
        self._signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)  # iotcore has a process of its own below

    def _wait_until_it_listens(self, listening: bool) -> None:
        until_s = time.monotonic() + WAIT_S
        while listens(self.url.port) != listening:
            assert time.monotonic() < until_s, f"the broker did not {'start' if listening else 'end'}"
            time.sleep(0.02)
