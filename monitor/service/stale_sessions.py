"""Sessions that a broker keeps for monitors that will not come back: those of a former number of workers.

A session collects packets until its client returns. Whoever changes the number of workers leaves some behind, and the
broker would fill up. Each monitor leaves a lock file in its directory; where nobody holds the lock, nobody uses the
session.
"""

from __future__ import annotations

import fcntl
import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.broker import connection
from monitor.broker.mqtt import end_session
from monitor.service.settings import ServiceSettings

log = logging.getLogger(__name__)


def end_leftover_sessions(settings: ServiceSettings, in_use: Collection[str]) -> None:
    """End the sessions of all former monitors of that name, but for those whose names are in use.

    What cannot be ended now, because somebody uses it or the broker is away, is left for the next start.
    """
    if settings.state is None:
        return
    for lock in _locks(settings.state, settings.name):
        if lock.stem in in_use:
            continue
        with _held(lock) as is_ours:
            if is_ours and _end(settings, lock.stem):
                lock.unlink()
                log.info("ended the session of %s, which is not used any more", lock.stem)


def _locks(directory: Path, name: str) -> list[Path]:
    pattern = re.compile(rf"{re.escape(name)}(\.\d+)?\.lock")
    return sorted(path for path in directory.glob("*.lock") if pattern.fullmatch(path.name))


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; tell whether that worked."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
    except OSError:
        yield False


def _end(settings: ServiceSettings, name: str) -> bool:
    """Connect under that name as a client that wants no session; return whether that worked."""
    password = connection.read_password(settings.broker, settings.password_file)
    try:
        end_session(settings.broker, f"ecgwatch-{name}", password=password, tls=settings.tls)
    except OSError as error:
        log.info("the session of %s could not be ended: %s", name, error)
        return False
    return True
