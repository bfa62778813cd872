"""Annotated records straight through the engine, and how well its beats agree with the annotations.

What a model of the annotated classes called the beats is compared as well, see `simulator.ec57`.

No broker and no clock: packets of one second go into `monitor.engine`, as fast as it takes them. Rules:

* What is scored is the main deflection of every beat that was found, whatever its verdict, from the first second on.
* Beat by beat, one to one, as ANSI/AAMI EC57 compares them: each annotated beat takes the nearest found beat that is
  not taken yet, if that lies within 150 ms. What lies in ventricular flutter is left out on both sides.
* Places are whole samples of the record's own rate, also where it was played at another one: what is scored is to the
  sample what `--annotations` writes, so that any other tool must come to the same numbers.
* A gross figure pools the beats of all records; it is no mean of the records' figures.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.classify import SHAPE_MODEL, Classifier
from monitor.engine import Engine, Output, warm_up
from monitor.panel import DEFAULT_MODEL, Panel, load_panel
from recordings.marks import MADE_HERE as ANNOTATOR
from recordings.reader import find_base, open_wfdb
from simulator.ec57 import Agreement, Answers, agree, count_answers, format_agreement, is_comparable, percent, show
from simulator.packets import make_packets
from simulator.records import Record, play, read_wfdb
from simulator.stream import resample

Samples = npt.NDArray[np.int64]
"""(n,) sample numbers, in order."""

MATCH_S = 0.15
"""How near a found beat must be to count (ANSI/AAMI EC57)."""
TIGHT_S = 0.036
"""How near it must be for windows and intervals to be those of the annotation."""
DEVICE = "record"


@dataclass(frozen=True, slots=True)
class RecordsToScore:
    """What to play, and by which models it is judged.

    Raises
    ------
    ValueError
        There is no record, or the rate is not allowed on the wire.
    """

    records: tuple[Path, ...]
    as_json: bool = False
    lead: str | None = None
    """Name or number of the lead; the first ECG if not given."""
    annotator: str | None = None
    """Whose annotations to compare with; see `recordings.marks.choose_annotator` if not given."""
    rate_hz: float | None = None
    """Rate to play at, if not the record's own."""
    model: str = DEFAULT_MODEL
    shape: str = SHAPE_MODEL
    """Beside a class model; see `monitor.panel.load_panel`."""

    def __post_init__(self) -> None:
        if not self.records:
            raise ValueError("Nothing to score: got no record, expected at least one.")
        if self.rate_hz is not None:
            _check_rate("--rate", self.rate_hz)


