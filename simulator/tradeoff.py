"""The alert policy as a trade-off: for each limit, false alerts an hour against the share of true events found.

Records go through the engine as in `simulator.alert_score`, once for all settings: each is a device of its own with
limits of its own. Each record is judged by a fold network that has not met its person. The rule is strict:

* An alert is false if, from its begin to its end, it overlaps nothing that makes its kind, or a graver one, true.
* An event is found if an alert of its kind was on, or one that hides it, from shortly before it began until shortly
  after it ended (`alert_score.SOONEST_S`, `LATEST_S`).
* What is true does not move with the limit: rates, pauses, runs, and rhythms as in `alert_score`; for abnormal beats
  the episodes of `alert_score`; for frequent ectopic beats ten in a minute.

Only one limit is moved at a time, so that each curve stands for itself. Nothing is chosen here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.override import parameters
from monitor.alerts.registry import make_detectors
from monitor.class_model import ClassModel
from monitor.engine import Engine, warm_up
from monitor.panel import Panel, load_panel
from recordings.classes import CLASS_OF
from simulator.alert_score import (
    EVENTS,
    LATEST_S,
    SOONEST_S,
    Published,
    Reference,
    Span,
    episodes_of,
    merge,
    overlaps,
    read_reference,
)
from simulator.folds import Folds
from simulator.records import Record, read_wfdb
from simulator.score import RecordsToScore, cut_packets

FREQUENT, MINUTE_S = 10, 60.0
"""Ectopic beats that are frequent, within this time."""
ECTOPY = {"ventricular-ectopy": "V", "supraventricular-ectopy": "S"}
"""Kind -> class of the beats it counts."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One limit that is moved, or several together."""

    kind: wire.Kind
    values: tuple[dict[str, float], ...]
    """Parameters of the detector, as `ecgwatch device set --limits` names them; or the class model's `THRESHOLD`."""

    @property
    def title(self) -> str:
        """What is moved."""
        return f"{self.kind}: {', '.join(self.values[0])}"


def _one(kind: wire.Kind, name: str, *values: float) -> Knob:
    return Knob(kind, tuple({name: value} for value in values))


THRESHOLD = "threshold"
"""Of the class model: how unlikely N must be; part of its file, and no limit of a device."""
N_OF_M = ((2, 5), (3, 5), (4, 5), (4, 8), (5, 8), (8, 10))
KNOBS = (
    Knob("abnormal-beats", tuple({"n": n, "m": m} for n, m in N_OF_M)),
    _one("abnormal-beats", "refractory_s", 10, 30, 60, 120, 300),
    _one("abnormal-beats", THRESHOLD, 0.5, 0.7, 0.85),
    _one("atrial-fibrillation", "odds", 0.5, 1, 1.5, 2, 3),
    _one("ventricular-ectopy", "a_minute", 5, 8, 10, 12, 16),
    _one("supraventricular-ectopy", "a_minute", 5, 8, 10, 12, 16),
    _one("ventricular-tachycardia", "beats", 4, 5, 6),
    _one("ventricular-run", "beats", 3, 4),
    _one("tachycardia", "above_bpm", 120, 130, 140, 150),
    _one("bradycardia", "below_bpm", 35, 40, 45, 50),
    _one("pause", "limit_s", 2, 2.5, 3, 3.5),
)


@dataclass(frozen=True, slots=True)
class TradeoffSettings(RecordsToScore):
    """What to play, who judges, and what to draw."""

    folds: Path = Path()
    """Folder of the fold networks."""
    plot: Path | None = None
    """Picture to draw."""


@dataclass(slots=True)
class Point:
    """What one value of a limit gives, over all records."""

    values: dict[str, float]
    is_default: bool
    alerts: int = 0
    false: int = 0
    events: int = 0
    found: int = 0

    @property
    def label(self) -> str:
        """The value in words."""
        return " of ".join(f"{value:g}" for value in self.values.values())

    @property
    def share(self) -> float:
        """Of the true events, those that were found; NaN where there are none."""
        return self.found / self.events if self.events else math.nan

    def is_worse_than(self, other: Point) -> bool:
        """Whether another finds as many with fewer false alerts, or more with no more."""
        ours, theirs = (self.false, -self.found), (other.false, -other.found)
        return theirs != ours and theirs[0] <= ours[0] and theirs[1] <= ours[1]


