"""A broker's connection in memory, with a monitor behind it that answers requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from monitor import wire
from monitor.page.hub import Heard


class FakeBroker:
    """Keeps what is subscribed and published; tests hand over what it brings.

    Parameters
    ----------
    answer
        What the monitor answers to each request; None: it does not.
    """

    answer_name = "page-1"

    def __init__(self, answer: Callable[[str, wire.Request], wire.Answer] | None = None) -> None:
        self.topics: dict[str, int] = {}
        self.requests: list[tuple[str, wire.Request]] = []
        self.published: list[tuple[str, bytes, bool]] = []
        """What is no request."""
        self.is_connected = True
        self.refreshes = 0
        """How often the monitor was asked to publish all again."""
        self._answer = answer
        self._started = threading.Event()

    def subscribe(self, topic: str, qos: int) -> None:
        """Note it."""
        self.topics[topic] = qos

    def unsubscribe(self, topic: str) -> None:
        """Note it."""
        del self.topics[topic]

    def start(self, on_messages: Callable[[list[Heard]], None], on_connected: Callable[[bool], None]) -> None:
        """Be connected at once."""
        self._loop = asyncio.get_running_loop()
        self._on_messages = on_messages
        on_connected(True)
        self._started.set()

    def stop(self) -> None:
        """Nothing to do."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Take a request, and answer it; or note what a device sends."""
        if not self.is_connected:
            raise ConnectionError("There is no connection to the broker.")
        if "/request/" not in topic:
            self.published.append((topic, payload, retain))
            return
        verb = topic.rpartition("/")[2]
        if verb == wire.REFRESH:
            self.refreshes += 1
            return
        request = wire.decode(payload, wire.Request)
        self.requests.append((verb, request))
        if self._answer is not None:
            answer = self._answer(verb, request)
            self._on_messages([Heard(request.response_topic or "", wire.encode(answer))])

    def bring(self, messages: Iterable[Heard]) -> None:
        """Bring messages to the page, and wait until it has taken them."""
        assert self._started.wait(10)
        taken = threading.Event()

        def take() -> None:
            self._on_messages(list(messages))
            taken.set()

        self._loop.call_soon_threadsafe(take)
        assert taken.wait(10)


def agree(verb: str, request: wire.Request) -> wire.Answer:
    """Answer as a monitor that does what it is asked."""
    return wire.Answer(id=request.id, ok=True, text=f"{verb}: done")
