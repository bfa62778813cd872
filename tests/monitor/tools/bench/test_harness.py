"""What measurements stand on: processes that are measured, read and ended, and brokers."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import pytest

from monitor import wire
from monitor.broker import connection
from monitor.tools.bench import harness
from monitor.tools.bench.subscriber import Subscriber
from tests.conftest import find_mosquitto

PYTHON = [sys.executable, "-c"]


def test_a_process_that_does_not_start_is_reported_by_its_last_line() -> None:
    with (
        harness.running("The simulator", "simulator", "load", "--devices", "0") as process,
        pytest.raises(ConnectionError, match=r"The simulator did not start: simulator: Load, devices: got 0"),
    ):
        process.wait_until(lambda: False)


def test_a_process_that_fails_or_takes_too_long_is_reported() -> None:
    failing = harness.Process("It", [*PYTHON, "import sys; print('no', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ConnectionError, match="It failed: no"):
        failing.wait(20)
    failing.stop()
    slow = harness.Process("It", [*PYTHON, "import time; time.sleep(60)"])
    with pytest.raises(ConnectionError, match=r"It did not end within 0\.1 s: it printed nothing"):
        slow.wait(0.1)
    slow.stop()


def test_a_process_that_prints_a_lot_is_not_blocked_by_it() -> None:
    process = harness.Process("It", [*PYTHON, "import sys; sys.stderr.write('x' * 1_000_000); print('done')"])
    assert process.wait(20) == "done\n"
    process.stop()


def test_what_a_process_takes_includes_its_children() -> None:
    child = "x = bytearray(80_000_000); import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(30)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    process = harness.Process("It", [*PYTHON, code])
    try:
        until_s = time.monotonic() + 30
        while ((taken := harness.usage(process.pid)) is None or taken.cpu_s < 0.3) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert taken is not None
        assert taken.cpu_s >= 0.3
        assert taken.rss > 80_000_000
    finally:
        process.stop()


def test_a_busy_machine_is_seen_to_be() -> None:
    before, until_s = harness.busy_s(), time.process_time() + 0.3
    while time.process_time() < until_s:
        pass
    after = harness.busy_s()
    assert after - before > 0.2


def test_nothing_is_known_of_a_process_that_is_not_there() -> None:
    assert harness.usage(None) is None
    assert harness.usage(2**22 + 1) is None


@pytest.mark.parametrize("prefer_mosquitto", [False, True])
def test_a_broker_is_started_and_ended(prefer_mosquitto: bool) -> None:
    if prefer_mosquitto:
        find_mosquitto()
    with harness.broker(None, prefer_mosquitto=prefer_mosquitto) as broker:
        assert broker.name == ("mosquitto" if prefer_mosquitto else "the embedded broker")
        assert broker.pid is not None
        assert harness.listens(broker.url.port)
    assert not harness.listens(broker.url.port)


def test_a_given_broker_is_taken_as_it_is() -> None:
    with harness.broker("mqtt://nobody@example.org") as broker:
        assert (broker.url, broker.pid) == (connection.BrokerUrl("example.org", user="nobody"), None)


def test_a_monitor_leaves_neither_status_nor_session_behind(broker_url: connection.BrokerUrl) -> None:
    tls, topics, name = connection.TlsFiles(), wire.Topics("test/harness"), f"harness-{os.getpid()}"
    subscriber = Subscriber(broker_url, tls, topics, name, ("alerts",))
    with harness.monitor(name, broker_url, tls, topics=topics, workers=2) as process:
        process.wait_until(subscriber.is_online)
    subscriber.close()
    assert _what_is_kept(broker_url, topics, name, [f"{name}.0", f"{name}.1"]) == []


def _what_is_kept(url: connection.BrokerUrl, topics: wire.Topics, name: str, own_names: list[str]) -> list[str]:
    """Sessions and retained messages of a monitor."""
    kept: list[str] = []
    for own_name in own_names:
        greeted = threading.Event()

        def greet(client: Any, _data: Any, flags: Any, *_: Any, name_: str = own_name) -> None:
            if flags.session_present:
                kept.append(name_)
            client.subscribe(topics.monitor_status(name))

        client = connection.make_client(url, f"ecgwatch-{own_name}", clean_session=False)
        client.on_connect = greet
        client.on_message = lambda _client, _data, message: kept.append(message.topic)
        client.on_subscribe = lambda *_, greeted=greeted: greeted.set()
        connection.connect(client, url)
        client.loop_start()
        assert greeted.wait(10)
        harness.leave(client)
    return kept
