"""Requests to the monitor, and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from monitor import wire
from monitor.page import asking
from monitor.page.asking import Asker
from tests.monitor.page.messages import TOPICS

REQUEST = wire.Request(by="Ada", device="a", episode="e")


def _ask(answers: Callable[[Asker, wire.Request], None]) -> wire.Answer:
    async def run() -> wire.Answer:
        def publish(topic: str, payload: bytes) -> None:
            assert topic == TOPICS.request("monitor", "acknowledge")
            answers(asker, wire.decode(payload, wire.Request))

        asker = Asker(TOPICS, "monitor", "page-1", publish)
        return await asker.ask("acknowledge", REQUEST)

    return asyncio.run(run())


def test_an_answer_finds_its_request() -> None:
    def answers(asker: Asker, request: wire.Request) -> None:
        asker.take(wire.encode(wire.Answer(id="another", ok=False, text="no")))
        asker.take(wire.encode(wire.Answer(id=request.id, ok=True, text="done")))
        asker.take(wire.encode(wire.Answer(id=request.id, ok=False, text="once more")))

    assert _ask(answers).text == "done"


def test_a_request_names_where_its_answer_goes() -> None:
    def answers(asker: Asker, request: wire.Request) -> None:
        assert request.response_topic == TOPICS.answer("monitor", "page-1") == asker.answer_topic
        assert request.by == "Ada"
        asker.take(wire.encode(wire.Answer(id=request.id, ok=True, text="done")))

    _ask(answers)


def test_a_monitor_that_does_not_answer_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_S", 0.05)
    with pytest.raises(ConnectionError, match="has not answered"):
        _ask(lambda _asker, _request: None)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(wire.PacketError):
        Asker(TOPICS, "monitor", "page-1", lambda _topic, _payload: None).take(b"{")
