"""Command line: `python -m export onnx | verify | evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 2 with one line on standard error where it was asked for something that cannot be done."""
    args = _parser().parse_args(argv)
    try:
        {"onnx": _onnx, "verify": _verify, "evaluate": _evaluate}[args.verb](args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, help_: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=help_,
            description=help_,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    onnx = verb(
        "onnx", "write a run's network as an ONNX file with its card beside it, and prove that it answers alike"
    )
    onnx.add_argument("run", type=Path, help="run folder of 'python -m training fit'")
    onnx.add_argument("--name", default="ptb", help="name of the model")
    onnx.add_argument(
        "--out", type=Path, help="model file; default: monitor/models/NAME.onnx", default=argparse.SUPPRESS
    )
    onnx.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="of the weights")
    _add_data(onnx, "directories with labelled beats to prove it on; int8 needs them")

    verify = verb("verify", "prove that a model file answers as the network of a run does")
    verify.add_argument("file", type=Path, help="model file")
    verify.add_argument("run", type=Path, help="run folder that it was exported from")
    _add_data(verify, "directories with labelled beats to prove it on; int8 needs them")

    evaluate = verb("evaluate", "judge labelled beats that a model file has never met, and print its figures")
    evaluate.add_argument("model", help="name of a bundled model, or a model file")
    _add_data(evaluate, "directories with data sets, or with folders of them", required=True)
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _add_data(parser: argparse.ArgumentParser, help_: str, *, required: bool = False) -> None:
    default = argparse.SUPPRESS if required else None
    parser.add_argument("--data", nargs="+", metavar="DIR", help=help_, default=default, required=required)


def _onnx(args: argparse.Namespace) -> None:
    from export.card import model_info, write_card
    from export.onnx import describe, export_network
    from training.data import load_beats
    from training.run import load_run

    run, network = load_run(args.run)
    out = getattr(args, "out", Path("monitor/models") / f"{args.name}.onnx")
    info = model_info(args.name, run, args.precision)
    proof = export_network(network, info, out, load_beats(args.data, run.classes) if args.data else None)
    write_card(out.with_suffix(".md"), out, info, proof, run, args.run)
    print(f"Wrote {out} and its card: {proof}.")
    print(f"{describe(out)}.")


def _verify(args: argparse.Namespace) -> None:
    from export.onnx import describe, prove
    from training.data import load_beats
    from training.run import load_run

    run, network = load_run(args.run)
    proof = prove(args.file, network, load_beats(args.data, run.classes) if args.data else None)
    print(f"{args.file} answers as {args.run} does: {proof}.")
    print(f"{describe(args.file)}.")


def _evaluate(args: argparse.Namespace) -> None:
    from export.evaluate import evaluate
    from training import metrics

    classifier, figures = evaluate(args.model, args.data)
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


if __name__ == "__main__":
    sys.exit(main())
