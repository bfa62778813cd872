"""A real browser before a real page: Debian's Chromium, driven by Playwright; a real broker, and real processes.

Without them the tests are skipped and say what to install; on CI they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.page.serve import make_server
from monitor.page.settings import PageAddress, PageSettings
from simulator.broker import free_port
from tests.monitor.page.messages import TOPICS, active, state
from tests.subscriber import Subscriber

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
NODE = Path(sys.prefix) / "node" / "node_modules"
"""Where ``make .venv/node`` puts what npm brings."""
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


def lack(reason: str) -> None:
    """Skip the test, or fail it on CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def launch() -> Iterator[Browser]:
    """Start a browser."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        lack("no browser: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        lack("no Playwright: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def node_tool(*parts: str) -> Path:
    """Return a file of a package of npm's."""
    file = NODE.joinpath(*parts)
    if not file.exists():
        lack(f"no {parts[-1]}: make .venv/node, which needs npm")
    return file


class PageProcess:
    """``ecgwatch page`` as a process, on a port that it keeps when it is started again.

    Parameters
    ----------
    broker
        Its broker.
    options
        More of its command line.
    """

    def __init__(self, broker: BrokerUrl, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "monitor", "page", "--broker", str(broker), "--no-history"]
        self._command += ["--page", str(self.port), *options]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("http"), "the page did not start"

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate(timeout=30)


class PageServer:
    """The page in a thread of this process: what it is served by is the same, and it starts in no time.

    Parameters
    ----------
    broker
        Its broker.
    state
        Of a monitor on this machine.
    """

    def __init__(self, broker: BrokerUrl, state: Path | None = None) -> None:
        self._server, self._listener = make_server(
            PageSettings(broker=broker, address=PageAddress("127.0.0.1", 0), state=state)
        )
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(30)
        self._listener.close()


class FakeMonitor:
    """Publishes what a test says, and does what it is asked.

    Parameters
    ----------
    broker
        The broker.
    name
        Its name.
    said_s
        When it said that it is online; None: now.
    """

    def __init__(self, broker: BrokerUrl, name: str = "monitor", said_s: float | None = None) -> None:
        self.name = name
        self.refusal: str | None = None
        """What it answers to all requests, if it does nothing."""
        self.requests: list[tuple[str, wire.Request]] = []
        self._alerts: dict[str, wire.Alert] = {}
        self._states: dict[str, wire.DeviceState] = {}
        self._subscriber = Subscriber(broker, TOPICS.request(name, "+"), client_id=f"fake-{name}")
        self._subscriber.client.on_message = self._on_request
        self._tell("online", said_s)

    def leave(self) -> None:
        """Say that it is offline."""
        self._tell("offline")

    def _tell(self, how: wire.MonitorState, said_s: float | None = None) -> None:
        status = wire.MonitorStatus(
            state=how,
            version="1",
            model="ptb",
            model_sha256="0" * 64,
            since_s=1.0,
            time_s=time.time() if said_s is None else said_s,
        )
        self._subscriber.publish(TOPICS.monitor_status(self.name), wire.encode(status), retain=True)

    def close(self) -> None:
        """Disconnect."""
        self._subscriber.close()

    def show(self, *devices: wire.DeviceState) -> None:
        """Publish the states of devices."""
        for device in devices:
            self._states[device.device] = device
            self._publish(device.device, "state", device, retain=True)

    def alert(self, alert: wire.Alert) -> None:
        """Publish an alert, and its device's state with it."""
        self._alerts[alert.episode] = alert
        self._publish(alert.device, "alerts", alert)
        before = self._states.get(alert.device, state(alert.device))
        self.show(_with_alerts(before, [*before.alerts, active(alert)]))

    def publish(self, device: str, leaf: str, payload: bytes) -> None:
        """Publish something of a device."""
        self._subscriber.client.publish(TOPICS.of(device, leaf), payload, qos=0)

    def forget(self, device: str) -> None:
        """Let the broker retain nothing of a device."""
        self._subscriber.client.publish(TOPICS.of(device, "state"), b"", qos=1, retain=True).wait_for_publish(10)

    def _publish(self, device: str, leaf: str, message: Any, retain: bool = False) -> None:
        self._subscriber.client.publish(TOPICS.of(device, leaf), wire.encode(message), qos=1, retain=retain)

    def _on_request(self, _client: object, _data: object, message: Any) -> None:
        verb = message.topic.rpartition("/")[2]
        if verb == wire.REFRESH:  # everything that it shows is retained
            return
        request = wire.decode(bytes(message.payload), wire.Request)
        self.requests.append((verb, request))
        if verb == "acknowledge":
            before = self._states[request.device]
            told = [
                active(self._alerts[one.episode], acknowledged_by=request.by, acknowledged_s=1.0)
                for one in before.alerts
            ]
            self.show(_with_alerts(before, told))
        answer = wire.Answer(id=request.id, ok=self.refusal is None, text=self.refusal or f"{verb}: done")
        self._subscriber.client.publish(request.response_topic or "", wire.encode(answer), qos=1)


def _with_alerts(before: wire.DeviceState, alerts: list[wire.ActiveAlert]) -> wire.DeviceState:
    from msgspec.structs import replace

    return replace(before, alerts=alerts)
