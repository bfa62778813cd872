"""Learns to tell atrial fibrillation: the network of `monitor.fibrillation`, and figures that no person had a part in.

Recordings run through the engine as it is, and what it knows of the rhythm at each beat is described as the monitor
does it live. Rules:

* A beat is in fibrillation if all of the latest are annotated as such (flutter counts), in none if none of them is;
  what lies between teaches nothing. A recording of CinC 2017 has one label as a whole, or none if it is too noisy.
* Hard negatives are healthy people in motion, recorded noise added to CinC 2017, and records full of ectopic beats
  (svdb, vfdb). CinC 2017 in noise keeps its labels, fibrillation too: noise alone must not speak against it.
* Each recording counts as `WEIGHTS` says, however long it is.
* Figures are of networks that were fitted without the person (`FOLDS` folds), and of limits chosen on the other folds;
  alerts are those of the monitor's own detector.
* svdb has no marks of rhythms, so some of its false alerts may be true. The model that calls beats ventricular has met
  most of these people; see its card.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import optimize

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.fibrillation import AtrialFibrillation
from monitor.alerts.finding import WITHHELD, SeenBeat
from monitor.alerts.registry import make_detectors
from monitor.engine import Engine, warm_up
from monitor.fibrillation import CLIPPED, INPUTS, REGULAR, Network, answer
from monitor.panel import Panel, load_panel
from monitor.rhythm import LOOK_BACK, LOOK_EVERY, Rhythms
from monitor.wire import NO_SAMPLE
from recordings.reader import find_base, open_wfdb, read_recording
from recordings.recording import RANGE_UV
from training import motion

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]

FIBRILLATION = ("(AFIB", "(AFL")
CHALLENGE, MARKED, CALM, MOTION = (
    ("cinc2017", "cinc2017b"),
    ("mitdb", "cpsc2021", "vfdb"),
    ("svdb",),
    "motion_artefacts",
)
"""Folders of recordings with one label each, of records with marks of rhythms, without, and of people in motion."""
NOISY = "cinc2017 + noise"
WEIGHTS = {"cinc2017": 1.0, NOISY: 0.5, "mitdb": 8.0, "cpsc2021": 8.0, "vfdb": 8.0, "svdb": 2.0, MOTION: 4.0}
"""How much a recording counts; less than `FEW` beats count less."""
FEW = 12
EVERY, EVERY_OF_LONG, LONG_S = 2, 8, 120.0
"""Of so many beats one teaches, and of recordings that are longer: neighbours say the same."""
SNR_DB = (12.0, 6.0, 6.0, 0.0)
FOLDS, HIDDEN, SEEDS = 5, 8, (0, 1)
"""Networks of so many hidden units, begun by each seed, are one in the end: their mean."""
PENALTY, STEPS = 2e-3, 200
"""On squared weights; most steps of the fit."""
SPECIFICITY = {"N": 0.98, "O": 0.88, MOTION: 0.94}
"""Share of recordings without an alert, of CinC 2017 by label and of people in motion: the limit is the lowest that
keeps it."""
SHORTEST_S, LENGTH_S, EARLY_S, LATE_S = 60.0, 28.0, 10.0, 12.0
"""Episodes that must be found; recordings of which figures are given as well; how early an alert may begin before an
episode, or how late after it."""
DEFAULT_ODDS = AlertSettings().limits.fibrillation_odds
LIMITS = (DEFAULT_ODDS - 0.5, DEFAULT_ODDS, DEFAULT_ODDS + 0.5)


@dataclass(frozen=True, eq=False)
class Recording:
    """One lead of a person."""

    name: str
    source: str
    person: str
    rate_hz: float
    samples_uv: Floats
    """(n,) NaN where there is no signal."""
    label: str = ""
    """Of CinC 2017."""
    fibrillation: tuple[Span, ...] = ()
    unknown: bool = False
    """Whether nobody knows the rhythm."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples_uv.size / self.rate_hz


