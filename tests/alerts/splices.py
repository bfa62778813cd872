"""Hearts that stop, flutter, and beats that become small, spliced into clean records (MIT-BIH DS1, svdb).

A host is `BEFORE_S` of a record with nothing but normal beats, and what of it follows. At the splice, half-way between
two beats, comes one of:

* a flat line, with noise of 4 uV;
* P waves, a tenth as high as the QRS complexes, every 0.8 s on such a line;
* smooth noise of 3 % of that height;
* fibrillation or flutter from its annotated onset (vfdb, cudb), as high as the QRS complexes;
* what follows in the host, 0.2, 0.15 or 0.1 times as high.

All but the last are told if the message about an alert of high priority came within `WITHIN_S` of the splice; the last
ought not to be told as asystole. The bundled models have met the people of hosts and flutter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample

from recordings.classes import CLASS_OF
from recordings.recording import Signal
from simulator.alert_score import Published, publish, read_reference
from simulator.records import Record
from tests.alerts.figures import Figure, rate, share
from tests.alerts.panels import Panels
from tests.alerts.playing import begun, make_record, read_records

HOSTS, FLUTTER = ("mitdb", "svdb"), ("vfdb", "cudb")
BEFORE_S, AFTER_S, WITHIN_S = 60.0, 20.0, 12.0
LONGEST_RR_S = 1.5
"""Of a host: a slower heart may be alerted."""
NOISE_UV, P_WAVE, P_WAVE_S, P_RR_S = 4.0, 0.1, 0.03, 0.8
SMOOTH, SMOOTH_S = 0.03, 0.02
SMALL = (0.2, 0.15, 0.1)


class Host(NamedTuple):
    """Where something is spliced into."""

    before_uv: Signal
    after_uv: Signal
    rate_hz: float

    @property
    def base_uv(self) -> float:
        """The baseline at the splice."""
        return float(np.nanmedian(self.before_uv[-round(2 * self.rate_hz) :]))

    @property
    def height_uv(self) -> float:
        """How far QRS complexes reach from the baseline, up or down."""
        return float(np.nanpercentile(np.abs(self.before_uv - np.nanmedian(self.before_uv)), 99.5))


class Piece(NamedTuple):
    """The begin of fibrillation."""

    samples_uv: Signal
    rate_hz: float


def find_host(record: Record) -> Host | None:
    """Return the first stretch of a record that may be a host; None if there is none."""
    times_s = np.array([beat.r_peak_s for beat in record.beats])
    is_normal = np.array([CLASS_OF[beat.label] == "N" for beat in record.beats])
    for splice_s in (times_s[:-1] + times_s[1:]) / 2:
        begin, end = splice_s - BEFORE_S, splice_s + AFTER_S
        inside = (times_s >= begin) & (times_s <= end)
        edges_s = np.r_[begin, times_s[inside], end]
        if begin < 0 or end * record.rate_hz > record.samples_uv.size or not is_normal[inside].all():
            continue
        if np.diff(edges_s).max() <= LONGEST_RR_S:
            first, middle, last = (round(at * record.rate_hz) for at in (begin, splice_s, end))
            return Host(record.samples_uv[first:middle], record.samples_uv[middle:last], record.rate_hz)
    return None


def find_pieces(data: Path) -> Iterator[Piece]:
    """Find each annotated fibrillation of at least `AFTER_S` without missing samples."""
    for path, record in (one for name in FLUTTER for one in read_records(data / name)):
        for begin, end in read_reference(path, record).events["ventricular-fibrillation"]:
            first, last = (round(at * record.rate_hz) for at in (begin, begin + AFTER_S))
            piece = record.samples_uv[first:last]
            if end - begin >= AFTER_S and np.isfinite(piece).all():
                yield Piece(piece, record.rate_hz)


def make_ends(host: Host, piece: Piece, rng: np.random.Generator) -> dict[str, Signal]:
    """What may come after a splice, by name; each `AFTER_S` of samples in microvolts."""
    size = host.after_uv.size
    flat = host.base_uv + rng.normal(0, NOISE_UV, size)
    since_s = np.arange(size) / host.rate_hz % P_RR_S - P_RR_S / 2
    p_waves = P_WAVE * host.height_uv * np.exp(-((since_s / P_WAVE_S) ** 2) / 2)
    smooth = gaussian_filter1d(rng.normal(size=size), SMOOTH_S * host.rate_hz)
    flutter = resample(piece.samples_uv - np.median(piece.samples_uv), size)
    small = {f"{one:g} times as high": host.base_uv + one * (host.after_uv - host.base_uv) for one in SMALL}
    return small | {
        "flat line": flat,
        "P waves": flat + p_waves,
        "smooth noise": host.base_uv + SMOOTH * host.height_uv * smooth / smooth.std(),
        "fibrillation": host.base_uv + host.height_uv * flutter / np.percentile(np.abs(flutter), 99.5),
    }


def kind_told(published: Published) -> str | None:
    """Kind of the first alert of high priority that a message told within `WITHIN_S` of the splice."""
    told = [one for one in begun(published, "high") if BEFORE_S < one.completed_s <= BEFORE_S + WITHIN_S]
    return told[0].kind if told else None


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Splice each end into every host."""
    pieces = cycle(list(find_pieces(data)))
    kinds: dict[str, Counter[str | None]] = defaultdict(Counter)
    early, seconds, rng = 0, 0.0, np.random.default_rng(0)
    for database, record in ((name, record) for name in HOSTS for _, record in read_records(data / name)):
        if not (host := find_host(record)):
            continue
        for name, end_uv in make_ends(host, next(pieces), rng).items():
            spliced = make_record(record.name, np.concatenate([host.before_uv, end_uv]), host.rate_hz, record.lead)
            published = publish(spliced, panels.of(database, record.name))
            kinds[name][kind_told(published)] += 1
            early += sum(one.completed_s <= BEFORE_S for one in begun(published, "high"))
            seconds += BEFORE_S
    yield from figures_of(kinds)
    yield rate("alerts of high priority before the splice", early, seconds)


def figures_of(kinds: dict[str, Counter[str | None]]) -> Iterator[Figure]:
    """How often each end was told, and as what."""
    for name, counts in kinds.items():
        as_what = ", ".join(f"{n} {kind or 'not'}" for kind, n in counts.most_common())
        if name.endswith("as high"):
            yield share(f"{name}: told as asystole", counts["asystole"], counts.total(), f"({as_what})")
        else:
            yield share(f"{name}: told", counts.total() - counts[None], counts.total(), f"({as_what})")
