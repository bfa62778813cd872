"""Alerts of annotated records, against what the annotations say: what was found, what was false, and how late.

Records go straight through the engine, as in `simulator.score`. Rules:

* What is true follows from the reference annotations: pauses and rates from annotated beats, runs from their classes,
  atrial fibrillation, ventricular fibrillation and tachycardia also from annotated rhythms. MIT-BIH marks three
  ventricular beats in a row as tachycardia already: where beats are annotated, fewer than five are none here. Limits
  are a tenth wider than the default limits of the detectors, for a rate between the two is an alert of neither kind.
* An alert is true if its kind, or a graver kind of its chain, was there from `EARLY_S` before it began until it ended.
* An event is found if an alert of its kind, or of a graver one, was on from `SOONEST_S` before it began until
  `LATEST_S` after it ended. Its delay is from its begin to the message, on the device's clock.
* False alerts are counted an hour, beside what was found: neither figure means anything alone.
* An episode is a stretch with `EPISODE` abnormal beats; it is alerted if any alert that is not technical was on from
  `AROUND_S` before it until `AROUND_S` after it. Time is calm further than that from anything abnormal: beats, events,
  rhythms other than "(N".
* A record without annotations is not scored: nobody knows what of its alerts is true.
* Technical alerts are counted, and are neither true nor false: nobody annotated the recording itself.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monitor import wire
from monitor.classify import Classifier
from monitor.engine import Engine, Output, warm_up
from monitor.panel import Panel, load_panel
from recordings.classes import CLASS_OF
from recordings.marks import PREFERRED
from recordings.reader import find_base, open_wfdb
from simulator.records import Record, read_wfdb
from simulator.score import RecordsToScore, cut_packets

Span = tuple[float, float]
"""From, to: seconds since the start of the record."""

EARLY_S, SOONEST_S, LATEST_S = 10.0, 5.0, 12.0
PAUSE_S, ASYSTOLE_S = 3.0, 4.0
RUN, TACHYCARDIA = 3, 5
"""Ventricular beats in a row."""
VENTRICULAR_BPM = 100.0
RATE_BEATS = 8
"""RR intervals whose mean is a rate."""
RATES_BPM = {
    "extreme-bradycardia": (0.0, 33.0),
    "bradycardia": (0.0, 45.0),
    "tachycardia": (126.0, math.inf),
    "extreme-tachycardia": (162.0, math.inf),
}
RHYTHMS = {
    "atrial-fibrillation": ("(AFIB", "(AFL"),
    "ventricular-fibrillation": ("(VFL", "(VF", "(VFIB"),
    "ventricular-tachycardia": ("(VT",),
}
CHAINS = (
    ("asystole", "ventricular-fibrillation", "ventricular-tachycardia", "pause"),
    ("ventricular-fibrillation", "ventricular-tachycardia", "ventricular-run", "couplet", "bigeminy", "trigeminy",
     "ventricular-ectopy", "abnormal-beats"),
    ("extreme-bradycardia", "bradycardia"),
    ("extreme-tachycardia", "tachycardia", "ventricular-tachycardia"),
    ("asystole", "no-beats", "pause"),
)  # fmt: skip
"""Kinds that stand for one another, the gravest first."""
EVENTS = (
    "asystole", "ventricular-fibrillation", "ventricular-tachycardia", "ventricular-run", "pause", "no-beats",
    "extreme-bradycardia", "bradycardia", "extreme-tachycardia", "tachycardia", "atrial-fibrillation",
)  # fmt: skip
"""Kinds whose truth is a stretch of time; that of all others is any abnormal beat."""
EPISODE, EPISODE_GAP_S = (3, 5), 30.0
"""Abnormal beats of how many in a row; how near such stretches are one."""
AROUND_BEAT_S, AROUND_S = 0.3, 10.0
SINUS = "(N"
UNANNOTATED = "not scored, for want of annotations"
MERGED_S = 5.0
"""Stretches of one kind nearer than this are one event."""


@dataclass(frozen=True, slots=True)
class AlertScoreSettings(RecordsToScore):
    """What to play, and what to write."""

    events: Path | None = None
    """Where to write beats and alerts as they were published."""


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """What the engine published of one record; its clock begins with the record."""

    record: str
    seconds: float
    messages: list[wire.Beat | wire.Alert]
    """In order: of each packet the alerts, then the beats."""

    @property
    def alerts(self) -> list[wire.Alert]:
        """The alerts among them."""
        return [message for message in self.messages if isinstance(message, wire.Alert)]


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert from its first message to its last."""

    kind: str
    severity: str
    span: Span
    """Since when it is said to have been, and when it ended: with the record if it never did."""
    known_s: float
    """End of the packet that made it known."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a record's annotations say."""

    events: dict[str, list[Span]]
    """Stretches of each of `EVENTS`."""
    abnormal: list[Span]
    """Around each beat of a class other than N."""
    rhythms: list[tuple[str, Span]]
    """The rhythm in words of the annotations, such as "(N"; from mark to mark."""
    episodes: list[Span] = field(default_factory=list)
    """Stretches full of abnormal beats."""

    def calm(self, end_s: float) -> list[Span]:
        """Stretches in which nothing is abnormal near by."""
        marked = [span for name, span in self.rhythms if name != SINUS]
        known = [*self.abnormal, *marked, *(span for spans in self.events.values() for span in spans)]
        wide = merge([(begin - AROUND_S, end + AROUND_S) for begin, end in known])
        edges = zip([0.0, *(end for _, end in wide)], [*(begin for begin, _ in wide), end_s], strict=True)
        return [(begin, min(end, end_s)) for begin, end in edges if begin < min(end, end_s)]

    def of(self, kind: str) -> list[Span]:
        """Stretches that make an alert of this kind true."""
        spans = [span for one in graver(kind) for span in self.events.get(one, [])]
        return spans if kind in EVENTS else spans + self.abnormal


