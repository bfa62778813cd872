"""Command line: ``python -m tests.alerts``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from monitor.engine import warm_up
from tests.alerts import bedside, ec13, handheld, motion, rhythms, splices, targets, tele
from tests.alerts.figures import Figure
from tests.alerts.panels import Panels


class Family(NamedTuple):
    """Figures of one kind of data."""

    about: str | None
    """What counts as true, and whom the bundled models have met."""
    measure: Callable[[Path, Panels], Iterator[Figure]]
    folders: tuple[str, ...]
    """Without which there is nothing to measure."""


FAMILIES = {
    "mitdb": Family(rhythms.__doc__, partial(rhythms.measure_beats, database="mitdb"), ("mitdb",)),
    "svdb": Family(rhythms.__doc__, partial(rhythms.measure_beats, database="svdb"), ("svdb",)),
    "vfdb": Family(rhythms.__doc__, partial(rhythms.measure_rhythms, database="vfdb"), ("vfdb",)),
    "cudb": Family(rhythms.__doc__, partial(rhythms.measure_rhythms, database="cudb"), ("cudb",)),
    "bedside": Family(bedside.__doc__, bedside.measure, ("cinc2015",)),
    "handheld": Family(handheld.__doc__, handheld.measure, ("cinc2017",)),
    "motion": Family(motion.__doc__, motion.measure, ("motion_artefacts",)),
    "strap": Family(motion.__doc__, motion.measure_strap, ("polar_h10",)),
    "tele": Family(tele.__doc__, tele.measure, ("tele_ecg",)),
    "ec13": Family(ec13.__doc__, ec13.measure, ("ec13",)),
    "splices": Family(splices.__doc__, splices.measure, ("mitdb", "vfdb")),
}


def main(words: Sequence[str] | None = None) -> int:
    """Play recordings through the engine with the default models, and print each figure beside its target.

    Return 1 if a target was missed, 2 if something could not be read.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.alerts", description=main.__doc__)
    parser.add_argument("data", type=Path, metavar="DATA_DIR", help="directory with a folder for each data set")
    parser.add_argument("--only", action="append", choices=FAMILIES, help="what to measure; can be repeated")
    parser.add_argument(
        "--folds",
        type=Path,
        metavar="DIR",
        help="judge everyone by the class model of this directory that has not met them: foldN.onnx, people.json",
    )
    parser.add_argument("--about", action="store_true", help="also print what counts as true, and who has been met")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args(words)
    try:
        _check_data(options.data)
        warm_up()
        panels = Panels(options.folds)
        found = {name: _measure(name, options, panels) for name in options.only or FAMILIES}
    except ValueError as error:
        print(f"tests.alerts: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({name: [figure._asdict() for figure in figures] for name, figures in found.items()}))
    return int(any(verdict(name, one) == "MISSED" for name, figures in found.items() for one in figures))


def _check_data(data: Path) -> None:
    """Refuse a directory in which there is nothing to measure: no target would be missed there."""
    folders = sorted({folder for family in FAMILIES.values() for folder in family.folders})
    if not any((data / folder).is_dir() for folder in folders):
        raise ValueError(f"{data}: got no data set, expected a folder of at least one of {', '.join(folders)}.")


def _measure(name: str, options: argparse.Namespace, panels: Panels) -> list[Figure]:
    family = FAMILIES[name]
    judged = "the bundled models" if options.folds is None else "a class model that has not met the person"
    title = f"{name}, judged by {judged}"
    figures: list[Figure] = []
    if missing := [folder for folder in family.folders if not (options.data / folder).is_dir()]:
        if options.only:
            raise ValueError(f"{options.data}: got no folder {missing[0]}, expected it for {name}.")
        title = f"{name}: not measured, for want of {missing[0]}"
    else:
        figures = list(family.measure(options.data, panels))
        check_targets(name, figures)
    if not options.json:
        about = [family.about or ""] if options.about else []
        print("", title, *about, *(format_line(name, figure) for figure in figures), sep="\n", flush=True)
    return figures


def check_targets(family: str, figures: Sequence[Figure]) -> None:
    """Refuse targets that no figure is held to: one of them has another name."""
    if unknown := targets.TARGETS[family].keys() - {figure.name for figure in figures}:
        raise ValueError(f"{family}: got targets of unknown figures, {', '.join(sorted(unknown))}.")


def verdict(family: str, figure: Figure) -> str:
    """Whether a figure meets its target; empty if there is none."""
    bounds = targets.TARGETS[family].get(figure.name)
    return "" if bounds is None else "met" if targets.is_met(bounds, figure.value) else "MISSED"


def format_line(family: str, figure: Figure) -> str:
    """One line of the table: verdict, name, value, target, counts."""
    bounds = targets.TARGETS[family].get(figure.name)
    target = "" if bounds is None else targets.show(bounds)
    value = "-" if figure.value is None else f"{figure.value:.4g} {figure.unit}"
    return f"{verdict(family, figure):<7}{figure.name:<54}{value:>12}   {target:<12}{figure.counts}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
