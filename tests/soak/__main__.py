"""Command line: ``python -m tests.soak``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.soak import scenarios
from tests.soak.load import steady_load
from tests.soak.scenarios import Outcome, Plan
from tests.soak.unknown_clients import unknown_clients

PACKETS_PER_MINUTE = 200_000
SCENARIOS = scenarios.SCENARIOS | {"stranger": unknown_clients, "load": steady_load}


def main() -> int:
    """Inject faults of every kind into a monitor, and print what was lost; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="duration of the scenarios that can be longer")
    parser.add_argument("--devices", type=int, default=1000, help="devices of the scenario with a steady load")
    parser.add_argument("--packets", type=int, help=f"packets of the fuzzer; default: {PACKETS_PER_MINUTE} per minute")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="scenario to run; can be repeated")
    options = parser.parse_args()
    packets = options.packets or round(PACKETS_PER_MINUTE * options.minutes)
    missed = 0
    for name in options.only or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)  # the broker drops root's rights
            began_s = time.monotonic()
            for outcome in _run(name, Plan(options.minutes, options.devices, packets, Path(folder))):
                print(f"{'met' if outcome.is_met else 'MISSED':6}  {outcome.name}\n        {outcome.counts}")
                missed += not outcome.is_met
            print(f"        ({name}: {time.monotonic() - began_s:.0f} s)", flush=True)
    return 1 if missed else 0


def _run(name: str, plan: Plan) -> list[Outcome]:
    try:
        return SCENARIOS[name](plan)
    except Exception as error:
        traceback.print_exc()
        return [Outcome(name, f"failed: {error!r}", False)]


if __name__ == "__main__":
    sys.exit(main())
