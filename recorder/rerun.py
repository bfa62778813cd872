"""``ecgwatch rerun``: what is kept of a device through another model or other limits, and what would have been alerted.

What was alerted stands in the record; where it does not, the record is run through the monitor's usual model and limits
first. Two episodes are the same where they are of one kind, and not more than `NEAR_S` lies between them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analysis.examine import Findings
from analysis.report import check_installed
from analysis.strip import cut_strip, make_figure, save
from monitor.alerts.episode import AlertSettings
from monitor.panel import DEFAULT_MODEL, load_panel
from recorder.assemble import Assembled, assemble, published_beats, spells
from recorder.comparison import Comparison, Pair, check_output, write_comparison
from recorder.hand_out import Wanted, examine_kept
from recordings.annotations import Spell

NEAR_S = 10.0
WHERE = ("both", "only before", "only now")


@dataclass(frozen=True, slots=True)
class RerunSettings:
    """What to run again, and how."""

    wanted: Wanted
    """Its model is the one that is tried."""
    alerts: AlertSettings
    usual: str = DEFAULT_MODEL
    """Model of the comparison, where the record has no alerts."""
    as_json: bool = False
    strips: Path | None = None
    """Folder for a strip of each alert that is in one of the two only."""
    output: Path | None = None
    """Page with both side by side."""
    limits: tuple[str, ...] = ()
    """Those that are tried, for the page."""

    def __post_init__(self) -> None:
        if self.output is not None:
            check_output(self.output)
            check_installed()


def run_rerun(settings: RerunSettings) -> None:
    """Run, and print the comparison.

    Raises
    ------
    ValueError
        Nothing is kept of that time.
    FileNotFoundError
        There is no such model.
    """
    kept = settings.wanted.read()
    assembled = assemble(kept)
    before, source = spells(assembled), "as published"
    beats_before = [(note.time_s, note.text or note.symbol) for note in published_beats(assembled)]
    if not assembled.alerts:
        usual = examine_kept(kept, assembled.start_s, load_panel(settings.usual))
        before, source, beats_before = _spells(usual), settings.usual, _name_beats(usual)
    found = examine_kept(kept, assembled.start_s, load_panel(settings.wanted.model), settings.alerts)
    pairs = compare(before, _spells(found))
    beats = _name_beats(found)
    if settings.strips is not None:
        _draw(pairs, assembled, beats, settings.strips)
    if settings.output is not None:
        now = ", ".join([settings.wanted.model, *settings.limits])
        made = Comparison(
            kept.device, assembled.recording, source, now, pairs, count_by_kind(pairs), beats_before, beats
        )
        write_comparison(settings.output, made)
    if settings.as_json:
        rows = [{"where": pair.where, **pair.spell._asdict()} for pair in pairs]
        about = {"device": kept.device, "start_s": assembled.start_s, "before": source, "now": settings.wanted.model}
        print(json.dumps(about | {"alerts": rows}))
        return
    print(*describe(pairs, assembled.start_s, source, settings.wanted.model), sep="\n")


def compare(before: Sequence[Spell], now: Sequence[Spell]) -> list[Pair]:
    """Pair episodes, by begin."""
    left = list(now)
    pairs = []
    for one in before:
        same = next((other for other in left if _is_same(one, other)), None)
        if same is not None:
            left.remove(same)
        pairs.append(Pair("only before" if same is None else "both", one, same))
    return sorted([*pairs, *(Pair("only now", one) for one in left)], key=lambda pair: pair.spell.begin_s)


def describe(pairs: Sequence[Pair], start_s: float, before: str, now: str) -> Iterator[str]:
    """The comparison, for a person: counts by kind, then each alert that is in one of the two only."""
    width = max([4, *(len(pair.spell.kind) for pair in pairs)])
    yield f"before: {before}; now: {now}"
    for kind, *counts in count_by_kind(pairs):
        yield f"{kind:<{width}}" + "".join(f"  {count:>11}" for count in counts)
    for pair in pairs:
        if pair.where != "both":
            moment = datetime.fromtimestamp(start_s + pair.spell.begin_s, UTC)
            when = f"{moment:%Y-%m-%d %H:%M:%S}  {pair.where:<11}"
            yield f"{when}  {pair.spell.kind:<{width}}  {pair.spell.text}".rstrip()


def count_by_kind(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """Header and rows of a table: how many alerts of each kind are where."""
    counts = Counter[tuple[str, str]]((pair.spell.kind, pair.where) for pair in pairs)
    kinds = sorted({pair.spell.kind for pair in pairs})
    return [("kind", *WHERE), *((kind, *(str(counts[kind, where]) for where in WHERE)) for kind in kinds)]


def _name_beats(found: Findings) -> list[tuple[float, str]]:
    return list(zip(found.qrs_s.tolist(), found.labels, strict=True))


def _spells(found: Findings) -> list[Spell]:
    return [Spell(one.kind, one.begin_s, one.end_s, one.text) for one in found.episodes()]


def _is_same(one: Spell, other: Spell) -> bool:
    if one.kind != other.kind:
        return False
    ends = [float("inf") if spell.end_s is None else spell.end_s for spell in (one, other)]
    return one.begin_s <= ends[1] + NEAR_S and other.begin_s <= ends[0] + NEAR_S


def _draw(pairs: Sequence[Pair], assembled: Assembled, beats: list[tuple[float, str]], folder: Path) -> None:
    for number, pair in enumerate((pair for pair in pairs if pair.where != "both"), 1):
        spell = pair.spell
        moment = datetime.fromtimestamp(assembled.start_s + spell.begin_s, UTC)
        said = f"{moment:%Y-%m-%d %H:%M:%S} UTC. {spell.text}"
        strip = cut_strip(assembled.recording, beats, spell.begin_s, f"{pair.where}: {spell.kind}", said)
        save(make_figure(strip), folder / f"{number:03d}-{pair.where.replace(' ', '-')}-{spell.kind}.svg")
