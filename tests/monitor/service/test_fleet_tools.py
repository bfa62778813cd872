"""What people use, over a fleet of two processes on RabbitMQ, which hands out nothing that it retains by wildcards."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from monitor import wire
from monitor.page.signal import HEADER
from recorder.archive import Archive
from tests.monitor.notify.receiver import Receiver
from tests.soak.cluster import NAME, PARTITIONS, TOPICS, Cluster, cut, make_signals, play, run_cluster
from tests.subscriber import Subscriber

pytestmark = pytest.mark.long
DEVICES, SECONDS, WAIT_S = 12, 240.0, 40.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Cluster]:
    """Two processes, and devices that have said what they are before anybody came."""
    with run_cluster(1, 2) as made:
        packets = cut(make_signals(DEVICES, SECONDS), time.time() + 1.0)
        threading.Thread(target=play, args=(made.nodes[0].url, packets), daemon=True).start()
        with Subscriber(made.nodes[0].url, TOPICS.of("+", "alerts")) as heard:
            _wait(lambda: len({topic for topic, _ in heard.received}) == DEVICES)
        yield made


def _wait(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.1)


def _ecgwatch(fleet: Cluster, *words: str) -> str:
    """Run a command against the broker; return what it prints."""
    command = [sys.executable, "-m", "ecgwatch", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _at(fleet: Cluster) -> list[str]:
    return ["--broker", str(fleet.nodes[0].url)]


def test_cluster_status_adds_up_what_all_processes_say(fleet: Cluster) -> None:
    words = ["cluster", "status", "--name", NAME, "--mqtt", str(fleet.nodes[0].url), "--json"]
    found = json.loads(_ecgwatch(fleet, *words, "--broker", str(fleet.settings.broker), "--store", fleet.database.url))
    assert (found["processes"], found["fleet"]["processes"], len(found["members"])) == (2, 2, 2)
    assert (found["fleet"]["devices"], found["fleet"]["state"]) == (DEVICES, "online")
    assert len({one["owner"] for one in found["partitions"] if one["owner"]}) == 2
    assert 0 < found["fleet"]["partitions"] <= PARTITIONS


def test_whoever_comes_late_gets_the_states_of_all_devices(fleet: Cluster) -> None:
    lines = _ecgwatch(fleet, "devices", "--monitor", NAME, *_at(fleet)).splitlines()
    assert {line.split()[0] for line in lines} == {f"d{number}" for number in range(DEVICES)}


def test_history_and_audit_are_of_all_devices(fleet: Cluster) -> None:
    for number in range(DEVICES):
        _ecgwatch(fleet, "device", "set", f"d{number}", "--name", f"bed {number}", "--monitor", NAME, *_at(fleet))
    alerts = _ecgwatch(fleet, "history", "--state", fleet.database.url, "--name", NAME, "--json").splitlines()
    assert {json.loads(line)["device"] for line in alerts} == {f"d{number}" for number in range(DEVICES)}
    audit = _ecgwatch(fleet, "audit", "--state", fleet.database.url, "--monitor", NAME).splitlines()
    assert len(audit) == DEVICES


def test_the_page_shows_all_devices_the_fleet_as_one_and_answers(fleet: Cluster) -> None:
    command = [sys.executable, "-m", "ecgwatch", "page", "--page", "0", "--name", NAME]
    command += ["--state", fleet.database.url, *_at(fleet)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        try:
            assert page.stdout is not None
            address = page.stdout.readline().strip()
            seen = _see(address.replace("http", "ws", 1) + "ws", watched="d1")
            assert seen["rows"] >= {f"d{number}" for number in range(DEVICES)}
            assert (seen["monitor"]["fleet"], seen["monitor"]["processes"]) == (NAME, 2)
            assert seen["step_uv"] == 1.0
            for number in range(DEVICES):
                assert _ask(address, "rename", {"device": f"d{number}", "name": f"room {number}"})["ok"]
        finally:
            page.terminate()


def _see(address: str, watched: str) -> dict[str, Any]:
    """Watch a page until it has shown all devices, two processes, and the signal of one."""
    rows: set[str] = set()
    monitor: dict[str, Any] = {}
    step_uv = 0.0
    with connect(address, origin=Origin(address.replace("ws", "http", 1)[:-3])) as socket:
        socket.send(json.dumps({"watch": {watched: 0}}))
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s and not (len(rows) >= DEVICES and monitor.get("processes") == 2 and step_uv):
            message = socket.recv(WAIT_S)
            if isinstance(message, bytes):
                step_uv = HEADER.unpack(message[: HEADER.size])[5]
                continue
            news = json.loads(message)
            rows |= {row["id"] for row in news.get("rows", [])}
            monitor = news.get("monitors", {}).get(NAME, monitor)
    return {"rows": rows, "monitor": monitor, "step_uv": step_uv}


def _ask(address: str, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
    with urlopen(f"{address}api/session") as answer:  # the page's own address
        session, cookie = json.load(answer), answer.headers.get("set-cookie", "").partition(";")[0]
    headers = {"origin": address.rstrip("/"), "x-csrf-token": session["csrf"], "cookie": cookie}
    headers["content-type"] = "application/json"
    request = Request(f"{address}api/request/{verb}", json.dumps(asked).encode(), headers)
    with urlopen(request) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


def test_the_recorder_keeps_what_all_devices_send(fleet: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ecgwatch", "record", "--record", str(tmp_path), "--for", "8s", *_at(fleet)]
    subprocess.run(command, check=True, timeout=60, stderr=subprocess.DEVNULL)
    archive = Archive(tmp_path)
    assert sorted(archive.devices()) == sorted(f"d{number}" for number in range(DEVICES))
    for device in archive.devices():
        sequence = [packet.seq for packet in archive.read(device).packets]
        assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))


def test_notifications_are_of_all_devices(fleet: Cluster, tmp_path: Path) -> None:
    with Receiver() as receiver:
        command = [
            sys.executable,
            "-m",
            "ecgwatch",
            "notify",
            "run",
            "--webhook",
            receiver.url,
            "--state",
            str(tmp_path),
        ]
        command += ["--rule", "severity=high,medium,low state=acknowledged", *_at(fleet)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as notifier:
            try:
                time.sleep(8.0)
                episodes = _episodes(fleet)
                for device, episode in episodes.items():
                    _ecgwatch(fleet, "ack", device, "--episode", episode, "--monitor", NAME, *_at(fleet))
                _wait(lambda: {alert["device"] for alert in receiver.alerts} == set(episodes))
            finally:
                notifier.send_signal(signal.SIGTERM)


def _episodes(fleet: Cluster) -> dict[str, str]:
    lines = _ecgwatch(fleet, "history", "--state", fleet.database.url, "--name", NAME, "--json").splitlines()
    alerts = [wire.decode(line.encode(), wire.Alert) for line in lines]
    return {alert.device: alert.episode for alert in alerts if alert.state == "new"}


def test_watch_tells_of_a_fleet_that_is_gone_and_not_of_one_process(fleet: Cluster) -> None:
    command = [sys.executable, "-m", "ecgwatch", "watch", *_at(fleet)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        lines: list[str] = []
        threading.Thread(target=lambda: lines.extend(watching.stderr or []), daemon=True).start()
        _wait(lambda: any("connected" in line for line in lines))
        time.sleep(12.0)  # both have said how they are
        fleet.monitors[0].kill()
        time.sleep(3.0)
        assert not [line for line in lines if "offline" in line]
        fleet.monitors[1].kill()
        _wait(lambda: any(re.search(f"the monitor {NAME} is offline", line) for line in lines))
        watching.terminate()
