"""The monitor as a running service: the only file that knows MQTT clients, clocks and signals.

One thread, one loop: wait for the socket, take every message that is there into the engine, flush the engine, publish,
settle, acknowledge. While the model runs, messages pile up in the socket and become the next batch, so no queue and no
timer are needed: quiet means batches of one and low delay, busy means large batches up to a cap. What this process
cannot take yet waits in the broker, which is why nothing here grows.

A packet is acknowledged once what follows from it cannot be lost any more (`monitor.state.checkpoint`): whoever comes
after a crash goes on where the devices' states were saved, and gets from the broker what came since. Whatever a device
sends is at most counted and dropped: no message can stop the loop. Losing the broker is a state, not an error.

Several services can share the devices: each hears all packets, and leaves those of the others alone.
"""

from __future__ import annotations

import gc
import logging
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from monitor import counters, wire
from monitor.broker import connection
from monitor.broker.client import Client
from monitor.classify import Classifier
from monitor.engine import Engine, Output, warm_up
from monitor.rate_limit import Limiter
from monitor.service import systemd
from monitor.service.metrics import Board, serve
from monitor.service.settings import ALIVE_S, NOTE_S, STATUS_S, VERSION, ServiceSettings
from monitor.service.stale_sessions import end_leftover_sessions
from monitor.state.checkpoint import Journal
from monitor.state.lock import only_one
from monitor.state.sqlite import Letter, Store

log = logging.getLogger(__name__)

POLL_S = 0.25
"""How often the loop looks up from the socket, to see whether it should stop."""
QUIET_S = 0.02
"""After so long without a message, what waits to be settled is settled."""
RECONNECT_S = (0.5, 30.0)
"""First and longest wait before another try to reach the broker; it doubles in between."""
DRAIN_S = 5.0
"""How long a shutdown waits for the broker to confirm the last alerts."""
BRIEF_S = 5.0
"""A connection that lives no longer does not let the next one be made at once."""
MOST_UNCONFIRMED = 10_000
"""While more messages wait for the broker's confirmation, beats are sent without asking for one, and are counted: their
ids must not run out for the alerts."""
STALLED_S = 5.0
"""A turn of the loop that takes so long was none: the process, or the machine, was stopped."""
OVERLOADED_S = 5.0
"""Without a pause in what comes for so long, the monitor is behind."""
KEEP_S = 30 * 86400.0
"""For how long the history goes back."""
GC_THRESHOLD = (2000, 20, 5000)
"""Looking through all objects for cycles stops the loop for 0.2 s with ten thousand devices: every ten minutes will do,
since only a device that is forgotten leaves one."""
SILENCE_S = 60.0
"""If nothing comes for so long from devices that are known, the broker is asked for their packets once more."""
LATENESSES = 1000
"""Packets of which the lateness is looked at for one status."""


