"""What was alerted before and what would be alerted now, side by side: one self-contained page.

Each alert that is in one of the two only is a row of two strips of the same signal, with the beats as each side names
them; of the alerts that both have, one of each kind is shown.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from analysis.report import LIMITS, STYLE, html_list, html_table, picture
from analysis.strip import Strip, cut_strip, draw_strip
from recordings.annotations import Spell
from recordings.export import beside
from recordings.recording import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIX = ".html"
MOST_ROWS = 60
"""The longest alerts are shown; the page then has some megabytes."""
SIZE = (6.2, 2.5)
"""Of a strip, in inches."""
Beats = Sequence[tuple[float, str]]
"""Seconds since the beginning, and what the beat is called."""


class Pair(NamedTuple):
    """An episode, before and now."""

    where: Literal["both", "only before", "only now"]
    spell: Spell
    """As it was, or as it would be if it was not."""
    again: Spell | None = None
    """As it would be, of one that is in both."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What stands on the page."""

    device: str
    recording: Recording
    before: str
    """Where the alerts of before come from."""
    now: str
    """By what there would be others."""
    pairs: Sequence[Pair]
    counts: Sequence[Sequence[str]]
    """Header and rows: alerts by kind."""
    beats_before: Beats
    beats_now: Beats


def check_output(path: Path) -> None:
    """Raise `ValueError` if a page's name does not end as it should."""
    if path.suffix.lower() != SUFFIX:
        raise ValueError(f"Comparison: got {path.name!r}, expected a name that ends in {SUFFIX}.")


def write_comparison(path: Path, made: Comparison) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as draft:
        draft.write_text(to_html(made), encoding="utf-8")


def to_html(made: Comparison) -> str:
    """Return the page, which needs nothing else."""
    shown = choose(made.pairs, made.recording.seconds)
    left_out = sum(pair.where != "both" for pair in made.pairs) - sum(pair.where != "both" for pair in shown)
    title = f"{made.device}: what would have been alerted"
    note = "" if made.beats_before else "<p>The beats of before were not published, so they have no names there.</p>"
    body = [
        f"<h1>{html.escape(title)}</h1><p>{_period(made.recording)}</p>",
        f'<div class="limits"><b>Limits</b>{html_list(LIMITS[:3])}</div>',
        html_table([("", ""), ("Before", made.before), ("Now", made.now)], "facts"),
        f"<h2>Alerts by kind</h2>{html_table(made.counts)}",
        "<h2>Side by side</h2>",
        "<p>N normal, A abnormal, S supraventricular, V ventricular, F fusion, Q unknown, ? withheld; ▲ the alert.</p>",
        note,
        *(row for pair in shown for row in _row(made, pair)),
        f"<p>{left_out} shorter ones are left out.</p>" if left_out else "",
    ]
    head = (
        f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{html.escape(title)}</title>"
    )
    style = f"<style>{STYLE}{SIDES}</style>"
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}{style}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


SIDES = """
body { max-width: 1400px; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1em; break-inside: avoid; }
.sides h3 { grid-column: 1 / -1; margin: 1.2em 0 0; }
.sides figure { margin: .3em 0; }
.sides .none { color: #555; }
@media (max-width: 700px) { .sides { grid-template-columns: 1fr; } }
"""


def choose(pairs: Sequence[Pair], seconds: float) -> list[Pair]:
    """Return the alerts that are shown, by begin: the longest that differ, and one of each kind that both have."""

    def length_s(pair: Pair) -> float:
        return (seconds if pair.spell.end_s is None else pair.spell.end_s) - pair.spell.begin_s

    other = sorted((pair for pair in pairs if pair.where != "both"), key=length_s, reverse=True)[:MOST_ROWS]
    same: dict[str, Pair] = {}
    for pair in pairs:
        if pair.where == "both":
            same.setdefault(pair.spell.kind, pair)
    return sorted([*other, *same.values()], key=lambda pair: pair.spell.begin_s)


def _row(made: Comparison, pair: Pair) -> Iterator[str]:
    moment = _moment(made.recording, pair.spell.begin_s)
    yield f'<section class="sides"><h3>{moment} · {html.escape(pair.spell.kind)} · {pair.where}</h3>'
    before = pair.spell if pair.where != "only now" else None
    now = pair.again if pair.where == "both" else (pair.spell if pair.where == "only now" else None)
    for name, spell, beats in (("Before", before, made.beats_before), ("Now", now, made.beats_now)):
        yield _side(made, pair, (name, spell), beats)
    yield "</section>"


def _side(made: Comparison, pair: Pair, side: tuple[str, Spell | None], beats: Beats) -> str:
    """One strip; both of a row show the same signal."""
    name, spell = side
    said = "no such alert" if spell is None else spell.text or spell.kind
    strip = cut_strip(made.recording, list(beats), pair.spell.begin_s, name, said)
    if spell is None:
        strip = replace(strip, event_s=None)
    return picture(_figure(strip), f"{name}, {pair.spell.kind}: {said}")


def _figure(strip: Strip) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    draw_strip(figure.add_axes((0.01, 0.06, 0.98, 0.76)), strip, fits=True)
    return figure


def _period(recording: Recording) -> str:
    begin, end = _moment(recording, 0.0), _moment(recording, recording.seconds)
    return f"{begin} to {end} (UTC), lead {html.escape(recording.lead)}"


def _moment(recording: Recording, at_s: float) -> str:
    return f"{datetime.fromtimestamp((recording.start_s or 0.0) + at_s, UTC):%Y-%m-%d %H:%M:%S}"
