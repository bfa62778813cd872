"""Measures what is asked for, one after the other, and prints the result."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from monitor.panel import Panel, load_panel
from monitor.service.settings import VERSION
from monitor.tools.bench import capacity, harness, latency, versus
from monitor.tools.bench.capacity import CapacitySettings, measure_capacity
from monitor.tools.bench.latency import LatencySettings, measure_latency
from monitor.tools.bench.page import page
from monitor.tools.bench.report import Report, compare, format_changes, read_report, unlike
from monitor.tools.bench.versus import VersusSettings, measure_versus

WIDTH = 110
"""Columns of the text below the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What to measure, with what, and what to make of it.

    Raises
    ------
    ValueError
        A page that could not be written after minutes of measuring, or a limit that nothing can keep.
    """

    latency: LatencySettings | None = None
    versus: VersusSettings | None = None
    capacity: CapacitySettings | None = None
    setup: harness.Setup = field(default_factory=harness.Setup)
    as_json: bool = False
    html: Path | None = None
    """Where to write a page about it."""
    baseline: Path | None = None
    """JSON of an earlier run to compare with."""
    worse_than: float = 1.25
    """So many times as bad as then is too bad."""

    def __post_init__(self) -> None:
        if self.html is not None and (self.html.is_dir() or not self.html.parent.is_dir()):
            raise ValueError(f"No page can be written to {self.html}: expected a file in a directory that is there.")
        if not self.worse_than >= 1:
            raise ValueError(f"Worse than: got {self.worse_than:g}, expected 1 or more.")


def run_bench(settings: BenchSettings) -> int:
    """Measure, print the result, and return the exit status: 1 if a figure is worse than allowed.

    Raises
    ------
    ConnectionError
        The broker, the monitor or the simulator did not start.
    ValueError
        Settings that cannot work, or a baseline that is none.
    """
    baseline = None if settings.baseline is None else read_report(settings.baseline)
    report = measure(settings)
    print(msgspec.json.encode(report).decode() if settings.as_json else format_report(report))
    if settings.html is not None:
        settings.html.write_text(page(report, methods(report), capacity.LATEST_MS), encoding="utf-8")
    return 0 if baseline is None else _judge(baseline, report, settings)


def measure(settings: BenchSettings) -> Report:
    """Measure what is asked for, one after the other."""
    setup = settings.setup
    panel = load_panel(setup.model, setup.shape, setup.provider)
    return Report(
        machine=describe_machine(panel),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        latency=None if settings.latency is None else measure_latency(setup, settings.latency, panel),
        versus=None if settings.versus is None else measure_versus(settings.versus, panel),
        capacity=None if settings.capacity is None else measure_capacity(setup, settings.capacity),
    )


def describe_machine(panel: Panel) -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "cpu": harness.cpu_name(),
        "python": platform.python_version(),
        "ecgwatch": VERSION,
        "onnxruntime": version("onnxruntime"),
        "model": panel.info.name if panel.shape is None else f"{panel.info.name} and {panel.shape.info.name}",
        "provider": panel.main.provider,
    }


def format_report(report: Report) -> str:
    """All that was measured, for people."""
    parts, how = ["  ".join(f"{key} {value}" for key, value in report.machine.items())], methods(report)
    if report.latency is not None:
        parts += [latency.format_table(report.latency.milliseconds), _fill(how["latency"])]
    if report.versus is not None:
        parts += [versus.format_versus(report.versus), _fill(how["versus"])]
    if report.capacity is not None:
        parts += [capacity.format_capacity(report.capacity), _fill(how["capacity"])]
    return "\n\n".join(parts)


def methods(report: Report) -> dict[str, list[str]]:
    """How the parts were measured, in sentences."""
    parts = {}
    if report.latency is not None:
        parts["latency"] = latency.explain(report.latency)
    if report.versus is not None:
        parts["versus"] = versus.explain(report.versus)
    if report.capacity is not None:
        parts["capacity"] = capacity.explain(report.capacity)
    return parts


def _fill(sentences: Sequence[str]) -> str:
    """Sentences in lines that a terminal has room for."""
    return "\n".join(textwrap.fill(sentence, WIDTH) for sentence in sentences)


def _judge(baseline: Report, report: Report, settings: BenchSettings) -> int:
    """Compare with an earlier run, and print which figures became worse than allowed."""
    out = sys.stderr if settings.as_json else sys.stdout  # the JSON stays alone
    changes = compare(baseline, report)
    if not changes:
        raise ValueError(f"{settings.baseline} has none of the figures that were measured now.")
    print(f"\nBeside {settings.baseline}, {baseline.date}", file=out)
    for difference in unlike(baseline, report):
        print(f"not the same: {difference}", file=out)
    print(format_changes(changes, settings.worse_than), file=out)
    worse = [change for change in changes if change.worse > settings.worse_than]
    if worse:
        named = ", ".join(change.name for change in worse)
        print(f"more than {settings.worse_than:g} times as bad: {named}", file=sys.stderr)
    return 1 if worse else 0
