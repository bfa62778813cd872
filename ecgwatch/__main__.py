"""Command line: ``ecgwatch COMMAND``, or ``python -m ecgwatch COMMAND``; ``--help`` lists the commands.

Verbs are declared by the packages they belong to; this module only puts them together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import analysis.__main__
import ecgwatch.configuring
import export.__main__
import gateway.__main__
import monitor.__main__
import monitor.answering
import recorder.__main__
import simulator.__main__
import training.__main__
from ecgwatch.completion import SHELLS, answer_shell, script
from ecgwatch.settle import Settled, Settler
from monitor.command import Group, Parser, Program, Section, Verb, run_program


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that completes")


def _print_completion(options: argparse.Namespace) -> None:
    print(script(options.shell))


def _configure(parser: Parser, path: tuple[str, ...], words: Sequence[str]) -> Settled | None:
    if path[0] == "config" and path[1:] != ("reload",):
        return None  # it says what is wrong with a file that no command could use
    return Settler(PROGRAM)(parser, path, words)


def _check_configuration(options: argparse.Namespace) -> int:
    return ecgwatch.configuring.check(Settler(PROGRAM), options)


def _show_configuration(options: argparse.Namespace) -> None:
    ecgwatch.configuring.show(Settler(PROGRAM), PROGRAM, options)


PROGRAM = Program(
    "ecgwatch",
    "ecgwatch",
    "Watch wearable ECG feeds live: packets in over MQTT, alerts out. Research software, not a medical device.",
    (
        *monitor.__main__.VERBS,
        *recorder.__main__.VERBS,
        *analysis.__main__.VERBS,
        *simulator.__main__.VERBS,
        Group("gateway", "bring a wearable that does not speak MQTT to the monitor", gateway.__main__.VERBS),
        Group("train", "train, compare and measure networks that classify beats", training.__main__.VERBS),
        Group("export", "write trained networks as ONNX files, and check such files", export.__main__.VERBS),
        Group(
            "config",
            "check and show the configuration file, and have it read again",
            (
                Verb("check", "say what is wrong with it", ecgwatch.configuring.add_check, _check_configuration),
                Verb(
                    "show",
                    "print the settings of a command, and where each comes from",
                    ecgwatch.configuring.add_show,
                    _show_configuration,
                ),
                Verb(
                    "reload",
                    "ask the running monitor to read it again",
                    monitor.answering.add_reload,
                    monitor.answering.reload,
                ),
            ),
        ),
        Verb("completion", "print a script that lets a shell complete ecgwatch", _add_completion, _print_completion),
    ),
    _configure,
    (
        Section("To begin with", ("demo", "doctor", "run", "page")),
        Section("Look at devices and alerts", ("watch", "devices", "history", "notify")),
        Section("Answer alerts", ("ack", "silence", "unsilence", "comment", "judge", "device", "labels", "audit")),
        Section(
            "Keep the ECG, and look back", ("record", "export-ecg", "strip", "report", "rerun", "forget", "analyse")
        ),
        Section("Bring devices", ("gateway", "replay", "load", "broker", "fit-beats")),
        Section(
            "Models, and how good they are",
            ("models", "classify", "score", "tradeoff", "bench", "train", "export"),
        ),
        Section("Set it up", ("config", "cluster", "completion", "asyncapi")),
    ),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    answer_shell(PROGRAM)
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
