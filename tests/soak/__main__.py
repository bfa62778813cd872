"""Command line: ``python -m tests.soak``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.soak import scenarios
from tests.soak.load import loaded
from tests.soak.scenarios import Plan, Row
from tests.soak.strangers import strangers

PACKETS_A_MINUTE = 200_000
ROWS = scenarios.ROWS | {"stranger": strangers, "load": loaded}


def main() -> int:
    """Do to a monitor whatever may befall it, and print what was lost; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the rows last that can be longer")
    parser.add_argument("--devices", type=int, default=1000, help="in the row with a steady load")
    parser.add_argument("--packets", type=int, help=f"to fuzz with; {PACKETS_A_MINUTE} a minute if not given")
    parser.add_argument("--only", action="append", choices=ROWS, help="may be given several times")
    options = parser.parse_args()
    packets = options.packets or round(PACKETS_A_MINUTE * options.minutes)
    missed = 0
    for name in options.only or ROWS:
        with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)  # the broker gives up root's rights
            began_s = time.monotonic()
            for row in _do(name, Plan(options.minutes, options.devices, packets, Path(folder))):
                print(f"{'met' if row.is_met else 'MISSED':6}  {row.name}\n        {row.counts}")
                missed += not row.is_met
            print(f"        ({name}: {time.monotonic() - began_s:.0f} s)", flush=True)
    return 1 if missed else 0


def _do(name: str, plan: Plan) -> list[Row]:
    try:
        return ROWS[name](plan)
    except Exception as error:
        traceback.print_exc()
        return [Row(name, f"could not be done: {error!r}", False)]


if __name__ == "__main__":
    sys.exit(main())
