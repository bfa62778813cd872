"""Learns to tell ventricular fibrillation: the weights of `monitor.ecg.vf`, and figures that no record had a part in.

Windows of annotated records, described as the monitor does it live, by one logistic regression. Rules:

* A window is fibrillation if all of it is annotated as such, and none if it keeps 2 s off; what lies between is left
  out. So are ventricular tachycardia and asystole of vfdb, and the 15 s before fibrillation in cudb: tachycardia that
  turns into flutter has its waves.
* Hard negatives are noise as annotated in vfdb, hands that are laid on electrodes (TELE), recordings of consumers (CinC
  2017), noise alone and added to clean records (nstdb), broad and paced beats (MIT-BIH), and coloured noise, which is
  what an electrode without a heart gives.
* A record in fibrillation counts as the square root of its windows, and so does each kind of other signal; both classes
  count alike.
* Figures are of weights that were learned without the record, and of alerts: the very loops of the monitor, run over
  whole records, their first lead.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from monitor.beat import RATE_HZ
from monitor.ecg import resample, vf
from monitor.wire import NO_SAMPLE
from recordings.reader import find_base, open_wfdb, read_recording
from recordings.recording import RANGE_UV

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]

FIBRILLATION = ("(VF", "(VFL", "(VFIB")
LEFT_OUT = ("(VT", "(ASYS")
"""Rhythms of vfdb that teach nothing."""
WFDB = ("vfdb", "cudb", "mitdb", "svdb", "cpsc2021", "cinc2017", "cinc2017b")
"""Folders of WFDB records."""
TWO_LEADS = ("vfdb", "mitdb", "svdb")
"""Of these the second lead teaches as well."""
MARGIN_S, ONSET_S = 2.0, 15.0
NOISE_S = 900.0
"""How much of a record noise is added to."""
SNR_DB = (12.0, 6.0, 0.0, -6.0)
COLOURS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Noise whose power falls with these powers of frequency."""
SLOWEST_HZ, COLOURED_UV = 0.05, 300.0
PENALTY = 1e-3
"""On the squared weights of standardised numbers."""
FOLDS = 8
LONGEST_DELAY_S, SHORTEST_S = 10.0, 6.0
"""An episode of so many seconds must be told so soon after its onset."""
EARLY_S = 10.0
"""An alert may begin so long before an annotated episode."""
WINDOW_S, STEP_S = vf.STEP * vf.STEPS / RATE_HZ, vf.STEP / RATE_HZ


@dataclass(frozen=True, eq=False)
class Taught:
    """One lead of a record."""

    record: str
    source: str
    is_first_lead: bool
    signal: npt.NDArray[np.float32]
    """(n,) at 125 Hz, as the monitor resamples it."""
    fibrillation: Sequence[Span] = ()
    left_out: Sequence[Span] = ()
    """Neither fibrillation nor none."""
    spared: Sequence[Span] = ()
    """Ventricular tachycardia, where an alert is neither true nor false."""
    rhythms: Sequence[tuple[str, Span]] = ()
    """Rhythm marks, from one to the next."""

    @property
    def hours(self) -> float:
        """Without what is spared and without fibrillation."""
        known_s = self.signal.size / RATE_HZ
        return (known_s - sum(end - begin for begin, end in [*self.fibrillation, *self.spared])) / 3600


@dataclass
class Tally:
    """Figures of one source."""

    told: int = 0
    episodes: int = 0
    delays_s: list[float] = field(default_factory=list)
    """Of those told that were not in an alert before."""
    false: int = 0
    hours: float = 0.0


def read(data: Path) -> list[Taught]:
    """Read all folders that are there; add noise to clean records.

    Parameters
    ----------
    data
        Directory with vfdb, cudb, and any of mitdb, svdb, cinc2017, cpsc2021, tele_ecg, nstdb_noise.

    Raises
    ------
    ValueError
        There is no record in fibrillation.
    """
    leads = [lead for name in WFDB for path in sorted((data / name).glob("*.hea")) for lead in _read_wfdb(path, name)]
    leads += [_read_tele(path) for path in sorted((data / "tele_ecg").glob("*.npz"))]
    if not any(lead.fibrillation for lead in leads):
        raise ValueError(f"{data}: got no record in ventricular fibrillation, expected vfdb or cudb.")
    clean = [
        lead for lead in leads if lead.source in ("mitdb", "svdb") and lead.is_first_lead and not lead.fibrillation
    ]
    return (
        leads + _add_noise(clean, data / "nstdb_noise") + [_make_noise(one, seed) for one in COLOURS for seed in (0, 1)]
    )


