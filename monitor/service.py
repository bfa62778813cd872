"""The monitor as a running service: the only file that knows MQTT clients, clocks and signals.

One thread, one loop: wait for the socket, take every message that is there into the engine, flush the engine, publish,
acknowledge. While the model runs, messages pile up in the socket and become the next batch, so no queue and no timer
are needed: quiet means batches of one and low delay, busy means large batches up to a cap. What this process cannot
take yet waits in the broker, which is why nothing here grows.

A packet is acknowledged after everything that follows from it was handed to the broker client. Whatever a device sends
is at most counted and dropped: no message can stop the loop. Losing the broker is a state, not an error.
"""

from __future__ import annotations

import logging
import select
import ssl
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from monitor import mqtt, wire
from monitor.alert import AlertSettings
from monitor.classify import DEFAULT_MODEL, Classifier, Provider
from monitor.engine import Engine, Output, warm_up

log = logging.getLogger(__name__)

VERSION = version("ecgwatch")
POLL_S = 0.25
"""How often the loop looks up from the socket, to see whether it should stop."""
STATUS_S = 10.0
RECONNECT_S = (0.5, 30.0)
"""First and longest wait before another try to reach the broker; it doubles in between."""
DRAIN_S = 5.0
"""How long a shutdown waits for the broker to confirm the last alerts."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a monitor runs."""

    broker: mqtt.BrokerUrl = field(default_factory=lambda: mqtt.BrokerUrl.parse(mqtt.DEFAULT_URL))
    password_file: Path | None = None
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    prefix: str = wire.PREFIX
    name: str = "monitor"
    """Of this monitor, in its status topic and client id."""
    model: str = DEFAULT_MODEL
    provider: Provider = "auto"
    publish_beats: bool = False
    """Publish every beat's verdict, not only alerts."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    forget_s: float = 600.0
    """A device that sends nothing for so long is forgotten."""


class Service:
    """A monitor between a broker and an engine.

    Raises
    ------
    ValueError
        Settings that cannot work; see `wire.Topics`, `wire.check_device_id`, `mqtt.make_client`, `Classifier`.
    FileNotFoundError, ModelMismatch
        The model cannot be used.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.topics = wire.Topics(settings.prefix)
        wire.check_device_id(settings.name)
        self.classifier = Classifier(settings.model, settings.provider)
        self.engine = Engine(self.classifier, settings.alerts)
        warm_up()
        self._since_s = time.time()
        self._stopping = False
        self._connected = False
        self._refused: str | None = None
        self._to_acknowledge: list[int] = []
        self._complained: set[str] = set()
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
        mqtt.connect(self._client, self.settings.broker)
        status_due = time.monotonic()
        try:
            while not self._stopping:
                if not self._serve():
                    self._reconnect()
                now = time.monotonic()
                if self._connected and now >= status_due:
                    self._publish_status("online")
                    self.engine.forget(now - self.settings.forget_s)
                    status_due = now + STATUS_S
        finally:
            self._finish()

    def _make_client(self) -> paho.Client:
        settings = self.settings
        password = mqtt.read_password(settings.broker, settings.password_file)
        client = mqtt.make_client(
            settings.broker,
            f"ecgwatch-{settings.name}",
            password=password,
            cafile=settings.cafile,
            certfile=settings.certfile,
            keyfile=settings.keyfile,
        )
        client.manual_ack_set(True)
        client.max_queued_messages_set(0)  # alerts must not be dropped while the broker is away
        client.max_inflight_messages_set(1000)
        client.will_set(self.topics.monitor_status(settings.name), self._status("offline"), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        return client

    def _serve(self) -> bool:
        """Wait for the socket, take what is there, tell what follows. False if the connection is gone."""
        sock = self._client.socket()
        if sock is None:
            return False
        wanted = [sock] if self._client.want_write() else []
        readable, writable, _ = select.select([sock], wanted, [], POLL_S)
        alive = True
        while alive and readable:
            alive = self._client.loop_read() == paho.MQTT_ERR_SUCCESS and self._client.socket() is sock
            if self.engine.is_full or not alive:
                break
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            readable = [sock] if pending else select.select([sock], [], [], 0)[0]
        self._tell(self.engine.flush())
        if alive and writable:
            alive = self._client.loop_write() == paho.MQTT_ERR_SUCCESS
        return self._client.loop_misc() == paho.MQTT_ERR_SUCCESS and alive

    def _tell(self, output: Output) -> None:
        for alert in output.alerts:
            self._client.publish(self.topics.of(alert.device, "alerts"), wire.encode(alert), qos=1)
        if self.settings.publish_beats:
            for beat in output.beats:
                self._client.publish(self.topics.of(beat.device, "beats"), wire.encode(beat), qos=0)
        for mid in self._to_acknowledge:
            self._client.ack(mid, 1)
        self._to_acknowledge.clear()

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        self._connected = True
        log.info("connected to %s", self.settings.broker)
        # The broker does not remember the subscriptions of a clean session.
        client.subscribe([(self.topics.of("+", "info"), 1), (self.topics.of("+", "samples"), 1)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.qos:
            self._to_acknowledge.append(message.mid)
        # paho's network loop dies of an exception in a callback.
        try:
            self._take(message.topic, bytes(message.payload))
        except wire.PacketError as error:
            self._reject(message.topic, str(error))
        except Exception:
            self.engine.counts["internal errors"] += 1
            log.exception("a message on %s could not be handled", message.topic)

    def _take(self, topic: str, payload: bytes) -> None:
        device, leaf = self.topics.parse(topic)
        now = time.monotonic()
        if leaf == "samples":
            self.engine.feed(device, wire.decode_packet(payload), now)
        elif leaf == "info":
            self.engine.describe(device, wire.decode(payload, wire.Info), now)

    def _reject(self, topic: str, reason: str) -> None:
        """Count a bad message; say it once per topic, so that a broken device cannot flood the log."""
        self.engine.counts["rejected"] += 1
        if topic not in self._complained and len(self._complained) < 10_000:
            log.warning("dropped a message on %s: %s (said once for this device)", topic[:200], reason)
            self._complained.add(topic)

    def _reconnect(self) -> None:
        if self._refused is not None:
            raise ConnectionError(f"The broker {self.settings.broker} refused the connection: {self._refused}.")
        if self._connected:
            log.warning("lost the broker %s; trying again", self.settings.broker)
        self._connected = False
        self._to_acknowledge.clear()  # the broker sends them again
        wait_s, longest_s = RECONNECT_S
        while not self._stopping:
            try:
                self._client.reconnect()
                return
            except OSError as error:
                log.info("no broker at %s: %s", self.settings.broker, error)
            again_s = time.monotonic() + wait_s
            while not self._stopping and time.monotonic() < again_s:
                time.sleep(min(POLL_S, wait_s))
            wait_s = min(longest_s, 2 * wait_s)

    def _finish(self) -> None:
        """Tell what is held, say goodbye, and wait until the broker has confirmed both."""
        self.engine.forget(float("inf"))
        self._tell(self.engine.flush())
        if not self._connected:
            return
        goodbye = self._publish_status("offline")
        until_s = time.monotonic() + DRAIN_S
        while not goodbye.is_published() and time.monotonic() < until_s and self._serve():
            pass
        self._client.disconnect()
        self._connected = False

    def _publish_status(self, state: Any) -> paho.MQTTMessageInfo:
        topic = self.topics.monitor_status(self.settings.name)
        return self._client.publish(topic, self._status(state), qos=1, retain=True)

    def _status(self, state: Any) -> bytes:
        return wire.encode(
            wire.MonitorStatus(
                state=state,
                version=VERSION,
                model=self.classifier.info.name,
                model_sha256=self.classifier.sha256,
                since_s=self._since_s,
                counts=dict(self.engine.counts),
            )
        )
