"""``ecgwatch record``: a client of the wire that keeps what devices send, until it is stopped or the time is over.

The broker keeps its session, and delivers again what was not acknowledged: a recorder that is killed loses nothing that
the broker did not lose. It acknowledges to the broker only, never to devices: that is the monitor's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor import wire
from monitor.broker.source import Source, Subscription
from monitor.state.lock import only_one
from recorder.keeper import FORGET, KEPT_LEAVES, Keeper

log = logging.getLogger(__name__)

POLL_S = 0.2
MOST = 2000
"""Messages that are read in one go."""
COMMIT_S = 2.0
"""How long a message waits at most until it is safe and acknowledged."""
FOLD_S = 60.0
"""How often the archive is written."""
TELL_S = 600.0


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What to keep, where, and for how long."""

    root: Path
    devices: tuple[str, ...] = ()
    """Of all devices if empty."""
    for_s: float = math.inf
    """Stop after so long."""
    keep_s: float = 30 * 86_400.0
    most_bytes: float = 50e9

    def __post_init__(self) -> None:
        for device in self.devices:
            wire.check_device_id(device)


def subscriptions(settings: RecordSettings, topics: wire.Topics) -> list[Subscription]:
    """Return what to ask the broker for."""
    devices = settings.devices or ("+",)
    kept = [
        Subscription(topics.of(device, leaf), 1, required=leaf == "samples")
        for device in devices
        for leaf in KEPT_LEAVES
    ]
    return [*kept, Subscription(topics.forgotten("+"), 1, required=False)]


def run_record(
    settings: RecordSettings,
    source: Source,
    topics: wire.Topics,
    is_stopping: Callable[[], bool],
    wall: Callable[[], float] = time.time,
) -> Keeper:
    """Record until told to stop; return the keeper, for its counts.

    Raises
    ------
    ConnectionError
        The broker cannot be reached at the start, or refuses the login.
    """
    settings.root.mkdir(parents=True, exist_ok=True)
    with only_one(settings.root / "lock", is_stopping):
        keeper = Keeper(settings.root, settings.keep_s, settings.most_bytes)
        source.open()
        loop = _Loop(source, keeper, topics, wall)
        until_s = wall() + settings.for_s
        while not is_stopping() and wall() < until_s:
            loop.turn()
        loop.finish()
        source.close()
    return keeper


class _Loop:
    """One recorder at work."""

    def __init__(self, source: Source, keeper: Keeper, topics: wire.Topics, wall: Callable[[], float]) -> None:
        self._source, self._keeper, self._topics, self._wall = source, keeper, topics, wall
        self._tokens: list[int] = []
        now_s = time.monotonic()
        self._commit_s, self._fold_s, self._tell_s = now_s + COMMIT_S, now_s, now_s + TELL_S

    def turn(self) -> None:
        """Take what has come, and write what is due."""
        for message in self._source.poll(POLL_S, 0 if self._keeper.is_full else MOST):
            self._take(message.topic, message.payload, message.token)
        now_s = time.monotonic()
        # A broker may hand over only few messages that are not acknowledged: then nothing more comes until they are.
        if now_s >= self._commit_s or (self._source.is_quiet and self._tokens):
            self._commit(now_s)
        if now_s >= self._fold_s or any((self._keeper.archive.root / FORGET).glob("*")):
            self._keeper.fold(self._wall())
            self._fold_s = now_s + FOLD_S
        if now_s >= self._tell_s:
            self._tell_s = now_s + TELL_S
            log.info("kept so far: %s", dict(self._keeper.counts))
        self._source.flush()

    def finish(self) -> None:
        """Make safe what was taken."""
        self._commit(time.monotonic())
        self._keeper.fold(self._wall())
        self._source.flush()

    def _take(self, topic: str, payload: bytes, token: int | None) -> None:
        if token is not None:
            self._tokens.append(token)
        try:
            if self._topics.parse_forgotten(topic):
                self._keeper.ask_to_forget(wire.decode(payload, wire.Forgotten).device)
                return
            device, leaf = self._topics.parse(topic)
        except wire.PacketError:
            return
        if payload:  # an empty one clears what is retained
            self._keeper.take(device, leaf, payload, self._wall())

    def _commit(self, now_s: float) -> None:
        self._commit_s = now_s + COMMIT_S
        if self._keeper.commit():
            self._source.ack(self._tokens)
            self._tokens = []