@dataclass(frozen=True, eq=False)
class Told:
    """What the engine made of a recording: arrays of one length, a row for each beat."""

    recording: Recording
    numbers: Floats
    """(n, inputs) of `Rhythms.measure`"""
    verdicts: npt.NDArray[np.uint8]
    qrs_s: Floats

    @property
    def labels(self) -> Floats:
        """(n,) 1 in fibrillation, 0 in none, NaN where that is not known."""
        known = np.full(self.qrs_s.size, np.nan)
        if self.recording.unknown:
            return known
        within = np.zeros(self.qrs_s.size, np.bool_)
        for begin, end in self.recording.fibrillation:
            within |= (self.qrs_s >= begin) & (self.qrs_s < end)
        latest = sliding_window_view(np.pad(within, (LOOK_BACK - 1, 0), mode="edge"), LOOK_BACK)[: within.size]
        known[latest.all(axis=1)], known[~latest.any(axis=1)] = 1, 0
        return known


def read(data: Path) -> Iterator[Recording]:
    """Read all folders that are there; recorded noise is added to CinC 2017 where it is there as well.

    Parameters
    ----------
    data
        Directory with cinc2017, and any of cinc2017b, mitdb, cpsc2021, vfdb, svdb, motion_artefacts, nstdb_noise.

    Raises
    ------
    ValueError
        There is no recording of CinC 2017: nothing to choose the limit by.
    """
    labelled = [one for name in CHALLENGE if (data / name).is_dir() for one in _read_challenge(data / name)]
    if not {one.label for one in labelled} >= {"A", "N", "O"}:
        raise ValueError(f"{data}: got no recordings of CinC 2017 with the labels A, N and O, expected some of each.")
    yield from labelled
    yield from _add_noise(labelled, data / "nstdb_noise")
    for name in (*MARKED, *CALM):
        for path in sorted((data / name).glob("*.hea")):
            yield _read_marked(path, name)
    for path in sorted((data / MOTION).glob("*.npz")):
        yield _read_motion(path)


def _read_challenge(folder: Path) -> Iterator[Recording]:
    with (folder / "REFERENCE.csv").open(newline="", encoding="utf-8") as file:
        labels = [(row[0], row[1]) for row in csv.reader(file)]
    for name, label in sorted(labels):
        one = read_recording(folder / f"{name}.hea")
        spans = ((0.0, math.inf),) if label == "A" else ()
        yield Recording(name, "cinc2017", name, one.rate_hz, one.samples_uv, label, spans, label == "~")


def _read_marked(path: Path, source: str) -> Recording:
    one = read_recording(path)
    base, end_s = find_base(path), one.samples_uv.size / one.rate_hz
    with open_wfdb(f"{base}.atr cannot be read") as wfdb:
        marks = wfdb.rdann(str(base), "atr")
    rhythms = [
        (at / (marks.fs or one.rate_hz), text.strip("\0 "))
        for at, text in zip(marks.sample, marks.aux_note, strict=True)
        if text.startswith("(")
    ]
    ends_s = [*(begin_s for begin_s, _ in rhythms[1:]), end_s][: len(rhythms)]
    spans = tuple((b, e) for (b, text), e in zip(rhythms, ends_s, strict=True) if text in FIBRILLATION)
    person = path.stem.rpartition("_")[0] or path.stem
    return Recording(path.stem, source, person, one.rate_hz, one.samples_uv, "", spans)


def _read_motion(path: Path) -> Recording:
    signal, _ = motion.read_motion(path)
    signal -= np.nanmedian(signal)
    return Recording(path.stem, MOTION, f"{MOTION} {path.stem.partition('_')[0]}", motion.RATE_HZ, signal)


