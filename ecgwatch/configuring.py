"""``ecgwatch config``: what is wrong with the configuration file, and by what a command goes and why."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from ecgwatch.examine import examine
from ecgwatch.settle import Setting, Settler, flags
from monitor.command import Group, Program, Verb, build_parser
from monitor.configuration import DEVICES, LIMITS, NAME, Document
from monitor.nearest import nearest


def add_check(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``check``."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="which; if not given as for all commands")


def add_show(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``show``."""
    parser.add_argument("command", nargs="?", default="run", metavar="COMMAND", help='such as run, or "notify run"')
    parser.add_argument("--origin", action="store_true", help="also print where each value comes from")


def check(settler: Settler, options: argparse.Namespace) -> int:
    """Check a file as ``run`` would, and all sections of other commands; print what is wrong with its values.

    Raises
    ------
    ValueError
        There is none, or it has something that no command understands: the first of that.
    """
    file = options.file or _find(settler, options)
    if file is None:
        raise ValueError(f"No configuration file: expected FILE, --config, ECGWATCH_CONFIG, or ./{NAME}.")
    document = Document.read(file)
    settler.check(document)
    for line in settler.variables():
        print(f"unknown variable {line}", file=sys.stderr)
    wrong = list(examine(settler, document))
    for error in wrong:
        print(f"ecgwatch: {error}", file=sys.stderr)
    if wrong:
        return 2
    devices = len(document.section(DEVICES))
    print(f"{file}: {len(document.table)} keys and sections, {devices} devices: nothing wrong")
    return 0


def show(settler: Settler, program: Program, options: argparse.Namespace) -> None:
    """Print by what a command goes: its flags as keys of the file.

    Raises
    ------
    ValueError
        There is no such command, or the file cannot be used.
    """
    path = tuple(options.command.split())
    parser = build_parser(_look_up(program, path), program.prog)
    file = _find(settler, options)
    settled = settler.settle(parser, path, (), file)
    document = settled.document
    print(f"# {file or 'no configuration file'}")
    for key in flags(parser):
        _print(settled.settings[key], options.origin)
    if path == ("run",):
        in_file = {} if document is None else document.limits()
        given = dict(text.partition("=")[::2] for text in settled.limits)
        for name, value in (in_file | given).items():
            origin = "ECGWATCH_LIMITS" if name in given else f"{file}: {LIMITS}.{name}"
            _print(Setting(f"{LIMITS}.{name}", _number(value), origin, 1), options.origin)
    for device, said in ({} if document is None else document.devices()).items():
        where = f"{file}: {DEVICES}.{device}"
        if said.name is not None:
            _print(Setting(f"{DEVICES}.{device}.name", said.name, where, 1), options.origin)
        for kind, values in said.limits.items():
            for name, number in values.items():
                key = f"{DEVICES}.{device}.{LIMITS}.{kind}.{name}"
                _print(Setting(key, number, where, 1), options.origin)


def _find(settler: Settler, options: argparse.Namespace) -> Path | None:
    given: Path | None = getattr(options, "config", None)
    return given or settler.find(())[0]


def _number(value: float | str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _print(setting: Setting, with_origin: bool) -> None:
    value = setting.value
    if value is None or value == argparse.SUPPRESS:
        text = f"# {setting.key} is not set"
    else:
        text = f"{setting.key} = {json.dumps(value, default=str, ensure_ascii=False)}"
    print(f"{text:<48}  # {setting.origin}" if with_origin else text)


def _look_up(program: Program, path: tuple[str, ...]) -> Verb:
    commands = program.commands
    for word in path:
        found = next((one for one in commands if word == one.name), None)
        if found is None:
            raise ValueError(f"unknown command {shlex.join(path)!r}{nearest(word, [one.name for one in commands])}")
        if isinstance(found, Verb):
            return found
        commands = found.commands
    assert isinstance(found, Group)
    raise ValueError(f"expected a command of {found.name}: {', '.join(one.name for one in found.commands)}")
