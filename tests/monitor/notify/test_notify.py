"""From the broker to where people are: nothing is lost on the way, whatever is killed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.notify.monitors import AWAY_S
from monitor.notify.queue import Queue
from monitor.notify.rules import Rules, parse_quiet, parse_rule
from monitor.notify.run import Notifier, subscriptions
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.notify.receiver import Receiver, wait
from tests.monitor.notify.test_rules import make_alert
from tests.monitor.page.messages import state
from tests.subscriber import Subscriber

TOPICS = wire.Topics()
NOW_S = 1_700_000_000.0


class Bench:
    """A notifier on a broker in memory."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.queue = Queue(folder / "q.sqlite")
        self.source = MemorySource(self.broker, "notify", subscriptions(TOPICS))
        self.source.open()
        self.notifier = Notifier(self.source, self.queue, Rules(), ["x"], TOPICS)

    def waiting(self) -> list[dict[str, object]]:
        found = []
        while (job := self.queue.next("x", 1e12)) is not None:
            found.append(json.loads(job.payload))
            self.queue.done(job, NOW_S)
        return found

    def publish(self, alert: wire.Alert) -> None:
        self.broker.publish(TOPICS.of(alert.device, "alerts"), wire.encode(alert))

    def turn(self, now_s: float = NOW_S) -> int:
        return self.notifier.turn(0.0, now_s)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.queue.close()


def test_what_a_rule_is_about_is_queued_once_and_the_rest_is_not(bench: Bench) -> None:
    for alert in (make_alert(1), make_alert(1), make_alert(2, "low"), make_alert(3, "medium")):
        bench.publish(alert)
    assert bench.turn() == 2
    assert [alert["id"] for alert in bench.waiting()] == ["a-1-pause-new", "a-3-pause-new"]


def test_garbage_is_told_of_in_the_log_and_holds_nothing_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.broker.publish(TOPICS.of("a", "alerts"), b"{")
    bench.broker.publish(TOPICS.of("a", "state"), b"\xff")
    bench.broker.publish(TOPICS.monitor_status("m"), b"[]")
    bench.publish(make_alert(1))
    assert bench.turn() == 1
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 3


def test_the_signal_can_stay_at_home(bench: Bench) -> None:
    strip = wire.Strip(start_s=NOW_S, rate_hz=125, unit="uV", samples=[1, 2, None])
    bench.publish(make_alert(1, strip=strip))
    bench.turn()
    bench.notifier = Notifier(bench.source, bench.queue, Rules(), ["x"], TOPICS, with_signal=False)
    bench.publish(make_alert(2, strip=strip))
    bench.turn()
    first, second = bench.waiting()
    assert first["strip"] is not None
    assert second["strip"] is None
    assert second | {"strip": first["strip"], "id": first["id"], "episode": first["episode"]} == first


def test_names_are_those_of_the_states(bench: Bench) -> None:
    state = wire.DeviceState(device="a", name="Bed 4", connection="streaming", time_s=NOW_S)
    bench.broker.publish(TOPICS.of("a", "state"), wire.encode(state), retain=True)
    bench.turn()
    assert bench.notifier.name_of("a") == "Bed 4"
    assert Notifier(bench.source, bench.queue, Rules(), ["x"], TOPICS).name_of("a") == "Bed 4", "after a restart"
    bench.broker.publish(TOPICS.of("a", "state"), b"", retain=True)
    bench.turn()
    assert bench.notifier.name_of("a") is None


def test_nobody_is_told_of_a_device_that_was_forgotten(bench: Bench) -> None:
    for device in ("a", "ab"):
        bench.publish(msgspec.structs.replace(make_alert(1), device=device, id=f"{device}-1700000000000-pause-new"))
        bench.broker.publish(TOPICS.of(device, "state"), wire.encode(state(device, name=f"bed of {device}")))
    assert bench.turn() == 2
    told = wire.encode(wire.Forgotten(device="a", time_s=NOW_S))
    bench.broker.publish(TOPICS.forgotten("ward-3"), told)
    assert bench.turn() == 0
    assert [alert["device"] for alert in bench.waiting()] == ["ab"]
    assert bench.queue.names() == {"ab": "bed of ab"}
    assert (bench.notifier.name_of("a"), bench.notifier.name_of("ab")) == (None, "bed of ab")


def test_what_cannot_be_written_is_not_acknowledged_and_tried_again(tmp_path: Path) -> None:
    class Full(Queue):
        is_full = True

        def add(self, jobs: object, now_s: float) -> int:
            if self.is_full:
                raise OSError("disk full")
            return super().add(jobs, now_s)  # type: ignore[arg-type] # handed on

    bench = Bench(tmp_path)
    bench.queue = queue = Full(tmp_path / "q.sqlite")
    bench.notifier = Notifier(bench.source, queue, Rules(), ["x"], TOPICS)
    bench.publish(make_alert(1))
    with pytest.raises(OSError, match="disk full"):
        bench.turn()
    bench.broker.cut("notify")
    with pytest.raises(OSError, match="disk full"):
        bench.turn()
    queue.is_full = False
    assert bench.turn() == 1
    assert bench.turn() == 0
    assert len(bench.waiting()) == 1