def _add_noise(clean: Sequence[Recording], folder: Path) -> Iterator[Recording]:
    """Add recorded noise, at a ratio as NSTDB defines it; people of one fold get a part of the noise of their own."""
    noises = [read_recording(path, str(lead)) for path in sorted(folder.glob("*.hea")) for lead in range(2)]
    folds = assign_folds(clean)
    for i, one in enumerate(clean if noises else []):
        noise = noises[i % len(noises)]
        part = noise.samples_uv.size // FOLDS
        own = noise.samples_uv[folds[one.person] * part : (folds[one.person] + 1) * part]
        at = np.arange(one.samples_uv.size) * noise.rate_hz / one.rate_hz + np.random.default_rng(i).integers(part)
        added = np.interp(at % own.size, np.arange(own.size), own - own.mean())
        power = _usual_height(one) ** 2 / 8 / 10 ** (SNR_DB[i // len(noises) % len(SNR_DB)] / 10)
        signal = one.samples_uv + math.sqrt(power / max(added.var(), 1.0)) * added
        yield replace(one, source=NOISY, samples_uv=signal)


def _usual_height(one: Recording) -> float:
    """Median peak-to-peak of a second."""
    second = round(one.rate_hz)
    whole = one.samples_uv[: one.samples_uv.size // second * second].reshape(-1, second)
    return float(np.median(np.ptp(whole, axis=1)))


def play(one: Recording, panel: Panel) -> Told:
    """Run a recording through an engine, in packets of a second."""
    engine, rhythms = Engine(panel), Rhythms()
    steps = np.clip(np.nan_to_num(np.rint(one.samples_uv)), -RANGE_UV, RANGE_UV).astype(np.int16)
    steps[np.isnan(one.samples_uv)] = NO_SAMPLE
    engine.describe(one.name, wire.Info(rate_hz=one.rate_hz, lead="unknown", resolution_uv=1.0), 0.0)
    parts: list[tuple[Any, ...]] = []
    for seq in range(math.ceil(one.seconds) + 1):
        begin, end = round(seq * one.rate_hz), round((seq + 1) * one.rate_hz)
        if begin < steps.size:
            engine.feed(one.name, wire.Packet(seq, begin / one.rate_hz, one.rate_hz, steps[begin:end]), float(seq))
        else:
            engine.forget(math.inf)
        parts += [(rhythms.measure(one), one.verdicts, one.qrs_s) for one in engine.flush().judged]
    if not parts:
        return Told(one, np.zeros((0, len(INPUTS))), np.zeros(0, np.uint8), np.zeros(0))
    return Told(one, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def assign_folds(recordings: Sequence[Recording]) -> dict[str, int]:
    """Person -> fold; people of one source and label are spread evenly."""
    groups = defaultdict[tuple[str, str], set[str]](set)
    for one in recordings:
        if one.source != NOISY:
            groups[one.source, one.label].add(one.person)
    return {person: i % FOLDS for people in groups.values() for i, person in enumerate(sorted(people))}


class Taught(NamedTuple):
    """Beats that teach."""

    numbers: Floats
    labels: Floats
    weights: Floats


def gather(told: Sequence[Told]) -> Taught:
    """Collect the beats that teach, of judged beats whose rhythm is not plainly regular."""
    parts = []
    for one in told:
        labels, numbers, is_judged = one.labels, one.numbers, one.verdicts != WITHHELD
        known = np.isfinite(labels) & np.isfinite(numbers[:, 0]) & (numbers[:, 0] > REGULAR) & is_judged
        rows = np.flatnonzero(known)[:: EVERY if one.recording.seconds < LONG_S else EVERY_OF_LONG]
        if rows.size:
            weight = WEIGHTS[one.recording.source] * min(1.0, EVERY * rows.size / FEW) / rows.size
            parts.append(Taught(numbers[rows], labels[rows], np.full(rows.size, weight)))
    return Taught(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit(taught: Taught, seeds: Sequence[int] = SEEDS) -> Network:
    """Fit a network by maximum likelihood with a ridge penalty; those of all seeds are joined to one, their mean."""
    share = taught.weights / taught.weights.sum()
    mean = taught.numbers.mean(axis=0)
    spread = taught.numbers.std(axis=0) + 1e-9
    scaled = np.clip((taught.numbers - mean) / spread, -CLIPPED, CLIPPED)
    nets = [_fit_one(scaled, taught.labels, share, seed) for seed in seeds]
    weights, hidden, out, bias = (np.concatenate(part, axis=-1) for part in zip(*nets, strict=True))
    return Network(mean, spread, weights, hidden, out / len(seeds), np.array([bias.mean()]))


def _fit_one(scaled: Floats, labels: Floats, share: Floats, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    inputs = scaled.shape[1]
    ends = np.cumsum([inputs * HIDDEN, HIDDEN, HIDDEN])
    rng, sign = np.random.default_rng(seed), 2 * labels - 1

    def parts(values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        weights, hidden, out, bias = np.split(values, ends)
        return weights.reshape(inputs, HIDDEN), hidden, out, bias

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, hidden, out, bias = parts(values)
        units = np.tanh(scaled @ weights + hidden)
        odds = units @ out + bias
        slope = share * (1 / (1 + np.exp(-odds)) - labels)
        back = np.outer(slope, out) * (1 - units * units)
        ridge = PENALTY * float((weights**2).sum() + (out**2).sum())
        slopes = (
            (scaled.T @ back + 2 * PENALTY * weights).ravel(), back.sum(axis=0),
            units.T @ slope + 2 * PENALTY * out, slope.sum(keepdims=True),
        )  # fmt: skip
        return float(share @ np.logaddexp(0, -sign * odds)) + ridge, np.concatenate(slopes)

    start = np.concatenate(
        [rng.normal(0, 0.3, inputs * HIDDEN), np.zeros(HIDDEN), rng.normal(0, 0.3, HIDDEN), np.zeros(1)]
    )
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return parts(found.x)


def odds_of(one: Told, network: Network) -> Floats:
    """(n,) log odds at each beat, as `monitor.rhythm` tells them; NaN where they are not known."""
    looked = one.numbers[::LOOK_EVERY]
    odds = looked[:, 0].copy()
    for i in np.flatnonzero(odds > REGULAR):
        odds[i] = answer(looked[i], network)
    return np.repeat(odds, LOOK_EVERY)[: len(one.numbers)]


def detector(limit: float) -> AtrialFibrillation:
    """Return the monitor's detector with another limit."""
    [usual] = [one for one in make_detectors(AlertSettings()) if one.kind == "atrial-fibrillation"]
    return replace(cast(AtrialFibrillation, usual), odds=limit)


def least_limit(one: Told, odds: Floats) -> float:
    """The limit below which a recording has an alert."""
    usual = detector(0.0)
    counted = np.where(np.isfinite(odds) & (one.verdicts != WITHHELD), odds, -math.inf)
    latest = sliding_window_view(np.r_[np.full(usual.m - 1, -math.inf), counted], usual.m)
    return float(np.sort(latest, axis=1)[:, -usual.n].max(initial=-math.inf))


@dataclass(frozen=True)
class _Odds:
    """As much of a `monitor.alerts.finding.Beats` as the detector sees."""

    fibrillation: Floats

    @property
    def rhythm(self) -> _Odds:
        return self


def find_alerts(one: Told, odds: Floats, limit: float) -> list[Span]:
    """Let the detector observe all beats; return from when to when its alerts lasted."""
    watching, beats, tracker = detector(limit), cast(Any, _Odds(odds)), None
    alerts: list[Span] = []
    for i, (time_s, verdict) in enumerate(zip(one.qrs_s.tolist(), one.verdicts.tolist(), strict=True)):
        seen = SeenBeat(beats, i, time_s, verdict)
        if tracker is None:
            if not watching.starts(seen):
                continue
            tracker = watching.track()
        changes, is_done = tracker.observe(seen)
        for change in changes:
            if change.state == "new":
                alerts.append((change.since_s, math.inf))
            elif change.state == "end":
                alerts[-1] = alerts[-1][0], time_s
        if is_done:
            tracker = None
    return alerts


def choose_limit(least: Mapping[str, Sequence[float]]) -> float:
    """The lowest limit that leaves enough of the recordings of each label without an alert."""
    limits = []
    for label, share in SPECIFICITY.items():
        if ordered := sorted(least.get(label, ()), reverse=True):
            limits.append(ordered[math.floor(len(ordered) * (1 - share))])
    return max(limits)


@dataclass
class Tally:
    """Figures at one limit."""

    alerted: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    """Of recordings, by source and label."""
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Of episodes, by source."""
    episodes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    false: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    hours: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, one: Told, alerts: Sequence[Span]) -> None:
        """Count a recording."""
        source, seconds = one.recording.source, one.recording.seconds
        if source in ("cinc2017", NOISY, MOTION):
            self.alerted[f"{source} {one.recording.label}".strip()].append(bool(alerts))
            if source == "cinc2017" and seconds >= LENGTH_S:
                self.alerted[f"{source} {one.recording.label}, {LENGTH_S:g} s or more"].append(bool(alerts))
            return
        spans = one.recording.fibrillation
        self.hours[source] += seconds / 3600
        self.false[source] += sum(not any(a - EARLY_S <= e and b >= s - EARLY_S for s, e in spans) for a, b in alerts)
        for begin, end in spans:
            if end - begin >= SHORTEST_S:
                self.episodes[source] += 1
                self.found[source] += any(a <= end + LATE_S and b >= begin for a, b in alerts)

    def rows(self) -> dict[str, str]:
        """What there is to print."""
        rows = {name: f"{sum(of)} of {len(of)}, {np.mean(of):.1%}" for name, of in sorted(self.alerted.items())}
        for source, hours in self.hours.items():
            episodes = f"{self.found[source]} of {self.episodes[source]}, " if self.episodes[source] else ""
            false = self.false[source]
            rows[source] = f"{episodes}false {false} in {hours:.1f} h, {false / max(hours, 1e-9):.2f} an hour"
        return rows


@dataclass(frozen=True)
class Outcome:
    """A network, and figures of others that were fitted without each person."""

    network: Network
    """Fitted to all, its bias such that the limit chosen on all folds is the default."""
    tallies: dict[str, Tally]
    """By limit."""


def train(told: Sequence[Told]) -> Outcome:
    """Fit a network to all recordings, and one without the people of each fold, which the figures are of."""
    folds = assign_folds([one.recording for one in told])
    fold_of = [folds[one.recording.person] for one in told]
    odds: list[Floats] = [np.zeros(0)] * len(told)
    for fold in range(FOLDS):
        network = fit(gather([one for one, own in zip(told, fold_of, strict=True) if own != fold]))
        for i in np.flatnonzero(np.array(fold_of) == fold).tolist():
            odds[i] = odds_of(told[i], network)
    least = [least_limit(one, own) for one, own in zip(told, odds, strict=True)]
    limits = [choose_limit(_by_label(told, least, [f != fold for f in fold_of])) for fold in range(FOLDS)]
    chosen = choose_limit(_by_label(told, least, [True] * len(told)))
    tallies = {}
    for limit in LIMITS:
        tallies[f"{limit:g}"] = tally = Tally()
        for one, own, fold in zip(told, odds, fold_of, strict=True):
            tally.add(one, find_alerts(one, own, limits[fold] + limit - DEFAULT_ODDS))
    network = fit(gather(told))
    return Outcome(network._replace(bias=network.bias + DEFAULT_ODDS - chosen), tallies)


def _by_label(told: Sequence[Told], least: Sequence[float], which: Sequence[bool]) -> dict[str, list[float]]:
    limits = defaultdict[str, list[float]](list)
    for one, limit, is_one in zip(told, least, which, strict=True):
        if is_one and one.recording.source in ("cinc2017", MOTION):
            limits[one.recording.label or one.recording.source].append(limit)
    return limits


def play_all(data: Path) -> list[Told]:
    """Run all recordings through the default models; see `read`."""
    panel = load_panel()
    warm_up()
    return [play(one, panel) for one in read(data)]


def write_network(network: Network) -> str:
    """Return the network as the source of `monitor/fibrillation_network.py`."""
    rows = [
        f'    "{name}": ({_numbers([mean, spread])},\n        {_numbers(weights)}),\n'
        for name, mean, spread, weights in zip(INPUTS, network.mean, network.spread, network.weights, strict=True)
    ]
    return (
        '"""The network of `monitor.fibrillation`, as `ecgwatch train af` wrote it; nothing here is by hand."""\n\n'
        "# fmt: off\nINPUTS = {\n" + "".join(rows) + "}\n"
        '"""Name -> mean, spread, and a weight for each hidden unit."""\n'
        f"HIDDEN = ({_numbers(network.hidden)})\n"
        f"OUT = ({_numbers(network.out)})\n"
        f"BIAS = {network.bias[0]:.4g}\n"
    )


def _numbers(values: Sequence[float] | Floats) -> str:
    """Eight a line."""
    texts = [f"{value:.4g}" for value in values]
    return ",\n        ".join(", ".join(texts[k : k + 8]) for k in range(0, len(texts), 8))


def print_report(outcome: Outcome, as_json: bool) -> None:
    """Print the figures."""
    rows = {limit: tally.rows() for limit, tally in outcome.tallies.items()}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for limit, figures in rows.items():
        print(f"At fibrillation-odds {limit}: alerts, of people whom the network has not met")
        for name, figure in figures.items():
            print(f"  {name:<32}{figure}")