def _read_wfdb(path: Path, folder: str) -> Iterator[Taught]:
    marks = _read_marks(path)
    for lead in range(2 if folder in TWO_LEADS else 1):
        one = read_recording(path, str(lead))
        end_s = one.samples_uv.size / one.rate_hz
        rhythms = _rhythms(marks, end_s)
        spans = _brackets(marks, end_s) or [span for name, span in rhythms if name in FIBRILLATION]
        before = [(begin - ONSET_S, begin) for begin, _ in spans] if folder == "cudb" else []
        left_out = before + [span for name, span in rhythms if name in LEFT_OUT]
        spared = [span for name, span in rhythms if name == "(VT"]
        signal = to_125_hz(one.samples_uv, one.rate_hz)
        source = folder.removesuffix("b") if folder.startswith("cinc") else folder
        yield Taught(one.name, source, lead == 0, signal, spans, left_out, spared, rhythms)


def _read_marks(path: Path) -> list[tuple[float, str, str]]:
    """Time, symbol and text of each annotation."""
    base = find_base(path)
    if not base.with_name(base.name + ".atr").is_file():
        return []
    with open_wfdb(f"{base}.atr cannot be read") as wfdb:
        marks = wfdb.rdann(str(base), "atr")
        rate_hz = marks.fs or wfdb.rdheader(str(base)).fs
    texts = [text.strip("\0 ") for text in marks.aux_note]
    return [(at / rate_hz, kind, text) for at, kind, text in zip(marks.sample, marks.symbol, texts, strict=True)]


def _rhythms(marks: Sequence[tuple[float, str, str]], end_s: float) -> list[tuple[str, Span]]:
    begun = [(text, time_s) for time_s, _, text in marks if text.startswith("(")]
    ends = [*[time_s for _, time_s in begun[1:]], end_s]
    return [(text, (time_s, end)) for (text, time_s), end in zip(begun, ends, strict=False)]


def _brackets(marks: Sequence[tuple[float, str, str]], end_s: float) -> list[Span]:
    closed = [time_s for time_s, kind, _ in marks if kind == "]"]
    opened = [time_s for time_s, kind, _ in marks if kind == "["]
    return [(begin, min((end for end in closed if end > begin), default=end_s)) for begin in opened]


def _read_tele(path: Path) -> Taught:
    with np.load(path) as file:
        return Taught(path.stem, "tele", True, to_125_hz(file["ecg_uV"].astype(float), 500.0))


def to_125_hz(samples_uv: Floats, rate_hz: float) -> npt.NDArray[np.float32]:
    """Resample as the monitor does, with one step to the microvolt."""
    steps = np.clip(np.nan_to_num(np.rint(samples_uv)), -RANGE_UV, RANGE_UV).astype(np.int16)
    steps[np.isnan(samples_uv)] = NO_SAMPLE
    state = np.zeros(1, resample.STATE)
    resample.begin(state[0], rate_hz, 0.0)
    signal, _ = resample.resample(state, np.array([0]), steps, np.array([steps.size]), resample.design_kernel(rate_hz))
    return signal