@dataclass(slots=True)
class Curve:
    """All points of one limit."""

    knob: Knob
    points: list[Point]

    @property
    def events(self) -> int:
        """True events in all records."""
        return self.points[0].events


@dataclass(frozen=True, slots=True)
class Truth:
    """What a record's annotations say of one kind of alert."""

    events: list[Span]
    """What is to be found,"""
    true: list[Span]
    """and what makes an alert true."""


def run_tradeoff(settings: TradeoffSettings) -> None:
    """Play all records that a fold network has not met, and print a table for each limit.

    Raises
    ------
    ValueError
        A record cannot be read or has no annotations, all networks have met all of them, or the picture cannot be
        drawn.
    FileNotFoundError
        There is no such shape model.
    """
    folds, curves, seconds, played = Folds(settings.folds), make_curves(), 0.0, 0
    warm_up()
    for path in settings.records:
        record, network = read_wfdb(path, settings.lead, settings.annotator), folds.find_for(path)
        if network is None:
            _say(settings, f"{record.name}: left out, since every network may have met this person")
            continue
        if not record.annotated:
            raise ValueError(f"{record.name}: got no annotated beats, expected some: nobody knows what is true.")
        _say(settings, f"{record.name}: judged by {network.name}, which has not met this person")
        panel = load_panel(network, settings.shape)
        add_record(curves, record, read_reference(path, record, settings.annotator), panel, settings.rate_hz)
        seconds, played = seconds + record.samples_uv.size / record.rate_hz, played + 1
    if not played:
        raise ValueError("Nothing to score: every network may have met the people of all records.")
    if settings.plot is not None:
        from simulator.tradeoff_plot import draw

        draw(curves, seconds / 3600, f"{played} records, {seconds / 3600:.1f} h", settings.plot)
    print(json.dumps(to_json(curves, seconds)) if settings.as_json else "\n".join(format_curves(curves, seconds)))


def _say(settings: TradeoffSettings, line: str) -> None:
    if not settings.as_json:
        print(line, flush=True)


def make_curves() -> list[Curve]:
    """Curves without a record yet; the default of each limit is the one that stands in the registry."""
    usual = {one.kind: parameters(one) for one in make_detectors(AlertSettings())}
    return [
        Curve(
            knob,
            [Point(values, values.items() <= (usual[knob.kind] | {THRESHOLD: 0.5}).items()) for values in knob.values],
        )
        for knob in KNOBS
    ]


def add_record(
    curves: Sequence[Curve], record: Record, reference: Reference, panel: Panel, rate_hz: float | None = None
) -> None:
    """Play a record with every value of every limit, and count."""
    truths = {knob.kind: find_truth(knob.kind, record, reference) for knob in KNOBS}
    hidden_by = {one.kind: {one.kind, *one.hidden_by} for one in make_detectors(AlertSettings())}
    points = [(curve.knob.kind, point) for curve in curves for point in curve.points]
    limits, devices = share(points, hidden_by)
    played = play_variants(record, panel, limits, rate_hz)
    for (kind, point), device in zip(points, devices, strict=True):
        threshold = point.values.get(THRESHOLD)
        if threshold is None or point.is_default:
            one = played[device]
        else:
            [one] = play_variants(record, with_threshold(panel, threshold), [{}], rate_hz)
        count(point, kind, one, truths[kind], hidden_by[kind])


def share(
    points: Sequence[tuple[wire.Kind, Point]], hidden_by: Mapping[wire.Kind, set[wire.Kind]]
) -> tuple[list[wire.Limits], list[int]]:
    """Give values of limits to as few devices as can be: kinds that hide nothing of each other may share one.

    Returns
    -------
    tuple
        Limits of each device, the first of which has the default ones, and (points,) the device of each point.
    """
    limits: list[wire.Limits] = [{}]
    devices = []
    for kind, point in points:
        values = {} if point.is_default or THRESHOLD in point.values else {kind: point.values}
        free = (
            i
            for i, own in enumerate(limits)
            if i and all(kind not in hidden_by[other] and other not in hidden_by[kind] for other in own)
        )
        at = next(free, len(limits)) if values else 0
        if at == len(limits):
            limits.append({})
        limits[at] |= values
        devices.append(at)
    return limits, devices


def with_threshold(panel: Panel, threshold: float | None) -> Panel:
    """The same models, of which the class model has another threshold; None: its own."""
    if threshold is None or not isinstance(panel.main, ClassModel):
        return panel
    main = ClassModel.__new__(ClassModel)
    main.__dict__ |= panel.main.__dict__
    main.info = msgspec.structs.replace(panel.main.info, threshold=threshold)
    return replace(panel, main=main)


