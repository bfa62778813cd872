"""A Holter-style report of a recording: one self-contained HTML page, or a PDF for printing.

Every number in it follows from the recording's samples, beats and alerts (`analysis.summary`); what is not known is
left out or "-". The limits of the method stand on the first page.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.examine import Episode, Findings
from analysis.strip import MARK, Strip, cut_strip, draw_strip, make_figure
from analysis.summary import MINUTE_S, Summary
from recordings.export import beside
from recordings.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".html", ".pdf")
MOST_STRIPS_A_KIND = 2
MOST_EPISODES = 60
"""Lines in the table of alerts; the longest ones are kept."""
LIMITS = (
    "Research software, not a medical device. An absence of alerts does not mean an absence of disease.",
    "Everything here was found by a program in one lead. No person has looked at it; a diagnosis needs one who does.",
    "Beats are named by a trained model. It errs: more often on supraventricular beats than on ventricular ones, and "
    "more often in people, leads and electrodes unlike those it was trained on: see 'ecgwatch models'.",
    "Beats in noise are withheld: they count as beats but as no class. False or missed beats make false RR intervals.",
    "ST segments, QT intervals, P waves, pacemakers, and whatever needs more than one lead, are not judged.",
)
A4 = (8.27, 11.69)


@dataclass(frozen=True, eq=False)
class Report:
    """What stands in a report, for either kind of page."""

    title: str
    period: str
    facts: tuple[tuple[str, str], ...]
    hours: tuple[tuple[str, ...], ...]
    """Header and rows."""
    episodes: tuple[tuple[str, ...], ...]
    """Header and rows."""
    left_out: int
    """Alerts that are not in the table."""
    strips: tuple[Strip, ...]
    notes: tuple[str, ...]
    summary: Summary
    start_s: float | None


def make_report(
    recording: Recording, findings: Findings, summary: Summary, title: str, comments: Sequence[str] = ()
) -> Report:
    """Put a report together."""
    begin = _moment(recording.start_s, 0.0, dated=True)
    end = _moment(recording.start_s, summary.seconds, dated=True)
    longest = sorted(summary.episodes, key=lambda one: -_length(one, summary.seconds))[:MOST_EPISODES]
    shown = sorted(longest, key=lambda one: one.begin_s)
    return Report(
        title,
        f"{begin} to {end}" + (" (UTC)" if recording.start_s is not None else ""),
        tuple(_facts(recording, findings, summary)),
        tuple(_hours(recording, findings, summary)),
        tuple(_episode_rows(shown, recording, summary)),
        len(summary.episodes) - len(shown),
        tuple(_strips(recording, findings, summary)),
        (*recording.notes, *comments),
        summary,
        recording.start_s,
    )


def write_report(path: Path, report: Report) -> None:
    """Write a report as .html or .pdf, whole or not at all.

    Raises
    ------
    ValueError
        The name ends otherwise, or `matplotlib` is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"Report: got {path.name!r}, expected a name that ends in {' or '.join(SUFFIXES)}.")
    check_installed()
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as draft:
        if suffix == ".html":
            draft.write_text(to_html(report), encoding="utf-8")
        else:
            write_pdf(draft, report)


def check_installed() -> None:
    """Raise `ValueError` if what draws is not installed."""
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError:
        raise ValueError("Pictures need the package matplotlib: pip install 'ecgwatch[report]'.") from None


def _facts(recording: Recording, findings: Findings, summary: Summary) -> Iterator[tuple[str, str]]:
    yield "Lead, rate", f"{recording.lead}, {recording.rate_hz:.6g} Hz"
    yield "Length", f"{_span(summary.seconds)}, of which {_span(summary.signal_s)} with signal"
    yield "Beats", f"{summary.beats}"
    for name, count in summary.counts.items():
        yield f"  {name}", f"{count} ({100 * count / summary.beats:.2f} %)" if summary.beats else "0"
    yield "Model", findings.model
    yield "Mean heart rate", "-" if summary.mean_bpm is None else f"{summary.mean_bpm:.0f} a minute"
    for word, found in (("Lowest", summary.lowest_bpm), ("Highest", summary.highest_bpm)):
        text = "-" if found is None else f"{found[0]:.0f} a minute at {_moment(recording.start_s, found[1])}"
        yield f"{word} (mean of a minute)", text
    if summary.longest_rr_s is not None:
        longest_s, at_s = summary.longest_rr_s
        yield "Longest RR interval", f"{longest_s:.2f} s at {_moment(recording.start_s, at_s)}"
    kinds = Counter(one.kind for one in summary.episodes)
    yield "Alerts", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"


