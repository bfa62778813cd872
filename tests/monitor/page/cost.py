"""What pages that are open cost the monitor: ``python -m tests.monitor.page.cost [--rounds N] [--pages N]``.

A real monitor, a fleet of the simulator, the page as users run it. Stretches with open pages and without any take
turns, each round in the order that the one before did not have, so that whatever else the machine does falls on both
alike. Compared is the processor time that the kernel has given the monitor's threads (``/proc/PID/schedstat``, in
nanoseconds) in stretches of equal length, and so of as many packets. The ratio is the median of the rounds', its
interval by bootstrap. Where the user may do that, the monitor goes before all else on the machine: else how long it is
kept waiting decides how many packets a turn of its loop takes, and so what one costs.

A page is a WebSocket that wants what a browser's view wants, and reads it, in a process of its own: a browser that
draws on the same cores costs the monitor caches, not work. ``--chromium`` opens real ones instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.broker.connection import BrokerUrl
from tests.brokers import Broker
from tests.monitor.page.browser import DESKTOP, PageProcess, launch
from tests.monitor.page.messages import TOPICS
from tests.subscriber import Subscriber

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

DEVICES, PACKET_S = 100, 0.2
VIEWS = ("fleet", "device/load-001", "alerts", "device/load-002", "monitor")
IN_VIEW = 24
"""Tiles of a fleet that a screen shows."""
OPEN_S, CLOSED_S = 2.0, 12.0
"""How long to wait after pages were opened or closed: signal is heard for 10 s after it was last shown."""


class Spent(NamedTuple):
    """What a process has spent so far."""

    busy_s: float
    """Processor time."""
    waits: int
    """Times that it waited for something, as once in each turn of the monitor's loop."""

    @classmethod
    def of(cls, pid: int) -> Spent:
        """Return that of all threads of a process."""
        busy_s, waits = 0.0, 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            busy_s += int((task / "schedstat").read_text().split()[0]) / 1e9
            status = (task / "status").read_text()
            waits += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return cls(busy_s, waits)


class Pages(Protocol):
    """Pages that can be opened and closed."""

    def open(self) -> None:
        """Open them."""

    def close(self) -> None:
        """Close them."""


