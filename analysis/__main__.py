"""Command line of analysis: analyse. Only flags are declared here; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.command import Program, Verb, run_program

MODEL, SHAPE = "nsv", "ptb"
"""As in `monitor.panel` and `monitor.classify`."""
FORMATS = ("ishne", "kardia", "edf", "opensignals", "polar", "polar-frames", "apple", "wfdb", "csv")
"""As in `recordings.formats`, without importing it for the help."""


def analyse(options: argparse.Namespace) -> int:
    """Send files through the engine, and print what was found."""
    from analysis.analyse import AnalyseSettings, run_analyse
    from monitor.alerts.episode import AlertSettings
    from monitor.alerts.limits import parse_limits
    from recordings.recording import Choices

    return run_analyse(
        AnalyseSettings(
            files=tuple(options.files),
            choices=Choices(
                lead=options.lead,
                annotator=options.annotator,
                rate_hz=options.rate,
                unit=options.unit,
                time=options.time_column,
            ),
            format=options.format,
            model=options.model,
            shape=options.shape,
            provider=options.provider,
            alerts=AlertSettings(limits=parse_limits(options.limit)),
            as_json=options.json,
            annotations=options.annotations,
            report=options.report,
        )
    )


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="WFDB, EDF, BDF, CSV, Polar, Apple Watch, KardiaMobile (.atc), OpenSignals, ISHNE",
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="of an alert, as of run; can be repeated"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, beats included, instead of text")
    parser.add_argument(
        "--annotations", type=Path, metavar="DIR", help="write beats and alerts to this folder, as WFDB annotations"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a report of one file, .html or .pdf")
    add_model(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add what can be said of a file."""
    about = parser.add_argument_group("what a file does not say, or is not to be guessed")
    about.add_argument("--format", choices=FORMATS, help="of all files; if not given, what is in them tells")
    about.add_argument("--lead", metavar="LEAD", help="signal or column: its name, or its number counted from 0")
    about.add_argument("--rate", type=float, metavar="HZ", help="of text without times")
    about.add_argument("--unit", metavar="UNIT", help="of text that names none: V, mV, uV or nV")
    about.add_argument("--time-column", metavar="NAME", help="column of the times, by its name or number")
    about.add_argument("--annotator", metavar="NAME", help="of a WFDB record: end of the name of its annotation file")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the choice of the models."""
    parser.add_argument("--model", default=MODEL, help="name of a bundled model, or an ONNX file")
    parser.add_argument(
        "--shape", default=SHAPE, metavar="MODEL", help="shape model beside a class model; none for none"
    )
    parser.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is one, else CPU"
    )


VERBS = (
    Verb(
        "analyse",
        "send recordings through the monitor's engine, faster than real time, and report what was found",
        _add_analyse,
        analyse,
        extra="records",
    ),
)
PROGRAM = Program(
    "analysis", "python -m analysis", "Recordings through the monitor's engine, and what was found in them.", VERBS
)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
