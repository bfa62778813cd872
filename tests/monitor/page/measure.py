"""How fast and how dear the page is in a browser: ``python -m tests.monitor.page.measure [--seconds N]``.

A fleet of made-up devices on a real broker, the page as users run it, Chromium without a screen. The browser's figures
are those of its main thread, by its own account: processor time of the thread (CDP ``Performance.getMetrics``), and the
longest task by its processor time (tracing). Frames by the clock are also as long as other work on the machine makes
them: so an empty page in the same browser counts its own meanwhile, and of each long frame of the fleet the browser
says what of it were scripts, and what style and layout (Long Animation Frames API; a script has asked for layout that
is forced).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monitor import wire
from tests.brokers import Broker
from tests.monitor.page.browser import DESKTOP, FakeMonitor, PageProcess, launch
from tests.monitor.page.messages import alert, state

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RATE_HZ, PACKET_S = 125.0, 0.2
LARGE = 2000
"""Devices of the large fleet; the state of each is published every two seconds."""
STREAMING = 64
"""Those of them that send signal: more than are ever in view."""
MARKS = """async () => {
  const { Sweep } = await import("/static/sweep.js");
  const draw = Sweep.prototype.drawMark;
  window.marks = {};
  Sweep.prototype.drawMark = function (mark) {
    window.marks[mark.time_s] ??= Date.now() / 1000;
    return draw.call(this, mark);
  };
  window.alarms = {};
  new MutationObserver(() => {
    for (const one of document.querySelectorAll(".alarm")) window.alarms[one.href] ??= Date.now() / 1000;
  }).observe(document.getElementById("alarms"), { childList: true });
}"""
FRAMES = """() => {
  window.frames_ms = [];
  let last = performance.now();
  const turn = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(turn); };
  requestAnimationFrame(turn);
  window.long = [];
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) {
      const end = one.startTime + one.duration;
      window.long.push({
        whole: one.duration,
        scripts: one.scripts.reduce((sum, script) => sum + script.duration, 0),
        forced: one.scripts.reduce((sum, script) => sum + script.forcedStyleAndLayoutDuration, 0),
        layout: one.styleAndLayoutStart ? end - one.styleAndLayoutStart : 0,
      });
    }
  }).observe({ type: "long-animation-frame" });
}"""
LONG_MS = 50.0
"""No frame should take longer."""


class MadeUpFleet:
    """Devices that send a plain ECG in real time, and a monitor that publishes their beats and states.

    Parameters
    ----------
    monitor
        Publishes.
    devices
        How many devices there are.
    streaming
        How many of them send signal and beats.
    """

    def __init__(self, monitor: FakeMonitor, devices: int, streaming: int) -> None:
        self.published_s: dict[float, float] = {}
        """When the beat of that time of the first device was published."""
        self._monitor = monitor
        self._ids = [f"d{i:04d}" for i in range(devices)]
        self._streaming = self._ids[:streaming]
        self._stopping = threading.Event()
        for device in self._ids:
            monitor.publish(device, "info", b'{"rate_hz": 125, "lead": "II", "resolution_uv": 1}')
            monitor.show(state(device, time_s=time.time()))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        start_s, seq = time.time(), 0
        while not self._stopping.wait(max(0.0, start_s + (seq + 1) * PACKET_S - time.time())):
            for i, device in enumerate(self._streaming):
                self._send(device, seq, start_s + seq * PACKET_S, 0.6 + 0.01 * i)
            share = max(1, round(len(self._ids) * PACKET_S / 2))
            for device in np.random.default_rng(seq).choice(self._ids, share, replace=False):
                self._monitor.show(state(str(device), heart_rate_bpm=60.0 + seq % 40, time_s=time.time()))
            seq += 1

    def _send(self, device: str, seq: int, start_s: float, rr_s: float) -> None:
        packet = wire.Packet(seq, start_s, RATE_HZ, _wave(start_s, rr_s))
        self._monitor.publish(device, "samples", wire.encode_packet(packet))
        judged_until_s = start_s - 1.0  # a beat is told once its window is complete
        for number in range(math.ceil(judged_until_s / rr_s), math.ceil((judged_until_s + PACKET_S) / rr_s)):
            self._tell(device, seq, number * rr_s, rr_s)

    def _tell(self, device: str, seq: int, time_s: float, rr_s: float) -> None:
        beat = wire.Beat(
            id=f"{device}:{time_s}",
            device=device,
            r_peak_s=time_s,
            qrs_s=time_s,
            delay_s=0.1,
            verdict="normal",
            label="N",
            rr_s=rr_s,
            heart_rate_bpm=60 / rr_s,
            seq=seq,
            completed_s=time_s + 1,
        )
        if device == self._ids[0]:
            self.published_s[time_s] = time.time()
        self._monitor.publish(device, "beats", wire.encode(beat))


def _wave(start_s: float, rr_s: float) -> npt.NDArray[np.int16]:
    times = start_s + np.arange(round(RATE_HZ * PACKET_S)) / RATE_HZ
    away = (times / rr_s + 0.5) % 1 - 0.5
    wave = 1000 * np.exp(-((away * rr_s / 0.015) ** 2)) + 200 * np.exp(-(((away - 0.35) * rr_s / 0.05) ** 2))
    return np.asarray(wave + np.random.default_rng().normal(0, 10, len(times)), np.int16)


@contextmanager
def _fleet(devices: int, streaming: int) -> Iterator[tuple[MadeUpFleet, FakeMonitor, str]]:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker("mosquitto", Path(folder) / "broker")
        monitor, server = FakeMonitor(broker.url), PageProcess(broker.url)
        fleet = MadeUpFleet(monitor, devices, streaming)
        try:
            yield fleet, monitor, server.url
        finally:
            fleet.stop()
            server.end()
            monitor.close()
            broker.end()


def _measure_latency(browser: Browser, seconds: float) -> None:
    with _fleet(16, 16) as (fleet, monitor, url):
        page = _open(browser, f"{url}/#/device/d0000")
        page.evaluate(MARKS)
        told: dict[str, float] = {}
        for i in range(int(seconds)):
            kind = f"kind-{chr(97 + i // 26)}{chr(97 + i % 26)}"
            told[kind] = time.time()
            monitor.alert(alert("d0001", kind=kind, since_s=told[kind], time_s=told[kind], completed_s=told[kind]))
            page.wait_for_timeout(1000)
        marks, alarms = page.evaluate("() => [window.marks, window.alarms]")
        page.context.close()
    seen = {float(time_s): when_s for time_s, when_s in marks.items()}
    beats = [seen[time_s] - when_s for time_s, when_s in fleet.published_s.items() if time_s in seen]
    alerts = [when_s - told[kind] for kind in told for link, when_s in alarms.items() if link.endswith(kind)]
    _print("beat published to its mark drawn", beats)
    _print("alert published to the page showing it", alerts)


def _measure_cost(browser: Browser, devices: int, streaming: int, seconds: float) -> None:
    with _fleet(devices, streaming) as (_, _, url):
        page = _open(browser, f"{url}/#/fleet")
        strips = page.evaluate("() => document.querySelectorAll('.tile').length")
        print(f"fleet page, {devices} devices, {strips} tiles built:")
        print(f"  standing: main thread {_share(page, seconds, 0):.1f} %")
        if devices == LARGE:
            _measure_scrolling(browser, page, seconds)
        page.context.close()


def _measure_scrolling(browser: Browser, page: Page, seconds: float) -> None:
    empty = browser.new_context(viewport=DESKTOP).new_page()
    empty.goto("data:text/html,<title>nothing</title>")
    for one in (empty, page):
        one.evaluate(FRAMES)
    browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
    share = _share(page, seconds, 300)
    longest_ms = _longest_task_ms(json.loads(browser.stop_tracing()))
    print(f"  scrolling: main thread {share:.1f} %; longest task {longest_ms:.0f} ms of processor time")
    for name, one in (("frames", page), ("frames of an empty page meanwhile", empty)):
        frames = np.sort(one.evaluate("() => window.frames_ms"))
        late = int((frames > LONG_MS).sum())
        print(f"  {name}: p50 {np.median(frames):.0f} ms, p99 {np.quantile(frames, 0.99):.0f} ms, ", end="")
        print(f"longest {frames[-1]:.0f} ms of {len(frames)}, {late} over {LONG_MS:.0f} ms")
    for long in sorted(page.evaluate("() => window.long"), key=lambda one: -float(one["whole"]))[:3]:
        print(f"  a long frame: {long['whole']:.0f} ms by the clock, of which scripts {long['scripts']:.0f} ", end="")
        print(f"(forced layout {long['forced']:.0f}), style and layout after them {long['layout']:.0f}")
    empty.context.close()


def _open(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport=DESKTOP).new_page()
    page.goto(url)
    page.wait_for_timeout(6000)
    return page


def _share(page: Page, seconds: float, scroll: int) -> float:
    """Percent of the main thread that is busy, while the fleet scrolls so many pixels ten times a second."""
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable", {"timeDomain": "threadTicks"})
    before, began_s = _busy_s(client), time.monotonic()
    while time.monotonic() < began_s + seconds:
        if scroll:
            page.evaluate("by => document.querySelector('.fleet').scrollBy(0, by)", scroll)
        page.wait_for_timeout(100)
    return 100 * (_busy_s(client) - before) / (time.monotonic() - began_s)


def _longest_task_ms(trace: dict[str, Any]) -> float:
    """Processor time of the longest task of a renderer's main thread."""
    events = trace["traceEvents"]
    main = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    return float(max(one.get("tdur", 0) for one in events if (one.get("pid"), one.get("tid")) in main)) / 1000


def _busy_s(client: Any) -> float:
    metrics = {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}
    return float(metrics["ThreadTime"] if "ThreadTime" in metrics else metrics["TaskDuration"])


def _print(name: str, values_s: list[float]) -> None:
    p50, p95 = (1000 * np.quantile(values_s, share) for share in (0.5, 0.95))
    print(f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {1000 * max(values_s):.0f} ms of {len(values_s)}")


def main() -> int:
    """Measure everything, and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitor.page.measure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--scrolling", action="store_true", help="measure the large fleet only")
    options = parser.parse_args()
    seconds = options.seconds
    with launch() as browser:
        if not options.scrolling:
            _measure_latency(browser, seconds)
            _measure_cost(browser, 16, 16, seconds)
        _measure_cost(browser, LARGE, STREAMING, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
