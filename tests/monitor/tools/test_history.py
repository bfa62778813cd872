"""The alerts that a monitor has kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from monitor import wire
from monitor.__main__ import main
from monitor.state.sqlite import SqliteStore
from monitor.state.store import HourlyRow, OutboxMessage
from tests.monitor.state.saving import save

HOUR_S = 3600.0


def _alert(device: str, ago_s: float) -> OutboxMessage:
    published_s = time.time() - ago_s
    alert = wire.Alert(
        id=f"{device}-{ago_s}", episode=f"{device}-{ago_s}", device=device, kind="lead-off", severity="technical",
        state="new", time_s=published_s, since_s=published_s, seq=1, completed_s=published_s,
    )  # fmt: skip
    return OutboxMessage(alert.id, device, published_s, "topic", wire.encode(alert))


ALERTS = [_alert("a", 30 * HOUR_S), _alert("b", 2 * HOUR_S), _alert("a", HOUR_S), _alert("a", 60.0)]


@pytest.fixture(params=[True, False], ids=["running", "stopped"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """What a monitor has kept, while it still has the file open, or does not."""
    store = SqliteStore(tmp_path, "monitor")
    save(store, published=ALERTS)
    if not request.param:
        store.close()
    yield tmp_path
    store.close()


def _history(folder: Path, *options: str) -> int:
    return main(["history", "--state", str(folder), *options])


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def test_the_alerts_of_the_last_day_are_printed_oldest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _history(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["b", "a", "a"]
    for line, alert in zip(lines, ALERTS[1:], strict=True):
        assert line.startswith(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(alert.published_s)))
        assert "NEW     technical  lead-off" in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "a"], ALERTS[2:]),
        (["--since", "90m"], ALERTS[2:]),
        (["--since", "3d"], ALERTS),
        (["--since", "9" * 400 + "d"], ALERTS),
        (["--since", "2d", "--device", "b"], ALERTS[1:2]),
    ],
)
def test_a_device_and_a_time_can_be_chosen(
    folder: Path, options: list[str], expected: list[OutboxMessage], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _history(folder, "--json", *options) == 0
    assert capsys.readouterr().out.splitlines() == [alert.payload.decode() for alert in expected]


def test_reading_changes_and_leaves_nothing(folder: Path) -> None:
    before = _files(folder)
    names = {path.name for path in folder.iterdir()}
    assert _history(folder) == 0
    assert _files(folder) == before
    assert {path.name for path in folder.iterdir()} == names


def test_where_there_is_no_file_none_is_made_and_a_hint_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _history(tmp_path / "none", "--name", "other") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"no alerts in {tmp_path / 'none'}: no monitor of this name" in printed.err
    assert "--state" in printed.err
    assert not (tmp_path / "none").exists()


def test_where_there_is_no_such_alert_a_hint_is_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _history(folder, "--device", "c", "--json") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"no alerts of c in {folder} since ")
    assert len(printed.err.splitlines()) == 1


def test_an_alert_of_an_unknown_version_is_printed_as_such(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(folder, "monitor")
    save(store, published=[OutboxMessage("x", "a", time.time(), "topic", json.dumps({"other": 1}).encode())])
    store.close()
    assert _history(folder) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("not an alert: ")


def test_a_file_that_is_damaged_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "monitor.db").write_bytes(b"no database" * 1000)
    assert _history(tmp_path) == 2
    printed = capsys.readouterr().err
    assert printed == f"monitor: {tmp_path / 'monitor.db'} cannot be read: file is not a database.\n"


@pytest.mark.parametrize("since", ["", "h", "24", "-1h", "1.5h", "24 hours"])
def test_a_time_without_a_unit_is_refused(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["history", f"--since={since}"])
    assert stopped.value.code == 2
    assert "such as 24h" in capsys.readouterr().err


def _hour(ago: int) -> int:
    return int(time.time() // 3600) - ago


ROWS = [
    HourlyRow(_hour(2), "a", "normal", 100, 80_000),
    HourlyRow(_hour(2), "a", "abnormal", 20, 10_000),
    HourlyRow(_hour(2), "b", "withheld", 7, 0),
]
OLD = HourlyRow(_hour(50), "a", "normal", 1, 1000)


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What two workers have counted, one of whom handed a device over to the other."""
    for worker, rows in enumerate((ROWS, ROWS[:1])):
        store = SqliteStore(tmp_path, "monitor", worker)
        save(store, hourly=rows)
        if worker:
            with monkeypatch.context() as then:
                then.setattr("time.time", lambda: 3600.0 * OLD.hour)
                save(store, hourly=[OLD])
        store.close()
    return tmp_path


def test_beats_are_printed_hour_by_hour(counted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _history(counted, "--beats") == 0
    start = time.strftime("%Y-%m-%d %H:%M", time.localtime(3600 * ROWS[0].hour))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["hour", "device", "bpm", "normal", "abnormal", "withheld"],
        [*start.split(), "a", "78", "200", "20", "0"],
        [*start.split(), "b", "-", "0", "0", "7"],
    ]


def test_hours_are_printed_as_json_of_one_device_and_a_longer_time(
    counted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _history(counted, "--beats", "--json", "--device", "a", "--since", "3d") == 0
    old, new = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert old == {"hour": old["hour"], "device": "a", "beats": {"normal": 1}, "heart_rate_bpm": 60.0}
    assert new["beats"] == {"normal": 200, "abnormal": 20}
    assert old["hour"] < new["hour"] == time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(3600 * ROWS[0].hour))


def test_where_no_beats_were_counted_a_hint_is_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _history(folder, "--beats") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"no beats in {folder} since ")


def test_an_alert_of_a_device_whose_clock_is_wrong_stands_where_it_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SqliteStore(tmp_path, "monitor")
    right, wrong = _alert("right", 60.0), _alert("wrong", 50.0)
    shown = wire.decode(wrong.payload, wire.Alert)
    shown = msgspec.structs.replace(shown, time_s=shown.time_s - HOUR_S, completed_s=shown.completed_s - HOUR_S)
    silent = msgspec.structs.replace(shown, id="s", device="gone", kind="device-silent")
    kept = [replace(wrong, id=one.id, device=one.device, payload=wire.encode(one)) for one in (shown, silent)]
    save(store, published=[right, *kept])
    store.close()
    assert _history(tmp_path) == 0
    lines = {line.split()[2]: line for line in capsys.readouterr().out.splitlines()}
    heard, own = (time.localtime(one) for one in (wrong.published_s, shown.time_s))
    assert lines["wrong"].startswith(time.strftime("%Y-%m-%d %H:%M:%S", heard))
    assert lines["wrong"].endswith(time.strftime("(its clock: %Y-%m-%d %H:%M:%S)", own))
    assert "its clock" not in lines["right"] + lines["gone"]
