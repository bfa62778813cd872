"""Which models judge a person: the bundled ones, or a class model that has not met the person.

A directory of folds has `people.json`, fold -> people as "database/name", and `foldN.onnx` for each fold N: a class
model that has met everyone in the file but these people. Who is not in the file taught none of them, and is judged by
the bundled model. The shape model beside it is always the bundled one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from monitor.panel import Panel, load_panel

PEOPLE = "people.json"


class Panels:
    """Models to judge by; the bundled ones judge everyone if there is no directory of folds."""

    def __init__(self, folds: Path | None = None) -> None:
        people = {} if folds is None else _read_people(folds)
        self._paths = {person: path for path, own in people.items() for person in own}

    def of(self, database: str, name: str) -> Panel:
        """Return the models for a person; see `path_of`."""
        return _load(self.path_of(database, name))

    def path_of(self, database: str, name: str) -> Path | None:
        """Return the class model for a person; None is the bundled one."""
        return self._paths.get(f"{database}/{name}")


@cache
def _load(path: Path | None) -> Panel:
    return load_panel() if path is None else load_panel(path)


def _read_people(folds: Path) -> dict[Path, list[str]]:
    try:
        people: dict[str, list[str]] = json.loads((folds / PEOPLE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folds / PEOPLE} cannot be read: {error}.") from None
    paths = {folds / f"fold{fold}.onnx": own for fold, own in people.items()}
    if missing := [path for path in paths if not path.is_file()]:
        raise ValueError(f"{missing[0]} is not there: expected a model for each fold of {PEOPLE}.")
    return paths
