"""How long the loop is held up by saving: `python -m tests.monitor.state.measure_commits [--state WHERE]`.

Ten times a second the states of 100 devices are saved, in turns in two ways: the loop waits for each transaction, or
hands it over and goes on. Between them it computes, as the loop does. Prints the time for which it was held up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from monitor.state.location import locate
from monitor.state.store import StateStore, Transaction

STATE_BYTES, DEVICES, EVERY_S, BLOCK = 9_700, 100, 0.1, 50


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", help="the store; by default a directory for the time of the run")
    parser.add_argument("--commits", type=int, default=1000, help="of each kind (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = locate(options.state or Path(folder)).open("measure")
        ways: dict[str, Callable[[StateStore, Transaction], None]] = {"waits": _wait, "hands over": _hand_over}
        held_up_s: dict[str, list[float]] = {way: [] for way in ways}
        while len(held_up_s["waits"]) < options.commits:
            for way, save in ways.items():
                held_up_s[way] += _measure(store, save)
        store.close()
    print(f"{options.commits} commits of {DEVICES} states of {STATE_BYTES / 1000:g} kB, {1 / EVERY_S:g} a second; ms")
    for way, times_s in held_up_s.items():
        p50, p99, longest = np.percentile(np.array(times_s) * 1e3, [50, 99, 100])
        print(f"the loop {way:10}  p50 {p50:7.3f}  p99 {p99:7.3f}  max {longest:7.3f}")


def _measure(store: StateStore, save: Callable[[StateStore, Transaction], None]) -> list[float]:
    """Save some times; return for how long each held the loop up."""
    times_s = []
    for number in range(BLOCK):
        states = {f"d{number % 10}-{i}": os.urandom(STATE_BYTES) for i in range(DEVICES)}
        began_s = time.perf_counter()
        save(store, Transaction(states))
        times_s.append(time.perf_counter() - began_s)
        until_s = began_s + EVERY_S
        while time.perf_counter() < until_s - 0.05:  # half of the time it computes
            np.sort(np.random.default_rng(0).random(1000))
        time.sleep(max(0.0, until_s - time.perf_counter()))
        before_s = time.perf_counter()
        store.done()
        times_s[-1] += time.perf_counter() - before_s
    while store.done(1.0):
        pass
    return times_s


def _wait(store: StateStore, transaction: Transaction) -> None:
    store.submit(transaction)
    assert store.done(60.0)


def _hand_over(store: StateStore, transaction: Transaction) -> None:
    store.submit(transaction)


if __name__ == "__main__":
    main()
