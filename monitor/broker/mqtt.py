"""An MQTT broker as a source of packets: paho's client, polled by the loop.

paho's callbacks only note what happened; `MqttSource.poll` acts on it. A connection counts once the broker has answered
the greeting and the subscriptions. What may be wrong with a broker is found by trying:

* No answer to the greeting: the port speaks TLS, WebSockets or something else.
* A connection that ends instead of an answer: some brokers end those that bring a retained last will, or one above
  their highest QoS. After two such ends, weaker wills are tried. One that is accepted proves nothing, since a broker
  that restarts ends connections as well: the full will is tried once more, and only then counts as refused.
* A connection that ends whenever a certain message is published: the message is too large (`monitor.broker.size`).
* The monitor greets in MQTT 5, in which a request says by its properties where it is to be answered. A broker that does
  not speak it says so, or ends the connection: it is greeted in MQTT 3.1.1 from then on. In MQTT 5 a broker says how
  many messages it takes before it has confirmed one, how large they may be, whether it keeps retained ones, and what it
  drops.
* A subscription that is refused: nothing will ever come. One that is granted with QoS 0: what is sent with a higher QoS
  would end the connection, so QoS 0 is used for everything.

Method of reading and writing the socket: see `monitor.broker.client`.
"""

from __future__ import annotations

import itertools
import logging
import math
import select
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from monitor.broker import connection
from monitor.broker.backoff import Backoff
from monitor.broker.client import TOKEN_BITS, BufferedSocket, Client
from monitor.broker.size import SizeLimit
from monitor.broker.source import Message, Source, Subscription

log = logging.getLogger(__name__)

ANSWER_S = 8.0
"""How long a broker may take to answer the greeting."""
BRIEF_S = 5.0
"""After a connection that lived no longer, the next one is not made at once."""
UNAVAILABLE = (136, 137)
"""Reasons by which a broker refuses a connection for now: server unavailable, server busy."""
UNSPOKEN = 132
"""Reason by which a broker refuses a version of MQTT that it does not speak."""
NO_WILL = (154, 155)
"""Reasons by which a broker refuses a last will: retained, or with that QoS."""
MOST_AT_START = 65_536
"""Messages that may come before the broker has answered: no more can be under way."""
HEAD = 6
"""Most bytes that come on top of `Outgoing.size` in MQTT 5: the fixed header, and the length of the properties."""
CORRELATION_HEAD = 5
"""Most bytes that correlation data bring with them."""
PAUSE_S = 0.2
"""Between two tries of `MqttSource.open`."""


class Outgoing(NamedTuple):
    """A message to be published; see `Source.publish`."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    key: str | None
    correlation: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of the MQTT packet, less its fixed header; of its properties, those that are not always there."""
        properties = 0 if self.correlation is None else len(self.correlation) + CORRELATION_HEAD
        return len(self.topic.encode()) + len(self.payload) + 4 + properties


class Will(NamedTuple):
    """How a last will is brought, or that none is."""

    qos: int
    retain: bool
    is_there: bool = True


WILLS = (Will(1, True), Will(1, True), Will(1, False), Will(0, True), Will(0, False), Will(0, False, is_there=False))
"""What is tried one after the other while the broker ends the connection instead of answering the greeting."""


