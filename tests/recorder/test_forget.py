"""Forgetting a device: from states, history and record; and the proof, which also finds what is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.notify.queue import NewJob, Queue
from monitor.service.run import Service
from monitor.service.settings import ServiceSettings
from monitor.state.location import locate
from monitor.state.store import HourlyRow, OutboxMessage
from recorder.archive import Archive, Message
from recorder.forget import holding
from recorder.keeper import Keeper
from tests.monitor.service.one_monitor import RATE_HZ, SLOW, START_S, TOPICS
from tests.monitor.state.saving import save
from tests.recorder.test_archive import NOW_S, make_packets
from tests.subscriber import Subscriber

DEVICES = ("dev-1", "dev-10", "other")


def _wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)


def _fill(tmp_path: Path) -> list[str]:
    """Let a monitor, an archive and a journal keep three devices; return the words that say where."""
    store = locate(tmp_path / "state").open("monitor")
    for device in DEVICES:
        payload = f'{{"id": "{device}-1790000000000-gap-new", "device": "{device}"}}'.encode()
        alert = OutboxMessage(f"{device}-1790000000000-gap-new", device, 1e9, f"ecg/v1/{device}/alerts", payload)
        row = HourlyRow(5, device, "N", 3, 2400)
        assert save(store, {device: f"{device} state".encode()}, [alert], [alert], hourly=[row])
        Archive(tmp_path / "record").add(device, make_packets(), [Message("alerts", 1.0, payload)], NOW_S)
    store.close()
    keeper = Keeper(tmp_path / "record")
    for device in DEVICES:
        keeper.take(device, "samples", wire.encode_packet(make_packets(seq=100)[0]), NOW_S)
    keeper.commit()
    return ["--record", str(tmp_path / "record"), "--state", str(tmp_path / "state")]


def test_nothing_of_a_device_is_left_and_the_others_are_untouched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = _fill(tmp_path)
    assert len(list(holding(tmp_path, "dev-1"))) >= 3
    assert main(["forget", "dev-1", *where]) == 0
    shown = capsys.readouterr().out
    assert "proved  no file in" in shown
    assert "deleted  alert: 1" in shown
    assert "unknown" not in shown
    assert list(holding(tmp_path, "dev-1")) == []
    location = locate(tmp_path / "state")
    assert len(location.read_history("monitor", 0.0)) == 2
    store = location.open("monitor")
    assert set(store.read_states(DEVICES)) == {"dev-10", "other"}
    store.close()
    assert Archive(tmp_path / "record").devices() == ["dev-10", "other"]
    assert len(Archive(tmp_path / "record").read("other").packets) == 31


def test_what_is_left_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = _fill(tmp_path)
    (tmp_path / "record" / "notes.txt").write_text("the person with dev-1 called")
    assert main(["forget", "dev-1", *where]) == 1
    assert "notes.txt still names dev-1" in capsys.readouterr().out


def test_monitor_that_runs_must_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = _fill(tmp_path)
    with locate(tmp_path / "state").hold("monitor", lambda: False):
        assert main(["forget", "dev-1", *where]) == 2
    assert "The monitor monitor is running: give its broker" in capsys.readouterr().err


def test_monitor_that_runs_forgets_and_only_strangers_are_left(
    tmp_path: Path, broker_url: BrokerUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    where, device = _fill(tmp_path), f"dev-{broker_url.port}"
    words = ["forget", device, *where, "--broker", str(broker_url), "--name", "asked"]
    service = Service(ServiceSettings(broker=broker_url, name="asked", provider="cpu", state=tmp_path / "state"))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        with Subscriber(broker_url, TOPICS.of(device, "state"), TOPICS.monitor_status("asked")) as client:
            _wait(lambda: bool(client.received))
            for seq in range(40):
                packet = wire.Packet(seq, START_S + seq, RATE_HZ, SLOW[seq * 250 : (seq + 1) * 250])
                client.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))
            _wait(lambda: any(topic.endswith("/state") for topic, _ in client.received))
            assert main(words) == 2
            assert f"{device} is sending" in capsys.readouterr().err
            assert (
                main(["device", "set", device, "--name", "M", "--monitor", "asked", "--broker", str(broker_url)]) == 0
            )
            client.publish(TOPICS.of(device, "status"), b'{"state": "offline"}')
            _wait(lambda: b'"offline"' in client.received[-1][1])
        assert list(holding(tmp_path / "state", device))
        assert main(words) == 0, capsys.readouterr()
        shown = capsys.readouterr().out
        assert "nothing of it is left in memory, states, history, outbox and audit" in shown
        assert f"retains no message of {device}" in shown
        assert "proved  no file in" in shown
        assert list(holding(tmp_path, device)) == []
        assert list(holding(tmp_path / "state", "dev-10"))
    finally:
        service.stop()
        thread.join(20)
    assert list(holding(tmp_path, device)) == []


def test_queue_of_a_notifier_forgets_as_well(tmp_path: Path) -> None:
    where = _fill(tmp_path)
    queue = Queue(tmp_path / "state" / "notify.notify.sqlite")
    ids = [f"{device}-1790000000000-gap-new" for device in DEVICES]
    queue.add([NewJob(one, "mail", 0, one.encode(), 0.0) for one in ids], 0.0)
    queue.save_name("dev-1", "Mrs. Miller")
    assert main(["forget", "dev-1", *where]) == 0
    assert queue.waiting() == {"mail": 2}
    assert queue.names() == {}
    queue.close()


def test_device_that_nobody_knows_is_proved_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = _fill(tmp_path)
    assert main(["forget", "dev", *where]) == 0
    assert "proved" in (shown := capsys.readouterr().out)
    assert "unknown  nothing named dev before, either, did you mean dev-1?" in shown
    assert len(Archive(tmp_path / "record").devices()) == 3
