"""Asking a running monitor over MQTT, and listing the states of devices that it has published."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message, Source, Subscription
from monitor.tools.watch import plain
from monitor.watching import Away, Watch

ANSWER_S = 10.0
"""How long an answer may take."""
STATES_S, QUIET_S = 3.0, 0.5
"""How long to wait for the first state, and after the last one."""
POLL_S, MOST = 0.1, 1000


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and whom."""

    broker: connection.BrokerUrl
    topics: wire.Topics = field(default_factory=wire.Topics)
    monitor: str = "monitor"
    """Name of the monitor."""
    password: str | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)

    @property
    def answers(self) -> str:
        """Topic on which answers come: by the user's name, which the broker may hold users to."""
        return self.topics.answer(self.monitor, self.broker.user or f"ecgwatch-ask-{os.getpid()}")

    def connect(self, *topics: str) -> Source:
        """Return an open source of these topics."""
        client = f"ecgwatch-ask-{os.getpid()}-{uuid4().hex[:8]}"
        wanted = [Subscription(topic, 1) for topic in topics]
        source = MqttSource(self.broker, client, wanted, password=self.password, tls=self.tls, clean=True)
        source.open()
        return source


def ask(asker: Asker, verb: str, fields: Mapping[str, Any]) -> int:
    """Ask, and print the answer; return the exit status: 1 if it was refused. Raises as `fetch` does."""
    answer = fetch(asker, verb, fields)
    print(plain(answer.text), file=sys.stdout if answer.ok else sys.stderr)
    return 0 if answer.ok else 1


def fetch(asker: Asker, verb: str, fields: Mapping[str, Any], wait_s: float = ANSWER_S) -> wire.Answer:
    """Ask, and return the answer.

    Raises
    ------
    ValueError
        It is no such request, as far as that can be told here.
    NoAnswer
        None came in time.
    ConnectionError
        The broker cannot be reached.
    """
    id_ = uuid4().hex
    request = {"id": id_, "response_topic": asker.answers, **fields}
    payload = msgspec.json.encode({name: value for name, value in request.items() if value is not None})
    try:
        wire.decode(payload, wire.Reload if verb == wire.RELOAD else wire.Request)
    except wire.PacketError as error:
        raise ValueError(f"{verb}: {error}") from None
    source = asker.connect(asker.answers)
    try:
        source.publish(asker.topics.request(asker.monitor, verb), payload, qos=1)
        return _wait(source, id_, asker, wait_s)
    finally:
        source.close()


class NoAnswer(ConnectionError):
    """Nobody has answered a request."""


def _wait(source: Source, id_: str, asker: Asker, wait_s: float) -> wire.Answer:
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        source.flush()
        for message in source.poll(POLL_S, MOST):
            answer = wire.decode(message.payload, wire.Answer)
            if answer.id == id_:
                return answer
    raise NoAnswer(
        f"No answer from the monitor {asker.monitor} at {asker.broker} within {wait_s:g} s. Does it run, and may "
        "this user ask? What was asked may still be done."
    )


