"""Command line: `python -m training fit | compare | cost | rivals | evaluate | fetch`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

NETS = ("cnn", "cnn-lstm", "transformer", "compact")
"""The keys of `training.models.NETWORKS`, without importing torch for them."""
TASKS = ("ptb", "mitbih")
"""The keys of `training.data.TASKS`, likewise."""
SOURCES = ("kaggle", "ptbdb", "mitdb")
"""What `training.fetch` can fetch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 2 with one line on standard error where it was asked for something that cannot be done."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(words)
    try:
        {
            "fit": _fit,
            "compare": _compare,
            "cost": _cost,
            "rivals": _rivals,
            "evaluate": _evaluate,
            "fetch": _fetch,
        }[args.verb](args, words)
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
    fit.add_argument("--net", choices=NETS, default="compact", help="network")
    _add_data(fit)
    fit.add_argument(
        "--task",
        choices=TASKS,
        help="ptb: normal or abnormal; mitbih: N S V F Q; needed where the directories hold data sets of both kinds",
    )
    fit.add_argument(
        "--split", choices=("patient", "beat"), default="patient", help="what is kept apart: patients, or only beats"
    )
    fit.add_argument(
        "--rr", action="store_true", help="let the network take the RR context as well; WFDB records have it"
    )
    fit.add_argument(
        "--teachers",
        nargs="*",
        type=Path,
        metavar="RUN",
        default=[],
        help="runs on the same split to learn from as well",
    )
    fit.add_argument("--out", type=Path, help="run folder; default: runs/NET-SPLIT", default=argparse.SUPPRESS)
    fit.add_argument("--plain", action="store_true", help="do not vary the training beats")
    fit.add_argument("--resume", action="store_true", help="go on where an interrupted run in the folder stopped")
    fit.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")
    _add_training(fit)

    compare = verb(
        "compare",
        "train all networks alike, measure them by patients apart and by beats at random, choose one and train it on "
        "all beats; goes on where it was interrupted",
    )
    _add_data(compare)
    compare.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder for folds, figures and reports")
    compare.add_argument(
        "--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help="networks to compare"
    )
    compare.add_argument("--folds", type=int, default=5, help="folds of patients")
    compare.add_argument("--jobs", type=int, default=1, help="networks to train side by side")
    _add_training(compare)

    verb("cost", "time every network and every bundled model under ONNX Runtime, in turns, on one thread")

    rivals = verb(
        "rivals",
        "time what one would write instead of the monitor: sleepecg or NeuroKit2 on the last 10 s of each device, "
        "every second, and a network in PyTorch, beat by beat; needs ecgwatch[versus]",
    )
    rivals.add_argument(
        "file", type=Path, metavar="FILE", help=".npz file: samples (devices, n) int16, rate_hz, resolution_uv"
    )
    rivals.add_argument("--net", choices=NETS, default="cnn", help="network, with random weights")
    rivals.add_argument("--json", action="store_true", help="print JSON instead of a table")

    evaluate = verb("evaluate", "measure a run on its own val and test parts")
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="where its data lie now; default: where they lay when it was fitted",
        default=argparse.SUPPRESS,
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")

    fetch = verb("fetch", "download data sets: Kaggle's heartbeat CSV files, or PhysioNet records")
    fetch.add_argument("sources", nargs="*", metavar="SOURCE", help=f"any of {', '.join(SOURCES)}", default=["kaggle"])
    fetch.add_argument("--out", type=Path, default=Path("data"), help="directory that gets one folder for each source")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    help_ = "directories with data sets, or with folders of them; default: the environment variable ECGWATCH_DATA"
    parser.add_argument("--data", nargs="+", metavar="DIR", help=help_, default=argparse.SUPPRESS)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and sampling")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each network")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), default="cpu", help="where to train")


def _fit(args: argparse.Namespace, words: list[str]) -> None:
    from rich.console import Console

    from training.data import TASKS as CLASSES
    from training.data import default_directories
    from training.evaluate import print_figures
    from training.fit import fit
    from training.run import Recipe

    _at_least(1, epochs=args.epochs)
    _at_least(0, seed=args.seed)
    recipe = Recipe(args.net, args.rr, (), not args.plain, None, args.epochs, args.seed, args.device)
    out = getattr(args, "out", Path("runs") / f"{args.net}-{args.split}")
    directories = getattr(args, "data", None) or default_directories()
    run = fit(
        recipe,
        directories,
        args.split,
        out,
        _command(words),
        classes=CLASSES[args.task] if args.task else None,
        teachers=args.teachers,
        resume=args.resume,
        tensorboard=args.tensorboard,
    )
    print_figures(run, run.figures, Console())
    print(f"Wrote {out}.")


