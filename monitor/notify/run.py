"""``ecgwatch notify``: alerts from the broker into the queue, and from there to where people are.

An alert is acknowledged to the broker once it is in the queue, and the broker keeps what comes while nobody listens:
from the first start on nothing is lost.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message, Source, Subscription
from monitor.notify.deliver import Deliverer
from monitor.notify.monitors import Monitors
from monitor.notify.queue import NewJob, Queue, of_device
from monitor.notify.rules import SEVERITIES, Rules
from monitor.notify.targets import Target
from monitor.state.lock import held_at_once

log = logging.getLogger(__name__)

POLL_S, MOST = 0.25, 1000
STOP_S = 5.0
"""How long what is under way may take at the end."""
PRUNE_S = 3600.0


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """How a notifier runs."""

    broker: connection.BrokerUrl
    state: Path
    """Directory of the queue."""
    password_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    prefix: str = wire.PREFIX
    session: str = "notify"
    """Of this notifier, in the broker and in the name of the queue's file."""
    keep_s: float = 86400.0
    """For how long to try."""
    with_signal: bool = True
    """Whether strip and waveform of an alert are sent as well."""


class Notifier:
    """Takes what comes from a source into a queue.

    Parameters
    ----------
    source
        Of alerts, states and the monitors' statuses; see `subscriptions`.
    queue
        Where to.
    rules
        Who is told of what.
    targets
        Names of all there are.
    topics
        Of the wire.
    with_signal
        Whether strip and waveform are kept.
    """

    def __init__(
        self,
        source: Source,
        queue: Queue,
        rules: Rules,
        targets: Sequence[str],
        topics: wire.Topics,
        with_signal: bool = True,
    ) -> None:
        self._with_signal = with_signal
        self._source, self._queue, self._rules, self._targets, self._topics = source, queue, rules, targets, topics
        self._names = queue.names()  # what still waits may be sent before the states come
        self._told_s = queue.monitors()
        self._monitors = Monitors(self._told_s)
        self._unsaved: list[NewJob] = []
        self._tokens: list[int] = []

    def name_of(self, device: str) -> str | None:
        """Return what people call a device, as far as it is known."""
        return self._names.get(device)

    def turn(self, wait_s: float, now_s: float) -> int:
        """Take what has come into the queue, then acknowledge it; return how much is new there.

        Raises
        ------
        OSError
            The queue cannot be written: nothing is acknowledged, and the next turn tries again.
        ConnectionError
            The broker refuses the login.
        """
        if not self._unsaved:
            self._take(self._source.poll(wait_s, MOST), now_s)
            for alert in self._monitors.turn(now_s):
                self._plan(alert, wire.encode(alert), now_s)
        added = self._queue.add(self._unsaved, now_s) if self._unsaved else 0
        self._unsaved.clear()
        if self._monitors.told_s != self._told_s:
            self._queue.save_monitors(self._monitors.told_s)
            self._told_s = dict(self._monitors.told_s)
        self._source.ack(self._tokens)
        self._tokens.clear()
        self._source.flush()
        return added

    def _take(self, messages: Sequence[Message], now_s: float) -> None:
        for message in messages:
            if message.token is not None:
                self._tokens.append(message.token)
            try:
                self._take_one(message, now_s)
            except OSError as error:
                log.error("%s", error)  # a name is not worth an alert: it comes again
            except wire.PacketError as error:
                log.warning("what came on %.200r cannot be read: %s", message.topic, error)

    def _take_one(self, message: Message, now_s: float) -> None:
        before, after = self._topics.monitor_status("\n").split("\n")
        if message.topic.startswith(before) and message.topic.endswith(after):
            name = message.topic[len(before) : -len(after)]
            for alert in self._monitors.take(name, message.payload, now_s):
                self._plan(alert, wire.encode(alert), now_s)
            return
        if self._topics.parse_forgotten(message.topic):
            self._forget(wire.decode(message.payload, wire.Forgotten).device)
            return
        device, leaf = self._topics.parse(message.topic)
        if leaf == "state":
            called = wire.decode(message.payload, wire.DeviceState).name if message.payload else None
            if called == self._names.get(device):
                return
            self._names.pop(device, None)
            if called is not None:
                self._names[device] = called
            self._queue.save_name(device, called)
        elif leaf == "alerts" and not message.retained:
            alert, payload = wire.decode(message.payload, wire.Alert), message.payload
            if not self._with_signal:
                payload = wire.encode(msgspec.structs.replace(alert, strip=None, waveform=None))
            self._plan(alert, payload, now_s)

    def _forget(self, device: str) -> None:
        """Forget a device of which nothing is to be left: nobody is told of its alerts any more."""
        self._names.pop(device, None)
        self._unsaved = [job for job in self._unsaved if not of_device(job.id, device)]
        self._queue.forget(device)

    def _plan(self, alert: wire.Alert, payload: bytes, now_s: float) -> None:
        due_s, rank = self._rules.due_s(alert, now_s), SEVERITIES.index(alert.severity)
        for target in self._rules.targets(alert, self._targets):
            self._unsaved.append(NewJob(alert.id, target, rank, payload, due_s))


