"""A mosquitto run with the files of deploy/ and the commands of docs/DEPLOY.md; only names, paths and ports differ."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl, TlsFiles
from simulator.broker import HOST, free_port
from tests.conftest import DEPLOYED, find_mosquitto, serve_mosquitto
from tests.simulator.recorder import wait_for

DEPLOY = DEPLOYED.parent
GUIDE = DEPLOY.parent / "docs" / "DEPLOY.md"
LOG = "mosquitto.log"
MONITORS_SIDE = ("monitor", "viewer", "responder", "page", "bridge", "home-assistant")
"""Users of the port that wants a certificate."""


@dataclass(frozen=True)
class Secured:
    """A running broker, and the files of its clients."""

    folder: Path
    devices_port: int
    monitors_port: int
    device_tls: TlsFiles
    monitor_tls: TlsFiles

    @property
    def log(self) -> str:
        """The broker's log."""
        return (self.folder / LOG).read_text()

    def url(self, user: str | None, port: int | None = None) -> BrokerUrl:
        """Return the URL at which a user connects."""
        default = self.monitors_port if user in MONITORS_SIDE else self.devices_port
        return BrokerUrl(HOST, port or default, user, tls=True)

    def password(self, user: str | None) -> str | None:
        """Return the password of a user that the guide creates."""
        file = self.folder / f"{user}.password"
        return file.read_text().strip() if file.exists() else None

    def tls(self, user: str | None) -> TlsFiles:
        """Return the TLS files of a user."""
        return self.monitor_tls if user in MONITORS_SIDE else self.device_tls


class Client:
    """A connected client that keeps the messages it receives."""

    def __init__(
        self,
        broker: Secured,
        user: str | None,
        *topics: str,
        password: str | None = None,
        port: int | None = None,
        tls: TlsFiles | None = None,
        client_id: str | None = None,
        clean_session: bool = True,
    ) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.reason = ""
        self.session_present = False
        url, files = broker.url(user, port), tls or broker.tls(user)
        self._client = connection.make_client(
            url,
            client_id or f"test-{id(self)}",
            password=broker.password(user) if password is None else password,
            cafile=files.cafile,
            certfile=files.certfile,
            keyfile=files.keyfile,
            clean_session=clean_session,
        )
        subscribed = threading.Event()

        def on_connect(client: object, data: object, flags: paho.ConnectFlags, reason: object, _: object) -> None:
            self.reason, self.session_present = str(reason), flags.session_present

        self._client.on_connect = on_connect
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _c, _d, m: self.received.append((m.topic, bytes(m.payload)))
        connection.connect(self._client, url)
        self._client.loop_start()
        wait_for(lambda: bool(self.reason))
        if topics and self.reason == "Success":
            self._client.subscribe([(topic, 1) for topic in topics])
            assert subscribed.wait(10)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish and wait until the broker has confirmed it, which it also does when it drops the message."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def run_secured(folder: Path, more_users: tuple[str, ...] = ()) -> Iterator[Secured]:
    """Run mosquitto with deploy/mosquitto-tls.conf and deploy/acl; further users have the password "sesame"."""
    path, devices, monitors = find_mosquitto(), free_port(), free_port()
    _follow_the_guide(folder)
    add = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    for user in more_users:
        subprocess.run([add, "-b", str(folder / "passwords"), user, "sesame"], check=True, capture_output=True)
    shutil.copy(DEPLOY / "acl", folder / "acl")
    settings = (DEPLOY / "mosquitto-tls.conf").read_text()
    for path_there, path_here in (
        ("/etc/mosquitto/certs/", folder),
        ("/etc/mosquitto/", folder),
        ("/var/lib/mosquitto/", folder),
    ):
        settings = settings.replace(path_there, f"{path_here}/")
    settings = settings.replace("listener 8883", f"listener {devices} {HOST}")
    settings = settings.replace("listener 8884", f"listener {monitors} {HOST}")
    config = folder / "mosquitto.conf"
    config.write_text(f"{settings}\nuser root\nlog_dest file {folder / LOG}\nlog_type all\n")
    with serve_mosquitto(path, config, monitors):
        ca = folder / "ca.crt"
        monitor_tls = TlsFiles(ca, folder / "monitor.crt", folder / "monitor.key")
        yield Secured(folder, devices, monitors, TlsFiles(ca), monitor_tls)


def _follow_the_guide(folder: Path) -> None:
    """Run the commands of the guide's first two steps, which create certificates, users and passwords."""
    for tool in ("openssl", "bash"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    steps = GUIDE.read_text().split("\n## 3.")[0]
    for commands in re.findall(r"^```bash\n(.*?)^```$", steps, re.MULTILINE | re.DOTALL):
        commands = commands.replace("DNS:broker.example.org", f"IP:{HOST}")
        paths = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin:/usr/local/bin"}
        subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True, env=paths)
