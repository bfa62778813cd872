"""Forgetting a device: from states, history and record; and the proof, which also finds what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.state.location import locate
from monitor.state.store import HourlyRow, OutboxMessage
from recorder.archive import Archive, Message
from recorder.forget import holding
from recorder.keeper import Keeper
from tests.monitor.state.saving import save
from tests.recorder.test_archive import NOW_S, make_packets

DEVICES = ("dev-1", "dev-10", "other")


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


def test_running_monitor_must_be_stopped_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = _fill(tmp_path)
    with locate(tmp_path / "state").hold("monitor", lambda: False):
        assert main(["forget", "dev-1", *where]) == 2
    assert "The monitor monitor is running: stop it first" in capsys.readouterr().err


def test_device_that_nobody_knows_is_proved_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = _fill(tmp_path)
    assert main(["forget", "dev", *where]) == 0
    assert "proved" in capsys.readouterr().out
    assert len(Archive(tmp_path / "record").devices()) == 3