def subscriptions(topics: wire.Topics) -> list[Subscription]:
    """Return what a notifier asks the broker for."""
    return [
        Subscription(topics.of("+", "state"), 1, required=False),
        Subscription(topics.of("+", "alerts"), 1),
        Subscription(topics.monitor_status("+"), 1, required=False),
        Subscription(topics.forgotten("+"), 1, required=False),
    ]


def run(
    settings: NotifySettings, rules: Rules, targets: Sequence[Target], is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Tell people until it is to stop.

    Raises
    ------
    ValueError
        Settings that cannot work.
    ConnectionError
        The broker cannot be reached at the start while nothing waits to be delivered, or it refuses the login.
    OSError
        The queue cannot be used, or another notifier of this name does.
    """
    topics = wire.Topics(settings.prefix)
    name = wire.check_name(settings.session)
    password = connection.read_password(settings.broker, settings.password_file)
    file = settings.state / f"{name}.notify.sqlite"
    settings.state.mkdir(parents=True, exist_ok=True)
    lock = file.with_suffix(".lock")
    lock.touch()
    with ExitStack() as stack:
        if not stack.enter_context(held_at_once(lock)):
            raise OSError(f"Another notifier uses {file}: give this one another --session.")
        queue = Queue(file)
        stack.callback(queue.close)
        source = MqttSource(
            settings.broker, f"ecgwatch-notify-{name}", subscriptions(topics), password=password, tls=settings.tls
        )
        names = [target.name for target in targets]
        notifier = Notifier(source, queue, rules, names, topics, settings.with_signal)
        deliverers = [Deliverer(target, queue, notifier.name_of, settings.keep_s) for target in targets]
        _tell_of_waiting(queue, names)
        _open(source, bool(queue.waiting()))
        for deliverer in deliverers:
            deliverer.start()
            stack.callback(deliverer.stop, STOP_S)
        stack.callback(source.close)
        _serve(notifier, queue, deliverers, is_stopping)


def _serve(notifier: Notifier, queue: Queue, deliverers: Sequence[Deliverer], is_stopping: Callable[[], bool]) -> None:
    prune_s = 0.0
    while not is_stopping():
        now_s = time.time()
        try:
            added = notifier.turn(POLL_S, now_s)
            if now_s >= prune_s:
                prune_s = now_s + PRUNE_S
                queue.prune(now_s)
        except ConnectionError:
            raise
        except OSError as error:
            log.error("%s Trying again.", error)
            time.sleep(POLL_S)
            continue
        for deliverer in deliverers if added else ():
            deliverer.wake()


def _tell_of_waiting(queue: Queue, names: Sequence[str]) -> None:
    for target, count in queue.waiting().items():
        if target in names:
            log.info("%d notifications still wait for %s", count, target)
        else:
            log.warning("%d notifications wait for %s, which is no target any more", count, target)


def _open(source: Source, has_work: bool) -> None:
    """Reach the broker; what waits to be delivered does not wait for it."""
    try:
        source.open()
    except ConnectionError as error:
        if not has_work:
            raise
        log.warning("%s Trying again.", error)


def send_test(targets: Sequence[Target], now_s: float) -> int:
    """Send a test to each target, and print what came back; return the exit status: 1 if one failed."""
    alert = wire.Alert(
        id=f"test-{round(now_s * 1000)}",
        episode=f"test-{round(now_s * 1000)}",
        device="test",
        kind="test",
        severity="low",
        state="new",
        time_s=round(now_s, 3),
        since_s=round(now_s, 3),
        text="This is a test of notifications; nobody is ill.",
        seq=0,
        completed_s=round(now_s, 3),
    )
    failed = 0
    for target in targets:
        began_s = time.monotonic()
        outcome = target.send({**json.loads(wire.encode(alert)), "device_name": None})
        failed |= not outcome.ok
        took_s = time.monotonic() - began_s
        print(f"{target.name}: {'delivered' if outcome.ok else 'NOT delivered'} in {took_s:.1f} s: {outcome.text}")
    return int(failed)
