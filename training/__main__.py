"""Command line: `python -m training VERB`; the verbs stand at the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.command import Program, Verb, run_program

NETS = ("cnn", "cnn-lstm", "transformer", "compact")
"""The keys of `training.models.NETWORKS`, without importing torch for them."""
CLASSIC_NETS = ("cnn", "cnn-lstm")
"""The keys of `training.models.CLASSIC`, likewise."""
EPOCHS, CLASSIC_EPOCHS, SHAPE_EPOCHS = 10, 60, 14
TASKS = ("ptb", "mitbih")
"""The keys of `training.data.TASKS`, likewise."""
SOURCES = ("kaggle", "ptbdb", "mitdb")
"""The sources that `training.fetch` knows."""


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--net", choices=NETS, help="network; default: compact, or cnn with --recipe classic", default=argparse.SUPPRESS
    )
    _add_data(parser)
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="ptb: normal or abnormal; mitbih: N S V F Q; needed where the directories hold data sets of both kinds",
    )
    parser.add_argument(
        "--split",
        choices=("patient", "beat"),
        default="patient",
        help="inter-patient: no patient in two parts; or intra-patient, by beat",
    )
    parser.add_argument("--rr", action="store_true", help="also feed the network the RR context; WFDB records have it")
    parser.add_argument(
        "--teachers",
        nargs="*",
        type=Path,
        metavar="RUN",
        default=[],
        help="runs on the same split whose networks teach this one (knowledge distillation)",
    )
    parser.add_argument("--out", type=Path, help="run folder; default: runs/NET-SPLIT", default=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help="train without data augmentation")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run in the folder")
    parser.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")
    _add_training(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder for folds, figures and reports")
    parser.add_argument(
        "--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help="networks to compare"
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds; each patient is in one of them")
    parser.add_argument("--jobs", type=int, default=1, help="networks to train in parallel")
    _add_training(parser)


def _add_cost(_parser: argparse.ArgumentParser) -> None:
    """No flags."""


def _add_baselines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=".npz file: samples (devices, n) int16, rate_hz, resolution_uv"
    )
    parser.add_argument("--net", choices=NETS, default="cnn", help="network; its weights are random")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of recordings, named for databases"
    )
    parser.add_argument(
        "--noise", type=Path, required=True, metavar="DIR", help="the noise records of MIT-BIH's Noise Stress Test"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/classes"), help="run folder")


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    help_ = "folders of recordings, named for databases: each lead upright and upside down, as the monitor cuts it"
    parser.add_argument("--recordings", nargs="+", type=Path, required=True, metavar="DIR", help=help_)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"), help="run folder")
    parser.add_argument("--epochs", type=int, default=SHAPE_EPOCHS, help="epochs of each network")
    parser.add_argument("--seed", type=int, default=0, help="random seed of folds, weights and sampling")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="where its data are now; default: where they were at training time",
        default=argparse.SUPPRESS,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help=f"one or more of {', '.join(SOURCES)}", default=["kaggle"]
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="directory; each source gets a folder in it")


def _add_vf(parser: argparse.ArgumentParser) -> None:
    help_ = "directory with vfdb and cudb, and of mitdb, svdb, cpsc2021, cinc2017, tele_ecg, nstdb_noise what is there"
    parser.add_argument("data", type=Path, metavar="DIR", help=help_)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_af(parser: argparse.ArgumentParser) -> None:
    help_ = (
        "directory with cinc2017, and of cinc2017b, mitdb, cpsc2021, vfdb, svdb, motion_artefacts, nstdb_noise what is "
        "there"
    )
    parser.add_argument("data", type=Path, metavar="DIR", help=help_)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write monitor/fibrillation_network.py anew")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_data(parser: argparse.ArgumentParser) -> None:
    help_ = "directories with data sets, or with folders of them; default: the environment variable ECGWATCH_DATA"
    parser.add_argument("--data", nargs="+", metavar="DIR", help=help_, default=argparse.SUPPRESS)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="random seed of split, weights and sampling")
    parser.add_argument(
        "--recipe",
        choices=("ours", "classic"),
        default="ours",
        help="classic: cnn and cnn-lstm as most publications train them: one sigmoid, Adam at 1e-3, batches of 64, "
        "early stopping, parts of 70, 15 and 15 %%, beside compact by ours",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"epochs of each network; default: {EPOCHS}, or at most {CLASSIC_EPOCHS} with --recipe classic",
        default=argparse.SUPPRESS,
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), default="cpu", help="where to train")


def _fit(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from rich.console import Console

    from training.data import TASKS as CLASSES
    from training.data import default_directories
    from training.evaluate import print_figures
    from training.fit import fit
    from training.run import Recipe

    is_classic = args.recipe == "classic"
    epochs = _epochs(args)
    _at_least(0, seed=args.seed)
    net = getattr(args, "net", "cnn" if is_classic else "compact")
    recipe = Recipe(net, args.rr, (), not (args.plain or is_classic), None, epochs, args.seed, args.device)
    if is_classic:
        recipe = replace(recipe, classic=True, shares="70/15/15")
    out = getattr(args, "out", Path("runs") / f"{'classic-' if is_classic else ''}{net}-{args.split}")
    directories = getattr(args, "data", None) or default_directories()
    run = fit(
        recipe,
        directories,
        args.split,
        out,
        args.command_line,
        classes=CLASSES[args.task] if args.task else None,
        teachers=args.teachers,
        resume=args.resume,
        tensorboard=args.tensorboard,
    )
    print_figures(run, run.figures, Console())
    print(f"Wrote {out}.")


def _compare(args: argparse.Namespace) -> None:
    from training.compare import Settings, compare
    from training.data import default_directories
    from training.report import write_reports

    epochs = _epochs(args)
    _at_least(1, jobs=args.jobs)
    _at_least(2, folds=args.folds)
    _at_least(0, seed=args.seed)
    if args.recipe == "classic":
        _compare_classic(args, epochs)
        return
    settings = Settings(
        data=getattr(args, "data", None) or default_directories(),
        out=str(args.out),
        nets=list(dict.fromkeys(args.nets)),
        folds=args.folds,
        epochs=epochs,
        seed=args.seed,
        device=args.device,
        jobs=args.jobs,
        command=args.command_line,
    )
    for path in write_reports(settings, compare(settings), args.out):
        print(f"Wrote {path}.")


def _compare_classic(args: argparse.Namespace, epochs: int) -> None:
    from training.classic_report import compare_classic
    from training.data import default_directories

    directories = getattr(args, "data", None) or default_directories()
    if args.nets != list(NETS):
        raise ValueError(f"--nets: the classic recipe compares {', '.join(CLASSIC_NETS)} with compact, and no others.")
    written = compare_classic(
        directories, args.out, args.command_line, epochs=epochs, seed=args.seed, device=args.device
    )
    print(written[0].read_text(encoding="utf-8"))
    for path in written:
        print(f"Wrote {path}.")


def _epochs(args: argparse.Namespace) -> int:
    epochs: int = getattr(args, "epochs", CLASSIC_EPOCHS if args.recipe == "classic" else EPOCHS)
    _at_least(1, epochs=epochs)
    return epochs


def _classes(args: argparse.Namespace) -> None:
    from training.classes import run

    run(args.data, args.noise, args.out)


def _shapes(args: argparse.Namespace) -> None:
    from rich.console import Console

    from training.data import default_directories
    from training.evaluate import print_figures
    from training.run import Recipe
    from training.shape_run import run_shapes

    _at_least(1, epochs=args.epochs)
    _at_least(0, seed=args.seed)
    recipe = Recipe("compact", epochs=args.epochs, seed=args.seed)
    data = getattr(args, "data", None) or default_directories()
    run = run_shapes(data, args.recordings, recipe, args.out, args.command_line)
    print_figures(run, run.figures, Console())
    print(f"Wrote {args.out}.")


def _cost(_args: argparse.Namespace) -> None:
    from monitor.classify import bundled_models, find_model
    from training.cost import BATCH, ROUNDS, machine, measure
    from training.models import NETWORKS

    networks = {net: NETWORKS[net](2, False).eval() for net in NETS}
    costs = measure(networks, {f"bundled {name}": find_model(name) for name in bundled_models()})
    print(f"{machine()}\nONNX Runtime, one thread, batches of {BATCH}, medians of {ROUNDS} interleaved rounds\n")
    print(f"{'':<16}{'parameters':>12}{'file kB':>9}{'us per beat':>13}{'times as fast as cnn':>22}")
    for name, cost in costs.items():
        parameters = f"{cost.parameters:,}" if cost.parameters else ""
        faster = costs["cnn"].us_per_beat / cost.us_per_beat
        print(f"{name:<16}{parameters:>12}{cost.file_bytes / 1000:>9.0f}{cost.us_per_beat:>13.1f}{faster:>22.1f}")


def _baselines(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from training.baselines import find_baselines, make_judge, measure, read_streams
    from training.cost import machine

    streams = read_streams(args.file)
    found, missing = find_baselines()
    if not found:
        raise ValueError("; ".join(missing.values()) + ".")
    for reason in missing.values():
        print(reason, file=sys.stderr)
    costs = measure(found, make_judge(args.net), streams)
    if args.json:
        figures = {name: asdict(cost) for name, cost in costs.items()}
        print(json.dumps({"machine": machine(), "net": args.net, "rivals": figures, "missing": missing}, indent=2))
        return
    seconds = streams.signals.shape[1] / streams.rate_hz
    print(
        f"{machine()}\n{len(streams.signals)} devices, {seconds:g} s at {streams.rate_hz:g} Hz; one thread; medians\n"
    )
    print(f"{'':<18}{'detection':>12}{'+ ' + args.net:>14}{'devices per core':>16}{'detection alone':>17}{'beats':>8}")
    for name, cost in costs.items():
        us = f"{1e6 * cost.detection_s:>9.0f} us{1e6 * cost.model_s:>11.0f} us"
        devices = f"{cost.devices_per_core:>16.0f}{cost.devices_per_core_detection:>17.0f}"
        print(f"{name + ' ' + cost.version:<18}{us}{devices}{cost.beats:>8}")
    print("\nMicroseconds of processor time per second of a device's signal.")


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"--{name}: got {number}, expected at least {least}.")


def _evaluate(args: argparse.Namespace) -> None:
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


def _vf(args: argparse.Namespace) -> None:
    from training.vf import print_report, train

    weights, tallies = train(args.data)
    print_report(weights, tallies, args.json)


def _af(args: argparse.Namespace) -> None:
    from training.af import play_all, print_report, train, write_network

    outcome = train(play_all(args.data))
    print_report(outcome, args.json)
    if args.out:
        args.out.write_text(write_network(outcome.network), encoding="utf-8")


def _fetch(args: argparse.Namespace) -> None:
    from training.fetch import fetch

    unknown = [source for source in args.sources if source not in SOURCES]
    if unknown:
        raise ValueError(f"Source: got {unknown[0]!r}, expected one of {', '.join(SOURCES)}.")
    for source in args.sources:
        print(f"Wrote {fetch(source, args.out / source)}.")


VERBS = (
    Verb("fit", "train a network on beat windows and write a run folder", _add_fit, _fit, extra="train"),
    Verb(
        "compare",
        "train all networks the same way, evaluate them inter-patient and intra-patient, choose one and retrain it "
        "on all beats; resumes where it was interrupted",
        _add_compare,
        _compare,
        extra="train",
    ),
    Verb(
        "cost",
        "benchmark every network and every bundled model under ONNX Runtime, interleaved, on one thread",
        _add_cost,
        _cost,
        extra="train",
    ),
    Verb(
        "baselines",
        "benchmark the usual alternatives to the monitor: sleepecg or NeuroKit2 on the last 10 s of each device, every "
        "second, and a network in PyTorch, beat by beat; needs ecgwatch[versus]",
        _add_baselines,
        _baselines,
        extra="versus",
        aliases=("rivals",),
    ),
    Verb(
        "classes",
        "train a class model on whole recordings, beats beside the wearer's usual one, people kept apart",
        _add_classes,
        _classes,
        extra="train",
    ),
    Verb(
        "shapes",
        "train a model of normal and abnormal shapes on windows, and on recordings of other leads, upside down as well",
        _add_shapes,
        _shapes,
        extra="train",
    ),
    Verb("evaluate", "evaluate a run on its own val and test parts", _add_evaluate, _evaluate, extra="train"),
    Verb(
        "vf",
        "learn the weights by which the monitor tells ventricular fibrillation, and assess them record by record",
        _add_vf,
        _vf,
        extra="records",
    ),
    Verb(
        "af",
        "learn the network by which the monitor tells atrial fibrillation, and assess it person by person",
        _add_af,
        _af,
        extra="records",
    ),
    Verb(
        "fetch",
        "download data sets: Kaggle's heartbeat CSV files, or PhysioNet records",
        _add_fetch,
        _fetch,
        extra="fetch",
    ),
)
PROGRAM = Program("training", "python -m training", "Train, compare and evaluate networks that classify beats.", VERBS)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