class MqttSource(Source):
    """A session with an MQTT broker.

    Parameters
    ----------
    url
        The broker.
    client_id
        By which the broker knows the session.
    subscriptions
        What to ask for.
    password, tls
        See `monitor.broker.connection.make_client`.
    clean
        Begin with no session, and leave none.
    will
        Topic and payload of the last will, retained.

    Raises
    ------
    ValueError
        See `monitor.broker.connection.make_client`.
    """

    def __init__(
        self,
        url: connection.BrokerUrl,
        client_id: str,
        subscriptions: Sequence[Subscription],
        *,
        password: str | None = None,
        tls: connection.TlsFiles | None = None,
        clean: bool = False,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self._url = url
        self._subscriptions = list(subscriptions)
        self._client = self._make_client(client_id, password, tls or connection.TlsFiles(), clean)
        self._link = _Link(will)
        self._most = math.inf  # messages that the broker takes before it has confirmed one of them
        self._later = (
            deque[Outgoing](),
            deque[Outgoing](),
        )  # what it does not take yet: with keys, which go first; others
        self._is_unspoken = False  # whether the broker has said so of MQTT 5
        self._keys: dict[int, str] = {}  # keys of messages that the broker has not confirmed, by packet id
        self._held: list[Outgoing] = []  # with a key, while QoS 0 is all there is
        self._confirmed: list[str] = []
        self._size = SizeLimit[Outgoing]()
        self._refused: list[str | None] = []
        self._tested: int | None = None  # packet id of a message whose size is put to the test
        self._faults = _Faults()
        self._hosts: Iterator[tuple[str, int]] | None = None

    @property
    def connected(self) -> bool:  # type: ignore[override] # read-only here
        """Whether there is a connection."""
        return self._link.is_up

    @property
    def listening(self) -> bool:  # type: ignore[override] # read-only here
        """Whether messages can come in."""
        return self._link.is_listening

    @property
    def connections(self) -> int:  # type: ignore[override] # read-only here
        """How many connections there were so far."""
        return self._link.number

    @property
    def resumed(self) -> bool:  # type: ignore[override] # read-only here
        """Whether the broker still had the session."""
        return self._link.resumed

    @property
    def fault(self) -> str | None:  # type: ignore[override] # read-only here
        """What a person must mend."""
        return self._faults.text

    @property
    def has_more(self) -> bool:
        """Whether bytes wait to be read."""
        sock: Any = self._client.socket()
        return sock is not None and bool(sock.has_input)

    @property
    def socket(self) -> Any | None:
        """The socket, for `select`, if there is a connection."""
        return self._client.socket()

    def prefer_newest(self) -> None:
        """Speak MQTT 5 where the broker does, and 3.1.1 elsewhere; before it is opened."""
        self._client.greet_in(paho.MQTTv5)
        self._most = 0

    def name_hosts(self, hosts: Sequence[tuple[str, int]]) -> None:
        """Name hosts and ports of the same cluster, to try in turn when a connection is lost."""
        self._hosts = itertools.cycle(hosts)

    @property
    def unconfirmed(self) -> int:
        """Messages with QoS 1 that the broker has not confirmed yet."""
        return self._client.unconfirmed + len(self._held) + sum(map(len, self._later))

    def open(self) -> None:
        """Connect, and wait for the broker's answer; see `Source.open`."""
        for _ in range(MOST_TRIES):
            self._prepare_will()
            self._link.greet()
            if not self._connect():
                continue
            until_s = time.monotonic() + ANSWER_S
            while not self._link.is_up and not self._link.is_over and time.monotonic() < until_s:
                if not self._turn(0.1, MOST_AT_START):
                    self._link.end()
                self._send()
            self._check_refusal()
            if self._link.is_up:
                return
            if not self._link.is_over:
                raise ConnectionError(self._no_answer())
            self._note_unanswered()
            time.sleep(PAUSE_S)
        raise ConnectionError(
            f"The broker at {self._url} ended the connection instead of answering the MQTT greeting: {_WRONG_PORT}"
        )

    def poll(self, wait_s: float, most: int) -> list[Message]:
        """Return what has come; see `Source.poll`."""
        if self._link.is_over:
            self._reconnect(wait_s)
        elif not self._turn(wait_s, most):
            self._on_end()
        elif self._link.waits_for_answer_s > ANSWER_S:
            self._faults.set("greeting", self._no_answer())
            self._on_end()
        if self._size.is_on_trial and self._tested is None and self._link.lives_s > BRIEF_S:
            self._tested = self._put_to_the_test(self._size.take_smallest())
        self._check_refusal()
        messages, self._client.inbox = self._client.inbox, []
        return messages

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        key: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Take a message to be sent; see `Source.publish`."""
        self._publish(Outgoing(topic, payload, qos, retain, key, correlation))

    def take_confirmed(self) -> list[str]:
        """Return the keys of messages that the broker has confirmed; see `Source.take_confirmed`."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def take_refused(self) -> list[str | None]:
        """Return the keys of messages that are too large for the broker; see `Source.take_refused`."""
        refused, self._refused = self._refused, []
        return refused

    def flush(self) -> bool:
        """Send what was published; see `Source.flush`."""
        if self._held and self._link.is_up:
            for message in self._held:
                self._client.publish(message.topic, message.payload, 0)
                self._confirmed.extend([message.key] if message.key is not None else [])
            self._held.clear()
        while any(self._later) and self._client.unconfirmed < self._most:
            self._publish_now((self._later[0] or self._later[1]).popleft())
        return self._send() and self._link.is_up and not any(self._later)

    def ack(self, tokens: Iterable[int]) -> None:
        """Acknowledge messages; see `Source.ack`."""
        number = self._link.number
        for token in tokens:
            if token >> TOKEN_BITS == number:
                self._client.ack(token & 0xFFFF, 1)

    def resubscribe(self) -> None:
        """Subscribe once more; see `Source.resubscribe`."""
        self._client.subscribe([(one.topic, one.qos) for one in self._subscriptions])

    def close(self) -> None:
        """Send what waits, and leave; see `Source.close`."""
        self._client.disconnect()
        self._send()
        self._client.loop_misc()
        self._link.end()

    def _make_client(self, client_id: str, password: str | None, tls: connection.TlsFiles, clean: bool) -> Client:
        client = connection.make_client(
            self._url, client_id, password=password, clean_session=clean, kind=Client, **asdict(tls)
        )
        assert isinstance(client, Client)
        client.manual_ack_set(True)
        client.max_queued_messages_set(0)  # alerts must not be dropped while the broker is away
        client.max_inflight_messages_set(0)  # with a limit, paho searches all that wait at each confirmation
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        return client

    def _publish(self, message: Outgoing) -> None:
        later = self._later[message.key is None]
        if message.qos and (later or self._client.unconfirmed >= self._most):
            later.append(message)
        else:
            self._publish_now(message)

    def _publish_now(self, message: Outgoing) -> None:
        if not self._size.admits(message.size):
            self._size.hold(message) if self._size.is_on_trial else self._refuse(message)
            return
        qos = min(message.qos, self._link.most_qos)
        if message.key is not None and not qos:
            self._held.append(message)
            return
        self._hand_over(message, qos, retain=message.retain and self._link.may_retain)

    def _hand_over(self, message: Outgoing, qos: int, *, retain: bool) -> int:
        """Publish a message; return its packet id."""
        properties = None
        if message.correlation is not None and self._client.is_newest:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = message.correlation
        mid = self._client.publish(message.topic, message.payload, qos, retain, properties).mid
        if message.key is not None:
            self._keys[mid] = message.key
        return mid

    def _read_back(self, mid: int, message: paho.MQTTMessage) -> Outgoing:
        """Return what was handed over."""
        correlation = getattr(message.properties, "CorrelationData", None)
        key = self._keys.get(mid)
        return Outgoing(message.topic, bytes(message.payload), message.qos, message.retain, key, correlation)

    def _withdraw(self, least: int, after: int = 0) -> list[Outgoing]:
        """Take back the messages of at least that size that the broker has not confirmed, but for the first ones."""
        withdrawn = []
        for mid, message in list(self._client.waiting())[after:]:
            outgoing = self._read_back(mid, message)
            if outgoing.size >= least:
                self._client.withdraw(mid)
                self._keys.pop(mid, None)
                withdrawn.append(outgoing)
        return withdrawn

    def _send(self) -> bool:
        """Send what waits; return whether all of it has left."""
        sock: Any = self._client.socket()
        if sock is None:
            return False
        if self._client.want_write():
            self._client.loop_write()
        sock.flush()
        return not sock.has_output and not self._client.want_write()

    def _turn(self, wait_s: float, most: int) -> bool:
        """Wait for the socket and read at most so many messages; False if the connection is over."""
        client = self._client
        sock: Any = client.socket()
        if sock is None:
            return False
        self.is_quiet = not _wait(sock, client, wait_s)
        sock.fill()
        sock.corked = True
        while sock.has_input and len(client.inbox) < most:
            if client.loop_read() != paho.MQTT_ERR_SUCCESS or not client.is_open(sock):
                return False
        return client.loop_misc() == paho.MQTT_ERR_SUCCESS

    def _connect(self) -> bool:
        """Greet the broker; return whether it may have an answer, False if it is to be greeted in another version."""
        try:
            connection.connect(self._client, self._url)
        except connection.GreetingEnded:
            self._link.end()
            if not self._step_down():
                raise
            return False
        return True

    def _step_down(self) -> bool:
        """Speak MQTT 3.1.1 from the next connection on; return whether another version was spoken till now."""
        if not self._client.is_newest or (self._link.number and not self._is_unspoken):
            return False
        log.info("the broker %s does not answer in MQTT 5: greeting it in MQTT 3.1.1", self._url)
        self._client.greet_in(paho.MQTTv311)
        self._most = math.inf
        return True

    def _note_unanswered(self) -> None:
        """Note that a connection ended instead of an answer, and draw a conclusion."""
        if not self._step_down():
            self._link.count_unanswered()

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, props: Any) -> None:
        if reason.value == UNSPOKEN or reason.value in NO_WILL:
            self._is_unspoken = reason.value == UNSPOKEN
            return  # and the connection ends: see `_note_unanswered`
        if reason.value in UNAVAILABLE:
            self._link.is_unavailable = True
            log.info("the broker %s answers: %s", self._url, reason)
            return
        if reason.is_failure:
            self._link.refusal = str(reason)
            return
        if not self._link.is_sure_of_will():
            client.disconnect()
            return
        self._client.connection = self._link.accept(resumed=flags.session_present)
        self._heed(props)
        if self._subscriptions:  # each time: the broker may have forgotten a session, and does not remember a clean one
            client.subscribe([(one.topic, one.qos) for one in self._subscriptions])
        is_usual = flags.session_present and self._link.how == WILLS[0]
        if is_usual or not self._subscriptions:  # what was kept may come before the answer to that
            self._come_up()

    def _heed(self, announced: Any) -> None:
        """Keep to what a broker of MQTT 5 says that it takes: section 3.2.2.3."""
        if not self._client.is_newest:
            return
        self._most = max(1, getattr(announced, "ReceiveMaximum", MOST_AT_START))
        for message in reversed(self._withdraw(0, after=self._most)):  # before the client publishes them again
            self._later[message.key is None].appendleft(message)
        self._link.keeps_retained = bool(getattr(announced, "RetainAvailable", 1))
        if (largest := getattr(announced, "MaximumPacketSize", None)) is not None:
            self._size.announce(largest - HEAD + 1)
            for message in self._withdraw(self._size.limit or 0):
                self._refuse(message)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _props: Any) -> None:
        refused, lowered = _check_grants(self._subscriptions, codes)
        topics = ", ".join(one.topic for one in refused)
        is_deaf = any(one.required for one in refused)
        text = (_REFUSED if is_deaf else _NOT_ALL).format(url=self._url, topics=topics)
        self._faults.set("subscription", text if refused else None)
        self._faults.set("qos", lowered and _LOWERED.format(url=self._url))
        self._link.most_qos = 0 if lowered else 1
        if not self._link.is_up:
            self._come_up()
        self._link.is_listening = not is_deaf

    def _come_up(self) -> None:
        """Note that the broker has answered."""
        self._link.is_up = self._link.is_listening = True
        self._faults.set("greeting", None)
        self._faults.set("refusal", None)
        self._faults.set("will", self._link.weaker_will(self._url))
        log.info("connected to %s", self._url)

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:  # in MQTT 3.1.1 it confirms what it drops like anything else
            self._faults.set("refusal", _DROPPED.format(url=self._url, reason=str(reason).lower()))
        if (key := self._keys.pop(mid, None)) is not None:
            self._confirmed.append(key)
        if mid == self._tested:
            self._acquit()

    def _on_end(self) -> None:
        """Note that the connection is over, and when to make the next one."""
        lived_s = self._link.end()
        if self._tested is not None:
            self._convict()
        if self._link.is_unavailable:
            self._link.is_unavailable = False
            self._link.postpone()
        elif lived_s is None:
            self._note_unanswered()
        elif lived_s < BRIEF_S:
            name = self._client._client_id.decode()
            text = "the broker %s ended the connection after %.1f s; is another client called %s?"
            log.warning(text, self._url, lived_s, name)
            self._link.postpone()
            self._look_for_suspects()
        else:
            log.warning("lost the broker %s; reconnecting", self._url)
            self._link.reset_backoff()

    def _look_for_suspects(self) -> None:
        """Find out whether a message is too large for the broker."""
        if self._size.is_on_trial:
            self._acquit()
        waiting = [self._read_back(*one).size for one in self._client.waiting()]
        if self._size.ended_soon(waiting) and self._size.limit is not None:
            for message in self._withdraw(self._size.limit):
                self._size.hold(message)

    def _put_to_the_test(self, message: Outgoing | None) -> int | None:
        """Publish a message of suspected size on a connection that lives; return its packet id."""
        if message is None:
            return None
        return self._hand_over(message, message.qos, retain=message.retain)

    def _acquit(self) -> None:
        """The messages that were held back are not too large: publish them."""
        self._tested = None
        for message in self._size.acquit():
            self._publish(message)

    def _convict(self) -> None:
        """The message that was put to the test ended the connection: it, and all as large, are too large."""
        self._tested = None
        if self._size.limit is not None:
            for message in [*self._withdraw(self._size.limit), *self._size.convict()]:
                self._refuse(message)

    def _refuse(self, message: Outgoing) -> None:
        """Give up a message that is too large."""
        self._refused.append(message.key)
        self._faults.set("size", _TOO_LARGE.format(url=self._url, size=self._size.limit))

    def _reconnect(self, wait_s: float) -> None:
        """Try to connect again, if it is time to; else wait."""
        left_s = self._link.retry_at_s - time.monotonic()
        if left_s > 0:
            time.sleep(min(wait_s, left_s))
            return
        self._prepare_will()
        if self._hosts is not None:
            self._client.connect_async(*next(self._hosts))
        try:
            self._link.greet()
            self._client.reconnect()
        except OSError as error:
            self._link.end()
            self._link.postpone()
            log.info("no broker at %s: %s", self._url, error)

    def _prepare_will(self) -> None:
        if self._link.will is None:
            return
        (topic, payload), how = self._link.will, self._link.how
        if how.is_there:
            self._client.will_set(topic, payload, how.qos, how.retain)
        else:
            self._client.will_clear()

    def _check_refusal(self) -> None:
        if self._link.refusal is not None:
            raise ConnectionError(f"The broker {self._url} refused the connection: {self._link.refusal}.")

    def _no_answer(self) -> str:
        return f"No answer to the MQTT greeting from {self._url} within {ANSWER_S:g} s: {_WRONG_PORT}"


