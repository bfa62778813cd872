"""A process that runs beside the monitor: the web page. The hot path does not know it, and it slows nobody.

It is started again if it dies, later each time. It ends with the monitor, even with one that is killed: it watches its
standard input, which this process holds open.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from monitor.broker.backoff import Backoff

log = logging.getLogger(__name__)

END_S = 5.0
"""How long it may take to end."""


@contextmanager
def run_beside(command: Sequence[str] | None) -> Iterator[None]:
    """Keep a command running while the context is entered; nothing for None.

    Parameters
    ----------
    command
        It prints its address as its first line, and ends when its standard input is closed.
    """
    if command is None:
        yield
        return
    stopping = threading.Event()
    keeper = threading.Thread(target=_keep, args=(list(command), stopping), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join(2 * END_S)


def _keep(command: list[str], stopping: threading.Event) -> None:
    backoff = Backoff()
    while not stopping.is_set():
        status = _run(command, stopping)
        if stopping.is_set():
            return
        log.error("the page has ended (exit status %s); it is started again", status)
        stopping.wait(backoff.next_s())


def _run(command: list[str], stopping: threading.Event) -> int:
    """Run it once, until it ends or is to be stopped."""
    # Its own session: Ctrl-C at a terminal reaches the monitor, which ends it.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        threading.Thread(target=_log_address, args=(process.stdout,), daemon=True).start()
        while process.poll() is None and not stopping.wait(0.2):
            pass
        process.terminate()
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _log_address(lines: Iterator[str]) -> None:
    try:
        for line in lines:
            log.info("the page is served at %s", line.strip())
    except ValueError:
        return  # closed meanwhile