def _add_noise(clean: Sequence[Taught], folder: Path) -> list[Taught]:
    """Noise alone; and the noise of each kind added to each record, at a ratio as NSTDB defines it."""
    noises = [lead for path in sorted(folder.glob("*.hea")) for lead in _read_noise(path)]
    mixed = []
    for i, lead in enumerate(clean if noises else []):
        signal = lead.signal[: round(NOISE_S * RATE_HZ)]
        for k in range(i % 2, len(noises), 2):
            noise = np.resize(noises[k].signal - noises[k].signal.mean(), signal.size)
            power = _usual_height(signal) ** 2 / 8 / 10 ** (SNR_DB[i // 2 % len(SNR_DB)] / 10)
            added = signal + (np.sqrt(power) / noise.std()) * noise
            mixed.append(Taught(lead.record, f"{lead.source} + noise", True, added.astype(np.float32)))
    return noises + mixed


def _read_noise(path: Path) -> Iterator[Taught]:
    for lead in range(2):
        one = read_recording(path, str(lead))
        yield Taught(one.name, "noise alone", lead == 0, to_125_hz(one.samples_uv, one.rate_hz))


def _make_noise(colour: float, seed: int) -> Taught:
    samples = round(NOISE_S * RATE_HZ)
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / RATE_HZ), SLOWEST_HZ)
    phases = np.random.default_rng(seed).normal(size=(2, hertz.size))
    noise = np.fft.irfft((phases[0] + 1j * phases[1]) / hertz ** (colour / 2), samples)
    signal = (COLOURED_UV * noise / noise.std()).astype(np.float32)
    return Taught(f"1/f^{colour:g} {seed}", f"1/f^{colour:g} noise", True, signal)


