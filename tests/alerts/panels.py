"""Which models judge a person: a class model of a fold that has not met them, or else the bundled one.

Who is in no fold taught none of the networks, nor the bundled one, if that is of the same training. The shape model
beside it is always the bundled one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from monitor.panel import Panel, load_panel
from simulator.folds import Folds


class Panels:
    """Models to judge by; the bundled ones judge everyone if there is no directory of folds."""

    def __init__(self, folds: Path | None = None) -> None:
        self._folds = None if folds is None else Folds(folds)

    def of(self, database: str, name: str) -> Panel:
        """Return the models for a person; see `path_of`."""
        return _load(self.path_of(database, name))

    def path_of(self, database: str, name: str) -> Path | None:
        """Return the class model for a person; None is the bundled one."""
        return None if self._folds is None else self._folds.find(database, name)


@cache
def _load(path: Path | None) -> Panel:
    return load_panel() if path is None else load_panel(path)