def _check_grants(asked: Sequence[Subscription], codes: Sequence[ReasonCode]) -> tuple[list[Subscription], bool]:
    """Return what was refused, and whether others were granted with a lower QoS only."""
    answered = list(zip(asked, codes, strict=False))
    refused = [one for one, code in answered if code.is_failure]
    return refused, any(not code.is_failure and code.value < one.qos for one, code in answered)


_REFUSED = "the broker {url} refuses the subscription to {topics}: nothing will come; let this user read these topics"
_NOT_ALL = "the broker {url} refuses the subscription to {topics}: let this user read these topics too"
_LOWERED = "the broker {url} grants QoS 0 only: what is sent while the connection is down is lost; let it grant QoS 1"
_TOO_LARGE = (
    "the broker {url} takes no message of {size} bytes or more: let it take larger ones (mosquitto: max_packet_size)"
)
_DROPPED = "the broker {url} drops messages of this monitor ({reason}): let this user write what it publishes"
_WRONG_PORT = "if this port speaks TLS, write mqtts://; WebSockets and HTTP are not supported."


def make_source(*args: Any, **kwargs: Any) -> MqttSource:
    """Return the monitor's source, which speaks MQTT 5 where the broker does; for `connection.SCHEMES`."""
    source = MqttSource(*args, **kwargs)
    source.prefer_newest()
    return source


