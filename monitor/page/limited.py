"""Runs a module of ours with limits: ``python -m monitor.page.limited BYTES SECONDS MODULE WORDS``.

What people upload is parsed in such a process, so that it can stop neither page nor monitor.
"""

from __future__ import annotations

import resource
import runpy
import sys


def main() -> None:
    """Set the limits, and become the module; the words after its name are its own."""
    most_bytes, most_s, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))
    sys.argv = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