@dataclass(frozen=True, slots=True)
class ScoreSettings(RecordsToScore):
    """What to score, and how."""

    annotations: Path | None = None
    """Where to write annotation files of what was found."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Annotated beats against found ones."""

    reference: int
    """Annotated beats, outside ventricular flutter."""
    found: int
    """Found beats, outside ventricular flutter."""
    errors: Samples
    """(m,) samples by which each match was found late."""
    rate_hz: float
    partners: dict[int, int | None]
    """Which found beat matches each annotated one outside ventricular flutter: positions, None where it was missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What the engine made of one record."""

    lead: str
    beats: list[wire.Beat]
    """All that were found, by time; the clock begins with the record."""
    alerts: Counter[str]
    """Alerts begun, by kind."""
    seconds: float
    """Length of the record."""
    computing_s: float
    """What the engine took for it."""
    comparison: Comparison | None
    """None where the record has no annotations."""
    answers: Answers | None
    """None where there are none, or the model has other classes than they."""
    classes: tuple[str, ...] = ()
    """Of the model."""
    notes: tuple[str, ...] = ()
    """What was chosen or assumed in reading the record."""


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of a record, or of several together. None where there is nothing to measure."""

    record: str
    lead: str
    seconds: float
    annotated: bool
    reference_beats: int
    found_beats: int
    matched_beats: int
    sensitivity_percent: float | None
    ppv_percent: float | None
    f1_percent: float | None
    f1_36ms_percent: float | None
    error_mean_ms: float | None
    error_sd_ms: float | None
    error_median_abs_ms: float | None
    delay_p50_s: float | None
    delay_p99_s: float | None
    withheld: dict[str, int]
    """Beats withheld, by reason."""
    alerts: dict[str, int]
    """Alerts begun, by kind."""
    alerts_per_hour: float
    speed: float
    """Seconds of signal per second of computing."""
    classes: Agreement | None
    """None where there are no annotations, or the model has other classes than they."""
    notes: tuple[str, ...] = ()
    """What was chosen or assumed in reading the records."""


def run_score(settings: ScoreSettings) -> None:
    """Play all records, and print one line for each as soon as it is known.

    Raises
    ------
    ValueError
        A record cannot be read or its annotations cannot be written; see `simulator.records.read_wfdb`.
    FileNotFoundError
        There is no such model.
    """
    panel = load_panel(settings.model, settings.shape)
    warm_up()
    _check_names(settings)
    width = max(6, *(len(find_base(path).name) for path in settings.records))
    outcomes, rows = [], []
    for number, path in enumerate(settings.records):
        record = read_wfdb(path, settings.lead, settings.annotator)
        outcome = play_record(record, panel, settings.rate_hz)
        if settings.annotations is not None:
            write_annotations(record, outcome.beats, settings.annotations)
        outcomes.append(outcome)
        rows.append(summarise(record.name, [outcome]))
        if not settings.as_json:
            print(*([format_header(width)] if number == 0 else []), format_row(rows[-1], width), sep="\n", flush=True)
    gross = summarise("gross", outcomes)
    if settings.as_json:
        about = {"model": panel.info.name, "lead": settings.lead, "rate_hz": settings.rate_hz}
        print(json.dumps({**about, "records": [asdict(row) for row in rows], "gross": asdict(gross)}))
    else:
        classes = [] if gross.classes is None else [*format_agreement(gross.classes), ""]
        print(format_row(gross, width), "", *classes, *_tell_more(settings, rows, gross), "", LEGEND, sep="\n")


def play_record(record: Record, models: Classifier | Panel, rate_hz: float | None = None) -> Outcome:
    """Play a record through an engine of its own, and compare.

    Parameters
    ----------
    record
        What to play.
    models
        What judges its beats.
    rate_hz
        Rate to play at; the record's own if not given.

    Raises
    ------
    ValueError
        The rate is not allowed on the wire.
    """
    played_hz = record.rate_hz if rate_hz is None else rate_hz
    packets = cut_packets(record, played_hz)
    engine = Engine(models)
    about = wire.Info(rate_hz=played_hz, lead=record.lead, resolution_uv=record.resolution_uv, first_seen_s=0.0)
    engine.describe(DEVICE, about, 0.0)
    start_s = time.perf_counter()
    outputs = list(_feed(engine, packets))
    computing_s = time.perf_counter() - start_s
    beats = [found for output in outputs for found in output.beats]
    alerts = [alert for output in outputs for alert in output.alerts]
    return assess(record, models, beats, alerts, computing_s)


def assess(
    record: Record,
    models: Classifier | Panel,
    beats: Sequence[wire.Beat],
    alerts: Sequence[wire.Alert],
    computing_s: float,
) -> Outcome:
    """Compare what the engine published of a record, in whatever order, with the record's annotations.

    Parameters
    ----------
    record, models
        What was played, and what judged its beats.
    beats, alerts
        Its clock begins with the record.
    computing_s
        What the engine took for it.
    """
    beats = sorted(beats, key=lambda found: found.qrs_s)
    comparison = compare(record, find_places(record, beats)) if record.annotated else None
    answers = None
    if comparison is not None and is_comparable(models.info.classes):
        answers = count_answers(record.beats, beats, comparison.partners)
    return Outcome(
        record.lead,
        beats,
        Counter(alert.kind for alert in alerts if alert.state == "new"),
        record.samples_uv.size / record.rate_hz,
        computing_s,
        comparison,
        answers,
        tuple(models.info.classes),
        record.notes,
    )


def cut_packets(record: Record, rate_hz: float) -> list[wire.Packet]:
    """Packets of one second at the given rate; the clock begins with the record.

    Raises
    ------
    ValueError
        The rate is not allowed on the wire.
    """
    _check_rate(record.name, rate_hz)
    signal = resample(play(record), record.rate_hz, rate_hz)
    return [outgoing.packet for outgoing in make_packets(signal, rate_hz, round(rate_hz), record.resolution_uv)]


def _feed(engine: Engine, packets: list[wire.Packet]) -> Iterator[Output]:
    """Feed packets one by one, and drop the device at the end, so that what still waits is judged."""
    for packet in packets:
        engine.feed(DEVICE, packet, packet.start_s)
        yield engine.flush()
    engine.forget(math.inf)
    yield engine.flush()


def find_places(record: Record, beats: Sequence[wire.Beat]) -> Samples:
    """Where beats were found, in samples of the record's own rate."""
    places = np.rint([found.qrs_s * record.rate_hz for found in beats]).astype(np.int64)
    return np.clip(places, 0, record.samples_uv.size - 1)


