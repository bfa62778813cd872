"""Holding a file lock that only one process of this machine can have: what keeps two monitors of one name apart.

Knows nothing of what it is held for.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

AGAIN_S = 0.025
"""How often to try."""


@contextmanager
def only_one(lock: Path, is_stopping: Callable[[], bool]) -> Iterator[None]:
    """Wait until no other process holds a lock, and hold it; once `is_stopping`, go on without it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "w")  # noqa: SIM115 - closed below, and by the system if we are killed
    except OSError as error:
        log.warning("%s cannot be locked (%s): make sure that only one monitor has this name", lock, error)
        yield
        return
    with file:
        if not is_stopping() and not _takes(file):
            log.warning("another monitor of this name is running; waiting until it stops (%s)", lock)
            while not is_stopping() and not _takes(file):
                time.sleep(AGAIN_S)
        yield


def _takes(file: IO[str]) -> bool:
    """Take the lock of an open file, unless another process holds it; return whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held_at_once(lock: Path) -> Iterator[bool]:
    """Hold a lock whose file is there, unless another process holds it; enter with whether that worked."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(lock.open("r+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            is_held = False
        else:
            is_held = True
        yield is_held
