"""Command line: `python -m export onnx|verify`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 2 with one line on standard error where it was asked for something that cannot be done."""
    args = _parser().parse_args(argv)
    try:
        {"onnx": _onnx, "verify": _verify}[args.verb](args)
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
    onnx.add_argument("--out", type=Path, default=Path("monitor/models/ptb.onnx"), help="model file")
    onnx.add_argument("--name", default="ptb", help="name of the model")
    onnx.add_argument("--beside", nargs="*", type=Path, default=[], help="other runs for the card to show beside it")

    verify = verb("verify", "prove that a model file answers as the network of a run does")
    verify.add_argument("file", type=Path, help="model file")
    verify.add_argument("run", type=Path, help="run folder that it was exported from")
    return parser


def _onnx(args: argparse.Namespace) -> None:
    from export.card import model_info, write_card
    from export.onnx import export_network
    from training.run import load_run

    run, network = load_run(args.run)
    beside = [load_run(folder)[0] for folder in args.beside]
    info = model_info(args.name, run)
    difference = export_network(network, info, args.out)
    write_card(args.out.with_suffix(".md"), args.out, info, difference, [run, *beside])
    print(f"Wrote {args.out} and its card; largest difference from PyTorch {difference:.1e}.")


def _verify(args: argparse.Namespace) -> None:
    from export.onnx import prove
    from training.run import load_run

    difference = prove(args.file, load_run(args.run)[1])
    print(f"{args.file} answers as {args.run} does: largest difference {difference:.1e}.")


if __name__ == "__main__":
    sys.exit(main())
