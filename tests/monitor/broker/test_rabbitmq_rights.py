"""The rights that docs/DEPLOY.md gives to users of RabbitMQ: those lines are run as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from monitor.broker import connection
from monitor.broker.amqp_connection import ClusterUrl
from monitor.broker.connection import BrokerUrl
from monitor.tools.cluster import ClusterSettings, init, read_status
from simulator.broker import HOST
from tests.rabbitmq import Node, run_rabbitmq

DEPLOY = Path(__file__).parents[3] / "docs" / "DEPLOY.md"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("passwords")
    for user in ("monitor", "patch-1", "viewer"):
        (folder / f"{user}.password").write_text(f"secret of {user}")
    with run_rabbitmq() as [node]:
        for words in _documented():
            node.control(*[_fill_in(word, folder) for word in words])
        yield node


def _documented() -> list[list[str]]:
    """Return the words of each `rabbitmqctl` that gives rights."""
    text = re.sub(r"\\\n\s*", "", DEPLOY.read_text(encoding="utf-8"))
    lines = re.findall(r"^\s+sudo rabbitmqctl ((?:add_user|set_\w+) .*)$", text, re.MULTILINE)
    assert len(lines) == 8
    return [shlex.split(line) for line in lines]


def _fill_in(word: str, folder: Path) -> str:
    found = re.fullmatch(r"\$\(cat (.+)\)", word)
    return (folder / found.group(1)).read_text() if found else word


def _ask(node: Node, topic: str, *, publish: bool, user: str = "patch-1") -> bool:
    """Publish or subscribe; return whether that was granted."""
    url = BrokerUrl(HOST, node.mqtt, user)
    client = connection.make_client(url, user, password=f"secret of {user}")
    answers: list[bool] = []
    client.on_publish = lambda *_: answers.append(True)
    client.on_subscribe = lambda _c, _d, _mid, codes, _p: answers.append(not codes[0].is_failure)
    client.on_disconnect = lambda *_: answers.append(False)

    def ask(*_: object) -> None:
        if publish:
            client.publish(topic, b"{}", qos=1)
        else:
            client.subscribe(topic, 1)

    client.on_connect = ask
    client.connect(HOST, node.mqtt)
    while not answers:
        assert client.loop(WAIT_S) == paho.MQTT_ERR_SUCCESS or answers
    client.disconnect()
    return answers[0]


@pytest.mark.parametrize(
    ("leaf", "publish"),
    [("info", True), ("samples", True), ("status", True), ("ack", False), ("error", False)],
)
def test_a_device_may_what_it_must(node: Node, leaf: str, publish: bool) -> None:
    assert _ask(node, f"ecg/v1/patch-1/{leaf}", publish=publish)


@pytest.mark.parametrize(
    ("topic", "publish"),
    [
        ("ecg/v1/patch-2/samples", True),
        ("ecg/v1/patch-1/alerts", True),
        ("ecg/v1/monitor/monitor/status", True),
        ("ecg/v1/monitor/monitor/request/forget", True),
        ("ecg/v1/patch-2/ack", False),
        ("ecg/v1/+/alerts", False),
        ("#", False),
    ],
)
def test_a_device_may_nothing_else(node: Node, topic: str, publish: bool) -> None:
    assert not _ask(node, topic, publish=publish)


@pytest.mark.parametrize(
    ("topic", "publish", "granted"),
    [
        ("ecg/v1/+/alerts", False, True),
        ("ecg/v1/patch-1/state", False, True),
        ("ecg/v1/monitor/+/status", False, True),
        ("ecg/v1/monitor/fleet/request/refresh", True, True),
        ("ecg/v1/+/samples", False, False),
        ("#", False, False),
        ("ecg/v1/monitor/fleet/request/silence", True, False),
        ("ecg/v1/viewer/samples", True, False),
    ],
)
def test_a_viewer_may_look_and_ask_for_a_refresh(node: Node, topic: str, publish: bool, granted: bool) -> None:
    assert _ask(node, topic, publish=publish, user="viewer") == granted


def test_the_monitors_user_may_set_the_cluster_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connection.PASSWORD_VARIABLE, "secret of monitor")
    settings = ClusterSettings(ClusterUrl.parse(f"amqp://monitor@{HOST}:{node.amqp}"), name="rights")
    assert init(settings, 3, "quorum") == 0
    assert len(read_status(settings).partitions) == 3