@dataclass(slots=True)
class Tally:
    """Counts over any number of records."""

    seconds: float = 0.0
    true: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """Alerts by severity and kind,"""
    false: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """and those that are not true."""
    events: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    delays_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rhythm_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    alerting_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time in any alert that is not technical, by annotated rhythm."""
    episodes: int = 0
    episodes_alerted: int = 0
    calm_s: float = 0.0
    calm_alerting_s: float = 0.0


def run_alert_score(settings: AlertScoreSettings) -> None:
    """Play all records, write what was asked for, and print the table.

    Raises
    ------
    ValueError
        A record cannot be read, or its events cannot be written.
    FileNotFoundError
        There is no such model.
    """
    panel = load_panel(settings.model, settings.shape)
    warm_up()
    gross, rows = Tally(), []
    for path in settings.records:
        record = read_wfdb(path, settings.lead, settings.annotator)
        published = publish(record, panel, settings.rate_hz)
        if settings.events is not None:
            write_events(published, settings.events)
        reference, one = read_reference(path, record, settings.annotator), Tally()
        is_annotated = record.annotated or bool(reference.rhythms)
        if is_annotated:
            for tally in (one, gross):
                add(tally, published, reference)
        rows.append({"record": record.name, "annotated": is_annotated, **to_json(one)})
        if not settings.as_json:
            line = format_record(record.name, one) if is_annotated else f"{record.name:<12} {UNANNOTATED}"
            print(line, flush=True)
    if settings.as_json:
        print(json.dumps({"model": panel.info.name, "records": rows, "gross": to_json(gross)}))
    elif gross.seconds:
        print("", *format_tally(gross), sep="\n")


def publish(record: Record, models: Classifier | Panel, rate_hz: float | None = None) -> Published:
    """Play a record through an engine of its own, in packets of one second; `rate_hz` as in `simulator.score`."""
    played_hz = record.rate_hz if rate_hz is None else rate_hz
    engine = Engine(models)
    messages: list[wire.Beat | wire.Alert] = []
    about = wire.Info(rate_hz=played_hz, lead=record.lead, resolution_uv=record.resolution_uv, first_seen_s=0.0)
    engine.describe(record.name, about, 0.0)
    for output in _play(engine, record.name, cut_packets(record, played_hz)):
        messages += [*output.alerts, *output.beats]
    return Published(record.name, record.samples_uv.size / record.rate_hz, messages)


def _play(engine: Engine, device: str, packets: Sequence[wire.Packet]) -> Iterator[Output]:
    for packet in packets:
        engine.feed(device, packet, packet.start_s)
        yield engine.flush()
    engine.forget(math.inf)
    yield engine.flush()


def write_events(published: Published, directory: Path) -> Path:
    """Write `<record>.jsonl`: a line about the record, then beats and alerts as published; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{published.record}.jsonl"
    about = json.dumps({"record": published.record, "start_s": 0.0}).encode()
    path.write_bytes(b"\n".join([about, *map(wire.encode, published.messages)]) + b"\n")
    return path