def parse_limits(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return limits from texts such as "bradycardia.below_bpm=45", or "bradycardia=" for none; commas may join them.

    Raises
    ------
    ValueError
        A text is none.
    """
    limits: dict[str, dict[str, float]] = {}
    for text in (part.strip() for joined in texts for part in joined.split(",")):
        name, equals, value = text.partition("=")
        kind, _, parameter = name.partition(".")
        try:
            if not (kind and equals and bool(parameter) == bool(value)):
                raise ValueError
            values = limits.setdefault(kind, {})
            if parameter:
                values[parameter] = float(value)
        except ValueError:
            raise ValueError(f"Not a limit: got {text!r}, expected KIND.PARAMETER=NUMBER, or KIND= for none.") from None
    return limits


def list_devices(asker: Asker, as_json: bool) -> int:
    """Print the retained states of all devices, those that need a person first; return the exit status."""
    source = asker.connect(asker.topics.of("+", "state"), asker.topics.monitor_status("+"))
    try:
        found = read_retained(source, asker.topics.request(asker.monitor, wire.REFRESH))
        statuses = [message for message in found if message.topic.endswith("/status")]
        away = find_away(source, asker, statuses)
    finally:
        source.close()
    messages = [message for message in found if message.topic.endswith("/state")]
    for name, why in away.items():
        print(plain(f"the monitor {name} {why}"), file=sys.stderr)
    states = read_states([message for message in messages if message.payload])
    if not states and not any(message.payload for message in messages):
        print("no device has a state: does the monitor run, and may this user read states?", file=sys.stderr)
        return 0
    states.sort(
        key=lambda state: (min([RANKS[one.severity] for one in state.alerts], default=len(RANKS)), state.device)
    )
    lines = [wire.encode(state).decode() for state in states] if as_json else [describe_state(one) for one in states]
    if lines:
        print(*map(plain, lines), sep="\n")
    return 0


def find_away(source: Source, asker: Asker, statuses: Iterable[Message]) -> dict[str, str]:
    """Return what is wrong with monitors, and with fleets, that watch nobody, as far as is known; ask those in doubt.

    Parameters
    ----------
    source
        Hears the statuses of all monitors.
    asker
        Who asks.
    statuses
        What it has heard of them.
    """
    watch = Watch()
    _note_statuses(watch, statuses)
    doubtful = [name for name, away in watch.judge(True, time.time()).away.items() if away.how == "doubtful"]
    for name in doubtful:
        source.publish(asker.topics.request(name, wire.REFRESH), b"{}", qos=1)
    until_s = time.monotonic() + STATES_S
    while _are_away(watch, doubtful) and time.monotonic() < until_s:
        source.flush()
        messages = source.poll(POLL_S, MOST)
        _note_statuses(watch, [message for message in messages if message.topic.endswith("/status")])
        source.ack(message.token for message in messages if message.token is not None)
    return {name: _describe_away(away) for name, away in watch.judge(True, time.time()).away.items()}


def _note_statuses(watch: Watch, messages: Iterable[Message]) -> None:
    for message in messages:
        with contextlib.suppress(wire.PacketError):
            status = wire.decode(message.payload, wire.MonitorStatus) if message.payload else None
            watch.take(message.topic.split("/")[-2], status, message.retained, time.time())


def _are_away(watch: Watch, names: Iterable[str]) -> bool:
    return not watch.judge(True, time.time()).away.keys().isdisjoint(names)


def _describe_away(away: Away) -> str:
    if away.how == "offline":
        return "is offline: what it said of devices is old, and nobody is watched by it"
    since = ""
    if away.since_s is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(away.since_s))
        since = f" has said nothing since {at}, {time.time() - away.since_s:.0f} s ago, and"
    return f"{since.strip()} does not answer: what it said of devices may be old, and nobody be watched by it".strip()


def read_states(messages: Sequence[Message]) -> list[wire.DeviceState]:
    """Return the states that can be read; each of the others is named on stderr."""
    states = []
    for message in messages:
        try:
            states.append(wire.decode(message.payload, wire.DeviceState))
        except wire.PacketError as error:
            print(plain(f"left out, on {message.topic}: {error}"), file=sys.stderr)
    return states


def read_retained(source: Source, refresh: str | None = None) -> list[Message]:
    """Return what a broker retains of the topics of a source that was just opened.

    Parameters
    ----------
    source
        The source.
    refresh
        Where to ask the monitor to publish it again, if the broker hands out no state of a device; None does not.
    """

    def has_state(message: Message) -> bool:
        return message.retained and message.topic.endswith("/state")

    latest: dict[str, Message] = {}
    now_s = time.monotonic()
    until_s, ask_s = now_s + STATES_S, now_s + QUIET_S
    while (now_s := time.monotonic()) < until_s:
        if refresh is not None and now_s > ask_s and not any(has_state(message) for message in latest.values()):
            ask_s, until_s = math.inf, now_s + STATES_S
            source.publish(refresh, b"{}", qos=1)
        messages = source.poll(POLL_S, MOST)
        for message in messages:
            latest[message.topic] = message
        source.ack(message.token for message in messages if message.token is not None)
        source.flush()
        if messages and messages[0].retained:
            until_s = time.monotonic() + QUIET_S
        elif messages and ask_s == math.inf:
            until_s = max(until_s, time.monotonic() + QUIET_S)
    return list(latest.values())


RANKS = {"high": 0, "medium": 1, "low": 2, "technical": 3}


def describe_state(state: wire.DeviceState) -> str:
    """One line of a state, for a person."""
    rate = "-" if state.heart_rate_bpm is None else f"{state.heart_rate_bpm:.0f}/min"
    words = [f"{state.device:<12}", f"{state.name or '-':<12}", f"{state.connection:<9}", f"{rate:>7}"]
    words.append(f"{state.rhythm or '-':<20}")
    for alert in state.alerts:
        seen = "" if alert.acknowledged_by is None else f" (seen by {alert.acknowledged_by})"
        words.append(f"{alert.severity.upper()} {alert.kind}{seen}")
    if state.silenced:
        words.append(f"[silenced: {', '.join(one.kind or 'all' for one in state.silenced)}]")
    return "  ".join(words).rstrip()