def _compare(args: argparse.Namespace, words: list[str]) -> None:
    from training.compare import Settings, compare
    from training.data import default_directories
    from training.report import write_reports

    _at_least(1, epochs=args.epochs, jobs=args.jobs)
    _at_least(2, folds=args.folds)
    _at_least(0, seed=args.seed)
    settings = Settings(
        data=getattr(args, "data", None) or default_directories(),
        out=str(args.out),
        nets=list(dict.fromkeys(args.nets)),
        folds=args.folds,
        epochs=args.epochs,
        seed=args.seed,
        device=args.device,
        jobs=args.jobs,
        command=_command(words),
    )
    for path in write_reports(settings, compare(settings), args.out):
        print(f"Wrote {path}.")


def _cost(_args: argparse.Namespace, _words: list[str]) -> None:
    from monitor.classify import bundled_models, find_model
    from training.cost import BATCH, ROUNDS, machine, measure
    from training.models import NETWORKS

    networks = {net: NETWORKS[net](2, False).eval() for net in NETS}
    costs = measure(networks, {f"bundled {name}": find_model(name) for name in bundled_models()})
    print(f"{machine()}\nONNX Runtime, one thread, batches of {BATCH}, medians of {ROUNDS} rounds taken in turns\n")
    print(f"{'':<16}{'parameters':>12}{'file kB':>9}{'us per beat':>13}{'times as fast as cnn':>22}")
    for name, cost in costs.items():
        parameters = f"{cost.parameters:,}" if cost.parameters else ""
        faster = costs["cnn"].us_per_beat / cost.us_per_beat
        print(f"{name:<16}{parameters:>12}{cost.file_bytes / 1000:>9.0f}{cost.us_per_beat:>13.1f}{faster:>22.1f}")


def _rivals(args: argparse.Namespace, _words: list[str]) -> None:
    from dataclasses import asdict

    from training.baselines import find_rivals, make_judge, measure, read_streams
    from training.cost import machine

    streams = read_streams(args.file)
    found, missing = find_rivals()
    if not found:
        raise ValueError("; ".join(missing.values()) + ".")
    for told in missing.values():
        print(told, file=sys.stderr)
    costs = measure(found, make_judge(args.net), streams)
    if args.json:
        figures = {name: asdict(cost) for name, cost in costs.items()}
        print(json.dumps({"machine": machine(), "net": args.net, "rivals": figures, "missing": missing}, indent=2))
        return
    seconds = streams.signals.shape[1] / streams.rate_hz
    print(
        f"{machine()}\n{len(streams.signals)} devices, {seconds:g} s at {streams.rate_hz:g} Hz; one thread; medians\n"
    )
    print(f"{'':<18}{'detection':>12}{'+ ' + args.net:>14}{'devices a core':>16}{'detection alone':>17}{'beats':>8}")
    for name, cost in costs.items():
        us = f"{1e6 * cost.detection_s:>9.0f} us{1e6 * cost.model_s:>11.0f} us"
        devices = f"{cost.devices_per_core:>16.0f}{cost.devices_per_core_detection:>17.0f}"
        print(f"{name + ' ' + cost.version:<18}{us}{devices}{cost.beats:>8}")
    print("\nMicroseconds of processor time per second of a device's signal.")


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"--{name}: got {number}, expected at least {least}.")


def _evaluate(args: argparse.Namespace, words: list[str]) -> None:
    from rich.console import Console

    from training import metrics
    from training.evaluate import evaluate, print_figures

    run, figures = evaluate(args.run, getattr(args, "data", None))
    if args.json:
        known = {part: {name: metrics.known(row) for name, row in of_part.items()} for part, of_part in figures.items()}
        report = {"run": str(args.run), "split": run.split_kinds, "threshold": run.threshold, "figures": known}
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
