"""What the doctor checks of a broker: is it there, does it let the monitor in and do its work, is it set up for it.

Everything is tried for real, on topics below the monitor's own name and with client ids that no monitor has, so that
neither a running monitor nor any subscriber notices. Knows nothing of this machine.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from monitor import wire
from monitor.tools.doctor.visit import TIMEOUT_S, Refused, Target, Visit, may_publish, spoken_at

WAITING = 2000
"""Messages that are left waiting in the broker; mosquitto's default keeps about 1000."""
FEW_IN_FLIGHT = 1000
SLOW_S = 0.020
"""A slower round trip is reported; on one machine it takes less than 1 ms, and 42 ms with Nagle's algorithm."""
ROUND_TRIPS = 20
CERTIFICATE_DAYS = 30
ALERT_BYTES = 4096
"""An alert with its waveform, and some room."""
LISTEN_S, QUIET_S = 1.0, 1.0
EXPIRED, WRONG_NAME = 10, (62, 64)
"""What OpenSSL calls them: X509_V_ERR_CERT_HAS_EXPIRED, and a host name or IP address that does not match."""

SEE_LOG = "The broker's log may say why."
EMBEDDED = "(the embedded broker, for a first look, cannot)"

NOT_CHECKED = "unchecked"
"""Name of the check that lists what could not be looked at."""

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    found: str
    advice: str = ""
    """What to do; empty if there is nothing to do."""


