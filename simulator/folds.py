"""Fold networks: for a record, the network that has not met the person.

A folder of them, as `ecgwatch export classes RUN --folds DIR` writes it, holds `fold0.onnx` and so on, and
`people.json`: number of the fold -> the people who were held out of its training, each as "<database>/<person>".
Which database a record is of is known by the name of its folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
            self._held_out = {folder / f"fold{int(fold)}.onnx": frozenset(names) for fold, names in people.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} must say who is held out of which fold: {error}") from None
        for network in self._held_out:
            if not network.is_file():
                raise ValueError(f"{path} names a fold without a network: got no {network}.")

    def unmet_by(self, record: Path) -> Path | None:
        """Return a network that has not met the person of a record; None if all may have."""
        wanted = frozenset(_people(record))
        return next((network for network, names in self._held_out.items() if names & wanted), None)


def _people(record: Path) -> Iterator[str]:
    """What the person of a record may be called: records of one person may be numbered "_1", "_2"."""
    base = find_base(record.resolve())
    yield f"{base.parent.name}/{base.name}"
    person, number, last = base.name.rpartition("_")
    if number and last.isdigit():
        yield f"{base.parent.name}/{person}"