def compare(record: Record, found: Samples) -> Comparison:
    """Compare what was found with the annotations, ventricular flutter left out."""
    reference = np.rint([played.r_peak_s * record.rate_hz for played in record.beats]).astype(np.int64)
    annotated, outside = _outside_flutter(record, reference), _outside_flutter(record, found)
    tolerance = round(MATCH_S * record.rate_hz)
    pairs = [(int(annotated[i]), int(outside[j])) for i, j in match(reference[annotated], found[outside], tolerance)]
    errors = np.array([found[j] - reference[i] for i, j in pairs], np.int64)
    partners = dict.fromkeys(annotated.tolist()) | dict(pairs)
    return Comparison(annotated.size, outside.size, errors, record.rate_hz, partners)


def _outside_flutter(record: Record, places: Samples) -> Samples:
    """Positions in `places` of those that do not lie in ventricular flutter."""
    outside = np.ones(places.size, bool)
    for start_s, end_s in record.flutter_s:
        outside &= (places < start_s * record.rate_hz) | (places > end_s * record.rate_hz)
    return np.flatnonzero(outside)


def match(reference: Samples, found: Samples, tolerance: int) -> list[tuple[int, int]]:
    """Pair annotated with found beats, one to one.

    Each annotated beat in turn takes the nearest found beat that no earlier one has taken, of two as near the first,
    if it is not further away than `tolerance`.

    Parameters
    ----------
    reference, found
        Sample numbers in order; either may be empty.
    tolerance
        Samples.

    Returns
    -------
    list of (int, int)
        Positions in `reference` and in `found`.
    """
    begin = np.searchsorted(found, reference - tolerance, "left")
    end = np.searchsorted(found, reference + tolerance, "right")
    taken: set[int] = set()
    pairs = []
    for i, place in enumerate(reference):
        near = [j for j in range(begin[i], end[i]) if j not in taken]
        if near:
            j = min(near, key=lambda j: abs(int(found[j] - place)))
            taken.add(j)
            pairs.append((i, j))
    return pairs


def summarise(name: str, outcomes: Sequence[Outcome]) -> Score:
    """Figures of one record, or of several with their beats pooled."""
    compared = [outcome.comparison for outcome in outcomes if outcome.comparison is not None]
    reference, found = (sum(getattr(one, field) for one in compared) for field in ("reference", "found"))
    matched = sum(one.errors.size for one in compared)
    tight = sum(int((np.abs(one.errors) <= round(TIGHT_S * one.rate_hz)).sum()) for one in compared)
    errors_ms = np.concatenate([np.empty(0), *(1000 * one.errors / one.rate_hz for one in compared)])
    beats = [found for outcome in outcomes for found in outcome.beats]
    delays_s = np.array([found.delay_s for found in beats])
    alerts = sum((outcome.alerts for outcome in outcomes), Counter[str]())
    answers = [outcome.answers for outcome in outcomes if outcome.answers is not None]
    seconds = sum(outcome.seconds for outcome in outcomes)
    return Score(
        record=name,
        lead=", ".join(dict.fromkeys(outcome.lead for outcome in outcomes)),
        seconds=round(seconds, 3),
        annotated=bool(compared),
        reference_beats=reference,
        found_beats=found + sum(len(outcome.beats) for outcome in outcomes if outcome.comparison is None),
        matched_beats=matched,
        sensitivity_percent=percent(matched, reference),
        ppv_percent=percent(matched, found),
        f1_percent=percent(2 * matched, reference + found),
        f1_36ms_percent=percent(2 * tight, reference + found),
        error_mean_ms=round(float(errors_ms.mean()), 3) if matched else None,
        error_sd_ms=round(float(errors_ms.std()), 3) if matched else None,
        error_median_abs_ms=round(float(np.median(np.abs(errors_ms))), 3) if matched else None,
        delay_p50_s=round(float(np.percentile(delays_s, 50)), 4) if beats else None,
        delay_p99_s=round(float(np.percentile(delays_s, 99)), 4) if beats else None,
        withheld=dict(Counter(found.reason for found in beats if found.reason is not None).most_common()),
        alerts=dict(alerts.most_common()),
        alerts_per_hour=round(3600 * alerts.total() / seconds, 2),
        speed=round(seconds / sum(outcome.computing_s for outcome in outcomes), 1),
        classes=agree(sum(answers, Answers()), outcomes[0].classes) if answers else None,
        notes=tuple(note for outcome in outcomes for note in outcome.notes),
    )


