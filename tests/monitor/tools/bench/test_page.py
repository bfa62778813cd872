"""The page of a bench, and the charts on it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.__main__ import main
from monitor.tools.bench.chart import Axis, Bar, Range, Series, bars, format_value, lines, ranges
from monitor.tools.bench.page import page
from monitor.tools.bench.report import Report
from monitor.tools.bench.run import methods
from tests.monitor.tools.bench.test_report import MACHINE, report

VOID = {"meta", "br"}
NASTY = "<script>alert('&\"')</script>"


class Reader(HTMLParser):
    """Checks that tags are closed in order, and keeps the words and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def show(what: Report) -> str:
    return page(what, methods(what), 250.0)


def texts(chart: str) -> list[str]:
    """All words of a chart, which must be well-formed XML."""
    return [element.text or "" for element in ET.fromstring(chart).iter() if element.tag.endswith("text")]


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text = show(report())
    assert "script" not in Reader(text).tags
    assert re.findall(r"\b(?:src|href|url)\b\s*[=(]", text) == []


def test_the_page_shows_the_parts_that_were_run_and_no_others() -> None:
    assert {'id="latency"', 'id="versus"', 'id="capacity"'} <= set(re.findall(r'id="\w+"', show(report())))
    alone = show(msgspec.structs.replace(report(), latency=None, capacity=None))
    assert re.findall(r'<section id="(\w+)"', alone) == ["versus", "machine"]


def test_the_page_shows_figures_machine_and_method() -> None:
    words = " ".join(Reader(show(report())).words)
    for expected in ("4,000", "33,333", "30 times sleepecg and PyTorch", "Abacus x 2", "2026-01-01", "not a medical"):
        assert expected in words
    assert all(sentence.split(".")[0] in words for sentences in methods(report()).values() for sentence in sentences)


def test_every_cell_of_a_table_has_its_heading() -> None:
    tables = re.findall(r"<table><thead>(.*?)</thead><tbody>(.*?)</tbody>", show(report()))
    assert len(tables) == 4
    for head, body in tables:
        assert {row.count("<td") for row in body.split("</tr>")[:-1]} == {head.count("<th")}


def test_whatever_stands_in_a_report_is_text() -> None:
    nasty = report(machine=MACHINE | {NASTY: NASTY})
    capacity, versus = nasty.capacity, nasty.versus
    assert capacity is not None
    assert versus is not None
    nasty = msgspec.structs.replace(
        nasty,
        capacity=msgspec.structs.replace(capacity, broker=NASTY, limit=NASTY),
        versus=msgspec.structs.replace(versus, missing=[NASTY]),
    )
    read = Reader(show(nasty))
    assert "script" not in read.tags
    assert NASTY in read.words


def test_what_was_not_measured_is_a_dash() -> None:
    what = report()
    assert what.capacity is not None
    trial = msgspec.structs.replace(what.capacity.trials[0], alert_ms={"n": 0}, monitor_cpu=None, rss_per_device=None)
    capacity = msgspec.structs.replace(what.capacity, trials=[trial], shares={}, devices=0)
    assert "–" in Reader(show(msgspec.structs.replace(what, capacity=capacity))).words  # noqa: RUF001


@given(values=st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=8), log=st.booleans())
def test_every_value_has_a_place_on_an_axis_and_its_ticks_are_few(values: list[float], log: bool) -> None:
    axis = Axis.over(values, 10, 110, log=log)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 110 for place in places)
    assert 1 <= len(axis.ticks()) <= 12


def test_an_axis_that_goes_up_begins_below() -> None:
    axis = Axis.over([100.0], 300, 0, log=False)
    assert axis.place(0) == 300
    assert axis.place(100) < 100


def test_bars_are_as_long_as_their_values() -> None:
    chart = bars("Bars", "devices", [Bar("all", 200, "200"), Bar("half", 100, "100")])
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert {"Bars", "devices", "all", "half", "200", "100"} <= set(texts(chart))


def test_lines_name_their_series_and_the_limit() -> None:
    chart = lines("Lines", "devices", "ms", [Series("p99", [(100, 3), (1000, 400)])], log_y=True, limit=250)
    assert {"Lines", "devices", "ms", "p99", "limit 250", "1k"} <= set(texts(chart))
    assert chart.count("<circle") == 2


def test_ranges_have_a_mark_for_each_quantile() -> None:
    chart = ranges("Ranges", "ms", [Range("decode", [1, 2, 3], "p99 2"), Range("nothing", [], "-")])
    assert chart.count("<circle") == 3
    assert {"decode", "nothing", "p99 2"} <= set(texts(chart))


def test_words_in_charts_are_text() -> None:
    for chart in (
        bars(NASTY, NASTY, [Bar(NASTY, 1, NASTY)]),
        lines(NASTY, NASTY, NASTY, [Series(NASTY, [(1, 1)])]),
        ranges(NASTY, NASTY, [Range(NASTY, [1], NASTY)]),
    ):
        assert texts(chart).count(NASTY) >= 3


def test_charts_of_nothing_are_charts() -> None:
    for chart in (bars("B", "x", []), lines("L", "x", "y", []), ranges("R", "x", [])):
        assert texts(chart)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.2, "0.2"), (250, "250"), (1000, "1k"), (2.5e6, "2.5M"), (3e9, "3G")]
)
def test_values_are_short(value: float, text: str) -> None:
    assert format_value(value) == text


def test_the_command_writes_the_page_beside_its_usual_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monitor.tools.bench.run.measure", lambda _: report())
    assert main(["bench", "--html", str(tmp_path / "bench.html")]) == 0
    assert "This machine carries 4,000 devices" in capsys.readouterr().out
    assert (tmp_path / "bench.html").read_text(encoding="utf-8") == show(report())


def test_a_page_that_cannot_be_written_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path, tmp_path / "none" / "bench.html"):
        assert main(["bench", "--html", str(path)]) == 2
        assert "No page can be written" in capsys.readouterr().err