def _hours(recording: Recording, findings: Findings, summary: Summary) -> Iterator[tuple[str, ...]]:
    """Counts hour by hour, since the beginning."""
    names = [name for name, count in summary.counts.items() if count]
    yield ("from", "beats", "mean/min", *names, "alerts")
    hours = int(np.ceil(summary.seconds / 3600))
    of_hour = (findings.qrs_s // 3600).astype(int)
    labels = np.array(findings.labels)
    for hour in range(hours):
        here = of_hour == hour
        trend = summary.trend_bpm[60 * hour : 60 * (hour + 1)]
        mean = f"{np.nanmean(trend):.0f}" if np.isfinite(trend).any() else "-"
        counts = [str(int((labels[here] == name).sum())) for name in names]
        alerts = sum(one.begin_s // 3600 == hour for one in summary.episodes)
        yield (_moment(recording.start_s, 3600.0 * hour), str(int(here.sum())), mean, *counts, str(alerts))


def _episode_rows(shown: Sequence[Episode], recording: Recording, summary: Summary) -> Iterator[tuple[str, ...]]:
    yield ("from", "for", "severity", "kind", "what")
    for one in shown:
        length = _span(_length(one, summary.seconds)) + (" (to the end)" if one.end_s is None else "")
        yield (_moment(recording.start_s, one.begin_s), length, one.severity, one.kind, one.text)


def _strips(recording: Recording, findings: Findings, summary: Summary) -> Iterator[Strip]:
    """The longest episodes of each kind, the longest RR interval, and how the slowest and fastest minutes begin."""
    beats = list(zip(findings.qrs_s.tolist(), findings.labels, strict=True))
    seen: Counter[str] = Counter()
    for one in sorted(summary.episodes, key=lambda one: (_RANK.get(one.severity, 9), -_length(one, summary.seconds))):
        if one.severity == "technical" or seen[one.kind] >= MOST_STRIPS_A_KIND:
            continue
        seen[one.kind] += 1
        length = f"{_span(_length(one, summary.seconds))}{' (to the end)' if one.end_s is None else ''}"
        said = f"{_moment(recording.start_s, one.begin_s)}, for {length}. {one.text}"
        yield cut_strip(recording, beats, float(one.alert["time_s"]), f"{one.kind} ({one.severity})", said)
    if summary.longest_rr_s is not None:
        longest_s, at_s = summary.longest_rr_s
        said = f"{longest_s:.2f} s, from {_moment(recording.start_s, at_s)} on"
        yield cut_strip(recording, beats, at_s, "Longest RR interval", said, before_s=4.0)
    for word, found in (("Slowest", summary.lowest_bpm), ("Fastest", summary.highest_bpm)):
        if found is not None:
            said = f"{found[0]:.0f} a minute on average, from {_moment(recording.start_s, found[1])} on"
            strip = cut_strip(recording, beats, found[1], f"{word} minute", said, before_s=0.0)
            yield Strip(strip.title, strip.subtitle, strip.rate_hz, strip.samples, True, strip.beats)


_RANK = {"high": 0, "warning": 1, "medium": 1, "low": 2}


def draw_trend(axes: Axes, report: Report) -> None:
    """Heart rate minute by minute, and when there were alerts."""
    trend = report.summary.trend_bpm
    hours = np.arange(trend.size) * MINUTE_S / 3600
    axes.plot(hours, trend, color="#111111", linewidth=0.8)
    axes.plot(hours, trend, ".", color="#111111", markersize=1.5)
    for one in report.summary.episodes:
        if one.severity != "technical":
            end_s = report.summary.seconds if one.end_s is None else one.end_s
            least_s = 0.002 * report.summary.seconds  # else it could not be seen
            axes.axvspan(
                one.begin_s / 3600, max(end_s, one.begin_s + least_s) / 3600, color=MARK, alpha=0.15, linewidth=0
            )
    known = trend[np.isfinite(trend)]
    if known.size:
        axes.set_ylim(max(0, known.min() - 15), known.max() + 15)
    axes.set_ylabel("heart rate, 1/min", fontsize=8)
    _time_axis(axes, report)


def draw_quality(axes: Axes, report: Report) -> None:
    """Share of the beats that could be judged, minute by minute."""
    quality = 100 * report.summary.quality
    hours = np.arange(quality.size) * MINUTE_S / 3600
    axes.fill_between(hours, np.nan_to_num(quality), step="post", color="#9db4cc", linewidth=0)
    axes.set_ylim(0, 102)
    axes.set_ylabel("judged, %", fontsize=8)
    _time_axis(axes, report)


def _time_axis(axes: Axes, report: Report) -> None:
    hours = report.summary.seconds / 3600
    axes.set_xlim(0, max(hours, 1 / 60))
    step = next(one for one in (1 / 60, 1 / 12, 1 / 4, 1 / 2, 1, 2, 4, 24, 1000) if hours / one <= 12)
    ticks = np.arange(0, hours + 1e-9, step)
    axes.set_xticks(ticks, [_moment(report.start_s, 3600 * tick).rpartition(":")[0] for tick in ticks])
    axes.tick_params(labelsize=7)
    axes.grid(True, color="#dddddd", linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def to_html(report: Report) -> str:
    """Return the report as one page that needs nothing else."""
    body = [
        f"<h1>{html.escape(report.title)}</h1><p>{html.escape(report.period)}</p>",
        f'<div class="limits"><b>Limits</b>{html_list(LIMITS)}</div>',
        html_table([("", ""), *report.facts], "facts"),
        "<h2>Heart rate and signal quality</h2>",
        picture(_overview(report), "Heart rate and share of judged beats over time"),
        "<h2>Hour by hour</h2>", html_table(report.hours),
        "<h2>Alerts</h2>",
        html_table(report.episodes) if len(report.episodes) > 1 else "<p>None.</p>",
        f"<p>{report.left_out} shorter ones are left out.</p>" if report.left_out else "",
        "<h2>Strips</h2>",
        "<p>N normal, A abnormal, S supraventricular, V ventricular, F fusion, Q unknown, ? withheld; ▲ the event.</p>",
        *(picture(make_figure(strip), f"{strip.title}: {strip.subtitle}") for strip in report.strips),
        f"<h2>Notes</h2>{html_list(report.notes)}",
    ]  # fmt: skip
    head = f"<meta charset='utf-8'><title>{html.escape(report.title)}</title><style>{STYLE}</style>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def html_table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table of a header and rows as HTML; cells are escaped."""
    header, *rest = rows
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header) if any(header) else ""
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rest]
    return f'<table class="{kind}"><tr>{head}</tr>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def html_list(lines: Sequence[str]) -> str:
    """Return a list as HTML; lines are escaped."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def picture(figure: Figure, text: str) -> str:
    """Return a figure as HTML that needs nothing else, with a text for who cannot see it."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    content = base64.b64encode(file.getvalue()).decode()
    return f'<figure><img alt="{html.escape(text)}" src="data:image/svg+xml;base64,{content}"></figure>'


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #111; }
h1 { margin-bottom: 0; } h2 { margin-top: 1.6em; border-bottom: 1px solid #ddd; }
.limits { border: 2px solid #b30000; background: #fff5f5; padding: .4em 1em; margin: 1em 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15em .9em .15em 0; border-bottom: 1px solid #eee; white-space: pre-wrap; }
figure { margin: 1em 0; } img { max-width: 100%; height: auto; }
@media print { figure, tr { break-inside: avoid; } }
"""


def _overview(report: Report) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    draw_trend(upper, report)
    draw_quality(lower, report)
    return figure


def write_pdf(path: Path, report: Report) -> None:
    """Write the report for printing, on A4."""
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(path, metadata={"Title": report.title, "CreationDate": None}) as pages:
        pages.savefig(_first_page(report))
        for title, rows, widths in (("Hour by hour", report.hours, None), ("Alerts", report.episodes, EPISODE_WIDTHS)):
            for begin in range(1, len(rows), ROWS):
                pages.savefig(_table_page(title, [rows[0], *rows[begin : begin + ROWS]], widths))
        for begin in range(0, len(report.strips), STRIPS):
            pages.savefig(_strip_page(report.strips[begin : begin + STRIPS]))


ROWS, STRIPS = 60, 5
"""On a page."""
EPISODE_WIDTHS = (0.13, 0.17, 0.1, 0.22, 0.38)
_LEFT, _RIGHT = 0.07, 0.95


def _page(title: str, subtitle: str = "") -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=A4)
    figure.text(_LEFT, 0.955, title, fontsize=15, fontweight="bold")
    figure.text(_LEFT, 0.937, subtitle, fontsize=9)
    figure.text(_LEFT, 0.02, LIMITS[0], fontsize=7, color="#b30000")
    return figure


def _first_page(report: Report) -> Any:
    figure = _page(report.title, report.period)
    y = 0.91
    for label, value in report.facts:
        figure.text(_LEFT, y, label, fontsize=9)
        for i, line in enumerate(_wrap(value, 78)):
            figure.text(_LEFT + 0.25, y - 0.0145 * i, line, fontsize=9)
        y -= 0.0155 * max(1, len(_wrap(value, 78)))
    y -= 0.24
    draw_trend(figure.add_axes((_LEFT + 0.04, y, _RIGHT - _LEFT - 0.04, 0.22)), report)
    draw_quality(figure.add_axes((_LEFT + 0.04, y - 0.09, _RIGHT - _LEFT - 0.04, 0.06)), report)
    y -= 0.14
    figure.text(_LEFT, y, "Limits", fontsize=10, fontweight="bold", color="#b30000")
    lines = [line for one in LIMITS for line in _wrap(f"- {one}", 112)]
    figure.text(_LEFT, y - 0.01, "\n".join(lines), fontsize=8, va="top", linespacing=1.35)
    y -= 0.03 + 0.0135 * len(lines)
    notes = [line for one in report.notes for line in _wrap(f"- {one}", 112)][:6]
    if notes:
        figure.text(_LEFT, y, "Notes", fontsize=10, fontweight="bold")
        figure.text(_LEFT, y - 0.01, "\n".join(notes), fontsize=8, va="top", linespacing=1.35)
    return figure


def _table_page(title: str, rows: Sequence[Sequence[str]], widths: Sequence[float] | None) -> Any:
    figure = _page(title)
    count = len(rows[0])
    shares = [1 / count] * count if widths is None else list(widths)
    places = [_LEFT + (_RIGHT - _LEFT) * sum(shares[:i]) for i in range(count)]
    for number, row in enumerate(rows):
        for x, cell, share in zip(places, row, shares, strict=True):
            text = cell if len(cell) <= 120 * share else cell[: int(120 * share) - 1] + "…"
            figure.text(x, 0.915 - 0.0145 * number, text, fontsize=8, fontweight="bold" if number == 0 else "normal")
    return figure


def _strip_page(strips: Sequence[Strip]) -> Any:
    figure = _page("Strips", "N normal  A abnormal  S supraventricular  V ventricular  F fusion  Q unknown  ? withheld")
    for number, strip in enumerate(strips):
        draw_strip(figure.add_axes((_LEFT, 0.77 - 0.175 * number, _RIGHT - _LEFT, 0.12)), strip, fits=True)
    return figure


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent="  " if text.startswith("- ") else "") or [""]


def _length(one: Episode, seconds: float) -> float:
    return max(0.0, (seconds if one.end_s is None else one.end_s) - one.begin_s)


def _span(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _moment(start_s: float | None, at_s: float, *, dated: bool = False) -> str:
    """Time of day if the recording says when it began, else time since the beginning."""
    if start_s is None:
        return _span(at_s)
    return f"{datetime.fromtimestamp(start_s + at_s, UTC):{'%Y-%m-%d %H:%M:%S' if dated else '%H:%M:%S'}}"
