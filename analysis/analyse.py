"""``ecgwatch analyse``: files of any format through the engine, and what was found, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.examine import Episode, Findings, check_rate, examine
from analysis.progress import Bar
from analysis.summary import Summary, summarise
from monitor.alerts.episode import AlertSettings
from monitor.classify import SHAPE_MODEL, Provider
from monitor.engine import warm_up
from monitor.panel import DEFAULT_MODEL, load_panel
from recordings.annotations import Spell, note_alerts, note_beats, write_annotations
from recordings.formats import ALL, read
from recordings.marks import MADE_HERE
from recordings.recording import Choices, Recording

DISCLAIMER = "An absence of alerts does not mean an absence of disease. Research software, not a medical device."
MOST_LINES = 40
"""Alerts of one file that are printed; the JSON has all."""


@dataclass(frozen=True, slots=True)
class AnalyseSettings:
    """What to analyse, and what to make of it."""

    files: tuple[Path, ...]
    choices: Choices = ALL
    format: str | None = None
    """Of all files; found out if not given."""
    model: str = DEFAULT_MODEL
    shape: str = SHAPE_MODEL
    """Beside a class model; see `monitor.panel.load_panel`."""
    provider: Provider = "auto"
    alerts: AlertSettings | None = None
    """Limits of the detectors."""
    as_json: bool = False
    annotations: Path | None = None
    """Folder for annotation files."""
    report: Path | None = None
    """HTML or PDF file for the report; of one file only."""

    def __post_init__(self) -> None:
        if self.report is not None and len(self.files) != 1:
            raise ValueError(f"--report: got {len(self.files)} files, expected one.")
        names = [path.stem for path in self.files]
        if self.annotations is not None and len(set(names)) < len(names):
            raise ValueError("--annotations: files are named for what they annotate: got one name twice.")


def run_analyse(settings: AnalyseSettings) -> int:
    """Analyse all files, one after the other; return the exit status: 1 if some of several cannot be read.

    Raises
    ------
    ValueError
        The only file cannot be read, or what was asked for not be written; see `recordings.formats.read`.
    FileNotFoundError
        There is no such model.
    """
    panel = load_panel(settings.model, settings.shape, settings.provider)
    warm_up()
    done, failed = [], 0
    for path in settings.files:
        try:
            recording = read(path, settings.choices, settings.format)
            check_rate(recording)
        except ValueError as error:
            if len(settings.files) == 1:
                raise
            warn(f"ecgwatch: {error}")
            failed = 1
            continue
        with Bar(path.name) as bar:
            findings = examine(recording, panel, settings.alerts, bar.show)
        summary = summarise(recording, findings)
        if settings.annotations is not None:
            annotate(recording, findings, settings.annotations / f"{recording.name}.{MADE_HERE}")
        if settings.report is not None:
            from analysis.report import make_report, write_report

            write_report(settings.report, make_report(recording, findings, summary, path.name))
        if settings.as_json:
            done.append(as_json(path, recording, findings, summary))
        else:
            print(*describe(path, recording, findings, summary), "", sep="\n", flush=True)
    print(json.dumps({"files": done}) if settings.as_json else DISCLAIMER)
    return failed


def annotate(recording: Recording, findings: Findings, path: Path) -> None:
    """Write what was found as WFDB annotations."""
    spells = [Spell(one.kind, one.begin_s, one.end_s, one.text) for one in findings.episodes()]
    notes = [*note_beats(findings.qrs_s.tolist(), findings.labels), *note_alerts(spells)]
    write_annotations(path, notes, recording.rate_hz, recording.samples_uv.size)


def as_json(path: Path, recording: Recording, findings: Findings, summary: Summary) -> dict[str, Any]:
    """All that was found; times are seconds since the start of the recording."""
    return {
        "file": str(path),
        "lead": recording.lead,
        "rate_hz": recording.rate_hz,
        "start_s": recording.start_s,
        "seconds": summary.seconds,
        "signal_s": summary.signal_s,
        "notes": list(recording.notes),
        "model": findings.model,
        "counts": summary.counts,
        "judged": summary.judged,
        "heart_rate_bpm": {
            "mean": summary.mean_bpm,
            "lowest": _moment(summary.lowest_bpm),
            "highest": _moment(summary.highest_bpm),
        },
        "longest_rr_s": _moment(summary.longest_rr_s),
        "alerts": [
            {
                "kind": one.kind, "severity": one.severity, "begin_s": one.begin_s, "end_s": one.end_s,
                "text": one.text,
            }
            for one in summary.episodes
        ],
        "beats": [
            {
                "qrs_s": round(beat.qrs_s, 4), "verdict": beat.verdict, "label": beat.label,
                "probability": beat.probability, "reason": beat.reason,
            }
            for beat in findings.beats
        ],
        "computing_s": round(findings.computing_s, 3),
    }  # fmt: skip


def describe(path: Path, recording: Recording, findings: Findings, summary: Summary) -> Iterator[str]:
    """What was found, for a person."""
    speed = summary.seconds / max(findings.computing_s, 1e-9)
    length = f"{recording.rate_hz:g} Hz, {clock(summary.seconds)}"
    yield f"{path}: lead {recording.lead}, {length}, at {speed:.0f} x real time"
    if summary.signal_s < summary.seconds - 0.5:
        yield f"  signal      {clock(summary.signal_s)}; {clock(summary.seconds - summary.signal_s)} missing"
    counts = ", ".join(f"{count} {name}" for name, count in summary.counts.items() if count)
    yield f"  beats       {summary.beats}: {counts or 'none'} (model {findings.model})"
    if summary.mean_bpm is not None:
        yield f"  heart rate  mean {summary.mean_bpm:.0f} a minute{_span(summary)}"
    if summary.longest_rr_s is not None:
        yield f"  longest RR  {summary.longest_rr_s[0]:.2f} s at {clock(summary.longest_rr_s[1])}"
    yield f"  alerts      {len(summary.episodes) or 'none'}"
    width = max((len(one.kind) for one in summary.episodes), default=0)
    yield from (_line(one, width) for one in summary.episodes[:MOST_LINES])
    if len(summary.episodes) > MOST_LINES:
        yield f"    and {len(summary.episodes) - MOST_LINES} more: --json prints all"
    yield from (f"  note: {note}" for note in recording.notes)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds of a time."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _line(one: Episode, width: int) -> str:
    how_long = "to the end" if one.end_s is None else f"for {clock(max(0.0, one.end_s - one.begin_s))}"
    return f"    {clock(one.begin_s)}  {one.severity:<9}  {one.kind:<{width}}  {how_long:<11}  {one.text}".rstrip()


def _span(summary: Summary) -> str:
    if summary.lowest_bpm is None or summary.highest_bpm is None:
        return ""
    (low, low_s), (high, high_s) = summary.lowest_bpm, summary.highest_bpm
    return f"; of a minute {low:.0f} (at {clock(low_s)}) to {high:.0f} (at {clock(high_s)})"


def _moment(found: tuple[float, float] | None) -> dict[str, float] | None:
    return None if found is None else {"value": found[0], "at_s": found[1]}


def warn(text: str) -> None:
    """Print a line for a person beside what a program reads."""
    print(text, file=sys.stderr)