def read_reference(path: Path, record: Record, annotator: str | None = None) -> Reference:
    """Return what a record's annotations say of its rhythm and beats."""
    end_s = record.samples_uv.size / record.rate_hz
    rhythms = _read_rhythms(path, annotator, end_s)
    times_s = [played.r_peak_s for played in record.beats]
    classes = [CLASS_OF[played.label] for played in record.beats]
    events: dict[str, list[Span]] = {kind: [] for kind in EVENTS}
    for kind, names in RHYTHMS.items():
        events[kind] += [span for name, span in rhythms if name in names]
    events["ventricular-fibrillation"] += [(begin, min(end, end_s)) for begin, end in record.flutter_s]
    _add_pauses(events, times_s)
    _drop_short(events, [played.r_peak_s for played in record.beats if played.label in "VE"])
    _add_runs(events, times_s, [played.label in "VE" for played in record.beats])
    _add_rates(events, times_s)
    abnormal = [(t - AROUND_BEAT_S, t + AROUND_BEAT_S) for t, one in zip(times_s, classes, strict=True) if one != "N"]
    episodes = _find_episodes(times_s, [one != "N" for one in classes])
    return Reference(
        {kind: merge(spans, MERGED_S) for kind, spans in events.items()}, merge(abnormal), rhythms, episodes
    )


def _read_rhythms(path: Path, annotator: str | None, end_s: float) -> list[tuple[str, Span]]:
    base = find_base(path)
    known = [name for name in PREFERRED if base.with_name(f"{base.name}.{name}").is_file()]
    if not (name := annotator or next(iter(known), None)):
        return []
    with open_wfdb(f"The annotations {base}.{name} cannot be read") as wfdb:
        notes = wfdb.rdann(str(base), name)
        rate_hz = float(notes.fs or wfdb.rdheader(str(base)).fs)
    texts = [text.strip("\0 ") for text in notes.aux_note]
    marks = [(float(at) / rate_hz, text) for at, text in zip(notes.sample, texts, strict=True) if text.startswith("(")]
    ends = [*(begin for begin, _ in marks[1:]), end_s]
    return [(text, (begin, end)) for (begin, text), end in zip(marks, ends, strict=False)]


def _add_pauses(events: dict[str, list[Span]], times_s: Sequence[float]) -> None:
    """Add the long RR intervals without ventricular fibrillation, which has no beats to annotate."""
    for begin, end in pairwise(times_s):
        if overlaps((begin, end), events["ventricular-fibrillation"]):
            continue
        for kind, limit_s in (("pause", PAUSE_S), ("asystole", ASYSTOLE_S), ("no-beats", ASYSTOLE_S)):
            if end - begin > limit_s:
                events[kind].append((begin, end))


def _drop_short(events: dict[str, list[Span]], ventricular_s: Sequence[float]) -> None:
    """Leave out the ventricular tachycardias of fewer beats than make one; those without annotated beats stay."""
    kind = "ventricular-tachycardia"
    counts = [sum(begin <= time_s <= end for time_s in ventricular_s) for begin, end in events[kind]]
    events[kind] = [span for span, n in zip(events[kind], counts, strict=True) if n == 0 or n >= TACHYCARDIA]


