"""Outages between a monitor and devices that keep their packets, and what they cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.engine import Output
from monitor.service.run import Service
from monitor.service.settings import ServiceSettings
from simulator.devices import Device, Feed, Profile
from simulator.packets import at
from simulator.replay import Replay, Summary
from simulator.stream import Stretch
from tests.monitor.service.crash_harness import ALERTS, undisturbed, wait
from tests.monitor.synthetic_ecg import beat_times, make_ecg

SECONDS, RATE_HZ = 24.0, 250.0
PACKETS = (50, 50, 125, 250)
"""Samples in a packet of each device: some are short, so that many come before a lost one can be sent again."""
INFO = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0)
BREAKS = ("gaps", "clock jumps", "device restarts")
CAUGHT_UP_S = 30.0
OF_PRESENCE = "device-silent"
"""Follows from when devices are there and not from packets: which of these come depends on the outage."""


class _Monitor(Service):
    """A monitor that keeps the ids of all it has found: a broker that is killed takes what subscribers would get."""

    def __init__(self, url: BrokerUrl, state: Path) -> None:
        super().__init__(ServiceSettings(broker=url, provider="cpu", alerts=ALERTS, state=state))
        self.beats: set[str] = set()
        self.alerts: set[str] = set()
        self._flush = self.engine.flush
        self.engine.flush = self._keep  # type: ignore[method-assign]

    @property
    def is_connected(self) -> bool:
        return self.source.connected

    def _keep(self) -> Output:
        output = self._flush()
        self.beats |= {beat.id for beat in output.beats}
        self.alerts |= {alert.id for alert in output.alerts if alert.kind != OF_PRESENCE}
        return output


@contextmanager
def _monitor(url: BrokerUrl, state: Path) -> Iterator[_Monitor]:
    monitor = _Monitor(url, state)
    thread = threading.Thread(target=monitor.run)
    thread.start()
    try:
        wait(lambda: monitor.is_connected)
        yield monitor
    finally:
        monitor.stop()
        thread.join(20)
    assert not thread.is_alive()


class Devices:
    """Devices that play an ECG each, of its own heart rate, once."""

    def __init__(self, url: BrokerUrl) -> None:
        self._replay = Replay(self._feeds(), url)
        self._summaries: list[Summary] = []
        self._thread = threading.Thread(target=lambda: self._summaries.append(self._replay.run()))
        self._thread.start()

    def finish(self) -> Summary:
        self._thread.join(60)
        [summary] = self._summaries
        return summary

    def packets(self) -> dict[str, list[wire.Packet]]:
        """What each one sends."""
        return {
            feed.device.id: [at(outgoing.packet, epoch_s) for outgoing, _ in feed.packets()]
            for feed, epoch_s in zip(self._feeds(), self._replay._epochs, strict=True)
        }

    @staticmethod
    def _feeds() -> list[Feed]:
        feeds = []
        for number, size in enumerate(PACKETS):
            ecg = make_ecg(beat_times(SECONDS, 0.5 + 0.1 * number), SECONDS, RATE_HZ)
            feeds.append(
                Feed(
                    Device(f"d{number}", Profile(RATE_HZ, size, INFO.resolution_uv, INFO.lead)),
                    iter([Stretch(ecg.astype(float))]),
                )
            )
        return feeds


@dataclass(frozen=True)
class Endured:
    """What a monitor made of the outages, and what one makes that nothing befalls."""

    beats: set[str]
    expected_beats: set[str]
    alerts: set[str]
    expected_alerts: set[str]
    breaks: dict[str, int]
    """Gaps and the like that the monitor counted."""
    summary: Summary
    """What the devices say."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, and nothing was told that is not so."""
        lost = self.summary.lost or self.summary.dropped or self.breaks
        return not lost and (self.beats, self.alerts) == (self.expected_beats, self.expected_alerts)


def endure(
    url: BrokerUrl, state: Path, *outages: Callable[[], object], monitored_at: BrokerUrl | None = None
) -> Endured:
    """Play, and have the outages happen, one after the other."""
    with _monitor(monitored_at or url, state) as monitor:
        devices = Devices(url)
        for outage in outages:
            outage()
        summary = devices.finish()
        beats, alerts = undisturbed(devices.packets(), INFO)
        until_s = time.monotonic() + CAUGHT_UP_S
        while not (monitor.beats >= beats and monitor.alerts >= alerts) and time.monotonic() < until_s:
            time.sleep(0.05)
        time.sleep(1)  # what is wrong may come last
        breaks = {name: count for name in BREAKS if (count := monitor.engine.counts[name])}
    return Endured(monitor.beats, beats, monitor.alerts, alerts, breaks, summary)