class Sockets:
    """Pages as far as the page's server knows, in a process of their own.

    Parameters
    ----------
    url
        Of the page.
    pages
        How many.
    """

    def __init__(self, url: str, pages: int) -> None:
        self._command = [sys.executable, "-m", "tests.monitor.page.cost", "--read", url, "--pages", str(pages)]
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Open them, and wait until all are there."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"open\n"

    def close(self) -> None:
        """Close them."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


class Browsers:
    """Pages in Chromium.

    Parameters
    ----------
    browser
        Where to open them.
    url
        Of the page.
    pages
        How many.
    """

    def __init__(self, browser: Browser, url: str, pages: int) -> None:
        self._browser, self._url, self._pages = browser, url, pages
        self._context: BrowserContext | None = None

    def open(self) -> None:
        """Open them."""
        self._context = self._browser.new_context(viewport=DESKTOP)
        for number in range(self._pages):
            self._context.new_page().goto(f"{self._url}/#/{VIEWS[number % len(VIEWS)]}")

    def close(self) -> None:
        """Close them."""
        if self._context is not None:
            self._context.close()
            self._context = None


async def read_pages(url: str, pages: int) -> None:
    """Want what so many views want, and read it without end."""
    from websockets.asyncio.client import connect

    async def read(view: str) -> None:
        devices = [f"load-{number:03d}" for number in range(IN_VIEW)] if view == "fleet" else view.split("/")[1:]
        async with connect(f"{url.replace('http', 'ws', 1)}/ws", origin=url, max_size=None, open_timeout=60) as socket:  # type: ignore[arg-type]
            await socket.send(json.dumps({"watch": dict.fromkeys(devices, 0)}))
            await socket.recv()
            opened.release()
            async for _ in socket:
                pass

    opened, ended = asyncio.Semaphore(0), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with asyncio.TaskGroup() as group:  # one that cannot be opened ends all
        reading = [group.create_task(read(VIEWS[number % len(VIEWS)])) for number in range(pages)]
        for _ in reading:
            await opened.acquire()
        print("open", flush=True)
        await ended.wait()
        for task in reading:
            task.cancel()


@contextmanager
def _running(broker: BrokerUrl, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    run = [sys.executable, "-m", "monitor", "run", "--broker", str(broker), "--state", str(state), "--beats"]
    load = [sys.executable, "-m", "simulator", "load", "--broker", str(broker), "--devices", str(DEVICES)]
    load += ["--seconds", "86400", "--packet", str(PACKET_S)]
    with subprocess.Popen(run) as monitor:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, monitor.pid, -20)
        time.sleep(20)  # its loops may have to be compiled
        with subprocess.Popen(load, stdout=subprocess.DEVNULL) as devices:
            try:
                yield monitor
            finally:
                devices.terminate()
                monitor.terminate()


def _spend(pid: int, seconds: float) -> tuple[float, float]:
    """Return what a process spends in a stretch: processor time and waits, each by the second."""
    began_s, before = time.monotonic(), Spent.of(pid)
    time.sleep(seconds)
    after, lasted_s = Spent.of(pid), time.monotonic() - began_s
    return (after.busy_s - before.busy_s) / lasted_s, (after.waits - before.waits) / lasted_s


def _compare(pid: int, pages: Pages, rounds: int, seconds: float) -> npt.NDArray[np.float64]:
    """Return what the monitor spends a second: (rounds, without and with pages, processor time and waits)."""
    found = np.zeros((rounds, 2, 2))
    is_open = False
    for number in range(rounds):
        for wants_open in (is_open, not is_open):  # so it changes once in a round
            if wants_open and not is_open:
                pages.open()
                time.sleep(OPEN_S)
            elif is_open and not wants_open:
                pages.close()
                time.sleep(CLOSED_S)
            is_open = wants_open
            found[number, int(is_open)] = _spend(pid, seconds)
        if number % 10 == 9:
            print(f"after {number + 1} rounds: ", end="", flush=True)
            print(f"{np.median(found[: number + 1, 1, 0] / found[: number + 1, 0, 0]):.3f}", flush=True)
    pages.close()
    return found


def _report(found: npt.NDArray[np.float64], pages: int) -> None:
    packets = DEVICES / PACKET_S
    for what, name, scale in ((0, "us of processor time", 1e6), (1, "waits", 1.0)):
        ratios = found[:, 1, what] / found[:, 0, what]
        drawn = np.median(np.random.default_rng(0).choice(ratios, (10_000, len(ratios))), axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        without, with_pages = scale * np.median(found[:, :, what], axis=0) / packets
        print(f"{name} a packet: {without:.2f} without pages, {with_pages:.2f} with {pages}; ", end="")
        print(f"ratio {np.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}; {len(found)} rounds)")


def _count_packets(client: Subscriber) -> int:
    told = client.payloads(TOPICS.monitor_status("monitor"))
    return wire.decode(told[-1], wire.MonitorStatus).counts.get("packets", 0) if told else 0


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitor.page.cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="of a stretch with and one without pages")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a stretch")
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--chromium", action="store_true", help="open the pages in a browser")
    parser.add_argument("--read", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        asyncio.run(read_pages(options.read, options.pages))
        return 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        broker = Broker("mosquitto", Path(folder) / "broker")
        stack.callback(broker.end)
        page = PageProcess(broker.url)
        stack.callback(page.end)
        pages: Pages = Sockets(page.url, options.pages)
        if options.chromium:
            pages = Browsers(stack.enter_context(launch()), page.url, options.pages)
        monitor = stack.enter_context(_running(broker.url, Path(folder) / "state"))
        client = stack.enter_context(Subscriber(broker.url, TOPICS.monitor_status("monitor")))
        time.sleep(30)  # until all devices are known
        began_s, packets = time.monotonic(), _count_packets(client)
        found = _compare(monitor.pid, pages, options.rounds, options.seconds)
        rate = (_count_packets(client) - packets) / (time.monotonic() - began_s)
    print(f"{rate:.0f} packets a second of {DEVICES / PACKET_S:.0f}")
    _report(found, options.pages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
