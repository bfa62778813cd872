"""What a person asks of the monitor, as a request on the wire, and its answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import msgspec

from monitor import wire

ANSWER_S = 5.0
"""How long the monitor may take."""


class Asker:
    """Sends requests, and matches the answers to them.

    Parameters
    ----------
    topics
        Of the wire.
    monitor
        Name of the monitor that is asked.
    client
        Name under which answers come back.
    publish
        Publishes; raises `ConnectionError` if there is no broker.
    """

    def __init__(self, topics: wire.Topics, monitor: str, client: str, publish: Callable[[str, bytes], None]) -> None:
        self.monitor = monitor
        self._topics, self._publish = topics, publish
        self.answer_topic = topics.answer(monitor, client)
        """To be subscribed by the caller; what comes there is given to `take`."""
        self._open: dict[str, asyncio.Future[wire.Answer]] = {}

    async def ask(self, verb: str, request: wire.Request) -> wire.Answer:
        """Send a request, and wait for its answer.

        Raises
        ------
        ConnectionError
            There is no broker, or no monitor of that name answers.
        """
        id_ = secrets.token_hex(12)
        request = msgspec.structs.replace(request, id=id_, response_topic=self.answer_topic)
        answer = self._open[id_] = asyncio.get_running_loop().create_future()
        try:
            self._publish(self._topics.request(self.monitor, verb), wire.encode(request))
            return await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            raise ConnectionError(
                f"The monitor {self.monitor} has not answered for {ANSWER_S:.0f} s: is it running, and does it take "
                "requests? Nothing is known of whether this was done."
            ) from None
        finally:
            del self._open[id_]

    def take(self, payload: bytes) -> None:
        """Take what came on the answer topic.

        Raises
        ------
        monitor.wire.PacketError
            It is no answer.
        """
        answer = wire.decode(payload, wire.Answer)
        waiting = self._open.get(answer.id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