def play_variants(
    record: Record, panel: Panel, limits: Sequence[wire.Limits], rate_hz: float | None = None
) -> list[Published]:
    """Play a record as so many devices, each with limits of its own; return the alerts of each."""
    played_hz, engine = record.rate_hz if rate_hz is None else rate_hz, Engine(panel)
    devices = [f"{i}" for i in range(len(limits))]
    about = wire.Info(rate_hz=played_hz, lead=record.lead, resolution_uv=record.resolution_uv, first_seen_s=0.0)
    for device, own in zip(devices, limits, strict=True):
        engine.set_limits(device, own)
        engine.describe(device, about, 0.0)
    messages: dict[str, list[wire.Beat | wire.Alert]] = {device: [] for device in devices}
    for alert in _alerts(engine, devices, cut_packets(record, played_hz)):
        messages[alert.device].append(alert)
    seconds = record.samples_uv.size / record.rate_hz
    return [Published(record.name, seconds, messages[device]) for device in devices]


def _alerts(engine: Engine, devices: Sequence[str], packets: Sequence[wire.Packet]) -> Iterator[wire.Alert]:
    for packet in packets:
        for device in devices:
            engine.feed(device, packet, packet.start_s)
        yield from engine.flush().alerts
    engine.forget(math.inf)
    yield from engine.flush().alerts


def count(point: Point, kind: str, published: Published, truth: Truth, hidden_by: set[wire.Kind]) -> None:
    """Count one record's alerts of a kind, and what was found by them or by those that hide them."""
    episodes = episodes_of(published)
    ours = [one.span for one in episodes if one.kind == kind]
    on = [one.span for one in episodes if one.kind in hidden_by]
    point.alerts += len(ours)
    point.false += sum(not overlaps(span, truth.true) for span in ours)
    point.events += len(truth.events)
    point.found += sum(overlaps((begin - SOONEST_S, end + LATEST_S), on) for begin, end in truth.events)


def find_truth(kind: str, record: Record, reference: Reference) -> Truth:
    """What annotations say of one kind of alert."""
    if kind in EVENTS:
        return Truth(reference.events[kind], reference.of(kind))
    if kind in ECTOPY:
        of_class = [played.r_peak_s for played in record.beats if CLASS_OF[played.label] == ECTOPY[kind]]
        return Truth(_crowds(of_class), _crowds(of_class))
    return Truth(reference.episodes, reference.of(kind))


def _crowds(times_s: Sequence[float]) -> list[Span]:
    """Stretches in which so many beats lie within a minute."""
    pairs = zip(times_s, times_s[FREQUENT - 1 :], strict=False)
    return merge([(begin, end) for begin, end in pairs if end - begin <= MINUTE_S])


def format_curves(curves: Sequence[Curve], seconds: float) -> Iterator[str]:
    """A table for each limit; `*` is the default, `-` a value that another one of the limit beats."""
    hours = seconds / 3600
    for curve in curves:
        yield f"\n{curve.knob.title}; {curve.events} true events in {hours:.1f} h"
        yield f"  {'limit':>9}{'alerts':>8}{'false':>7}{'false/h':>9}{'found':>7}{'share':>8}"
        for point in curve.points:
            beaten = any(point.is_worse_than(other) for other in curve.points)
            mark = f"{'*' if point.is_default else ' '}{'-' if beaten else ' '}"
            share = f"{point.share:.0%}" if point.events else "-"
            numbers = f"{point.alerts:>8}{point.false:>7}{point.false / hours:>9.2f}{point.found:>7}{share:>8}"
            yield f"{mark}{point.label:>9}{numbers}"
    yield "\n* the default; - another value finds as many with fewer false alerts, or more with no more"


def to_json(curves: Sequence[Curve], seconds: float) -> dict[str, Any]:
    """All figures, for programs."""
    return {
        "seconds": seconds,
        "curves": [
            {
                "kind": curve.knob.kind,
                "events": curve.events,
                "points": [
                    {
                        "values": point.values,
                        "default": point.is_default,
                        "alerts": point.alerts,
                        "false": point.false,
                        "found": point.found,
                    }
                    for point in curve.points
                ],
            }
            for curve in curves
        ],
    }