class Probe:
    """Examines a broker for one monitor.

    Parameters
    ----------
    target
        The broker.
    topics
        Names of the topics.
    name
        Name of the monitor.
    """

    def __init__(self, target: Target, topics: wire.Topics, name: str) -> None:
        self._target, self._topics, self._name = target, topics, name
        self._own = f"{topics.prefix}/monitor/{name}/doctor"
        self._client_id = f"ecgwatch-{name}-doctor"
        self._connect_s = 0.0

    def examine(self) -> Iterator[Check]:
        """Make one check after the other; of those that all others build on, the first that fails is the last."""
        needed = {"address": self.address, "port": self.port, "encryption": self.encryption, "login": self.login}
        needed |= {"qos": self.qos, "own topic": self.own_topic}
        further = {"will": self.will, "size": self.size, "samples": self.samples, "alerts": self.alerts}
        further["round trip"] = self.round_trip
        names = [*needed, *further, "session", "waiting", "in flight"]
        for number, (name, check) in enumerate(needed.items(), start=1):
            made = _checked(name, check)
            yield made
            if made.status == "FAIL":
                if left := names[number:]:
                    yield Check(NOT_CHECKED, "warn", ", ".join(left))
                return
        for name, check in further.items():
            yield _checked(name, check)
        yield from self.keeping()

    def address(self) -> Check:
        """Look up the address that the broker's name stands for."""
        host = self._target.url.host
        try:
            found = socket.getaddrinfo(host, self._target.url.port, type=socket.SOCK_STREAM)
        except OSError as error:
            return Check(
                "address", "FAIL", f"{host}: {error.strerror}", "Check the name in --broker, and this machine's DNS."
            )
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        same = addresses == [host]
        return Check("address", "ok", host if same else f"{host} is {', '.join(addresses)}")

    def port(self) -> Check:
        """Check that something listens there."""
        url, start = self._target.url, time.perf_counter()
        try:
            socket.create_connection((url.host, url.port), TIMEOUT_S).close()
        except TimeoutError:
            return Check(
                "port", "FAIL", f"no answer from port {url.port} in {TIMEOUT_S:g} s", "Is there a firewall in between?"
            )
        except OSError as error:
            advice = "Is the broker running, on this port? One for a first look: ecgwatch broker"
            return Check("port", "FAIL", f"nothing listens at port {url.port}: {error.strerror or error}", advice)
        self._connect_s = time.perf_counter() - start
        return Check("port", "ok", f"{url.port} is open, connected in {1e3 * self._connect_s:.1f} ms")

    def encryption(self) -> Check:
        """Check that the connection is encrypted, and for how long the certificate is valid."""
        if not self._target.url.tls:
            return self._in_the_clear()
        try:
            with self._target.open_socket() as sock:
                assert isinstance(sock, ssl.SSLSocket)
                return _certificate(sock)
        except ssl.SSLCertVerificationError as error:
            return Check("encryption", "FAIL", f"the certificate: {error.verify_message}", _what_to_trust(error))
        except OSError as error:
            advice = "Does this port speak TLS, and does it want a client certificate (--certfile, --keyfile)?"
            return Check("encryption", "FAIL", f"no TLS: {error}", advice)

    def login(self) -> Check:
        """Check that the broker accepts the login."""
        user = self._target.url.user
        who = "without a user name" if user is None else f"as user {user}"
        try:
            with self._visit("login"):
                return Check("login", "ok", f"accepted {who}")
        except Refused as error:
            if user is None:
                advice = "Name a user: --broker mqtt://USER@HOST; the password in ECGWATCH_PASSWORD or --password-file."
            elif self._target.password is None:
                advice = "No password was given: ECGWATCH_PASSWORD or --password-file."
            else:
                advice = f"User or password is not right; on the broker's machine: mosquitto_passwd PASSWORDS {user}"
            return Check("login", "FAIL", f"refused {who}: {error}", advice)
        except ConnectionError as error:
            advice = "Does it want a client certificate, or another: --certfile, --keyfile?"
            if not self._target.url.tls:
                advice = _what_to_write(spoken_at(self._target))
            found = str(error).removeprefix(f"The broker at {self._target.url} ").split(". ")[0]
            return Check("login", "FAIL", found.rstrip("."), advice)

    def qos(self) -> Check:
        """Check that the broker delivers with QoS 1."""
        with self._visit("qos") as visit:
            if not visit.subscribe(self._own):
                return Check("qos", "ok", "unknown: the subscription is refused, see below")
            granted = visit.granted_qos
        if granted < 1:
            advice = "In mosquitto.conf: max_qos 2. Until then, what is sent while a connection is down is lost."
            return Check("qos", "FAIL", f"at most QoS {granted} is granted", advice)
        return Check("qos", "ok", f"QoS {granted} is granted")

    def will(self) -> Check:
        """Check that the broker takes a retained last will, by which subscribers learn that a monitor has died."""
        try:
            with self._visit("will", will=f"{self._own}/will"):
                return Check("will", "ok", "a retained last will is accepted")
        except OSError as error:
            advice = "Let the broker accept it (mosquitto: retain_available true). Until then a weaker one is used."
            return Check("will", "warn", f"a connection with a retained last will fails: {error}", advice)

    def size(self) -> Check:
        """Check that alerts, and the largest packets that devices may send, are not too large for the broker."""
        passed = [size for size in (ALERT_BYTES, wire.MAX_PAYLOAD) if self._passes(size)]
        advice = "In mosquitto.conf: max_packet_size 0 and message_size_limit 0 (or above 600000)"
        if not passed:
            return Check("size", "FAIL", f"a message of {ALERT_BYTES} bytes, as of an alert, does not pass", advice)
        if passed[-1] < wire.MAX_PAYLOAD:
            found = f"{passed[-1]} bytes pass, {wire.MAX_PAYLOAD} do not: long packets of devices would be lost"
            return Check("size", "warn", found, advice)
        return Check("size", "ok", f"messages of {wire.MAX_PAYLOAD} bytes pass")

    def _passes(self, size: int) -> bool:
        """Whether a message of that size goes there and back."""
        try:
            with self._visit("size") as visit:
                visit.subscribe(self._own)
                visit.publish(self._own, [bytes(size)])
                return visit.until(lambda: bool(visit.received), 2.0)
        except OSError:
            return False

    def own_topic(self) -> Check:
        """Check that the monitor may publish and subscribe below its own name; the further checks need both."""
        with self._visit("topic") as visit:
            granted = visit.subscribe(self._own)
            confirmed = visit.publish(self._own, [b"doctor"])
            if granted and confirmed and visit.until(lambda: bool(visit.received), 2.0):
                return Check("own topic", "ok", f"{self._own} went there and back")
        below = f"{self._topics.prefix}/monitor/{self._name}/#"
        advice = f"In the broker's ACL, for this user: topic readwrite {below}"
        return Check("own topic", "FAIL", f"what was published on {self._own} did not come back", advice)

    def samples(self) -> Check:
        """Check that the monitor may subscribe to the devices' topics."""
        wanted = [self._topics.of("+", leaf) for leaf in ("info", "status", "samples")]
        with self._visit("samples") as visit:
            if not visit.subscribe(*wanted):
                advice = "In the broker's ACL, for this user: " + ", ".join(f"topic read {topic}" for topic in wanted)
                return Check("samples", "FAIL", "the subscription was refused", advice)
            visit.until(lambda: False, LISTEN_S)
            sent = [message for message in visit.received if not message.retain and message.topic.endswith("/samples")]
            devices = {message.topic.removeprefix(self._topics.prefix).split("/")[1] for message in sent}
        if devices:
            return Check("samples", "ok", f"heard {len(devices)} device{'s' * (len(devices) != 1)} in {LISTEN_S:g} s")
        return Check(
            "samples",
            "ok",
            f"may subscribe; no device sent samples in {LISTEN_S:g} s, so nothing proves yet that packets pass",
        )

    def alerts(self) -> Check:
        """Check that the monitor may publish alerts, beats, states and its status."""
        # As of a device called doctor: below its own name the monitor may write anyway.
        leaves = {self._topics.of("doctor", leaf): self._topics.of("+", leaf) for leaf in ("alerts", "beats", "state")}
        leaves[self._topics.monitor_status(self._name)] = self._topics.monitor_status(self._name)
        answers = may_publish(self._target, f"{self._client_id}-alerts", list(leaves))
        if answers is None:
            return Check(
                "alerts",
                "ok",
                "unknown: only a broker that speaks MQTT 5 on this port answers without an alert being sent",
            )
        if denied := [rule for topic, rule in leaves.items() if not answers[topic]]:
            advice = "In the broker's ACL, for this user: " + ", ".join(f"topic write {rule}" for rule in denied)
            return Check("alerts", "FAIL", f"not allowed: {', '.join(denied)}", advice)
        return Check("alerts", "ok", "alerts, beats, states and status may be published")

    def round_trip(self) -> Check:
        """Measure how long a message takes from one client to another.

        The receiver has just been sent something else, as a busy monitor has: where the broker has left Nagle's
        algorithm on, the message then waits until TCP acknowledges that, which takes 40 ms.
        """
        taken: list[float] = []
        with self._visit("time") as receiver, self._visit("sender") as sender:
            while len(taken) < ROUND_TRIPS and sum(taken) < TIMEOUT_S:
                receiver.subscribe(self._own)
                start = time.perf_counter()
                sender.publish(self._own, [b"time"])
                if not receiver.until(lambda: len(receiver.received) > len(taken)):
                    return Check("round trip", "FAIL", f"a message did not come back within {TIMEOUT_S:g} s")
                taken.append(time.perf_counter() - start)
        p50_s = statistics.median(taken)
        found = f"p50 {1e3 * p50_s:.1f} ms, longest {1e3 * max(taken):.1f} ms of {len(taken)}"
        if p50_s <= SLOW_S:
            return Check("round trip", "ok", found)
        if self._connect_s > p50_s / 4:
            return Check("round trip", "warn", found, "The network itself is slow: bring broker and monitor closer.")
        return Check("round trip", "warn", found, f"In mosquitto.conf: set_tcp_nodelay true {EMBEDDED}")

    def keeping(self) -> Iterator[Check]:
        """Check that the broker keeps all that is sent while a client is away, and delivers it in one go."""
        try:
            self._forget()  # what an earlier doctor may have left
            yield from self._leave_and_return(f"{self._own}/waiting")
        except OSError as error:
            yield Check("waiting", "FAIL", f"the connection was lost: {error}", SEE_LOG)
        finally:
            with contextlib.suppress(OSError):
                self._forget()

    def _leave_and_return(self, topic: str) -> Iterator[Check]:
        with self._visit("waiting", clean_session=False) as visit:
            visit.subscribe(topic)
        with self._visit("sender") as sender:
            sent = sender.publish(topic, [b"%d" % number for number in range(WAITING)])
        with self._visit("waiting", clean_session=False, hold=True) as visit:
            if not visit.session_present:
                advice = "Let the broker keep sessions: a monitor that was away has lost what came meanwhile."
                yield Check("session", "warn", "forgotten as soon as the connection ends", advice)
                return
            yield Check("session", "ok", "kept between connections")
            visit.until_quiet(QUIET_S, WAITING)
            at_once = len(visit.received)
            visit.acknowledge()
            visit.until_quiet(QUIET_S, WAITING)
            kept = len({bytes(message.payload) for message in visit.received})
        yield _queue(kept, sent)
        yield _in_flight(at_once, kept)

    def _forget(self) -> None:
        """Let the broker drop the session that `keeping` uses."""
        with self._visit("waiting"):
            pass

    def _visit(self, role: str, **more: Any) -> Visit:
        return Visit(self._target, f"{self._client_id}-{role}", **more)

    def _in_the_clear(self) -> Check:
        host = self._target.url.host
        addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(host, self._target.url.port)]
        if all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
            return Check("encryption", "ok", "none, and none is needed within one machine")
        advice = "Anyone on the way can read passwords and ECGs: mqtts://, and docs/DEPLOY.md for the broker."
        return Check("encryption", "warn", "none", advice)


