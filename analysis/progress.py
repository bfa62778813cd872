"""A bar that shows how far a long command is; nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Self

WIDTH = 30
EVERY_S = 0.1


class Bar:
    """A bar on standard error, if that is a terminal; it vanishes at the end.

    Parameters
    ----------
    what
        Stands before it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown_s = 0.0
        self._is_seen = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_seen:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self, share: float) -> None:
        """Show that a share, 0..1, is done."""
        now_s = time.monotonic()
        if self._is_seen and now_s - self._shown_s >= EVERY_S:
            self._shown_s = now_s
            full = round(WIDTH * share)
            bar = "#" * full + "." * (WIDTH - full)
            print(f"\r{self._what[:40]}  [{bar}] {100 * share:3.0f} %", end="", file=sys.stderr, flush=True)
