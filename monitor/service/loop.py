"""The loop of the monitor: one thread; `Loop.turn` reads top to bottom.

Each turn takes what has come into the engine, publishes what follows, commits and acknowledges what cannot be lost any
more, and notes how the monitor is. While the model runs, messages pile up in the socket and become the next batch, so
no queue and no timer are needed: quiet means batches of one and low delay, busy means large batches up to a cap. What
this process cannot take yet waits in the broker, which is why nothing here grows.

A packet is acknowledged once what follows from it cannot be lost any more (`monitor.state.checkpoint`): the process
that takes over after a crash goes on where the devices' states were saved, and gets from the broker what came since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from monitor import counters
from monitor.broker.source import Message
from monitor.classify import MAX_BATCH
from monitor.engine import SILENT_S
from monitor.service import systemd
from monitor.service.health import Health, Parts, Timer
from monitor.service.settings import STATUS_S, ServiceSettings
from monitor.state.store import Superseded

log = logging.getLogger(__name__)

POLL_S = 0.25
"""How often the loop looks up from the source, to see whether it should stop."""
QUIET_S = 0.02
"""After so long without a message, what waits to be committed is committed."""
DRAIN_S = 5.0
"""How long a shutdown waits for the broker to confirm the last messages."""
KEEP_S = 30 * 86400.0
"""For how long the history goes back."""
SILENCE_S = 60.0
"""If nothing comes for so long from devices that are known, the broker is asked for their packets once more."""


class Loop:
    """Serves the parts of a monitor in turn.

    Parameters
    ----------
    settings
        How the monitor runs.
    parts
        What it consists of; the source is open.
    health
        Notes how it is.
    """

    def __init__(self, settings: ServiceSettings, parts: Parts, health: Health) -> None:
        self._settings = settings
        self._parts = parts
        self._health = health
        self._status = Timer(STATUS_S)
        self._asked_s = time.monotonic()
        self._connections = 0
        self._was_connected = False
        self._began_s = health.attention.arrived_s(time.monotonic())
        is_alone = parts.store is not None and parts.partitions is None
        self._former = parts.store.read_devices() if is_alone and parts.store else []  # of an earlier process

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Turn until the monitor is to stop; then publish and save all that is held."""
        self._parts.publisher.resend()
        try:
            while not is_stopping():
                self.turn(QUIET_S if self._parts.checkpoint.uncommitted else POLL_S)
        finally:
            systemd.notify("STOPPING=1")
        # Not after an exception: what was taken out of the batch then is lost, and must be computed again.
        self.finish()

    def turn(self, wait_s: float) -> None:
        """Take what has come, publish what follows, commit, acknowledge, and note how the monitor is."""
        parts, attention = self._parts, self._health.attention
        self._health.turn(time.monotonic())
        is_full = parts.checkpoint.is_full
        messages = parts.source.poll(wait_s, 0 if is_full else MAX_BATCH)
        if is_full:  # what has come may not be read, so the source did not wait
            parts.publisher.acknowledge_all(parts.checkpoint.wait(QUIET_S))
        now_s = time.monotonic()
        self._note(messages, now_s)
        if parts.partitions is not None:
            messages = parts.partitions.turn(messages)
        parts.intake.take(messages, now_s, attention.arrived_s(now_s))
        parts.intake.resume(attention.arrived_s(now_s))
        parts.states.clear(parts.intake.take_useless())
        parts.checkpoint.owe(parts.engine.tick(attention.arrived_s(now_s)))
        self._publish()
        parts.intake.erase(parts.requests.turn(now_s, attention.arrived_s(now_s)))
        if parts.requests.takes_refresh(now_s) and parts.source.connected:
            parts.states.repeat()
            self._health.publish(now_s)
        parts.configured.turn()
        parts.states.turn(now_s, attention.arrived_s(now_s))
        parts.intake.report(parts.engine.take_notices(), now_s)
        if parts.source.flush():
            # What is committed is not computed again, so all that follows from it must have left before.
            self._commit(now_s, idle=parts.source.wants_acks)
        if parts.store is not None and parts.store.is_fenced:
            raise Superseded(f"{parts.store.fault}. Starting over is safe: what was not saved is found again.")
        if parts.source.connected and self._status.is_due(now_s):
            self.housekeeping(now_s)

    def _note(self, messages: list[Message], now_s: float) -> None:
        """Note what became of the connection, and what came over it."""
        source, attention = self._parts.source, self._health.attention
        if source.connections != self._connections:
            self._connections = source.connections
            self._parts.checkpoint.disconnected()
            attention.paused_s = self._asked_s = now_s
            systemd.notify("READY=1")
            if not source.resumed:
                self._parts.publisher.repeat_acks()
        elif self._was_connected and not source.connected:
            self._parts.checkpoint.disconnected()
        self._was_connected = source.connected
        if not source.has_more:
            attention.paused_s = now_s
        if any(not message.retained for message in messages):
            attention.heard_s = now_s

    def _publish(self) -> None:
        """Publish what follows from what was taken."""
        output = self._parts.engine.flush()
        self._parts.publisher.publish(output)
        self._parts.states.note(output.alerts)

    def _commit(self, now_s: float, idle: bool) -> None:
        """Hand over what is due; acknowledge what is committed: what waited in the socket would wake the next turn."""
        self._parts.publisher.take_confirmed()
        self._parts.publisher.acknowledge_all(self._parts.checkpoint.commit(now_s, idle))
        self._parts.requests.answer(self._parts.checkpoint.take_settled())
        self._parts.source.flush()

    def housekeeping(self, now_s: float) -> None:
        """Do what is due every `STATUS_S`: the status, limits, the store, devices that are gone."""
        parts, attention = self._parts, self._health.attention
        self._health.publish(now_s)
        parts.intake.housekeeping(now_s)
        if parts.store is not None:
            parts.checkpoint.retry()
            parts.store.prune(time.time() - KEEP_S)
            if parts.checkpoint.outbox.needs_resend:
                parts.publisher.resend()
        parts.requests.load()
        self._recall(now_s)
        parts.engine.forget(attention.arrived_s(now_s) - self._settings.forget_s)
        self._publish()
        self._commit(now_s, idle=False)
        self._break_silence(now_s)

    def _recall(self, now_s: float) -> None:
        """Go on with the devices that an earlier process watched, once those that send were heard again.

        Whoever sees their states must see that they are silent; and what was alerted of them must come to an end.
        """
        parts, arrived_s = self._parts, self._health.attention.arrived_s(now_s)
        if not self._former or arrived_s - self._began_s < SILENT_S:
            return
        former, self._former = self._former, []
        parts.intake.recall(former, self._began_s)
        parts.intake.resume(arrived_s)

    def _break_silence(self, now_s: float) -> None:
        """If nothing comes, the devices may all sleep, or the broker may have forgotten the subscription."""
        heard_s = self._health.attention.heard_s
        if not self._parts.engine.devices or heard_s is None or now_s - max(self._asked_s, heard_s) <= SILENCE_S:
            return
        if self._asked_s < heard_s:
            text = "none of %d devices sent anything for %.0f s; subscribing again"
            log.warning(text, self._parts.engine.devices, SILENCE_S)
        self._parts.source.resubscribe()
        self._asked_s = now_s
        self._parts.engine.counts[counters.RESUBSCRIBED] += 1

    def finish(self) -> None:
        """Publish what is held, save what is remembered, and wait until the broker has confirmed it."""
        parts = self._parts
        if parts.store is None:
            parts.engine.forget(float("inf"))
        self._publish()
        parts.states.turn(time.monotonic(), self._health.attention.arrived_s(time.monotonic()))
        until_s = time.monotonic() + DRAIN_S
        self._commit_all(until_s)
        if not parts.source.connected:
            return
        self._health.publish_offline()
        while parts.source.unconfirmed and parts.source.connected and time.monotonic() < until_s:
            self.turn(QUIET_S)
        self._commit_all(until_s)
        parts.source.close()

    def _commit_all(self, until_s: float) -> None:
        """Commit and acknowledge until nothing is left, and the store has reported all of it."""
        checkpoint, publisher = self._parts.checkpoint, self._parts.publisher
        self._commit(time.monotonic(), idle=True)
        while (checkpoint.uncommitted or checkpoint.is_open) and time.monotonic() < until_s:
            publisher.acknowledge_all(checkpoint.wait(QUIET_S))
            self._parts.intake.resume(self._health.attention.arrived_s(time.monotonic()))
            self._publish()
            self._commit(time.monotonic(), idle=True)
