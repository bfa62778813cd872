"""Strangers at a broker that runs with the files of deploy/, and at one where everybody may do everything."""

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
from tests.soak.harness import NAME, START_S, TOPICS, Monitor, stage, wait, watched
from tests.soak.scenarios import Plan, Row, finish, play, start

TIMES = 10
"""So often each of them tries."""
HONEST, PASSWORD = "soak-0000", "sesame"
TOO_LARGE = bytes(wire.MAX_PAYLOAD + 1)
TRICKS = ("..", ".", "%2e%2e", "soak-0000/..", "monitor/../soak-0000", "~", "a" * 65)
"""Ids that are none."""


def strangers(plan: Plan) -> list[Row]:
    """Whoever has no right is refused and counted, and disturbs no device."""
    return [_at_a_guarded_broker(plan.folder / "guarded"), _at_an_open_broker(plan.folder / "open")]


def _at_a_guarded_broker(folder: Path) -> Row:
    folder.mkdir()
    fleet, tried = Fleet(1, 20.0), _Tried()
    with run_secured(folder, (HONEST,)) as broker:
        tls = broker.tls("monitor")
        options = [f"--{name}={file}" for name, file in asdict(tls).items()]
        options += [f"--password-file={folder / 'monitor.password'}"]
        topics = (TOPICS.of("+", "beats"), TOPICS.of("+", "alerts"), TOPICS.monitor_status(NAME))
        with (
            Client(broker, "viewer", *topics) as viewer,
            watched(Monitor(broker.url("monitor"), folder, options=options)) as monitor,
            Client(broker, HONEST, password=PASSWORD) as device,
        ):
            monitor.start()
            wait(lambda: viewer.received, START_S, "the monitor is not online")
            tried.everything(broker, folder)
            for seq in range(fleet.rounds):
                device.publish(TOPICS.of(HONEST, "samples"), fleet.payload(0, seq))
            expected = fleet.beats | fleet.alerts
            with contextlib.suppress(TimeoutError):
                wait(lambda: _told(viewer).keys() >= expected.keys(), 20.0, "not all was told")
            monitor.end()
            wait(lambda: b'"offline"' in viewer.received[-1][1], 10.0, "the monitor did not say goodbye")
            told, handled = _told(viewer), json.loads(viewer.received[-1][1])["counts"]
        logged = {reason: len(re.findall(reason, broker.log)) for reason in tried.counts}
    through = handled["packets"] - fleet.packets + handled.get("rejected", 0)
    reasons = ", ".join(f"{count} as {reason!r}" for reason, count in logged.items())
    counts = (
        f"{sum(tried.counts.values())} tries, {sum(logged.values())} in the broker's log: {reasons}; "
        f"{through} came through to the monitor; of an honest device beside them {len(expected)} beats and alerts, "
        f"{len(expected.keys() - told.keys())} missing"
    )
    return Row("strangers, broker as in deploy/", counts, logged == tried.counts and not through and told == expected)


def _told(viewer: Client) -> dict[str, bytes]:
    messages = [payload for topic, payload in list(viewer.received) if not topic.endswith("/status")]
    return {json.loads(payload)["id"]: payload for payload in messages}


class _Tried:
    """What strangers tried, counted by the words with which mosquitto 2 logs that it refused them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def everything(self, broker: Secured, folder: Path) -> None:
        """Try whatever should not work."""
        other = Authority(folder, "other").issue("stranger")
        theirs = TlsFiles(broker.device_tls.cafile, other.certfile, other.keyfile)
        for _ in range(TIMES):
            for user, password in ((None, None), (HONEST, "wrong"), ("nobody", "nobody")):
                with Client(broker, user, password=password) as stranger:
                    assert stranger.reason in ("Not authorized", "Bad user name or password")
                self._count("disconnected, not authorised")
            self._knock(broker, broker.device_tls, "peer did not return a certificate")
            self._knock(broker, theirs, "certificate verify failed")
        with Client(broker, "patch-1") as device:
            for _ in range(TIMES):
                for name in (HONEST, *TRICKS):
                    device.publish(TOPICS.of(name, "samples"), b"forged")
                    self._count("Denied PUBLISH")
                device.publish(TOPICS.of("patch-1", "samples"), TOO_LARGE)
                self._count("Dropped too large PUBLISH")

    def _knock(self, broker: Secured, tls: TlsFiles, reason: str) -> None:
        """Go to the monitor's port."""
        with contextlib.suppress(ConnectionError):
            Client(broker, "monitor", tls=tls).close()
            raise AssertionError("a stranger was let in")
        self._count(reason)

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1


def _at_an_open_broker(folder: Path) -> Row:
    """Nobody holds them back, so the monitor does."""
    fleet = Fleet(20, 20.0)
    with (
        stage(folder, fleet, "mosquitto by default") as (broker, heard, devices),
        watched(Monitor(broker.url, folder)) as monitor,
    ):
        start(monitor, heard)
        playing = play(devices, 10.0)
        stranger = connection.make_client(broker.url, "soak-stranger")
        connection.connect(stranger, broker.url)
        stranger.loop_start()
        bad = [(name, b"forged") for name in TRICKS if "/" not in name] + [(HONEST, b"forged"), (HONEST, TOO_LARGE)]
        for _ in range(TIMES):
            for name, payload in bad:
                stranger.publish(TOPICS.of(name, "samples"), payload, qos=1).wait_for_publish(10)
        stranger.disconnect()
        stranger.loop_stop()
        row = finish("strangers, broker without any rule", fleet, heard, devices, playing)
        monitor.end()
        wait(lambda: not heard.is_online, 10.0, "the monitor did not say goodbye")
        tries, rejected = TIMES * len(bad), heard.total("rejected")
    counts = f"{tries} bad ids, forged and too large packets, {rejected} counted as rejected; {row.counts}"
    return Row(row.name, counts, row.is_met and rejected == tries)