def _usual_height(signal: npt.NDArray[np.float32]) -> float:
    """Median peak-to-peak of a second."""
    second = round(RATE_HZ)
    whole = signal[: signal.size // second * second].reshape(-1, second)
    return float(np.nanmedian(np.ptp(whole, axis=1)))


class Windows(NamedTuple):
    """Windows of all leads, those that teach."""

    numbers: Floats
    """(n, k) of `monitor.ecg.vf.FEATURES`"""
    labels: npt.NDArray[np.bool_]
    weights: Floats
    folds: npt.NDArray[np.int64]


def describe(leads: Sequence[Taught]) -> Windows:
    """Describe and label the windows of all leads."""
    parts: list[Windows] = []
    groups, folds = [], assign_folds(leads)
    for lead in leads:
        numbers = vf.measure(lead.signal)
        label, group = _label(lead, len(numbers))
        taught = np.isfinite(numbers).all(axis=1) & (label >= 0)
        n = int(taught.sum())
        parts.append(Windows(numbers[taught], label[taught] > 0, np.ones(n), np.full(n, folds[lead.record])))
        groups.append(group[taught])
    joined = Windows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return joined._replace(weights=_weigh(joined.labels, np.concatenate(groups)))


def _label(lead: Taught, windows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Of each window: 1 in fibrillation, 0 in none, -1 where it teaches nothing; and of what it is one."""
    begin = np.arange(windows) * STEP_S
    end = begin + WINDOW_S
    label, group = np.zeros(windows, np.int64), np.full(windows, lead.source, "U40")
    for name, span in lead.rhythms if lead.source == "vfdb" else ():
        group[(begin >= span[0]) & (begin < span[1])] = f"vfdb {name}"
    for first, last in lead.left_out:
        label[(end > first) & (begin < last)] = -1
    for first, last in lead.fibrillation:
        label[(end > first - MARGIN_S) & (begin < last + MARGIN_S)] = -1
    for first, last in lead.fibrillation:
        within = (begin >= first) & (end <= last)
        label[within], group[within] = 1, lead.record
    return label, group


def _weigh(labels: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_]) -> Floats:
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights: Floats = 1 / np.sqrt(counts[which])
    for one in (labels, ~labels):
        weights[one] /= 2 * weights[one].sum()
    return weights


def assign_folds(leads: Sequence[Taught]) -> dict[str, int]:
    """Record -> fold, those in fibrillation spread evenly."""
    ill = sorted({lead.record for lead in leads if lead.fibrillation})
    well = sorted({lead.record for lead in leads} - {*ill})
    return {record: i % FOLDS for part in (ill, well) for i, record in enumerate(part)}


def fit(numbers: Floats, labels: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Logistic regression with a ridge penalty.

    Parameters
    ----------
    numbers, labels, weights
        (n, k), (n,) and (n,).

    Returns
    -------
    ndarray
        (k + 1,) weights and the bias.
    """
    share = weights / weights.sum()
    mean = share @ numbers
    spread = np.sqrt(share @ (numbers - mean) ** 2)
    scaled = np.column_stack([(numbers - mean) / spread, np.ones(len(numbers))])
    sign = np.where(labels, 1.0, -1.0)

    def loss(betas: Floats) -> tuple[float, Floats]:
        margin = sign * (scaled @ betas)
        slope = scaled.T @ (share * -sign / (1 + np.exp(np.clip(margin, -500, 500))))
        ridge = np.append(betas[:-1], 0)
        return float(share @ np.logaddexp(0, -margin) + PENALTY * ridge @ ridge), slope + 2 * PENALTY * ridge

    betas = optimize.minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B").x
    unscaled = betas[:-1] / spread
    return np.append(unscaled, betas[-1] - unscaled @ mean)


def find_alerts(signal: npt.NDArray[np.float32], weights: Floats | None = None) -> list[Span]:
    """Run the monitor's loops over a signal at 125 Hz; return from when to when there was fibrillation, in seconds."""
    found = vf.find(np.zeros(1, vf.STATE), np.array([0]), signal, np.array([signal.size]), weights)
    alerts: list[Span] = []
    is_on = False
    for at, what in zip((found.samples / RATE_HZ).tolist(), found.what.tolist(), strict=True):
        if what == vf.PRESENT:
            alerts.append((alerts.pop()[0] if is_on else at, at))
        is_on = what == vf.PRESENT
    return alerts


def assess(leads: Sequence[Taught], weights: Sequence[Floats]) -> dict[str, Tally]:
    """Count what is told and what is false, with each record's weights those of its fold."""
    folds, tallies = assign_folds(leads), defaultdict[str, Tally](Tally)
    for lead in leads:
        if lead.is_first_lead:
            _count(lead, find_alerts(lead.signal, weights[folds[lead.record]]), tallies[lead.source])
    return dict(tallies)


def _count(lead: Taught, alerts: Sequence[Span], tally: Tally) -> None:
    tally.hours += lead.hours
    known = [*lead.fibrillation, *lead.spared]
    tally.false += sum(not any(a - EARLY_S <= end and b >= begin for begin, end in known) for a, b in alerts)
    for begin, end in _merge(lead.fibrillation):
        if end - begin >= SHORTEST_S:
            begun_s = [a for a, b in alerts if a <= begin + LONGEST_DELAY_S and b > begin]
            tally.episodes += 1
            tally.told += bool(begun_s)
            tally.delays_s += [a - begin for a in begun_s[:1] if a >= begin]


def _merge(spans: Sequence[Span]) -> list[Span]:
    """Those that touch, as one: vfdb marks flutter that turns into fibrillation."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin - merged[-1][1] < 1:
            merged[-1] = merged[-1][0], end
        else:
            merged.append((begin, end))
    return merged


def train(data: Path) -> tuple[Floats, dict[str, Tally]]:
    """Learn the weights from all records; and assess weights that were learned without each."""
    leads = read(data)
    windows = describe(leads)
    without = []
    for fold in range(FOLDS):
        kept = windows.folds != fold
        without.append(fit(windows.numbers[kept], windows.labels[kept], windows.weights[kept]))
    return fit(windows.numbers, windows.labels, windows.weights), assess(leads, without)


def print_report(weights: Floats, tallies: dict[str, Tally], as_json: bool) -> None:
    """Print the lines for `monitor.ecg.vf`, and a table of the figures."""
    numbers = [float(f"{weight:.4g}") for weight in weights]
    rows = {
        source: {
            "hours": round(tally.hours, 1),
            "episodes": tally.episodes,
            "told": tally.told,
            "delay_s": round(float(np.median(tally.delays_s)), 1) if tally.delays_s else None,
            "false": tally.false,
            "false_an_hour": round(tally.false / tally.hours, 2),
        }
        for source, tally in tallies.items()
    }
    if as_json:
        print(json.dumps({"weights": numbers[:-1], "bias": numbers[-1], "figures": rows}, indent=2))
        return
    print(f"WEIGHTS = ({', '.join(f'{number:g}' for number in numbers[:-1])})\nBIAS = {numbers[-1]:g}\n")
    print(f"{'first lead, out of fold':<24}{'hours':>7}{'told':>9}{'delay':>8}{'false':>7}{'an hour':>9}")
    for source, row in rows.items():
        told = f"{row['told']}/{row['episodes']}" if row["episodes"] else ""
        delay = "" if row["delay_s"] is None else f"{row['delay_s']} s"
        print(f"{source:<24}{row['hours']:>7}{told:>9}{delay:>8}{row['false']:>7}{row['false_an_hour']:>9}")
