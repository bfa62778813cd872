"""Command line: `python -m training fit|evaluate|fetch`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

NETS = ("cnn", "cnn-lstm")
"""The keys of `training.models.NETWORKS`, without importing torch for them."""
SOURCES = ("kaggle", "ptbdb", "mitdb")
"""What `training.fetch` can fetch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 2 with one line on standard error where it was asked for something that cannot be done."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(words)
    try:
        {"fit": _fit, "evaluate": _evaluate, "fetch": _fetch}[args.verb](args, words)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, help_: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=help_,
            description=help_,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    fit = verb("fit", "train a network on beat windows and write a run folder")
    fit.add_argument("--net", choices=NETS, default="cnn", help="network")
    _add_data(
        fit, "directories with data sets, or with folders of them; default: the environment variable ECGWATCH_DATA"
    )
    fit.add_argument(
        "--split", choices=("patient", "beat"), default="patient", help="what is kept apart: patients, or only beats"
    )
    fit.add_argument("--out", type=Path, help="run folder; default: runs/NET-SPLIT", default=argparse.SUPPRESS)
    fit.add_argument("--seed", type=int, default=0, help="of split, weights and sampling")
    fit.add_argument("--epochs", type=int, default=60, help="most epochs")
    fit.add_argument("--patience", type=int, default=10, help="epochs without a better validation AUC before the end")
    fit.add_argument("--plain", action="store_true", help="do not vary the training beats")
    fit.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where to train")

    evaluate = verb("evaluate", "measure a run on its own val and test parts")
    evaluate.add_argument("run", type=Path, help="run folder")
    _add_data(evaluate, "where its data lie now; default: where they lay when it was fitted")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")

    fetch = verb("fetch", "download data sets: Kaggle's heartbeat CSV files, or PhysioNet records")
    fetch.add_argument("sources", nargs="*", metavar="SOURCE", help=f"any of {', '.join(SOURCES)}", default=["kaggle"])
    fetch.add_argument("--out", type=Path, default=Path("data"), help="directory that gets one folder for each source")
    return parser


def _add_data(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--data", nargs="+", metavar="DIR", help=help_, default=argparse.SUPPRESS)


def _fit(args: argparse.Namespace, words: list[str]) -> None:
    from rich.console import Console

    from training.data import default_directories
    from training.evaluate import print_figures
    from training.fit import fit
    from training.run import Settings

    if min(args.epochs, args.patience) < 1:
        raise ValueError(f"Epochs and patience: got {args.epochs} and {args.patience}, expected at least 1.")
    settings = Settings(
        net=args.net,
        data=getattr(args, "data", None) or default_directories(),
        split=args.split,
        seed=args.seed,
        epochs=args.epochs,
        patience=args.patience,
        augment=not args.plain,
        device=args.device,
    )
    out = getattr(args, "out", Path("runs") / f"{args.net}-{args.split}")
    run = fit(settings, out, _command(words))
    print_figures(run, run.figures, Console())
    print(f"Wrote {out}.")


def _evaluate(args: argparse.Namespace, words: list[str]) -> None:
    from rich.console import Console

    from training.evaluate import evaluate, print_figures

    run, figures = evaluate(args.run, getattr(args, "data", None))
    if args.json:
        report = {"run": str(args.run), "split": run.split_kinds, "threshold": run.threshold, "figures": figures}
        print(json.dumps(report, indent=2))
    else:
        print_figures(run, figures, Console())


def _fetch(args: argparse.Namespace, words: list[str]) -> None:
    from training.fetch import fetch

    unknown = [source for source in args.sources if source not in SOURCES]
    if unknown:
        raise ValueError(f"Source: got {unknown[0]!r}, expected any of {', '.join(SOURCES)}.")
    for source in args.sources:
        print(f"Wrote {fetch(source, args.out / source)}.")


def _command(words: list[str]) -> str:
    return shlex.join(["python", "-m", "training", *words])


if __name__ == "__main__":
    sys.exit(main())
