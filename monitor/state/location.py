"""Which store it is: the one place where a text becomes a `StateLocation`."""

from __future__ import annotations

import os
from pathlib import Path

from monitor.state.memory import MemoryLocation
from monitor.state.sqlite import SqliteLocation
from monitor.state.store import StateLocation

MEMORY = "memory:"
POSTGRES = ("postgresql://", "postgres://")


def locate(where: Path | str) -> StateLocation:
    """Return the location of a store.

    Parameters
    ----------
    where
        A directory, for SQLite; a URL ``postgresql://...``, for PostgreSQL; or the text `memory:NAME`, for a store that
        ends with this process.

    Raises
    ------
    ValueError
        The URL holds a password, or what PostgreSQL needs is not installed.
    """
    if isinstance(where, str) and where.startswith(POSTGRES):
        from monitor.state.postgres import PostgresLocation  # an extra

        return PostgresLocation(where)
    if isinstance(where, str) and where.startswith(MEMORY):
        return MemoryLocation.named(where.removeprefix(MEMORY))
    return SqliteLocation(Path(where))


def default_directory() -> Path:
    """Where state is kept unless the user names a place: in systemd's directory if it gave one, else in the user's."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    named = os.environ.get("XDG_STATE_HOME", "")
    home = Path(named) if os.path.isabs(named) else Path.home() / ".local" / "state"
    return home / "ecgwatch"


def directory(where: Path | str | None) -> Path:
    """Return where files lie that belong beside the states.

    Parameters
    ----------
    where
        What the user named for the states: a directory, or the URL of a database; None for nothing.

    Returns
    -------
    Path
        That directory; `default_directory` if it is none.
    """
    return where if isinstance(where, Path) else default_directory()
