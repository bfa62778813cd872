"""The monitor as a running service: the only file that knows MQTT clients, clocks and signals.

One thread, one loop: wait for the socket, take every message that is there into the engine, flush the engine, publish,
settle, acknowledge. While the model runs, messages pile up in the socket and become the next batch, so no queue and no
timer are needed: quiet means batches of one and low delay, busy means large batches up to a cap. What this process
cannot take yet waits in the broker, which is why nothing here grows.

A packet is acknowledged once what follows from it cannot be lost any more (`monitor.journal`): whoever comes after a
crash goes on where the devices' states were saved, and gets from the broker what came since. Whatever a device sends is
at most counted and dropped: no message can stop the loop. Losing the broker is a state, not an error.

Several services can share the devices: each hears all packets, and leaves those of the others alone.
"""

from __future__ import annotations

import fcntl
import logging
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from monitor import mqtt, systemd, wire
from monitor.alert import AlertSettings
from monitor.classify import DEFAULT_MODEL, Classifier, Provider
from monitor.engine import Engine, Output, warm_up
from monitor.journal import Journal
from monitor.link import Client
from monitor.store import Letter, Store

log = logging.getLogger(__name__)

VERSION = version("ecgwatch")
POLL_S = 0.25
"""How often the loop looks up from the socket, to see whether it should stop."""
QUIET_S = 0.02
"""After so long without a message, what waits to be settled is settled."""
STATUS_S = 10.0
ALIVE_S = 5.0
"""How often systemd hears that the loop turns."""
RECONNECT_S = (0.5, 30.0)
"""First and longest wait before another try to reach the broker; it doubles in between."""
DRAIN_S = 5.0
"""How long a shutdown waits for the broker to confirm the last alerts."""
MOST_UNCONFIRMED = 500
"""While more messages wait for the broker's confirmation, beats are sent without asking for one: alerts go first."""
OVERLOADED_S = 5.0
"""Without a pause in what comes for so long, the monitor is behind."""
KEEP_ALERTS_S = 30 * 86400.0
"""For how long the history of alerts goes back."""
LATENESSES = 1000
"""Packets of which the lateness is looked at for one status."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a monitor runs."""

    broker: mqtt.BrokerUrl = field(default_factory=lambda: mqtt.BrokerUrl.parse(mqtt.DEFAULT_URL))
    password_file: Path | None = None
    tls: mqtt.TlsFiles = field(default_factory=mqtt.TlsFiles)
    prefix: str = wire.PREFIX
    name: str = "monitor"
    """Of this monitor, in its status topic, its client id and the name of its file."""
    model: str = DEFAULT_MODEL
    provider: Provider = "auto"
    publish_beats: bool = False
    """Publish every beat's verdict, not only alerts."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    forget_s: float = 600.0
    """A device that sends nothing for so long is forgotten."""
    state: Path | None = None
    """Directory in which to remember what must outlive the process; None remembers nothing."""
    share: tuple[int, int] = (0, 1)
    """Which part of the devices this one watches, and of how many."""

    def __post_init__(self) -> None:
        number, workers = self.share
        if not 0 <= number < workers:
            raise ValueError(f"A worker's number must lie below how many there are: got {number} of {workers}.")

    @property
    def own_name(self) -> str:
        """Of this service among those that share the devices."""
        return self.name if self.share[1] == 1 else f"{self.name}.{self.share[0]}"


class Service:
    """A monitor between a broker and an engine.

    Parameters
    ----------
    settings
        How it runs.
    report
        Gets the status now and then, instead of the broker.

    Raises
    ------
    ValueError
        Settings that cannot work; see `wire.Topics`, `wire.check_device_id`, `mqtt.make_client`, `Classifier`.
    FileNotFoundError, ModelMismatch
        The model cannot be used.
    """

    def __init__(self, settings: ServiceSettings, report: Callable[[wire.MonitorStatus], None] | None = None) -> None:
        self.settings = settings
        self.topics = wire.Topics(settings.prefix)
        wire.check_device_id(settings.name)
        self.classifier = Classifier(settings.model, settings.provider)
        self.engine = Engine(self.classifier, settings.alerts)
        warm_up()
        self._report = report
        self._since_s = time.time()
        self._stopping = False
        self._connected = False
        self._refused: str | None = None
        self._complained: set[str] = set()
        self._store: Store | None = None
        self._journal = Journal(self.engine, None)
        self._publishing: dict[int, str] = {}  # ids of the alerts that the broker has not confirmed, by message id
        self._lateness_s: list[float] = []
        self._paused_s = time.monotonic()
        self._wait_s = RECONNECT_S[0]
        self._client = self._make_client()

    def stop(self) -> None:
        """Ask the loop to finish what it holds and return; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop` is called.

        Raises
        ------
        ConnectionError
            The broker cannot be reached at the start, or refuses the connection. Later losses are waited out.
        """
        with self._remembering():
            if self._stopping:
                return  # while waiting for another monitor of this name, which the broker would take us for
            mqtt.connect(self._client, self.settings.broker)
            for letter in list(self._journal.resend()):
                self._send(letter)
            status_due = alive_due = time.monotonic()
            try:
                while not self._stopping:
                    if not self._serve():
                        self._reconnect()
                    now = time.monotonic()
                    if now >= alive_due:
                        systemd.notify("WATCHDOG=1")
                        alive_due = now + ALIVE_S
                    if self._connected and now >= status_due:
                        self._keep_house(now)
                        status_due = now + STATUS_S
            finally:
                systemd.notify("STOPPING=1")
                self._finish()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Have the store open, and to ourselves: another monitor of the same name is waited for."""
        directory = self.settings.state
        if directory is None:
            yield
            return
        self._store = Store(directory, self.settings.name)
        self._journal = Journal(self.engine, self._store)
        try:
            with _only_one(directory / f"{self.settings.own_name}.lock", lambda: self._stopping):
                yield
        finally:
            self._store.close()

    def _make_client(self) -> Client:
        settings = self.settings
        password = mqtt.read_password(settings.broker, settings.password_file)
        client = mqtt.make_client(
            settings.broker,
            f"ecgwatch-{settings.own_name}",
            password=password,
            clean_session=settings.state is None,
            kind=Client,
            **asdict(settings.tls),
        )
        assert isinstance(client, Client)
        client.manual_ack_set(True)
        client.max_queued_messages_set(0)  # alerts must not be dropped while the broker is away
        client.max_inflight_messages_set(2 * MOST_UNCONFIRMED)
        if self._report is None:
            client.will_set(self.topics.monitor_status(settings.name), self._status("offline"), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _serve(self) -> bool:
        """Wait for the socket, take what is there, tell what follows. False if the connection is gone."""
        client, unsettled = self._client, self._journal.unsettled
        with client.turn(QUIET_S if unsettled else POLL_S) as sock:
            if sock is None:
                return False
            alive, came = True, sock.has_input
            while alive and sock.has_input and not self.engine.is_full:
                alive = client.loop_read() == paho.MQTT_ERR_SUCCESS and client.is_open(sock)
            now = time.monotonic()
            if not sock.has_input:
                self._paused_s = now
            self._tell(self.engine.flush())
            if alive:
                sock.flush()  # what is settled is not computed again, so it must have left before
                self._settle(now, idle=not came)
            return client.loop_misc() == paho.MQTT_ERR_SUCCESS and alive

    def _tell(self, output: Output) -> None:
        for alert in output.alerts:
            letter = Letter(
                alert.id, alert.device, time.time(), self.topics.of(alert.device, "alerts"), wire.encode(alert)
            )
            self._journal.told(letter)
            self._send(letter)
        if self.settings.publish_beats:
            for beat in output.beats:
                qos = int(self._client.unconfirmed < MOST_UNCONFIRMED)
                self._client.publish(self.topics.of(beat.device, "beats"), wire.encode(beat), qos)

    def _send(self, letter: Letter) -> None:
        self._publishing[self._client.publish(letter.topic, letter.payload, qos=1).mid] = letter.id

    def _settle(self, now: float, idle: bool) -> None:
        """Acknowledge what cannot be lost any more, to the broker and to the devices."""
        settled = self._journal.settle(now, idle)
        for mid in settled.mids:
            self._client.ack(mid, 1)
        for device in settled.devices:
            if (seq := self.engine.next_seq(device)) is not None:
                self._client.publish(self.topics.of(device, "ack"), wire.encode(wire.Ack(seq=seq)), qos=0)

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        self._connected = True
        self._paused_s = time.monotonic()
        log.info("connected to %s", self.settings.broker)
        systemd.notify("READY=1")
        # Said again each time: the broker may have forgotten a session, and does not remember a clean one.
        client.subscribe([(self.topics.of("+", "info"), 1), (self.topics.of("+", "samples"), 1)])

    def _on_publish(self, _client: Any, _data: Any, mid: int, _reason: ReasonCode, _props: Any) -> None:
        if (letter_id := self._publishing.pop(mid, None)) is not None:
            self._journal.confirmed(letter_id)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        # paho's network loop dies of an exception in a callback.
        device, topic = None, "a topic that is not UTF-8"
        try:
            topic = message.topic
            device, leaf = self.topics.parse(topic)
            number, workers = self.settings.share
            if workers > 1 and zlib.crc32(device.encode()) % workers != number:
                device = None
            else:
                self._take(device, leaf, bytes(message.payload))
        except (wire.PacketError, UnicodeDecodeError) as error:
            self._reject(topic, str(error))
        except Exception:
            self.engine.counts["internal errors"] += 1
            log.exception("a message on %s could not be handled", topic)
        if message.qos:
            self._journal.received(message.mid, device, time.monotonic())

    def _take(self, device: str, leaf: str, payload: bytes) -> None:
        now = time.monotonic()
        if leaf == "samples":
            packet = wire.decode_packet(payload)
            if len(self._lateness_s) < LATENESSES:
                self._lateness_s.append(time.time() - packet.start_s - packet.samples.size / packet.rate_hz)
            self._recall(device, now)
            self.engine.feed(device, packet, now)
        elif leaf == "info":
            info = wire.decode(payload, wire.Info)
            self._recall(device, now)
            self.engine.describe(device, info, now)

    def _recall(self, device: str, now: float) -> None:
        """Go on where an earlier process saved the device, if one did."""
        if self._store is None or self.engine.knows(device):
            return
        state = self._store.read_state(device)
        if state is None:
            return
        try:
            self.engine.restore(device, state, now)
        except ValueError as error:
            self.engine.counts["states not restored"] += 1
            log.warning("%s Beginning anew.", error)

    def _reject(self, topic: str, reason: str) -> None:
        """Count a bad message; say it once per topic, so that a broken device cannot flood the log."""
        self.engine.counts["rejected"] += 1
        shown = topic[:200]
        if shown not in self._complained and len(self._complained) < 10_000:
            log.warning("dropped a message on %s: %s (said once for this device)", shown, reason)
            self._complained.add(shown)

    def _reconnect(self) -> None:
        """Try to reach the broker again, until it answers or we are to stop."""
        if self._refused is not None:
            raise ConnectionError(f"The broker {self.settings.broker} refused the connection: {self._refused}.")
        if self._connected:
            log.warning("lost the broker %s; trying again", self.settings.broker)
            self._wait_s = 0.0
        self._connected = False
        self._journal.disconnected()
        while not self._stopping:
            # Also when a connection was made and ended before the broker had answered.
            self._wait(self._wait_s)
            self._wait_s = min(RECONNECT_S[1], 2 * self._wait_s or RECONNECT_S[0])
            try:
                self._client.reconnect()
                return
            except OSError as error:
                log.info("no broker at %s: %s", self.settings.broker, error)

    def _wait(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            systemd.notify("WATCHDOG=1")
            time.sleep(min(POLL_S, left_s))

    def _keep_house(self, now: float) -> None:
        """What is to do now and then."""
        behind_s = now - self._paused_s
        self._publish_status("online" if behind_s < OVERLOADED_S else "overloaded")
        self._lateness_s.clear()
        forgotten = self.engine.forget(now - self.settings.forget_s)
        self._tell(self.engine.flush())
        self._journal.forget(forgotten)
        self._settle(now, idle=False)  # before such a device comes back, and is taken up where it was saved
        if self._store is not None:
            self._store.retry()
            self._store.prune(time.time() - KEEP_ALERTS_S)

    def _finish(self) -> None:
        """Tell what is held, save what is remembered, say goodbye, and wait until the broker has confirmed it."""
        if self._store is None:
            self.engine.forget(float("inf"))
        self._tell(self.engine.flush())
        until_s = time.monotonic() + DRAIN_S
        while self._journal.unsettled and time.monotonic() < until_s:
            self._settle(time.monotonic(), idle=True)
        if not self._connected:
            return
        goodbye = self._publish_status("offline")
        while self._publishing or (goodbye is not None and not goodbye.is_published()):
            if time.monotonic() > until_s or not self._serve():
                break
        self._settle(time.monotonic(), idle=True)
        self._client.disconnect()
        self._connected = False

    def _publish_status(self, state: wire.MonitorState) -> paho.MQTTMessageInfo | None:
        if self._report is not None:
            self._report(self._describe(state))
            return None
        topic = self.topics.monitor_status(self.settings.name)
        return self._client.publish(topic, self._status(state), qos=1, retain=True)

    def _status(self, state: wire.MonitorState) -> bytes:
        return wire.encode(self._describe(state))

    def _describe(self, state: wire.MonitorState) -> wire.MonitorStatus:
        return wire.MonitorStatus(
            state=state,
            version=VERSION,
            model=self.classifier.info.name,
            model_sha256=self.classifier.sha256,
            since_s=self._since_s,
            counts=dict(self.engine.counts) | ({"state faults": self._store.faults} if self._store else {}),
            devices=self.engine.devices,
            unsettled=self._journal.unsettled,
            lateness_s=round(statistics.median(self._lateness_s), 3) if self._lateness_s else None,
            fault=None if self._store is None else self._store.fault,
        )


@contextmanager
def _only_one(lock: Path, is_stopping: Callable[[], bool]) -> Iterator[None]:
    """Wait until no other process holds a lock, and hold it."""
    try:
        file = open(lock, "w")  # noqa: SIM115 - closed below, and by the system if we are killed
    except OSError as error:
        log.warning("%s cannot be locked (%s): make sure that only one monitor has this name", lock, error)
        yield
        return
    with file:
        told = False
        while not is_stopping():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    log.warning("another monitor of this name is running; waiting until it stops (%s)", lock)
                told = True
                time.sleep(POLL_S / 10)
        yield
