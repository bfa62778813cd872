"""Whether a measurement became worse since an earlier one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest

from monitor.__main__ import main
from monitor.tools.bench.report import (
    Capacity,
    Change,
    Cost,
    Latency,
    Ratio,
    Report,
    Trial,
    Versus,
    compare,
    figures,
    format_changes,
    read_report,
    unlike,
)

MACHINE = {"cpu": "Abacus x 2", "ecgwatch": "0.1.0"}


def report(scale: float = 1.0, machine: dict[str, str] | None = None, devices: int = 4000) -> Report:
    """All parts, every cost `scale` times as high."""
    trial = Trial(
        devices=1000, why_not=None, sent=15_000, taken=15_000, alert_ms={"n": 9, "p50": 3 * scale, "p99": 9 * scale},
        load_late_ms=1.0, monitor_cpu=0.1 * scale, broker_cpu=0.1, load_cpu=0.05, rss_per_device=30e3 * scale,
    )  # fmt: skip
    return Report(
        machine=machine or MACHINE,
        date="2026-01-01T00:00:00+00:00",
        latency=Latency(
            devices=8, packet_s=0.2, seconds=30, broker="mosquitto",
            milliseconds={"decode": {"n": 5, "p50": 0.1 * scale, "p99": 0.3 * scale, "max": 9.0}},
        ),
        versus=Versus(
            devices=100, seconds=60, rival_devices=10, rate_hz=250, rounds=1, versions={}, missing=[],
            costs=[
                Cost(name="engine", us_per_device_second=30 * scale, lowest=1, highest=2, rival=False),
                Cost(name="sleepecg and PyTorch", us_per_device_second=900, lowest=1, highest=2, rival=True,
                     ahead=Ratio(median=30 / scale, lowest=1, highest=99)),
            ],
        ),
        capacity=Capacity(
            devices=devices, at_least=False, limit="late", broker="mosquitto", workers=1, packet_s=1, seconds=15,
            remembers=True, trials=[trial], shares={"full": trial},
        ),
    )  # fmt: skip


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(msgspec.json.encode(report()))
    assert read_report(path) == report()


def test_every_part_has_figures_and_none_of_them_is_the_highest_of_all() -> None:
    names = [figure.name for figure in figures(report())]
    assert names == [
        "decode, p50",
        "decode, p99",
        "engine",
        "ahead of sleepecg and PyTorch",
        "capacity",
        "monitor with 1000 devices",
        "alert at full load, p99",
        "memory of a device",
    ]


def test_twice_the_cost_is_twice_as_bad_and_half_of_it_half() -> None:
    for scale in (2.0, 0.5):
        changes = compare(report(), report(scale, devices=round(4000 / scale)))
        assert [change.worse for change in changes] == pytest.approx([scale] * 8)
    assert {round(change.ratio, 2) for change in compare(report(), report(2.0, devices=2000))} == {2.0, 0.5}


def test_a_machine_that_carries_nothing_any_more_is_worse_than_any_limit() -> None:
    change = Change("capacity", "devices", 4000.0, 0.0, more_is_better=True)
    assert math.isinf(change.worse)
    assert "capacity" in [change.name for change in compare(report(), report(devices=0))]


def test_only_what_both_have_measured_is_compared() -> None:
    only_latency = msgspec.structs.replace(report(), versus=None, capacity=None)
    assert [change.name for change in compare(only_latency, report())] == ["decode, p50", "decode, p99"]


def test_another_machine_version_or_method_is_said() -> None:
    assert unlike(report(), report()) == []
    told = unlike(report(), report(machine={"cpu": "Abacus x 2", "ecgwatch": "0.2.0", "python": "4"}))
    assert told == ["ecgwatch: 0.1.0 then, 0.2.0 now", "python: ? then, 4 now"]
    capacity = report().capacity
    assert capacity is not None
    more = msgspec.structs.replace(report(), capacity=msgspec.structs.replace(capacity, workers=4))
    assert unlike(report(), more) == ["capacity, workers: 1 then, 4 now"]


def test_what_became_too_bad_is_marked_in_the_table() -> None:
    lines = format_changes(compare(report(), report(1.3)), 1.25).splitlines()
    assert [line.endswith("WORSE") for line in lines] == [False] + [True] * 4 + [False] + [True] * 3


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scale: float, *words: str) -> int:
    """Run the command where it would measure a report of that scale, beside one of 1."""
    path = tmp_path / "then.json"
    path.write_bytes(msgspec.json.encode(report()))
    monkeypatch.setattr("monitor.tools.bench.run.measure", lambda _: report(scale))
    return main(["bench", "--baseline", str(path), *words])


def test_the_command_ends_with_1_and_names_what_became_too_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, 1.3) == 1
    shown = capsys.readouterr()
    assert "now/then" in shown.out
    assert shown.err.startswith("more than 1.25 times as bad: decode, p50, ")
    assert run(monkeypatch, tmp_path, 1.3, "--worse-than", "1.5") == 0
    assert "as bad" not in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, 0.5) == 0


def test_json_stays_alone_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, 2, "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["machine"] == MACHINE
    assert "now/then" in shown.err


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"machine": 1}', "\udcff"])
def test_a_baseline_that_is_none_is_one_line_before_anything_is_measured(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "then.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert main(["bench", "--baseline", str(path)]) == 2
    said = capsys.readouterr().err
    assert "is no report of a bench" in said
    assert said.count("\n") == 1
