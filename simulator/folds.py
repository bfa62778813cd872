"""Fold networks: for a person, the network that has not met them.

A folder of them, as `ecgwatch export classes RUN --folds DIR` writes it, holds `fold0.onnx` and so on, and
`people.json`: number of the fold -> the people who were held out of its training, each as "<database>/<person>".
Who taught any of the networks is in it.
"""

from __future__ import annotations

import json
from pathlib import Path

from recordings.reader import find_base

PEOPLE = "people.json"


class Folds:
    """The fold networks of a folder.

    Parameters
    ----------
    folder
        See above.

    Raises
    ------
    ValueError
        It has no list of people, or a network is missing.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / PEOPLE
        try:
            people = json.loads(path.read_text(encoding="utf-8"))
            held_out = {folder / f"fold{int(fold)}.onnx": frozenset(names) for fold, names in people.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} must say who is held out of which fold: {error}") from None
        for network in held_out:
            if not network.is_file():
                raise ValueError(f"{path} names a fold without a network: got no {network}.")
        self._networks = {person: network for network, names in held_out.items() for person in names}

    def find(self, database: str, name: str) -> Path | None:
        """Return a network that has not met the person of a recording; None if they are in no fold.

        Recordings of one person may be numbered "_1", "_2".
        """
        person, _, number = name.rpartition("_")
        whole = self._networks.get(f"{database}/{name}")
        return whole or (self._networks.get(f"{database}/{person}") if number.isdigit() else None)

    def find_for(self, record: Path) -> Path | None:
        """Return a network that has not met the person of a record, which lies in a folder called as its database."""
        base = find_base(record.resolve())
        return self.find(base.parent.name, base.name)
