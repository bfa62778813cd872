"""How many devices a machine carries: how that is searched, judged and told."""

from __future__ import annotations

import json
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import counters
from monitor.__main__ import main
from monitor.broker import connection
from monitor.tools.bench import capacity, harness
from monitor.tools.bench.capacity import (
    NEAR,
    CapacitySettings,
    format_capacity,
    measure_capacity,
    search,
    summarise,
    with_judgement,
)
from monitor.tools.bench.harness import Setup
from monitor.tools.bench.report import Capacity, Trial

GOOD = Trial(
    devices=1000, why_not=None, sent=15_000, taken=15_000, alert_ms={"n": 90, "p50": 3.0, "p99": 9.0},
    load_late_ms=4.0, monitor_cpu=0.1, broker_cpu=None, load_cpu=0.05, rss_per_device=50e3,
)  # fmt: skip


def change(**fields: Any) -> Trial:
    return msgspec.structs.replace(GOOD, **fields)


@given(limit=st.integers(0, 200_000), start=st.integers(1, 5000), most=st.integers(1, 200_000))
def test_the_search_comes_near_the_limit_in_few_steps(limit: int, start: int, most: int) -> None:
    tried: list[int] = []

    def carries(devices: int) -> bool:
        tried.append(devices)
        return devices <= limit

    found, too_many = search(carries, start, most)
    assert max(tried) <= most
    assert len(tried) == len(set(tried)) < 45
    assert found == 0 or found in tried
    assert found <= limit
    if too_many is None:
        assert found == most
    else:
        assert limit < too_many <= max(NEAR * found, found + 1)


def test_the_search_doubles_and_then_halves() -> None:
    tried: list[int] = []

    def carries(devices: int) -> bool:
        tried.append(devices)
        return devices <= 5000

    assert search(carries, 1000, 20_000) == (4757, 5188)
    assert tried == [1000, 2000, 4000, 8000, 5657, 4757, 5188]


def test_a_load_without_any_trouble_is_carried() -> None:
    counts = {"packets": 15_000, "beats normal": 18_000, "withheld: flat": 3, "alerts": 90, "gaps": 0}
    assert with_judgement(GOOD, 0, counts).why_not is None
    assert with_judgement(change(alert_ms={"n": 0}), 0, counts).why_not is None


@pytest.mark.parametrize(
    ("trial", "unsent", "counts", "told"),
    [
        (change(taken=14_990), 0, {}, "10 of 15000 packets not taken 1 s after the last"),
        (GOOD, 7, {}, "7 packets unsent, the broker had no room"),
        (GOOD, 0, {"gaps": 2}, "2 gaps"),
        (change(alert_ms={"n": 9, "p99": 251.0}), 0, {}, "alerts 251 ms late (p99)"),
        (change(load_late_ms=120.0), 0, {}, "the load generator itself 120 ms late (p99)"),
        (change(taken=0), 0, {"gaps": 1}, "15000 of 15000 packets not taken 1 s after the last; 1 gaps"),
    ],
)  # fmt: skip
def test_a_load_is_not_carried_for_a_reason(trial: Trial, unsent: int, counts: dict[str, int], told: str) -> None:
    assert with_judgement(trial, unsent, counts).why_not == told


@pytest.mark.parametrize("name", counters.TROUBLE)
def test_no_trouble_is_overlooked(name: str) -> None:
    assert with_judgement(GOOD, 0, {name: 1}).why_not == f"1 {name}"


def search_with(monkeypatch: pytest.MonkeyPatch, failing: list[int], **settings: Any) -> tuple[Capacity, list[int]]:
    """Search on a machine that fails a load as often as it is listed."""
    left, played = list(failing), []

    def play(_setup: Setup, _settings: CapacitySettings, devices: int) -> Trial:
        played.append(devices)
        fails = devices in left
        if fails:
            left.remove(devices)
        return change(devices=devices, why_not="late" if fails else None)

    monkeypatch.setattr(capacity, "play", play)
    return measure_capacity(Setup(), CapacitySettings(**settings)), played