def write_annotations(record: Record, beats: Sequence[wire.Beat], directory: Path) -> Path:
    """Write what was found in a record as WFDB annotations (symbol N); return the file's path.

    Raises
    ------
    ValueError
        `wfdb` cannot write a file of such a name.
    """
    path = directory / f"{record.name}.{ANNOTATOR}"
    directory.mkdir(parents=True, exist_ok=True)
    places = find_places(record, beats)
    if not places.size:
        path.write_bytes(b"\0\0")  # the mark of the end: wfdb writes no empty file, but reads one
        return path
    with open_wfdb(f"{path} cannot be written as WFDB annotations") as wfdb:
        symbols = ["N"] * places.size
        wfdb.wrann(record.name, ANNOTATOR, places, symbol=symbols, fs=record.rate_hz, write_dir=str(directory))
    return path


LEGEND = """\
beats     annotated beats; those in ventricular flutter are left out, here and in all scores
found     QRS complexes that the monitor found
Se, PPV   share of the annotated beats that were found; share of the found that were annotated
F1        both in one: 2 x matched / (beats + found). Matched is beat by beat, one to one, within
          150 ms as in ANSI/AAMI EC57, but from the first second on; and within 36 ms
error     how much later than annotated the matched beats were found
delay     signal after a QRS complex that was needed to find it; waiting for the packet comes on top
withheld  beats whose signal was not fit to be judged
alerts    alerts begun per hour of signal
speed     seconds of signal per second of computing, model included
gross     the beats of all records pooled
An absence of alerts does not mean an absence of disease. Research software, not a medical device."""


COLUMNS = (
    ("", "beats", 6),
    ("", "found", 6),
    ("", "Se %", 6),
    ("", "PPV %", 6),
    ("F1 %", "150 ms", 6),
    ("F1 %", "36 ms", 6),
    ("error, ms", "mean ± sd", 12),
    ("delay", "p50 s", 5),
    ("delay", "p99 s", 5),
    ("", "withheld", 8),
    ("alerts", "/hour", 6),
    ("", "speed", 6),
)
"""Of the table, after the record's name: two lines of heading, and the width."""


def format_header(width: int) -> str:
    """Format the two lines over the table, with names of `width` characters."""
    upper = _line("", [top for top, _, _ in COLUMNS], width)
    return f"{upper}\n{_line('record', [name for _, name, _ in COLUMNS], width)}"


def format_row(score: Score, width: int) -> str:
    """One line of the table."""
    error = None if score.error_mean_ms is None else f"{score.error_mean_ms:+.1f} ± {score.error_sd_ms:4.1f}"
    cells = [
        str(score.reference_beats) if score.annotated else "-",
        str(score.found_beats),
        show(score.sensitivity_percent),
        show(score.ppv_percent),
        show(score.f1_percent),
        show(score.f1_36ms_percent),
        error or "-",
        show(score.delay_p50_s),
        show(score.delay_p99_s),
        str(sum(score.withheld.values())),
        f"{score.alerts_per_hour:.1f}",
        f"{score.speed:.0f}",
    ]
    return _line(score.record, cells, width)


def _line(name: str, cells: Sequence[str], width: int) -> str:
    columns = (f"{cell:>{size}}" for cell, (_, _, size) in zip(cells, COLUMNS, strict=True))
    return f"{name:<{width}} {' '.join(columns)}".rstrip()


def _tell_more(settings: ScoreSettings, rows: list[Score], gross: Score) -> Iterator[str]:
    """Lines between table and legend."""
    if silent := [row.record for row in rows if not row.annotated]:
        more = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
        yield f"not scored, for want of annotations: {', '.join(silent[:8])}{more}"
    yield from (f"note: {note}" for note in gross.notes)
    yield f"withheld: {_list(gross.withheld)}"
    yield f"alerts: {_list(gross.alerts)}"
    if gross.error_median_abs_ms is not None:
        yield f"median error: {gross.error_median_abs_ms:.1f} ms either way"
    played = "its own rate" if settings.rate_hz is None else f"{settings.rate_hz:g} Hz"
    yield f"played: lead {gross.lead}, at {played}, model {settings.model}"
    if settings.annotations is not None:
        yield f"written: {len(rows)} annotation files {settings.annotations / f'*.{ANNOTATOR}'}"


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _check_rate(what: str, rate_hz: float) -> None:
    if not wire.MIN_RATE_HZ <= rate_hz <= wire.MAX_RATE_HZ:
        raise ValueError(f"{what}: got {rate_hz:g} Hz, expected {wire.MIN_RATE_HZ:g} to {wire.MAX_RATE_HZ:g}.")


def _check_names(settings: ScoreSettings) -> None:
    """Refuse records whose annotation files would be the same file."""
    names = Counter(find_base(path).name for path in settings.records)
    if settings.annotations is not None and (twice := [name for name, times in names.items() if times > 1]):
        raise ValueError(f"Annotation files are named for their records: got {', '.join(twice)} more than once.")