MOST_TRIES, RETRY_S = 2 * len(WILLS), 0.4
"""So many connections that end instead of an answer are soon followed by another; then they become rarer."""


class _Link:
    """How the present connection is, and what was learned of the broker by those before.

    Parameters
    ----------
    will
        Topic and payload of the last will.
    """

    def __init__(self, will: tuple[str, bytes] | None) -> None:
        self.will = will
        self.number = 0
        self.resumed = False
        self.is_up = False
        """Whether the broker has answered the greeting and the subscriptions."""
        self.is_listening = False
        """Whether the subscriptions were granted."""
        self.refusal: str | None = None
        self.is_unavailable = False
        """Whether the broker has answered that it cannot serve anybody now."""
        self.most_qos = 1
        self.keeps_retained = True
        """Whether the broker says that it keeps retained messages."""
        self.retry_at_s = 0.0
        self._unanswered = 0  # connections in a row that ended instead of an answer
        self._accepted_will: Will | None = None  # weaker than it should be
        self._tries = 0
        self._greeted_s: float | None = None
        self._accepted_s: float | None = None
        self._backoff = Backoff()

    @property
    def is_over(self) -> bool:
        """Whether there is no connection."""
        return self._greeted_s is None

    @property
    def waits_for_answer_s(self) -> float:
        """For how long the broker has not answered."""
        return 0.0 if self.is_up or self._greeted_s is None else time.monotonic() - self._greeted_s

    @property
    def lives_s(self) -> float:
        """For how long the broker has accepted the connection."""
        return 0.0 if self._accepted_s is None else time.monotonic() - self._accepted_s

    @property
    def how(self) -> Will:
        """How the last will is brought."""
        return WILLS[self._unanswered % len(WILLS)]

    @property
    def may_retain(self) -> bool:
        """Whether the broker takes retained messages."""
        return self.how.retain and self.keeps_retained

    def greet(self) -> None:
        """A connection was opened, and the greeting sent."""
        self._greeted_s = time.monotonic()
        self._accepted_s = None

    def accept(self, resumed: bool) -> int:
        """Note that the broker has answered the greeting; return the number of the connection."""
        self.number += 1
        self.resumed = resumed
        self._accepted_s = time.monotonic()
        self._tries = 0
        return self.number

    def is_sure_of_will(self) -> bool:
        """Whether the will that was accepted is the strongest that the broker takes; if not, try the full one again."""
        if self.will is None or self.how == WILLS[0]:
            self._unanswered, self._accepted_will = 0, None
        elif self._accepted_will != self.how:
            self._unanswered, self._accepted_will = 0, self.how
            return False
        return True

    def end(self) -> float | None:
        """Note that the connection is over; return how long it lived, or None if it was never answered."""
        lived_s = None if self._accepted_s is None else time.monotonic() - self._accepted_s
        self.is_up = self.is_listening = False
        self._greeted_s = self._accepted_s = None
        return lived_s

    def postpone(self) -> None:
        """Make the next connection later."""
        self.retry_at_s = time.monotonic() + self._backoff.next_s()

    def reset_backoff(self) -> None:
        """Make the next connection at once."""
        self._backoff.reset()
        self.retry_at_s = 0.0

    def count_unanswered(self) -> None:
        """Note that a connection ended instead of an answer; the first ones are soon tried again."""
        self._unanswered += self.will is not None
        self._tries += 1
        if self._tries <= MOST_TRIES:
            self.retry_at_s = time.monotonic() + RETRY_S
        else:
            self.postpone()

    def weaker_will(self, url: connection.BrokerUrl) -> str | None:
        """What a person should know of the last will, if a weaker one had to be used."""
        if self.will is None or self.how == WILLS[0]:
            return None
        last = (
            f"QoS {self.how.qos}, {'' if self.how.retain else 'not '}retained" if self.how.is_there else "none at all"
        )
        return (
            f"the broker {url} ends connections that bring a retained last will with QoS 1 (accepted: {last}): "
            "subscribers may not learn that this monitor is gone"
        )


class _Faults:
    """What is wrong with a broker, by kind; each is logged when it appears."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    def text(self) -> str | None:
        """All of them."""
        return "; ".join(self._texts.values()) or None

    def set(self, kind: str, text: str | bool | list[str] | None) -> None:
        """Note a fault, or that there is none."""
        if not text:
            self._texts.pop(kind, None)
        elif self._texts.get(kind) != text:
            self._texts[kind] = str(text)
            log.warning("%s", text)


def _wait(sock: BufferedSocket, client: Client, wait_s: float) -> bool:
    """Wait until there is something to read, or what waits can be sent; return whether there is."""
    if sock.has_input:
        return True
    wanted = [sock] if sock.has_output or client.want_write() else []
    readable, writable, _ = select.select([sock], wanted, [], wait_s)
    return bool(readable or writable)


def end_session(
    url: connection.BrokerUrl, client_id: str, *, password: str | None = None, tls: connection.TlsFiles | None = None
) -> None:
    """Let the broker drop the session of a client that will not come back.

    Raises
    ------
    OSError
        The broker is not there.
    """
    source = MqttSource(url, client_id, [], password=password, tls=tls, clean=True)
    source.open()
    source.close()