def _checked(name: str, check: Callable[[], Check]) -> Check:
    """Make a check; a connection that is lost meanwhile is a finding, not the end of the examination."""
    try:
        return check()
    except OSError as error:
        return Check(name, "FAIL", f"the connection was lost: {error}", SEE_LOG)


def _certificate(sock: ssl.SSLSocket) -> Check:
    certificate = sock.getpeercert() or {}
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((ends_s - time.time()) / 86_400)
    until = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
    found = f"{sock.version()}, the broker's certificate is valid until {until}, {days} more day{'s' * (days != 1)}"
    if days < CERTIFICATE_DAYS:
        return Check("encryption", "warn", found, "Renew the broker's certificate: docs/DEPLOY.md, step 1.")
    return Check("encryption", "ok", found)


def _what_to_trust(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        return "Renew the broker's certificate: docs/DEPLOY.md, step 1. Or is this machine's clock wrong?"
    if error.verify_code in WRONG_NAME:
        return "Write the name that stands in the certificate in --broker, or issue one for the name used."
    return "Name the authority that issued the broker's certificate: --cafile ca.crt"


def _what_to_write(spoken: str | None) -> str:
    """What to write in --broker for a port that does not answer in MQTT."""
    if spoken == "TLS":
        return "This port speaks TLS: write mqtts:// instead of mqtt://."
    if spoken == "HTTP":
        return (
            "This port speaks HTTP, perhaps MQTT over WebSockets, which is not supported: name the port of plain MQTT."
        )
    return "Is this a port of an MQTT broker? If it speaks TLS, write mqtts:// instead of mqtt://."


def _queue(kept: int, sent: bool) -> Check:
    if not sent:
        return Check("waiting", "FAIL", f"the broker did not take {WAITING} small messages", SEE_LOG)
    if kept < WAITING:
        found = f"of {WAITING} messages for a client that was away {kept} were kept, the others silently dropped"
        return Check("waiting", "warn", found, "In mosquitto.conf: max_queued_messages 1000000 (raise it; not 0)")
    return Check("waiting", "ok", f"{WAITING} of {WAITING} messages for a client that was away were kept")


def _in_flight(at_once: int, kept: int) -> Check:
    if at_once >= min(FEW_IN_FLIGHT, kept):
        return Check("in flight", "ok", f"{at_once} messages handed over before the first was acknowledged")
    found = f"only {at_once} messages are handed over before one is acknowledged"
    return Check("in flight", "warn", found, f"In mosquitto.conf: max_inflight_messages 0 {EMBEDDED}")
