"""What pages that are open cost the monitor: ``python -m tests.monitor.page.cost [--rounds N] [--pages N]``.

A real monitor, a fleet of the simulator, the page as users run it. Stretches with pages open in a browser, each on
another view, and without any take turns, so that whatever else the machine does falls on both alike. Compared is the
monitor's processor time for each packet, by its own account of both; the interval is that of the ratios' median, by
bootstrap.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from monitor import wire
from monitor.broker.connection import BrokerUrl
from tests.brokers import Broker
from tests.monitor.page.browser import DESKTOP, PageProcess, launch
from tests.monitor.page.messages import TOPICS
from tests.subscriber import Subscriber

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DEVICES, PACKET_S = 100, 0.2
VIEWS = ("fleet", "device/load-001", "alerts", "device/load-002", "monitor")
SETTLE_S = 3.0
"""After pages were opened or closed."""


class Watched:
    """A monitor's processor time, and the packets that it has counted."""

    def __init__(self, process: subprocess.Popen[bytes], client: Subscriber) -> None:
        self._process, self._client = psutil.Process(process.pid), client

    def read(self) -> tuple[float, int]:
        """Return seconds of processor time and packets, both of the moment of the next status."""
        topic = TOPICS.monitor_status("monitor")
        before = len(self._client.payloads(topic))
        while len(self._client.payloads(topic)) == before:
            time.sleep(0.005)
        times = self._process.cpu_times()
        counts = wire.decode(self._client.payloads(topic)[-1], wire.MonitorStatus).counts
        return times.user + times.system, counts["packets"]

    def cost_us(self) -> float:
        """Return the processor time of a packet, over the next status's interval."""
        (busy_s, packets), (busy_until_s, packets_until) = self.read(), self.read()
        return 1e6 * (busy_until_s - busy_s) / (packets_until - packets)


@contextmanager
def _running(broker: BrokerUrl, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    run = [sys.executable, "-m", "monitor", "run", "--broker", str(broker), "--state", str(state), "--beats"]
    load = [sys.executable, "-m", "simulator", "load", "--broker", str(broker), "--devices", str(DEVICES)]
    load += ["--seconds", "86400", "--packet", str(PACKET_S)]
    with subprocess.Popen(run) as monitor:
        time.sleep(20)  # its loops may have to be compiled
        with subprocess.Popen(load, stdout=subprocess.DEVNULL) as devices:
            try:
                yield monitor
            finally:
                devices.terminate()
                monitor.terminate()


def _with_pages(browser: Browser, url: str, pages: int, watched: Watched) -> float:
    context = browser.new_context(viewport=DESKTOP)
    for number in range(pages):
        context.new_page().goto(f"{url}/#/{VIEWS[number % len(VIEWS)]}")
    time.sleep(SETTLE_S)
    cost_us = watched.cost_us()
    context.close()
    return cost_us


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitor.page.cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="of a stretch with and one without pages")
    parser.add_argument("--pages", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, launch() as browser:
        broker = Broker("mosquitto", Path(folder) / "broker")
        page = PageProcess(broker.url)
        with (
            _running(broker.url, Path(folder) / "state") as monitor,
            Subscriber(broker.url, TOPICS.monitor_status("monitor")) as client,
        ):
            watched = Watched(monitor, client)
            time.sleep(30)  # until all devices are known
            pairs = np.array(
                [
                    (watched.cost_us(), _with_pages(browser, page.url, options.pages, watched))
                    for _ in range(options.rounds)
                ]
            )
        page.end()
        broker.end()
    ratios = pairs[:, 1] / pairs[:, 0]
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    print(f"without pages {np.median(pairs[:, 0]):.0f} us a packet, with {options.pages} {np.median(pairs[:, 1]):.0f}")
    print(f"ratio {np.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}; {options.rounds} rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