def _add_runs(events: dict[str, list[Span]], times_s: Sequence[float], ventricular: Sequence[bool]) -> None:
    """Add the fast runs of ventricular beats."""
    begin = 0
    for i, is_ventricular in enumerate([*ventricular, False]):
        if is_ventricular:
            continue
        run = i - begin
        if run >= RUN and 60 * (run - 1) / (times_s[i - 1] - times_s[begin]) > VENTRICULAR_BPM:
            kind = "ventricular-tachycardia" if run >= TACHYCARDIA else "ventricular-run"
            events[kind].append((times_s[begin], times_s[i - 1]))
        begin = i + 1


def _add_rates(events: dict[str, list[Span]], times_s: Sequence[float]) -> None:
    """Add the stretches of `RATE_BEATS` intervals beyond a limit, likewise."""
    for begin, end in zip(times_s, times_s[RATE_BEATS:], strict=False):
        if overlaps((begin, end), events["ventricular-fibrillation"]):
            continue
        bpm = 60 * RATE_BEATS / (end - begin)
        for kind, (low, high) in RATES_BPM.items():
            if low < bpm < high:
                events[kind].append((begin, end))


def _find_episodes(times_s: Sequence[float], abnormal: Sequence[bool]) -> list[Span]:
    n, m = EPISODE
    begins = [i for i in range(len(times_s) - m + 1) if sum(abnormal[i : i + m]) >= n]
    return merge([(times_s[i], times_s[i + m - 1]) for i in begins], EPISODE_GAP_S)


def graver(kind: str) -> list[str]:
    """Return a kind, and those before it in its chains."""
    before = [one for chain in CHAINS if kind in chain for one in chain[: chain.index(kind)]]
    return [kind, *dict.fromkeys(before)]


def episodes_of(published: Published) -> list[Episode]:
    """Put the messages of each episode together."""
    ends = {alert.episode: alert.time_s for alert in published.alerts if alert.state == "end"}
    return [
        Episode(
            alert.kind,
            alert.severity,
            (alert.since_s, ends.get(alert.episode, published.seconds)),
            alert.completed_s,
        )
        for alert in published.alerts
        if alert.state == "new"
    ]


def add(tally: Tally, published: Published, reference: Reference) -> None:
    """Count one record."""
    episodes = episodes_of(published)
    tally.seconds += published.seconds
    for one in episodes:
        is_true = overlaps((one.span[0] - EARLY_S, one.span[1]), reference.of(one.kind))
        (tally.true if is_true else tally.false)[one.severity, one.kind] += 1
    heart = [one for one in episodes if one.severity != "technical"]
    for kind, spans in reference.events.items():
        for span in spans:
            wanted = (span[0] - SOONEST_S, span[1] + LATEST_S)
            hits = [one.known_s for one in heart if one.kind in graver(kind) and overlaps(wanted, [one.span])]
            tally.events[kind] += 1
            tally.found[kind] += bool(hits)
            if hits:
                tally.delays_s[kind].append(min(hits) - span[0])
    alerting = merge([one.span for one in heart])
    tally.episodes += len(reference.episodes)
    tally.episodes_alerted += sum(overlaps((a - AROUND_S, b + AROUND_S), alerting) for a, b in reference.episodes)
    _add_times(tally, alerting, reference, published.seconds)


def _add_times(tally: Tally, alerting: list[Span], reference: Reference, end_s: float) -> None:
    for name, span in reference.rhythms:
        tally.rhythm_s[name] += span[1] - span[0]
        tally.alerting_s[name] += _shared_s(span, alerting)
    for span in reference.calm(end_s):
        tally.calm_s += span[1] - span[0]
        tally.calm_alerting_s += _shared_s(span, alerting)


def _shared_s(span: Span, spans: Sequence[Span]) -> float:
    return sum(max(0.0, min(span[1], end) - max(span[0], begin)) for begin, end in spans)