def test_what_fails_once_is_tried_again_and_what_is_known_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found, played = search_with(monkeypatch, [200], devices=100, most=200)
    assert (found.devices, found.at_least, found.limit) == (200, True, None)
    assert played == [100, 200, 200, 160]
    assert {name: trial.devices for name, trial in found.shares.items()} == {"half": 100, "80 %": 160, "full": 200}
    assert [trial.devices for trial in found.trials] == [100, 160, 200]


def test_the_reason_is_that_of_the_lowest_load_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    found, played = search_with(monkeypatch, [*range(101, 201), *range(101, 201)], devices=100)
    assert (found.devices, found.at_least, found.limit) == (100, False, "late")
    assert played[:3] == [100, 200, 200]
    assert "Beyond that: late." in summarise(found)


def test_a_machine_that_carries_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = search_with(monkeypatch, [1, 1, 2, 2], devices=2)
    assert (found.devices, found.shares) == (0, {})
    assert summarise(found).startswith("This machine carries none of the loads that were tried")
    assert "fails: late" in format_capacity(found)


def test_the_table_has_a_line_for_each_load_and_shows_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = search_with(monkeypatch, [], devices=100, most=1000)
    lines = format_capacity(found).splitlines()
    assert lines[0].startswith("This machine carries 1,000 devices, in packets of 1 s, through ")
    rows = [line.split() for line in lines if line.split()[:1] in (["100"], ["1000"])]
    assert [row[0] for row in rows] == ["100", "1000"]
    assert rows[0][1:] == ["3.0", "9.0", "90", "4.0", "0.100", "-", "0.050", "-", "1000.0", "50.0"]
    assert " full load,   1000 devices: alerts p99 9.0 ms" in lines


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "must be more than 0"),
        (["--seconds", "0"], "must be more than 0"),
        (["--most", "0"], "Devices must be 1 to 100000: got 1000 to 0."),
        (["--devices", "0"], "Devices must be 1 to 100000: got 0 to 20000."),
        (["--most", "100001"], "Devices must be 1 to 100000"),
        (["--packet", "0.001"], "Packets must last 0.004 to"),
        (["--broker", "mqtts://127.0.0.1"], "No TLS here"),
        (["--broker", "mqtt://127.0.0.1:1"], "No broker"),
    ],
)
def test_error_is_one_line_and_exit_status_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--capacity", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_load_that_cannot_be_played_to_its_end_is_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("The load generator failed: the broker has gone.")

    monkeypatch.setattr(capacity, "_load", fail)
    trial = capacity.play(Setup(), CapacitySettings(remembers=False), 3)
    assert (trial.devices, trial.why_not) == (3, "The load generator failed: the broker has gone.")


def test_a_device_is_played_measured_and_tidied_away(
    broker_url: connection.BrokerUrl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capacity, "WARM_UP_S", 0.5)
    words = ["--devices", "1", "--most", "1", "--seconds", "1", "--packet", "0.2", "--broker", str(broker_url)]
    assert main(["bench", "--capacity", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"cpu", "python", "ecgwatch"} <= set(told["machine"])
    assert told["capacity"]["broker"] == str(broker_url)
    [trial] = told["capacity"]["trials"]
    assert trial["sent"] >= trial["taken"] > 0
    assert _retained(broker_url, "ecgwatch-bench/#") == []


def _retained(url: connection.BrokerUrl, topics: str) -> list[str]:
    """Topics on which something is retained."""
    found: list[str] = []
    connected = threading.Event()
    client = connection.make_client(url, "ecgwatch-test-retained")
    client.on_message = lambda _client, _data, message: found.append(message.topic)
    connection.connect(client, url)
    client.on_connect = lambda *_: connected.set()
    client.loop_start()
    assert connected.wait(10)
    client.subscribe(topics)
    marker = "ecgwatch-bench/marker"
    client.publish(marker, b"", qos=1).wait_for_publish(10)
    harness.leave(client)
    return [topic for topic in found if topic != marker]
