"""Unknown clients at a broker that runs with the files of deploy/, and at one without access control."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict
from pathlib import Path

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from tests.certificates import Authority
from tests.deploy.secured import Client, Secured, run_secured
from tests.soak.fleet import Fleet
from tests.soak.harness import NAME, START_S, TOPICS, Monitor, fleet_on_broker, stopping, wait
from tests.soak.scenarios import Outcome, Plan, finish, play, start

TIMES = 10
"""Number of attempts of each kind."""
LEGITIMATE, PASSWORD = "soak-0000", "sesame"
TOO_LARGE = bytes(wire.MAX_PAYLOAD + 1)
TRICKS = ("..", ".", "%2e%2e", "soak-0000/..", "monitor/../soak-0000", "~", "a" * 65)
"""Invalid ids."""


def unknown_clients(plan: Plan) -> list[Outcome]:
    """A client without the right to do so is refused and counted, and disturbs no device."""
    return [_at_a_secured_broker(plan.folder / "secured"), _at_an_open_broker(plan.folder / "open")]


def _at_a_secured_broker(folder: Path) -> Outcome:
    folder.mkdir()
    fleet, attempts = Fleet(1, 20.0), _Attempts()
    with run_secured(folder, (LEGITIMATE,)) as broker:
        tls = broker.tls("monitor")
        options = [f"--{name}={file}" for name, file in asdict(tls).items()]
        options += [f"--password-file={folder / 'monitor.password'}"]
        topics = (TOPICS.of("+", "beats"), TOPICS.of("+", "alerts"), TOPICS.monitor_status(NAME))
        with (
            Client(broker, "viewer", *topics) as viewer,
            stopping(Monitor(broker.url("monitor"), folder, options=options)) as monitor,
            Client(broker, LEGITIMATE, password=PASSWORD) as device,
        ):
            monitor.start()
            wait(lambda: viewer.received, START_S, "the monitor is not online")
            attempts.make_all(broker, folder)
            for seq in range(fleet.rounds):
                device.publish(TOPICS.of(LEGITIMATE, "samples"), fleet.payload(0, seq))
            expected = fleet.beats | fleet.alerts
            with contextlib.suppress(TimeoutError):
                wait(lambda: _published(viewer).keys() >= expected.keys(), 20.0, "not all was published")
            monitor.end()
            wait(lambda: b'"offline"' in viewer.received[-1][1], 10.0, "the monitor did not go offline")
            published, counted = _published(viewer), json.loads(viewer.received[-1][1])["counts"]
        logged = {reason: len(re.findall(reason, broker.log)) for reason in attempts.counts}
    through = counted["packets"] - fleet.packets + counted.get("rejected", 0)
    reasons = ", ".join(f"{count} as {reason!r}" for reason, count in logged.items())
    counts = (
        f"{sum(attempts.counts.values())} attempts, {sum(logged.values())} in the broker's log: {reasons}; "
        f"{through} reached the monitor; of a legitimate device beside them {len(expected)} beats and alerts, "
        f"{len(expected.keys() - published.keys())} missing"
    )
    return Outcome(
        "unknown clients, broker as in deploy/",
        counts,
        logged == attempts.counts and not through and published == expected,
    )


def _published(viewer: Client) -> dict[str, bytes]:
    messages = [payload for topic, payload in list(viewer.received) if not topic.endswith("/status")]
    return {json.loads(payload)["id"]: payload for payload in messages}


class _Attempts:
    """Attempts of unknown clients, counted by the words with which mosquitto 2 logs the refusal."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def make_all(self, broker: Secured, folder: Path) -> None:
        """Try everything that must be refused."""
        other = Authority(folder, "other").issue("unknown")
        theirs = TlsFiles(broker.device_tls.cafile, other.certfile, other.keyfile)
        for _ in range(TIMES):
            for user, password in ((None, None), (LEGITIMATE, "wrong"), ("nobody", "nobody")):
                with Client(broker, user, password=password) as client:
                    assert client.reason in ("Not authorized", "Bad user name or password")
                self._count("disconnected, not authorised")
            self._try_monitor_port(broker, broker.device_tls, "peer did not return a certificate")
            self._try_monitor_port(broker, theirs, "certificate verify failed")
        with Client(broker, "patch-1") as device:
            for _ in range(TIMES):
                for name in (LEGITIMATE, *TRICKS):
                    device.publish(TOPICS.of(name, "samples"), b"forged")
                    self._count("Denied PUBLISH")
                device.publish(TOPICS.of("patch-1", "samples"), TOO_LARGE)
                self._count("Dropped too large PUBLISH")

    def _try_monitor_port(self, broker: Secured, tls: TlsFiles, reason: str) -> None:
        """Try to connect to the port of the monitors."""
        with contextlib.suppress(ConnectionError):
            Client(broker, "monitor", tls=tls).close()
            raise AssertionError("an unknown client was accepted")
        self._count(reason)

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1


def _at_an_open_broker(folder: Path) -> Outcome:
    """Without access control in the broker, the monitor rejects them."""
    fleet = Fleet(20, 20.0)
    with (
        fleet_on_broker(folder, fleet, "mosquitto by default") as (broker, listener, devices),
        stopping(Monitor(broker.url, folder)) as monitor,
    ):
        start(monitor, listener)
        playing = play(devices, 10.0)
        client = connection.make_client(broker.url, "soak-unknown")
        connection.connect(client, broker.url)
        client.loop_start()
        bad = [(name, b"forged") for name in TRICKS if "/" not in name] + [
            (LEGITIMATE, b"forged"),
            (LEGITIMATE, TOO_LARGE),
        ]
        for _ in range(TIMES):
            for name, payload in bad:
                client.publish(TOPICS.of(name, "samples"), payload, qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        outcome = finish("unknown clients, broker without access control", fleet, listener, devices, playing)
        monitor.end()
        wait(lambda: not listener.is_online, 10.0, "the monitor did not go offline")
        attempts, rejected = TIMES * len(bad), listener.total("rejected")
    counts = f"{attempts} bad ids, forged and too large packets, {rejected} counted as rejected; {outcome.counts}"
    return Outcome(outcome.name, counts, outcome.is_met and rejected == attempts)
