"""Which partitions of the fleet are ours: taken over with the first packet, left when others may have them.

Who gets a partition first claims it in the store: whoever had it until then saves nothing of it any more. Only then are
its devices looked up, its outbox is sent again, and what people have decided meanwhile holds. Nobody waits for that.
Who loses one forgets its devices without a word: another process goes on where they were saved, with the packets that
were not acknowledged. Partitions of which there are more than our share are left when all that has come is saved and
acknowledged, so that whoever gets them goes on from there.

Knows nothing of how partitions are dealt out.
"""

from __future__ import annotations

import logging

from monitor import counters
from monitor.broker.source import Message, Source
from monitor.engine import Engine
from monitor.service.intake import Intake
from monitor.service.publisher import Publisher
from monitor.service.requests import Requests
from monitor.service.states import States
from monitor.state.checkpoint import Checkpoint
from monitor.state.store import SharedStore

log = logging.getLogger(__name__)


class Partitions:
    """Follows which partitions are ours; see the module.

    Parameters
    ----------
    source, store, engine, checkpoint, publisher, intake, states, requests
        Parts of the monitor.
    """

    def __init__(
        self,
        source: Source,
        store: SharedStore,
        engine: Engine,
        checkpoint: Checkpoint,
        publisher: Publisher,
        intake: Intake,
        states: States,
        requests: Requests,
    ) -> None:
        self._source = source
        self._store = store
        self._engine = engine
        self._checkpoint = checkpoint
        self._publisher = publisher
        self._intake = intake
        self._states = states
        self._requests = requests
        self._owned: set[int | None] = set()

    @property
    def owned(self) -> int:
        """How many are ours."""
        return len(self._owned)

    def turn(self, messages: list[Message]) -> list[Message]:
        """Leave what is lost, and take over what is new, before the messages are taken; return those that are ours.

        Nothing may wait in the engine.
        """
        if not self._source.surplus:
            self._checkpoint.go_on()
        elif self._checkpoint.settle():
            self._source.release(self._source.surplus)
        if lost := self._source.take_lost():
            self._leave(set(lost))
            messages = [message for message in messages if message.partition not in lost]
        if new := {message.partition for message in messages} - self._owned - {None}:
            self._owned |= new
            self._store.own([partition for partition in new if partition is not None])
            log.info("took over the partitions %s", sorted(new, key=str))
        for outbox, decisions in self._store.taken():
            self._publisher.send_again(outbox)
            self._requests.adopt(decisions)
        return messages

    def _leave(self, lost: set[int]) -> None:
        gone = [*self._engine.discard(lost), *self._intake.drop(lost)]
        self._checkpoint.drop(lost, self._requests.leave(lost, gone))
        self._states.leave(gone)
        self._store.disown(lost)
        self._owned -= lost
        self._engine.counts[counters.PARTITIONS_LEFT] += len(lost)
        log.info("left the partitions %s with %d devices", sorted(lost), len(gone))
