"""Command line: `python -m export onnx | classes | verify | evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.command import Program, Verb, run_program


def _add_onnx(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder of 'ecgwatch train fit'")
    parser.add_argument("--name", default="ptb", help="name of the model")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--out", type=Path, help="model file; default: NAME.onnx in the run folder", default=argparse.SUPPRESS
    )
    place.add_argument(
        "--bundle",
        metavar="NAME",
        help="install it among the bundled models under this name, replacing one of that name",
    )
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="of the weights")
    _add_data(parser, "directories with labelled beats for the check; int8 requires them")


def _add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder of 'ecgwatch train classes'")
    parser.add_argument("--name", default="nsv", help="name of the model")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder for file and card")
    place.add_argument("--bundle", action="store_true", help="install it among the bundled models, replacing one")
    parser.add_argument(
        "--folds",
        type=Path,
        metavar="DIR",
        help="also write the networks of the folds to this folder, and whom each has not met: for 'ecgwatch tradeoff'",
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="model file")
    parser.add_argument("run", type=Path, help="run folder that it was exported from")
    _add_data(parser, "directories with labelled beats for the check; int8 requires them")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name of a bundled model, or a model file")
    _add_data(parser, "directories with data sets, or with folders of them")
    parser.add_argument(
        "--recordings",
        nargs="+",
        type=Path,
        metavar="DIR",
        default=[],
        help="folders of recordings, named for databases: each lead upright and upside down, as the monitor cuts it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_data(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--data", nargs="+", metavar="DIR", help=help_)


def _onnx(args: argparse.Namespace) -> None:
    from export.card import model_info, write_card
    from export.onnx import describe, export_network, place_of
    from training.data import load_beats
    from training.run import load_run

    run, network = load_run(args.run)
    name = args.bundle or args.name
    out = place_of(name, args.run, getattr(args, "out", None), bundle=args.bundle is not None)
    info = model_info(name, run, args.precision)
    proof = export_network(network, info, out, load_beats(args.data, run.classes) if args.data else None)
    write_card(out.with_suffix(".md"), out, info, proof, run, args.run)
    print(f"Wrote {out} and its card: {proof}.")
    print(f"{describe(out)}.")


def _classes(args: argparse.Namespace) -> None:
    from export.classes import export, export_folds
    from monitor.classify import MODELS

    print(export(args.run, args.name, MODELS if args.bundle else args.out))
    if args.folds:
        print(export_folds(args.run, args.folds))


def _verify(args: argparse.Namespace) -> None:
    from export.onnx import describe, prove
    from training.data import load_beats
    from training.run import load_run

    run, network = load_run(args.run)
    proof = prove(args.file, network, load_beats(args.data, run.classes) if args.data else None)
    print(f"{args.file} gives the same outputs as {args.run}: {proof}.")
    print(f"{describe(args.file)}.")


def _evaluate(args: argparse.Namespace) -> None:
    from export.evaluate import evaluate
    from training import metrics

    if not (args.data or args.recordings):
        raise ValueError("Nothing to evaluate on: got neither --data nor --recordings, expected one of them.")
    classifier, figures = evaluate(args.model, args.data or [], args.recordings)
    if args.json:
        about = {"model": classifier.info.name, "sha256": classifier.sha256, "threshold": classifier.info.threshold}
        known = {name: metrics.known(row) for name, row in figures.items()}
        print(json.dumps(about | {"figures": known}, indent=2))
        return
    print(f"{classifier.info.name}, {' '.join(classifier.info.classes)}, threshold {classifier.info.threshold:.3f}")
    for name, row in figures.items():
        print(f"\n{name}")
        for figure, value in metrics.known(row).items():
            print(f"  {figure.replace('_', ' '):<20} {value:>10.{0 if figure in ('beats', 'patients') else 4}f}")


VERBS = (
    Verb(
        "onnx",
        "write a run's network as an ONNX file with its model card, and check that its outputs are the same",
        _add_onnx,
        _onnx,
        extra="train",
    ),
    Verb(
        "classes",
        "write the network of a run of 'train classes' as an ONNX file with its model card, proven and timed",
        _add_classes,
        _classes,
        extra="train",
    ),
    Verb(
        "verify",
        "check that a model file gives the same outputs as the network of a run",
        _add_verify,
        _verify,
        extra="train",
    ),
    Verb(
        "evaluate",
        "evaluate a model file on labelled beats it was not trained on",
        _add_evaluate,
        _evaluate,
        extra="train",
    ),
)
PROGRAM = Program("export", "python -m export", "Write trained networks as ONNX files, and check such files.", VERBS)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
