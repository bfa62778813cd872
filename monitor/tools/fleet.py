"""What the processes that share a fleet say of themselves, and what that adds up to."""

from __future__ import annotations

import os
import time

from monitor import wire
from monitor.broker.connection import BrokerUrl, TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Subscription
from monitor.summary import Monitors
from monitor.tools.watch import plain

HEAR_S = 6.0
"""How long they may take: they answer at once, but not twice within 2 s."""
POLL_S, MOST = 0.1, 1000


def hear(
    broker: BrokerUrl, topics: wire.Topics, name: str, processes: int, password: str | None, tls: TlsFiles
) -> Monitors:
    """Ask the processes of a fleet how they are; return what has been said once so many have, or it takes too long.

    Raises
    ------
    ConnectionError
        The broker cannot be reached, or refuses.
    """
    monitors = Monitors()
    wanted = [Subscription(topics.monitor_status("+"), 1)]
    source = MqttSource(broker, f"ecgwatch-cluster-{os.getpid()}", wanted, password=password, tls=tls, clean=True)
    source.open()
    try:
        source.publish(topics.request(name, wire.REFRESH), b"{}", qos=1)
        until_s = time.monotonic() + HEAR_S
        while len(monitors.processes(name)) < processes and time.monotonic() < until_s:
            source.flush()
            for message in source.poll(POLL_S, MOST):
                monitors.take(message.topic.split("/")[-2], message.payload)
    finally:
        source.close()
    return monitors


def describe(name: str, monitors: Monitors) -> list[str]:
    """Return a line for each process of a fleet, and one for all of them."""
    fleet = monitors.shown().get(name)
    if fleet is None:
        return ["no process of the fleet says how it is"]
    columns = f"{'parts':>5} {'devices':>7} {'late':>8} {'unsettled':>9} {'unsaved':>8}"
    head = f"{'process':32} {'state':10} {'version':10} {columns}"
    rows = [*sorted(monitors.processes(name).items()), (f"{name}, {fleet.processes} in all", fleet)]
    return [head, *(plain(_line(title, status)) for title, status in rows)]


def _line(title: str, status: wire.MonitorStatus) -> str:
    late = "-" if status.lateness_s is None else f"{1e3 * status.lateness_s:.0f} ms"
    fault = "; ".join(text for text in (status.fault, status.broker_fault) if text)
    return (
        f"{title:32} {status.state:10} {status.version:10} {status.partitions:5} {status.devices:7} {late:>8} "
        f"{status.unsettled:9} {status.unsaved_s:6.1f} s  {fault}"
    ).rstrip()
