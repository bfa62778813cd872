"""Delivering what the queue holds: one thread for each target, so that one that hangs delays no other.

Rules
-----
* After a failure a target is left alone for a while, longer each time, or for as long as it asks.
* What a target that works does not take is tried again later, without holding up what comes behind.
* What could not be delivered for `keep_s` is given up, with an error in the log.

Knows the queue and targets; nothing of rules, or of where alerts come from.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from monitor.broker.backoff import Backoff
from monitor.notify.queue import Job, Queue
from monitor.notify.targets import Outcome, Target

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 1.0, 300.0
"""Waits after failures."""
IDLE_S = 1.0
"""How often to look whether something is due."""

NameOf = Callable[[str], str | None]
"""Returns what people call a device."""


class Deliverer:
    """Delivers to one target, in a thread of its own once `start` is called.

    Parameters
    ----------
    target
        Where to.
    queue
        What.
    name_of
        What people call a device.
    keep_s
        For how long to try.
    backoff
        Waits after failures.
    """

    def __init__(
        self, target: Target, queue: Queue, name_of: NameOf, keep_s: float, backoff: Backoff | None = None
    ) -> None:
        self._target, self._queue, self._name_of, self._keep_s = target, queue, name_of, keep_s
        self._backoff = backoff or Backoff(FIRST_S, LONGEST_S)
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"notify-{target.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once whether something is due."""
        self._wake.set()

    def stop(self, wait_s: float) -> None:
        """End after what is under way, if that takes no longer than this; else it is delivered again next time."""
        self._is_stopping = True
        self._wake.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                pause_s = self.turn(time.time())
            except OSError as error:
                log.error("%s", error)
                pause_s = IDLE_S
            if pause_s is None:
                self._wake.wait(IDLE_S)
                self._wake.clear()
                continue
            until_s = time.monotonic() + pause_s
            while not self._is_stopping and (left_s := until_s - time.monotonic()) > 0:
                time.sleep(min(left_s, IDLE_S))

    def turn(self, now_s: float) -> float | None:
        """Deliver one thing; return for how long to leave the target alone, None if nothing was due.

        Parameters
        ----------
        now_s
            Seconds since 1970.
        """
        job = self._queue.next(self._target.name, now_s)
        if job is None:
            return None
        outcome = self._send(job)
        if outcome.ok:
            self._backoff.reset()
            self._queue.done(job, now_s)
            log.info("told %s of %s: %s", self._target.name, job.id, outcome.text)
            return 0.0
        return self._fail(job, outcome, now_s)

    def _send(self, job: Job) -> Outcome:
        try:
            alert = json.loads(job.payload)
            return self._target.send(alert | {"device_name": self._name_of(alert["device"])})
        except Exception as error:  # whatever is wrong with one alert must not end the thread: others wait behind it
            log.exception("%s could not be given %s", self._target.name, job.id)
            return Outcome(False, f"{type(error).__name__}: {error}", is_refused=True)

    def _fail(self, job: Job, outcome: Outcome, now_s: float) -> float:
        text = "%s was not told of %s at attempt %d: %s"
        if now_s - job.begun_s > self._keep_s:
            log.error(f"{text}; given up", self._target.name, job.id, job.tries + 1, outcome.text)
            self._queue.done(job, now_s)
        else:
            log.warning(text, self._target.name, job.id, job.tries + 1, outcome.text)
            self._queue.retry(job, now_s + min(LONGEST_S, FIRST_S * 2 ** min(job.tries, 16)))
        if outcome.is_refused:
            return 0.0
        return max(outcome.wait_s, self._backoff.next_s())