def test_in_quiet_hours_alerts_wait_in_the_queue(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    quiet = Rules(quiet=parse_quiet("00:00-23:59"))
    bench.notifier = Notifier(bench.source, bench.queue, quiet, ["x"], TOPICS)
    bench.publish(make_alert(1, "medium"))
    bench.publish(make_alert(2, "high"))
    bench.turn()
    job = bench.queue.next("x", NOW_S)
    assert job is not None
    assert job.id == "a-2-pause-new"
    assert [alert["id"] for alert in bench.waiting()] == ["a-2-pause-new", "a-1-pause-new"]


def _status(bench: Bench, state: wire.MonitorState) -> None:
    status = wire.MonitorStatus(state=state, version="1", model="m", model_sha256="", since_s=NOW_S)
    bench.broker.publish(TOPICS.monitor_status("ward"), wire.encode(status), retain=True)


def test_a_monitor_that_is_gone_for_a_minute_is_told_of_as_one_alert_and_that_it_is_back(bench: Bench) -> None:
    _status(bench, "offline")
    assert [bench.turn(NOW_S), bench.turn(NOW_S + AWAY_S - 1)] == [0, 0]
    assert [bench.turn(NOW_S + AWAY_S), bench.turn(NOW_S + AWAY_S + 9)] == [1, 0]
    [alert] = bench.waiting()
    assert (alert["kind"], alert["severity"], alert["device"]) == ("monitor-offline", "high", "ward")
    _status(bench, "online")
    bench.turn(NOW_S + 200)
    _status(bench, "offline")
    bench.turn(NOW_S + 300)
    _status(bench, "online")
    assert bench.turn(NOW_S + 310) == 0, "it was restarted"
    assert bench.turn(NOW_S + 900) == 0


def test_a_notifier_that_is_restarted_tells_of_no_monitor_twice(bench: Bench) -> None:
    _restart(bench)
    _status(bench, "offline")
    bench.turn(NOW_S)
    assert bench.turn(NOW_S + AWAY_S) == 1
    [alert] = bench.waiting()
    _restart(bench)
    assert [bench.turn(NOW_S + 500), bench.turn(NOW_S + 900)] == [0, 0]
    _status(bench, "online")
    assert bench.turn(NOW_S + 910) == 1
    [end] = bench.waiting()
    assert (end["state"], end["episode"]) == ("end", alert["episode"])
    _restart(bench)
    _status(bench, "offline")
    bench.turn(NOW_S + 1000)
    assert bench.turn(NOW_S + 1000 + AWAY_S) == 1, "it is gone again"


def _restart(bench: Bench) -> None:
    """Start another notifier on the same queue, which tells of ends as well."""
    bench.source = MemorySource(bench.broker, "notify-again", subscriptions(TOPICS))
    bench.source.open()
    bench.notifier = Notifier(bench.source, bench.queue, Rules((parse_rule("state=new,end"),)), ["x"], TOPICS)


def _start(url: BrokerUrl, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ecgwatch", "notify", "run", "--broker", str(url), "--state", str(folder)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, *words], stderr=log)


def _has_logged(folder: Path, text: str) -> bool:
    return text in (folder / "log").read_text()


def test_each_alert_arrives_with_its_name_though_the_notifier_is_killed_and_the_server_hangs_and_fails(
    tmp_path: Path,
) -> None:
    with (
        run_mosquitto(find_mosquitto(), tmp_path / "broker") as url,
        Subscriber(url) as client,
        Receiver(200, 500, "hang") as receiver,
    ):
        state = wire.DeviceState(device="a", name="Bed 4", connection="streaming", time_s=NOW_S)
        client.publish(TOPICS.of("a", "state"), wire.encode(state), retain=True)
        words = ["--webhook", f"x={receiver.url}", "--timeout", "60"]
        running = _start(url, tmp_path, *words)
        try:
            wait(lambda: _takes(client, receiver))
            for number in range(1, 6):
                client.publish(TOPICS.of("a", "alerts"), wire.encode(make_alert(number)))
            wait(lambda: len(receiver.requests) >= 3)  # the third hangs
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
            for number in range(6, 11):  # while nobody listens
                client.publish(TOPICS.of("a", "alerts"), wire.encode(make_alert(number)))
            running = _start(url, tmp_path, *words)
            wait(lambda: {alert["id"] for alert in receiver.alerts} >= _ids(range(11)))
            assert {alert["device_name"] for alert in receiver.alerts} == {"Bed 4"}
            counts = [alert["id"] for alert in receiver.alerts]
            assert len(counts) == len(set(counts)), "none was confirmed twice"
            second = _start(url, tmp_path, *words)
            assert second.wait(30) == 2
            assert _has_logged(tmp_path, "Another notifier uses")
            running.terminate()
            assert running.wait(30) == 0
        finally:
            running.kill()
            running.wait()


def _ids(numbers: range) -> set[str]:
    return {f"a-{number}-pause-new" for number in numbers}


def _takes(client: Subscriber, receiver: Receiver) -> bool:
    """Whether the notifier listens: the first alert has arrived."""
    client.publish(TOPICS.of("a", "alerts"), wire.encode(make_alert(0)))
    return bool(receiver.alerts)
