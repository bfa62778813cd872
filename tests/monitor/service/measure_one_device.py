"""What one device costs: `python -m tests.monitor.service.measure_one_device [--tree DIRECTORY ...]`.

A monitor, states saved, and one device of the simulator that sends a packet of a second each second, through mosquitto.
Counted is the processor time of the monitor, all its threads, for each packet, as the kernel counts it. Another tree of
the project is measured on the same packets at the same time: what else the machine does then falls on both alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.brokers import Broker

HERE = Path(__file__).parents[3]
WARM_S = 60.0
"""Loops may have to be compiled, and models are asked once the rhythm is known."""


def main() -> None:
    """Measure, and print a line for each tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, nargs="*", default=[], help="other trees, for comparison")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--packet", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=6, help="of --seconds each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        broker = Broker("mosquitto without persistence", Path(folder) / "broker")
        stack.callback(broker.end)
        monitors = [_start(stack, tree, str(broker.url), Path(folder)) for tree in (HERE, *options.tree)]
        load = ["--devices", str(options.devices), "--packet", str(options.packet), "--seconds", "86400"]
        _run(stack, HERE, "simulator", "load", "--broker", str(broker.url), *load)
        time.sleep(WARM_S)
        packets = options.seconds * options.devices / options.packet
        costs_us = [_measure(monitors, options.seconds, packets) for _ in range(options.rounds)]
    print(f"{options.devices} devices, packets of {options.packet:g} s, load {os.getloadavg()[0]:.1f}")
    for tree, costs in zip((HERE, *options.tree), zip(*costs_us, strict=True), strict=True):
        ordered = sorted(costs)
        print(f"{ordered[len(ordered) // 2]:8.0f} us a packet ({ordered[0]:.0f} to {ordered[-1]:.0f})  {tree}")


def _start(stack: ExitStack, tree: Path, broker: str, folder: Path) -> int:
    """Start a monitor of a tree, and return its process id."""
    name = f"tree-{len(list(folder.iterdir()))}"
    (folder / name).mkdir()
    options = ["--state", str(folder / name), "--name", name, "--provider", "cpu"]
    return _run(stack, tree, "monitor", "run", "--broker", broker, *options)


def _run(stack: ExitStack, tree: Path, *words: str) -> int:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=tree, env=environment, stdout=subprocess.DEVNULL
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process.pid


def _measure(monitors: list[int], seconds: float, packets: float) -> list[float]:
    """Return what a packet costs each monitor, in microseconds."""
    before_s = [_cpu_s(pid) for pid in monitors]
    time.sleep(seconds)
    return [1e6 * (_cpu_s(pid) - was_s) / packets for pid, was_s in zip(monitors, before_s, strict=True)]


def _cpu_s(pid: int) -> float:
    """Processor time of all threads of a process, to the nanosecond where psutil would give ticks of 10 ms."""
    each = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(one.read_text().split()[0]) for one in each) / 1e9


if __name__ == "__main__":
    main()
