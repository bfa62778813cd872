"""What a bench has measured, as one HTML page that needs nothing else. `monitor.tools.bench.chart` draws the charts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template

from monitor.tools.bench.chart import BLUE, GREY, RED, Bar, Range, Series, bars, lines, ranges
from monitor.tools.bench.report import Capacity, Latency, Report, Trial, Versus

MARKS = ("p50", "p90", "p95", "p99", "max")
DISCLAIMER = "Research software, not a medical device."


def page(report: Report, methods: Mapping[str, Sequence[str]], limit_ms: float) -> str:
    """Write the page.

    Parameters
    ----------
    report
        What was measured.
    methods
        How, in sentences, by the name of the part.
    limit_ms
        How late an alert may come.
    """
    cards, sections = [], []
    if report.capacity is not None:
        cards.append(_capacity_card(report.capacity))
        sections.append(("capacity", "How many devices", _capacity_html(report.capacity, limit_ms)))
    if report.versus is not None:
        cards.append(_versus_card(report.versus))
        sections.append(("versus", "Beside other software", _versus_html(report.versus)))
    if report.latency is not None:
        cards.append(_latency_card(report.latency))
        sections.append(("latency", "How fast", _latency_html(report.latency)))
    body = [
        f'<section id="{name}"><h2>{heading}</h2>{content}{_method_html(methods.get(name, ()))}</section>'
        for name, heading, content in sections
    ]
    machine = _table(("", ""), [[name, value] for name, value in report.machine.items()], words=(0, 1))
    body.append(f'<section id="machine"><h2>Measured on</h2>{machine}</section>')
    return Template(_read("page.html")).substitute(
        style=_read("page.css"),
        disclaimer=escape(DISCLAIMER),
        date=escape(report.date),
        cards="".join(cards),
        body="\n".join(body),
    )


def escape(text: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(text), quote=True)


def _card(number: str, unit: str, *notes: str) -> str:
    lines_ = "".join(f"<span>{escape(note)}</span>" for note in notes)
    return f"<article><b>{escape(number)}</b> {escape(unit)}{lines_}</article>"


def _method_html(sentences: Sequence[str]) -> str:
    return f'<p class="note">{escape(" ".join(sentences))}</p>' if sentences else ""


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,), bad: Sequence[int] = ()
) -> str:
    """A table that scrolls by itself; some of its columns are words, some of its rows bad."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=word' if number in words else ''}>{escape(cell)}</{tag}>"
            for number, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', headings)}</tr></thead>" if any(headings) else ""
    body = "".join(
        f"<tr{' class=bad' if number in bad else ''}>{cells('td', row)}</tr>" for number, row in enumerate(rows)
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _figures(*charts: str) -> str:
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts)}</div>'


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"  # noqa: RUF001 - a dash, as tables have it


def _latency_card(latency: Latency) -> str:
    row = latency.milliseconds.get("whole path, alert", {})
    return _card(
        f"{_number(row.get('p50'))} ms", "from packet to alert", f"median; 99 % within {_number(row.get('p99'))} ms",
        f"{latency.devices} devices, packets of {latency.packet_s:g} s, through {latency.broker}",
    )  # fmt: skip


def _latency_html(latency: Latency) -> str:
    rows = latency.milliseconds
    drawn = [
        Range(name, [row[mark] for mark in MARKS if mark in row], f"p99 {_number(row.get('p99'), 2)}")
        for name, row in rows.items()
    ]
    table = [[name, *(_number(row.get(mark), 3) for mark in MARKS), _number(row["n"], 0)] for name, row in rows.items()]
    chart = ranges("Latency: dots are p50, p90, p95, p99 and, grey, the highest", "milliseconds", drawn)
    return _figures(chart) + _table(["milliseconds", *MARKS, "n"], table)


def _versus_card(versus: Versus) -> str:
    engine = next(cost for cost in versus.costs if cost.name == "engine")
    notes = [
        f"{cost.ahead.median:.0f} times {cost.name}" for cost in versus.costs if cost.ahead and "alone" not in cost.name
    ]
    return _card(f"{engine.devices_per_core:,.0f}", "devices a core", *(notes or versus.missing))


