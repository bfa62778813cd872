"""What the tests share in which something is killed: a monitor to kill, and what one finds that nothing befalls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.broker.connection import BrokerUrl
from monitor.engine import Engine
from monitor.panel import load_panel

TOPICS = wire.Topics()
ALERTS = AlertSettings(n=1, m=2)


def start_monitor(url: BrokerUrl, *options: str) -> subprocess.Popen[bytes]:
    """Start a monitor as a process of its own, with the alert rules of `ALERTS`."""
    command = [sys.executable, "-m", "monitor", "run", "--broker", str(url), "--beats", "--provider", "cpu"]
    return subprocess.Popen(
        [*command, "--alert", f"{ALERTS.n}/{ALERTS.m}", *options], stderr=subprocess.DEVNULL
    )  # fmt: skip


def undisturbed(
    packets: Mapping[str, Sequence[wire.Packet]], info: wire.Info | None = None
) -> tuple[set[str], set[str]]:
    """Ids of the beats and alerts of an engine that gets each packet of each device once, in order.

    Parameters
    ----------
    packets
        Of each device.
    info
        What each says of itself, if anything.
    """
    engine = Engine(load_panel(), ALERTS)
    beats, alerts = set(), set()
    for device, in_order in packets.items():
        if info is not None:
            engine.describe(device, info, 0.0)
        for packet in in_order:
            engine.feed(device, packet, 0.0)
            output = engine.flush()
            beats |= {beat.id for beat in output.beats}
            alerts |= {alert.id for alert in output.alerts}
    return beats, alerts


def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something has become true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
