"""Alerts in a terminal: all of them, and whether anybody still watches."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.tools.watch import describe
from tests.subscriber import Subscriber

TOPICS = wire.Topics()


def _alert(number: int, reason: str | UnsetType = UNSET) -> wire.Alert:
    return wire.Alert(
        id=f"a-{number}",
        episode="a",
        device="a",
        kind="abnormal-beats",
        severity="low",
        state="new" if reason is UNSET else "end",
        time_s=1.7e9 + number,
        since_s=1.7e9,
        seq=number,
        completed_s=1.7e9 + number,
        reason=reason,
    )


@pytest.fixture
def watching(broker_url: BrokerUrl) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ecgwatch", "watch", "--broker", str(broker_url)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert "connected" in process.stdout.readline()
    yield process
    process.terminate()
    process.communicate(timeout=20)


def _read_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not re.search(pattern, lines[-1]):
        lines.append(process.stdout.readline())
        assert lines[-1], "watch has ended"
    return lines


def test_all_alerts_are_printed_however_many(watching: subprocess.Popen[str], broker_url: BrokerUrl) -> None:
    with Subscriber(broker_url) as publisher:
        for number in range(300):
            publisher.publish(TOPICS.of("a", "alerts"), wire.encode(_alert(number)))
        publisher.publish(TOPICS.of("last", "alerts"), wire.encode(_alert(999)).replace(b'"a"', b'"last"'))
        lines = _read_until(watching, " last ")
    assert sum(" a " in line for line in lines) == 300


def test_a_monitor_that_goes_is_named(watching: subprocess.Popen[str], broker_url: BrokerUrl) -> None:
    with Subscriber(broker_url) as publisher:
        for state in ("online", "offline"):
            status = wire.MonitorStatus(state=state, version="1", model="m", model_sha256="", since_s=0)
            publisher.publish(TOPICS.monitor_status("ward"), wire.encode(status))
        assert "ward is offline" in _read_until(watching, "ward is offline")[-1]


def test_an_end_says_why_if_it_is_not_that_all_is_well() -> None:
    assert describe(_alert(5, reason="gone")).endswith("(the device is gone)")


def test_an_answer_says_who_gave_it_and_a_silenced_alert_that_it_is() -> None:
    answer = msgspec.structs.replace(_alert(1), state="commented", by="anna", comment="T waves", right=False)
    line = describe(answer)
    assert "COMMENTED" in line
    assert line.endswith("by anna: T waves  it was wrong")
    assert describe(msgspec.structs.replace(_alert(1), silenced=True)).endswith("[silenced]")