def _versus_html(versus: Versus) -> str:
    drawn = [
        Bar(cost.name, cost.devices_per_core, f"{cost.devices_per_core:,.0f}", GREY if cost.rival else BLUE)
        for cost in versus.costs
    ]
    table = [
        [
            cost.name, _number(cost.devices_per_core, 0), _number(cost.devices_per_core * versus.rate_hz, 0),
            f"{cost.us_per_device_second:,.4g}", f"{cost.lowest:,.4g} to {cost.highest:,.4g}",
            "" if cost.ahead is None else f"{cost.ahead.median:.1f} x",
            "" if cost.ahead is None else f"{cost.ahead.lowest:.1f} to {cost.ahead.highest:.1f}",
        ]
        for cost in versus.costs
    ]  # fmt: skip
    heads = ["one core", "devices", "samples/s", "µs/device-s", "range", "engine carries", "range"]
    chart = bars("Devices that one core watches in real time", "devices", drawn)
    missing = "".join(f"<p>{escape(reason)}</p>" for reason in versus.missing)
    return _figures(chart) + _table(heads, table) + missing


def _capacity_card(capacity: Capacity) -> str:
    full = capacity.shares.get("full")
    late = [] if full is None else [f"99 % of alerts within {_number(full.alert_ms.get('p99'), 0)} ms at full load"]
    unit = "devices at least" if capacity.at_least else "devices on this machine"
    workers = "1 worker" if capacity.workers == 1 else f"{capacity.workers} workers"
    return _card(
        f"{capacity.devices:,}",
        unit,
        *late,
        f"packets of {capacity.packet_s:g} s, {workers}, through {capacity.broker}",
    )


def _capacity_html(capacity: Capacity, limit_ms: float) -> str:
    trials = capacity.trials
    quantiles = [
        Series(name, [(trial.devices, trial.alert_ms[name]) for trial in trials if name in trial.alert_ms], color)
        for name, color in (("p50", GREY), ("p99", BLUE))
    ]
    busy = (("monitor", "monitor_cpu", BLUE), ("broker", "broker_cpu", RED), ("load", "load_cpu", GREY))
    charts = [
        lines("Alerts: from packet to subscriber", "devices", "ms", quantiles, log_y=True, limit=limit_ms),
        lines(
            "What the monitor takes of a core for a device", "devices", "µs a second",
            _series(trials, (("processor time", "us_per_device_second", BLUE),)),
        ),
        lines(
            "Which processes keep cores busy", "devices", "cores",
            _series(trials, busy),
        ),
    ]  # fmt: skip
    limit = "" if capacity.limit is None else f"<p>Beyond that: {escape(capacity.limit)}.</p>"
    bad = [number for number, trial in enumerate(trials) if trial.why_not is not None]
    heads = [
        "devices", "alert p50", "p99 ms", "n", "load late ms", "monitor", "broker", "load", "other", "µs/device-s",
        "kB/device", "fails",
    ]  # fmt: skip
    shares = [
        [f"{name} load", f"{trial.devices:,}", _number(trial.alert_ms.get("p50")), _number(trial.alert_ms.get("p99"))]
        for name, trial in capacity.shares.items()
    ]
    return (
        limit
        + _figures(*charts)
        + (_table(["at", "devices", "alert p50", "p99 ms"], shares) if shares else "")
        + _table(heads, [_trial_row(trial) for trial in trials], words=(11,), bad=bad)
    )


def _series(trials: Sequence[Trial], named: Sequence[tuple[str, str, str]]) -> list[Series]:
    """A line for each field of the trials that is known."""
    series = []
    for name, field, color in named:
        values = [(trial.devices, getattr(trial, field)) for trial in trials]
        series.append(Series(name, [(x, y) for x, y in values if y is not None], color))
    return [one for one in series if one.points]


def _trial_row(trial: Trial) -> list[str]:
    rss = None if trial.rss_per_device is None else trial.rss_per_device / 1000
    return [
        f"{trial.devices:,}", _number(trial.alert_ms.get("p50")), _number(trial.alert_ms.get("p99")),
        _number(trial.alert_ms["n"], 0), _number(trial.load_late_ms), _number(trial.monitor_cpu, 3),
        _number(trial.broker_cpu, 3), _number(trial.load_cpu, 3), _number(trial.other_cpu, 2),
        _number(trial.us_per_device_second), _number(rss),
        trial.why_not or "",
    ]  # fmt: skip


def _read(name: str) -> str:
    """Text of a file of this package."""
    return files("monitor.tools.bench").joinpath(name).read_text(encoding="utf-8")