class Service:
    """A monitor between a broker and an engine.

    Parameters
    ----------
    settings
        How it runs.
    report
        Gets the status now and then, instead of the broker and of whoever asks for metrics.

    Raises
    ------
    ValueError
        Settings that cannot work; see `wire.Topics`, `wire.check_name`, `connection.make_client`, `Classifier`.
    FileNotFoundError, ModelMismatch
        The model cannot be used.
    """

    def __init__(self, settings: ServiceSettings, report: Callable[[wire.MonitorStatus], None] | None = None) -> None:
        self.settings = settings
        self.topics = wire.Topics(settings.prefix)
        wire.check_name(settings.name)
        self.classifier = Classifier(settings.model, settings.provider)
        self.engine = Engine(self.classifier, settings.alerts)
        warm_up()
        self.board = Board()
        self._report = report
        self._since_s = time.time()
        self._stopping = False
        self._connected = False
        self._refused: str | None = None
        self._complained: set[str] = set()
        self._limiter = Limiter()
        self._store: Store | None = None
        self._journal = Journal(self.engine, None)
        self._publishing: dict[int, str] = {}  # ids of the alerts that the broker has not confirmed, by message id
        self._settled: dict[str, int] = {}  # what each device's last acknowledgement said
        self._lateness_s: list[float] = []
        self._paused_s = self._asked_s = time.monotonic()
        self._heard_s: float | None = None
        self._wait_s = RECONNECT_S[0]
        self._looked_up = 0  # so often, while another monitor of this name was waited for
        self._turned_s = self._connected_s = time.monotonic()
        self._away_s = 0.0  # how long no device could be heard
        self._alive_due_s = self._note_due_s = 0.0
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
        OSError
            Metrics cannot be served where they should be.
        """
        gc.set_threshold(*GC_THRESHOLD)
        with ExitStack() as stack:
            is_served = self._serve_metrics(stack)
            stack.enter_context(self._remembering())
            if self._stopping:
                return  # while waiting for another monitor of this name, which the broker would take us for
            if not is_served:
                self._serve_metrics(stack, is_last_try=True)
            if self._report is None:
                end_leftover_sessions(self.settings, {self.settings.own_name})
            self._connect()
            self._resend()
            status_due = time.monotonic()
            try:
                while not self._stopping:
                    if not self._serve():
                        self._reconnect()
                    now = time.monotonic()
                    if self._connected and now >= status_due:
                        self._keep_house(now)
                        status_due = now + STATUS_S
            finally:
                systemd.notify("STOPPING=1")
            # Not after an exception: what was taken out of the lanes then is lost, and must be computed again.
            self._finish()

    def _serve_metrics(self, stack: ExitStack, is_last_try: bool = False) -> bool:
        """Serve metrics, if anybody wants them; another monitor of this name may have the port until it stops."""
        try:
            stack.enter_context(serve(self.settings.metrics if self._report is None else None, self.board))
        except OSError:
            if is_last_try or self.settings.state is None:
                raise
            return False
        return True

    def _connect(self) -> None:
        """Reach the broker; who has taken over from another monitor waits for it as that one would have."""
        try:
            connection.connect(self._client, self.settings.broker)
        except ConnectionError as error:
            if self._looked_up <= 1:
                raise
            log.warning("%s Trying again.", error)
            self._reconnect()

    def _resend(self) -> None:
        """Send the alerts that an earlier process, or an earlier file, has left."""
        for letter in self._journal.resend():
            self._send(letter)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Have the store open, and to ourselves: another monitor of the same name is waited for."""
        directory = self.settings.state
        if directory is None:
            yield
            return
        number, workers = self.settings.share
        self._store = Store(directory, self.settings.name, number if workers > 1 else None)
        self._journal = Journal(self.engine, self._store)
        try:
            with only_one(directory / f"{self.settings.own_name}.lock", self._looks_up):
                yield
        finally:
            self._store.close()

    def _make_client(self) -> Client:
        settings = self.settings
        password = connection.read_password(settings.broker, settings.password_file)
        client = connection.make_client(
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
        client.max_inflight_messages_set(0)  # with a limit, paho looks through all that wait at each confirmation
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
            self._turn(time.monotonic())
            if sock is None:
                return False
            alive, came = True, sock.has_input
            while alive and sock.has_input and not self.engine.is_full and not self._journal.is_full:
                alive = client.loop_read() == paho.MQTT_ERR_SUCCESS and client.is_open(sock)
            now = time.monotonic()
            if not sock.has_input:
                self._paused_s = now
            self._tell(self.engine.flush())
            self._forget()
            sock.flush()
            if alive and not sock.has_output and not client.want_write():
                # What is settled is not computed again, so all that follows from it must have left before.
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
                if not qos:
                    self.engine.counts[counters.UNCONFIRMED_BEATS] += 1

    def _send(self, letter: Letter) -> None:
        self._publishing[self._client.publish(letter.topic, letter.payload, qos=1).mid] = letter.id

    def _settle(self, now: float, idle: bool) -> None:
        """Acknowledge what cannot be lost any more, to the broker and to the devices."""
        settled = self._journal.settle(now, idle)
        for mid in settled.mids:
            self._client.ack(mid, 1)
        for device in settled.devices:
            self._acknowledge(device, self.engine.next_seq(device))

    def _acknowledge(self, device: str, seq: int | None) -> None:
        """Tell a device from where on its packets are needed."""
        if seq is not None:
            self._settled[device] = seq
            self._client.publish(self.topics.of(device, "ack"), wire.encode(wire.Ack(seq=seq)), qos=0)

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        self._connected = True
        self._paused_s = self._connected_s = time.monotonic()
        log.info("connected to %s", self.settings.broker)
        systemd.notify("READY=1")
        # Said again each time: the broker may have forgotten a session, and does not remember a clean one.
        client.subscribe([(self.topics.of("+", "info"), 1), (self.topics.of("+", "samples"), 1)])
        self._asked_s = self._paused_s
        if not flags.session_present:  # what came meanwhile is lost, unless the devices have kept it
            for device, seq in self._settled.items():
                self._acknowledge(device, seq)

    def _on_publish(self, _client: Any, _data: Any, mid: int, _reason: ReasonCode, _props: Any) -> None:
        if (letter_id := self._publishing.pop(mid, None)) is not None:
            self._journal.confirmed(letter_id)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        # paho's network loop dies of an exception in a callback.
        device, topic, now = None, "a topic that is not UTF-8", time.monotonic()
        if not message.retain:
            self._heard_s = now
        try:
            topic = message.topic
            device, leaf = self.topics.parse(topic)
            number, workers = self.settings.share
            if workers > 1 and zlib.crc32(device.encode()) % workers != number:
                device = None
            elif not self._limiter.admits(device, now):
                self._refuse(device)
                device = None
            else:
                self._take(device, leaf, bytes(message.payload), now)
        except (wire.PacketError, UnicodeDecodeError) as error:
            self._reject(topic, str(error))
        except Exception:
            self.engine.counts[counters.INTERNAL_ERRORS] += 1
            log.exception("a message on %s could not be handled", topic[:200], extra={"topic": topic[:200]})
        if message.qos:
            self._journal.received(message.mid, device, now)

    def _take(self, device: str, leaf: str, payload: bytes, now: float) -> None:
        signal_s, arrived_s = 0.0, now - self._away_s
        try:
            if leaf == "samples":
                packet = wire.decode_packet(payload)
                signal_s = packet.samples.size / packet.rate_hz
                if len(self._lateness_s) < LATENESSES:
                    self._lateness_s.append(time.time() - packet.start_s - signal_s)
                if self._recall(device, arrived_s):
                    self._acknowledge(device, self.engine.next_seq(device))
                self.engine.feed(device, packet, arrived_s)
            elif leaf == "info":
                info = wire.decode(payload, wire.Info)
                is_recalled = self._recall(device, arrived_s)
                self.engine.describe(device, info, arrived_s)
                if self.engine.knows(device):
                    seq = self.engine.next_seq(device)
                    if seq is None:
                        self._settled.pop(device, None)  # it was started again: what was said of its packets is over
                    elif is_recalled:
                        self._acknowledge(device, seq)
        finally:
            self._limiter.charge(device, len(payload), signal_s, now)

    def _recall(self, device: str, arrived_s: float) -> bool:
        """Go on where an earlier process saved the device; tell whether one did."""
        if self._store is None or self.engine.knows(device):
            return False
        if self.engine.has_forgotten(device) or self._journal.has_forgotten(device):
            return False
        state = self._store.read_state(device)
        if state is None:
            return False
        try:
            self.engine.restore(device, state, arrived_s)
        except ValueError as error:
            self.engine.counts[counters.STATES_NOT_RESTORED] += 1
            log.warning("%s Beginning anew.", error, extra={"device": device})
        return self.engine.knows(device)

    def _reject(self, topic: str, reason: str) -> None:
        """Count a bad message, and say it."""
        self.engine.counts[counters.REJECTED] += 1
        shown = topic[:200]
        if self._is_news(shown):
            log.warning(
                "dropped a message on %s: %s (said once for this device)", shown, reason, extra={"topic": shown}
            )

    def _refuse(self, device: str) -> None:
        """Count a message of a device that sends too many, and say it."""
        self.engine.counts[counters.TOO_MANY_PACKETS] += 1
        if self._is_news(device):
            text = "%s sends more than its share; what is too much is dropped (said once for this device)"
            log.warning(text, device, extra={"device": device})

    def _is_news(self, about: str) -> bool:
        """Whether nothing was said about a topic or a device yet: a broken one must not flood the log."""
        if about in self._complained or len(self._complained) >= 10_000:
            return False
        self._complained.add(about)
        return True

    def _reconnect(self) -> None:
        """Try to reach the broker again, until it answers or we are to stop."""
        if self._refused is not None:
            raise ConnectionError(f"The broker {self.settings.broker} refused the connection: {self._refused}.")
        if self._connected:
            lived_s = time.monotonic() - self._connected_s
            if lived_s < BRIEF_S:
                text = "the broker %s ended the connection after %.1f s; is another client called ecgwatch-%s?"
                log.warning(text, self.settings.broker, lived_s, self.settings.own_name)
            else:
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
            self._turn(time.monotonic())
            time.sleep(min(POLL_S, left_s))

    def _turn(self, now: float) -> None:
        """Show to all who watch that the loop turns, and now and then how the monitor is."""
        if not self._connected or now - self._turned_s > STALLED_S:
            self._away_s += now - self._turned_s
        self._turned_s = self.board.turned_s = now
        self.board.ready = self._connected
        if now >= self._alive_due_s:
            systemd.notify("WATCHDOG=1")
            self._alive_due_s = now + ALIVE_S
        if self.settings.metrics is not None and now >= self._note_due_s:
            status = self._describe(self._state(now))
            self.board.note(status)
            if self._report is not None:
                self._report(status)
            self._note_due_s = now + NOTE_S

    def _looks_up(self) -> bool:
        """Whether to stop, asked by who waits for another monitor."""
        self._looked_up += 1
        self.board.turned_s = time.monotonic()
        return self._stopping

    def _state(self, now: float) -> wire.MonitorState:
        if not self._connected:
            return "offline"
        return "online" if now - self._paused_s < OVERLOADED_S else "overloaded"

    def _keep_house(self, now: float) -> None:
        """What is to do now and then."""
        self._publish_status(self._state(now))
        self._lateness_s.clear()
        self._limiter.forget(now)
        if self._store is not None:
            self._store.retry()
            self._store.prune(time.time() - KEEP_S)
            if self._journal.needs_resend:
                self._resend()
        self.engine.forget(now - self._away_s - self.settings.forget_s)
        self._tell(self.engine.flush())
        self._forget()
        self._settle(now, idle=False)
        if self.engine.devices and self._heard_s is not None and now - max(self._asked_s, self._heard_s) > SILENCE_S:
            self._ask_again(now, is_news=self._asked_s < self._heard_s)

    def _forget(self) -> None:
        """Let nothing be remembered of the devices that the engine has forgotten."""
        if not (forgotten := self.engine.take_forgotten()):
            return
        self._journal.forget(forgotten)
        for device in forgotten:
            self._settled.pop(device, None)

    def _ask_again(self, now: float, is_news: bool) -> None:
        """Nothing comes: the devices may all sleep, or the broker may have forgotten what we want."""
        if is_news:
            log.warning("none of %d devices sent anything for %.0f s; subscribing anew", self.engine.devices, SILENCE_S)
        self._client.subscribe(self.topics.of("+", "samples"), 1)
        self._asked_s = now
        self.engine.counts[counters.RESUBSCRIBED] += 1

    def _finish(self) -> None:
        """Tell what is held, save what is remembered, say goodbye, and wait until the broker has confirmed it."""
        if self._store is None:
            self.engine.forget(float("inf"))
        self._tell(self.engine.flush())
        until_s = time.monotonic() + DRAIN_S
        self._settle(time.monotonic(), idle=True)
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
        now = time.monotonic()
        behind_s = round(now - self._paused_s, 3) if self._connected else 0.0
        tally = self.engine.tally(now - self._away_s)
        return wire.MonitorStatus(
            state=state,
            version=VERSION,
            model=self.classifier.info.name,
            model_sha256=self.classifier.sha256,
            since_s=self._since_s,
            counts=dict(self.engine.counts) | ({counters.STORE_FAULTS: self._store.faults} if self._store else {}),
            devices=self.engine.devices,
            streaming=tally.streaming,
            lead_off=tally.lead_off,
            silent=tally.silent,
            unsettled=self._journal.unsettled,
            heard_s=None if self._heard_s is None else round(time.time() - (now - self._heard_s), 3),
            lateness_s=round(statistics.median(self._lateness_s), 3) if self._lateness_s else None,
            behind_s=behind_s,
            overloaded_since_s=round(time.time() - behind_s, 3) if state == "overloaded" else None,
            fault=None if self._store is None else self._store.fault,
        )
