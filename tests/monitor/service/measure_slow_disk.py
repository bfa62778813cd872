"""What a slow disk costs: `python -m tests.monitor.service.measure_slow_disk [--devices N]`.

A monitor that saves to a disk of 20 MB/s on which each transaction takes 50 ms, and one that saves to this machine's,
in turns, through mosquitto, on the same devices. Prints how late alerts are, and for how long the oldest packet has
waited to be handed to the store. The disk is slow for the store's thread alone, as a real one would be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from monitor import __main__ as monitor
from monitor import wire
from monitor.broker import connection
from monitor.state.sqlite import SqliteStore
from monitor.state.store import Transaction
from monitor.tools.bench.subscriber import Subscriber, quantiles
from tests.brokers import Broker

BYTES_PER_S, SYNC_S = 20e6, 0.05
WARM_S, NAME = 20.0, "disk"


def main() -> int:
    """Measure, or run the monitor on the slow disk."""
    if sys.argv[1:2] == ["--slow"]:
        return _run_slow(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    for _ in range(options.rounds):
        for is_slow in (False, True):
            print(_measure(options.devices, options.seconds, is_slow), flush=True)
    return 0


def _run_slow(words: Sequence[str]) -> int:
    """Run a monitor whose store takes as long as the disk would."""
    write = SqliteStore.write

    def write_slowly(self: SqliteStore, transaction: Transaction) -> bool:
        time.sleep(SYNC_S + sum(map(len, transaction.states.values())) / BYTES_PER_S)
        return write(self, transaction)

    SqliteStore.write = write_slowly  # type: ignore[method-assign] # no disk here can be slowed down
    return monitor.main(words)


def _measure(devices: int, seconds: float, is_slow: bool) -> str:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        broker = Broker("mosquitto without persistence", Path(folder) / "broker")
        stack.callback(broker.end)
        subscriber = Subscriber(broker.url, connection.TlsFiles(), wire.Topics(), NAME, ("alerts",))
        stack.callback(subscriber.close)
        how = [__spec__.name, "--slow"] if is_slow else ["monitor"]
        words = ["run", "--broker", str(broker.url), "--state", f"{folder}/state", "--name", NAME]
        _start(stack, *how, *words)
        while not subscriber.is_online():
            time.sleep(0.1)
        load = ["--devices", str(devices), "--seconds", str(WARM_S + seconds + 30)]
        _start(stack, "simulator", "load", "--broker", str(broker.url), *load)
        time.sleep(WARM_S)
        subscriber.begin()
        time.sleep(seconds)
        subscriber.end()
        status, late = subscriber.status, quantiles(subscriber.alerts)
        assert status is not None
        where = "a slow disk" if is_slow else "this disk"
        figures = f"alerts p50 {late.get('p50', 0.0):.1f}, p99 {late.get('p99', 0.0):.1f} ms of {late['n']:.0f}"
        waits = f"{status.unsettled} packets unsettled, the oldest not handed over for {status.unsaved_s:.1f} s"
        return f"{where}, {devices} devices, load {os.getloadavg()[0]:.1f}: {figures}; {waits}"


def _start(stack: ExitStack, *words: str) -> None:
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


if __name__ == "__main__":
    sys.exit(main())
