"""A monitor is asked by a client of MQTT 5 that knows nothing of ecgwatch: mosquitto_rr, over a real broker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.service.loop import Loop
from monitor.service.run import Service
from monitor.service.settings import ServiceSettings
from tests.brokers import find_mosquitto, run_mosquitto

TOPICS = wire.Topics()
WAIT_S = 20


@pytest.fixture
def client() -> str:
    """Path of mosquitto_rr."""
    path = shutil.which("mosquitto_rr")
    if path is None:
        reason = "mosquitto_rr is not installed: apt-get install mosquitto-clients"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture
def url(tmp_path: Path) -> Iterator[BrokerUrl]:
    with run_mosquitto(find_mosquitto(), tmp_path) as url:
        yield url


@pytest.fixture
def loop(url: BrokerUrl, tmp_path: Path) -> Iterator[Loop]:
    service = Service(ServiceSettings(broker=url, state=tmp_path / "state", provider="cpu"))
    service.source.open()
    with service.assembled() as loop:
        yield loop
        loop.finish()


def _ask(client: str, url: BrokerUrl, loop: Loop, answers: str) -> wire.Answer | None:
    """Ask for a name, while the loop turns; return the answer, if one comes."""
    request = json.dumps({"by": "anna", "device": "patch-1", "name": "Bed 4"})
    command = [client, "-V", "5", "-h", url.host, "-p", str(url.port), "-q", "1", "-W", "4"]
    command += ["-t", TOPICS.request("monitor", "rename"), "-e", answers, "-m", request]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asking:
        until_s = time.monotonic() + WAIT_S
        while asking.poll() is None:
            assert time.monotonic() < until_s, "mosquitto_rr does not end"
            loop.turn(0.02)
        printed = asking.communicate()[0]
    return wire.decode(printed.strip(), wire.Answer) if printed.strip() else None


def test_a_request_with_a_response_topic_is_answered_on_it(client: str, url: BrokerUrl, loop: Loop) -> None:
    answer = _ask(client, url, loop, TOPICS.answer("monitor", "anna"))
    assert answer is not None
    assert (answer.ok, answer.text.startswith("patch-1 is called Bed 4.")) == (True, True)


def test_a_request_with_a_response_topic_elsewhere_is_not_granted(client: str, url: BrokerUrl, loop: Loop) -> None:
    assert _ask(client, url, loop, TOPICS.of("patch-1", "alerts")) is None
    assert not loop._parts.requests._decides("patch-1")