def overlaps(span: Span, spans: Sequence[Span]) -> bool:
    """Whether a stretch touches any of others."""
    return any(begin <= span[1] and end >= span[0] for begin, end in spans)


def merge(spans: Sequence[Span], gap_s: float = 0.0) -> list[Span]:
    """Join stretches that lie no further apart than `gap_s`; return them in order."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin - merged[-1][1] <= gap_s:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def to_json(tally: Tally) -> dict[str, Any]:
    """All figures, for programs. None where there is nothing to measure."""
    hours = tally.seconds / 3600
    alerts = sorted({*tally.true, *tally.false})
    return {
        "seconds": round(tally.seconds, 3),
        "alerts": [
            {
                "severity": severity,
                "kind": kind,
                "true": tally.true[severity, kind],
                "false": tally.false[severity, kind],
                "false_per_hour": round(tally.false[severity, kind] / hours, 3),
            }
            for severity, kind in alerts
        ],
        "events": {
            kind: {
                "there": tally.events[kind],
                "found": tally.found[kind],
                "delay_p50_s": _median(tally.delays_s[kind]),
            }
            for kind in EVENTS
        },
        "time_in_alert": {
            name: {"seconds": round(known_s, 1), "alerting_seconds": round(tally.alerting_s[name], 1)}
            for name, known_s in tally.rhythm_s.items()
        },
        "episodes": {"there": tally.episodes, "alerted": tally.episodes_alerted},
        "calm_time": {"seconds": round(tally.calm_s, 1), "alerting_seconds": round(tally.calm_alerting_s, 1)},
    }


def format_record(name: str, tally: Tally) -> str:
    """One line about a record."""
    false = sum(n for (severity, _), n in tally.false.items() if severity != "technical")
    true = sum(n for (severity, _), n in tally.true.items() if severity != "technical")
    technical = sum(
        n for one in (tally.true, tally.false) for (severity, _), n in one.items() if severity == "technical"
    )
    found, there = sum(tally.found.values()), sum(tally.events.values())
    return f"{name:<12} events found {found} of {there}; alerts true {true}, false {false}, technical {technical}"


def format_tally(tally: Tally) -> list[str]:
    """Three tables: events, alerts, and time in alert by rhythm, calm time last; then the episodes."""
    hours = tally.seconds / 3600
    lines = [f"{'event':<26}{'there':>7}{'found':>7}{'false/h':>9}{'delay s':>9}"]
    for kind in EVENTS:
        false = sum(n for (_, one), n in tally.false.items() if one == kind) / hours
        delay_s = _median(tally.delays_s[kind])
        shown = "-" if delay_s is None else f"{delay_s:.1f}"
        lines.append(f"{kind:<26}{tally.events[kind]:>7}{tally.found[kind]:>7}{false:>9.2f}{shown:>9}")
    lines += ["", f"{'alert':<11}{'kind':<26}{'true':>7}{'false':>7}{'false/h':>9}"]
    for severity, kind in sorted({*tally.true, *tally.false}):
        true, false = tally.true[severity, kind], tally.false[severity, kind]
        rest = f"{true + false:>7}" if severity == "technical" else f"{true:>7}{false:>7}{false / hours:>9.2f}"
        lines.append(f"{severity:<11}{kind:<26}{rest}")
    lines += ["", f"{'rhythm':<26}{'hours':>7}{'in alert':>10}"]
    for name, known_s in sorted(tally.rhythm_s.items(), key=lambda item: -item[1]):
        share = tally.alerting_s[name] / known_s if known_s else 0.0
        lines.append(f"{name:<26}{known_s / 3600:>7.2f}{share:>10.1%}")
    calm = tally.calm_alerting_s / tally.calm_s if tally.calm_s else 0.0
    lines.append(f"{'calm':<26}{tally.calm_s / 3600:>7.2f}{calm:>10.1%}")
    n, m = EPISODE
    lines += ["", f"episodes of {n} abnormal in {m} beats: {tally.episodes_alerted} of {tally.episodes} alerted"]
    return lines


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 2) if values else None
