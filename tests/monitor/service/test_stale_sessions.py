"""Sessions of workers that are no more."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import paho.mqtt.client as paho

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from monitor.service.settings import ServiceSettings
from monitor.service.stale_sessions import end_stale_sessions
from tests.conftest import find_mosquitto, run_mosquitto


def _visit(url: BrokerUrl, name: str) -> bool:
    """Make or find a session that lasts; return whether it was there."""
    found: list[bool] = []
    connected = threading.Event()

    def on_connect(_client: paho.Client, _data: object, flags: paho.ConnectFlags, *_: object) -> None:
        found.append(flags.session_present)
        connected.set()

    client = connection.make_client(url, f"ecgwatch-{name}", clean_session=False)
    client.on_connect = on_connect
    connection.connect(client, url)
    client.loop_start()
    assert connected.wait(10)
    client.disconnect()
    client.loop_stop()
    return found[0]


def test_the_sessions_of_former_workers_end_but_for_those_that_are_used(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    names = ["monitor", "monitor.0", "monitor.1", "monitor.2", "other"]
    broker_folder = tmp_path / "broker"
    broker_folder.mkdir()
    with run_mosquitto(find_mosquitto(), broker_folder) as url:
        for name in names:
            (state / f"{name}.lock").touch()
            _visit(url, name)
        with (state / "monitor.1.lock").open() as running:
            fcntl.flock(running, fcntl.LOCK_EX)
            end_stale_sessions(ServiceSettings(broker=url, state=state), {"monitor"})
        assert [_visit(url, name) for name in names] == [True, False, True, False, True]
    assert sorted(path.stem for path in state.iterdir()) == ["monitor", "monitor.1", "other"]


def test_without_a_broker_everything_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "monitor.0.lock").touch()
    end_stale_sessions(ServiceSettings(broker=BrokerUrl("127.0.0.1", 1), state=tmp_path), {"monitor"})
    assert (tmp_path / "monitor.0.lock").exists()
