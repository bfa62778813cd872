"""Delivering to a real server: one that works, fails, hangs, sends elsewhere, or is away."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker.backoff import Backoff
from monitor.notify.deliver import LONGEST_S, Deliverer
from monitor.notify.queue import NewJob, Queue
from monitor.notify.targets import Outcome, Webhook, read_apprise_file, read_webhook, read_webhook_file
from simulator.broker import free_port
from tests.monitor.notify.receiver import Receiver, wait
from tests.monitor.notify.test_rules import make_alert


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path / "q.sqlite")
    yield made
    made.close()


def _add(queue: Queue, *numbers: int, target: str = "x") -> None:
    alerts = [make_alert(number) for number in numbers]
    queue.add([NewJob(one.id, target, 0, wire.encode(one), 0.0) for one in alerts], 0.0)


def _deliverer(queue: Queue, url: str, keep_s: float = 1e6, timeout_s: float = 10.0) -> Deliverer:
    target = Webhook("x", url, timeout_s=timeout_s)
    return Deliverer(target, queue, {"a": "Bed 4"}.get, keep_s, Backoff(0.01, 0.02))


def test_a_webhook_gets_the_alert_as_it_was_published_with_the_device_s_name(queue: Queue) -> None:
    with Receiver() as receiver:
        _add(queue, 1)
        assert _deliverer(queue, receiver.url).turn(1.0) == 0.0
        [alert] = receiver.alerts
        assert alert == json.loads(wire.encode(make_alert(1))) | {"device_name": "Bed 4"}
        [(method, headers, _)] = receiver.requests
        assert (method, headers["Content-Type"], headers["Idempotency-Key"]) == (
            "POST", "application/json", "a-1-pause-new",
        )  # fmt: skip
        assert queue.waiting() == {}


@pytest.mark.parametrize("answer", [500, 503, "drop", 429])
def test_what_fails_is_sent_again_with_the_same_id(answer: int | str, queue: Queue) -> None:
    with Receiver(answer) as receiver:
        _add(queue, 1)
        deliverer = _deliverer(queue, receiver.url)
        pause_s = deliverer.turn(1.0)
        assert pause_s is not None
        assert pause_s == 7.0 if answer == 429 else 0 < pause_s <= 0.02
        assert deliverer.turn(1.0) is None, "it waits"
        assert deliverer.turn(3.0) == 0.0
        assert [headers["Idempotency-Key"] for _, headers, _ in receiver.requests] == ["a-1-pause-new"] * 2
        assert len(receiver.alerts) == 1


def test_a_server_that_hangs_is_left_after_the_time_out(queue: Queue) -> None:
    with Receiver("hang") as receiver:
        _add(queue, 1)
        deliverer = _deliverer(queue, receiver.url, timeout_s=0.3)
        assert deliverer.turn(1.0)
        assert deliverer.turn(3.0) == 0.0
        assert len(receiver.alerts) == 1


def test_a_server_that_is_away_gets_it_when_it_is_back(queue: Queue) -> None:
    port = free_port()
    _add(queue, 1, 2)
    deliverer = _deliverer(queue, f"http://127.0.0.1:{port}/")
    assert deliverer.turn(1.0)
    assert deliverer.turn(1.0)
    with Receiver(port=port) as receiver:
        assert [deliverer.turn(10.0), deliverer.turn(10.0), deliverer.turn(10.0)] == [0.0, 0.0, None]
        assert {alert["id"] for alert in receiver.alerts} == {"a-1-pause-new", "a-2-pause-new"}


@pytest.mark.parametrize("answer", [400, 404, "redirect"])
def test_what_a_server_does_not_take_holds_nothing_up(answer: int | str, queue: Queue) -> None:
    with Receiver(answer) as receiver:
        _add(queue, 1, 2)
        deliverer = _deliverer(queue, receiver.url)
        assert [deliverer.turn(1.0), deliverer.turn(1.0)] == [0.0, 0.0]
        assert [alert["id"] for alert in receiver.alerts] == ["a-2-pause-new"]
        assert {method for method, _, _ in receiver.requests} == {"POST"}
        assert queue.waiting() == {"x": 1}


@pytest.mark.parametrize("id_", ["уже видел", "a-1\n-new", "a-1-pause-acknowledged-%"])
def test_an_alert_with_a_strange_id_is_delivered_like_others(queue: Queue, id_: str) -> None:
    with Receiver() as receiver:
        one = msgspec.structs.replace(make_alert(1), id=id_)
        queue.add([NewJob(id_, "x", 0, wire.encode(one), 0.0)], 0.0)
        assert _deliverer(queue, receiver.url).turn(1.0) == 0.0
        [(_, headers, body)] = receiver.requests
        assert unquote(headers["Idempotency-Key"]) == json.loads(body)["id"] == id_


class _FaultyTarget:
    """Cannot put one alert into words."""

    name = "x"

    def __init__(self) -> None:
        self.ids: list[str] = []

    def send(self, alert: dict[str, Any]) -> Outcome:
        if alert["id"] == "a-1-pause-new":
            raise UnicodeEncodeError("latin-1", "я", 0, 1, "ordinal not in range")
        self.ids.append(alert["id"])
        return Outcome(True, "fine")


def test_an_alert_that_a_target_fails_at_holds_no_other_up(queue: Queue) -> None:
    target = _FaultyTarget()
    deliverer = Deliverer(target, queue, lambda _: None, 1e12, Backoff(0.01, 0.02))
    _add(queue, 1, 2)
    deliverer.start()
    wait(lambda: target.ids == ["a-2-pause-new"])
    _add(queue, 3)
    deliverer.wake()
    wait(lambda: target.ids == ["a-2-pause-new", "a-3-pause-new"])
    deliverer.stop(10.0)
    assert queue.waiting() == {"x": 1}


def test_waits_grow_and_what_was_tried_for_too_long_is_given_up(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver(*[500] * 30) as receiver:
        _add(queue, 1)
        deliverer = _deliverer(queue, receiver.url, keep_s=3600.0)
        now_s, waits = 0.0, []
        while queue.waiting() and now_s < 7200:
            begin_s = now_s
            assert deliverer.turn(now_s)
            while queue.waiting() and queue.next("x", now_s) is None:
                now_s += 1.0
            waits.append(now_s - begin_s)
        assert waits[:6] == [1, 2, 4, 8, 16, 32]
        assert max(waits) == LONGEST_S
        assert 3600 < now_s < 3600 + 2 * LONGEST_S
        assert receiver.alerts == []
    assert [record.levelno for record in caplog.records][-1] == logging.ERROR
    assert caplog.records[-1].getMessage().endswith("; given up")


def test_the_time_to_try_begins_when_quiet_hours_end(queue: Queue) -> None:
    with Receiver(500, 500) as receiver:
        alert = make_alert(1)
        queue.add([NewJob(alert.id, "x", 0, wire.encode(alert), 50_000.0)], 0.0)
        deliverer = _deliverer(queue, receiver.url, keep_s=3600.0)
        assert deliverer.turn(50_000.0)
        assert deliverer.turn(50_010.0)
        assert deliverer.turn(50_020.0) == 0.0
        assert len(receiver.alerts) == 1


def test_a_target_that_hangs_delays_no_other(queue: Queue) -> None:
    with Receiver("hang") as hanging, Receiver() as working:
        slow = Deliverer(Webhook("slow", hanging.url), queue, lambda _: None, 1e6)
        fast = Deliverer(Webhook("fast", working.url), queue, lambda _: None, 1e6)
        for deliverer in (slow, fast):
            deliverer.start()
        _add(queue, 1, target="slow")
        wait(lambda: len(hanging.requests) == 1)
        _add(queue, *range(5), target="fast")
        wait(lambda: len(working.alerts) == 5)
        assert hanging.alerts == []
        hanging.close()
        for deliverer in (slow, fast):
            deliverer.stop(5.0)


def test_a_file_holds_a_secret_url_and_headers(tmp_path: Path, queue: Queue) -> None:
    with Receiver() as receiver:
        (tmp_path / "hook").write_text(f"# of the clinic\n{receiver.url}?key=abc\nAuthorization: Bearer x y\n")
        target = read_webhook_file(f"clinic={tmp_path / 'hook'}", 5.0)
        assert target.name == "clinic"
        assert target.send({"id": "i"}).ok
        assert receiver.requests[0][1]["Authorization"] == "Bearer x y"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: expected a URL"),
        ("ftp://x/y", "Not the URL of a webhook"),
        ("http://x/\nAuthorization Bearer", "must hold a URL, and below it headers"),
        ("http://me:pw@x/", "must hold no user or password"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_without_showing_it(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "hook").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_webhook_file(str(tmp_path / "hook"), 5.0)
    assert "pw" not in str(caught.value)
    assert "Bearer" not in str(caught.value)


def test_a_webhook_is_called_by_its_host_unless_it_is_given_a_name() -> None:
    assert read_webhook("https://example.org/a?b=c", 1.0).name == "example.org"
    assert read_webhook("night=https://example.org/a", 1.0).name == "night"


def test_notify_test_prints_what_came_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Receiver() as good, Receiver(500) as bad, Receiver("hang") as hanging:
        away = f"away=http://127.0.0.1:{free_port()}"
        hooks = [f"good={good.url}", f"bad={bad.url}", f"hanging={hanging.url}", away]
        words = [word for hook in hooks for word in ("--webhook", hook)]
        assert main(["notify", "test", *words, "--timeout", "0.5"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(" in ")[0] for line in lines] == [
            "good: delivered", "bad: NOT delivered", "hanging: NOT delivered", "away: NOT delivered",
        ]  # fmt: skip
        assert lines[0].endswith("s: 200 OK: noted")
        assert lines[1].endswith("s: 500 Internal Server Error: <b>?[31mno")
        assert "no answer within 0." in lines[2]
        assert "Connection refused" in lines[3]
        assert good.alerts[0]["kind"] == "test"
        assert main(["notify", "test", *words, "--to", "good"]) == 0
        assert main(["notify", "test", *words, "--to", "god"]) == 2
        assert "There is no target 'god': expected one of good, bad, hanging, away." in capsys.readouterr().err


def test_a_section_of_the_configuration_file_is_checked_to_its_rules(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[notify]\nwebhook = ["a=http://x/"]\n[[notify.rule]]\nseverity = ["hi"]')
    assert main(["config", "check", str(path)]) == 2
    assert "notify.rule: got severity='hi' in a rule, expected high, medium" in capsys.readouterr().err


def test_apprise_reaches_what_it_knows(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="pip install 'ecgwatch[notify]'")
    with Receiver(500) as receiver:
        (tmp_path / "urls").write_text(f"json://127.0.0.1:{receiver.port}/alerts\n")
        [target] = read_apprise_file(str(tmp_path / "urls"))
        alert = json.loads(wire.encode(make_alert(1))) | {"device_name": "Bed 4"}
        assert not target.send(alert).ok
        assert target.send(alert).ok
        [sent] = receiver.alerts
        assert (sent["title"], sent["type"]) == ("HIGH pause: Bed 4", "failure")
        assert sent["message"].startswith("No heartbeat for 3.4 s.\na, 20")
