"""What holds where flags, environment and configuration file speak of the same: flags > environment > file > defaults.

Rules
-----
* The section of a command gives defaults for its flags, as in ``[run] workers = 4``; that of a group, ``[notify]``, for
  those of all its commands, and ``[notify.run]`` for one of them.
* Keys at the top are the flags of `SHARED`, for the commands that are clients of the monitor's broker. Others, such as
  ``ecgwatch replay``, which would send to it, hear of the file only by their own section.
* A variable is called as its key: ``ECGWATCH_BROKER``, ``ECGWATCH_RUN_WORKERS``; values of a list are separated by
  commas.
* Paths in the file are relative to where it lies.

Knows commands by their flags, and no command by what it does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monitor.alerts.limits import limit_names
from monitor.command import Group, Parser, Program, Verb, flags_among
from monitor.configuration import DEVICES, LIMITS, NAME, Document, describe
from monitor.nearest import nearest

CLIENTS = frozenset(
    {
        *("run", "watch", "doctor", "history", "devices", "page", "record", "forget"),
        *("notify run", "notify home-assistant"),
        *("ack", "silence", "unsilence", "comment", "judge", "device set", "labels", "audit"),
        "config reload",
    }
)
"""Commands that go by the shared keys."""
READERS = frozenset({"export-ecg", "strip", "report", "rerun"})
"""Commands that read what the monitor and the recorder have kept."""
BROKER = ("broker", "password-file", "cafile", "certfile", "keyfile", "prefix")
SHARED: dict[str, frozenset[str]] = {
    **dict.fromkeys(BROKER, CLIENTS),
    "name": CLIENTS - {"record"} | {"strip"},  # a recorder has a name of its own
    "state": CLIENTS | READERS,
    **dict.fromkeys(("model", "shape", "provider"), frozenset({"run", "doctor"})),
}
"""Keys at the top, and the commands for which they hold."""
PREFIX = "ECGWATCH_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, f"{PREFIX}PASSWORD"})
MODELS = ("model", "shape")
"""Flags that take a name, or a file."""
NAMED_FILE = "[NAME=]FILE"
"""What flags are shown to take that name a file, with or without a name for what is in it."""
NOT_KEYS = frozenset({"help", "config", "limit"})
"""Flags that no file sets; limits have a section."""
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
Words = tuple[str, ...]


class Setting(NamedTuple):
    """What holds for a flag."""

    key: str
    value: Any
    origin: str
    rank: int
    """3: a flag, 2: the environment, 1: the file, 0: default."""


@dataclass
class Settled:
    """What a command goes by beside its flags."""

    document: Document | None = None
    limits: list[str] = field(default_factory=list)
    """Those of all devices that come from the environment, as `monitor.alerts.limits.parse_limits` takes them."""
    settings: dict[str, Setting] = field(default_factory=dict)
    """By flag."""


class Settler:
    """Reads what a command shall go by, and gives it to the command's parser.

    Parameters
    ----------
    program
        All commands.
    environment
        Variables; those of this process if None.
    """

    def __init__(self, program: Program, environment: Mapping[str, str] | None = None) -> None:
        self._program = program
        self._environment = os.environ if environment is None else environment

    def without_environment(self) -> Settler:
        """Return one that goes by a file alone."""
        return Settler(self._program, {})

    def build(self, path: Words) -> Parser:
        """Return the parser of a command that there is."""
        return _build(dict(_verbs(self._program.commands))[path])

    def find(self, words: Sequence[str]) -> tuple[Path | None, str]:
        """Return the configuration file and why it is that: by flag, variable, or since it lies here."""
        for at, word in enumerate(words):
            if word == "--config" and at + 1 < len(words):
                return Path(words[at + 1]), "--config"
            if word.startswith("--config="):
                return Path(word.partition("=")[2]), "--config"
        if given := self._environment.get(CONFIG_VARIABLE):
            return Path(given), CONFIG_VARIABLE
        return (Path(NAME), "found here") if Path(NAME).is_file() else (None, "")

    def __call__(self, parser: Parser, path: Words, words: Sequence[str]) -> Settled:
        """Let a parser's defaults be what environment and file say, and return it.

        Raises
        ------
        ValueError
            The file or a variable cannot be used.
        """
        found, why = self.find(words)
        settled = self.settle(parser, path, words, found)
        if why == "found here" and any(one.rank == 1 for one in settled.settings.values()):
            print(f"{self._program.name}: configuration from ./{NAME}", file=sys.stderr)
        return settled

    def settle(self, parser: Parser, path: Words, words: Sequence[str], found: Path | None) -> Settled:
        """Do it with a known file; see `__call__`."""
        document = None if found is None else Document.read(found)
        if document is not None:
            self.check(document)
        settled = Settled(document, self._limits())
        for key, action in flags(parser).items():
            settled.settings[key] = self._settle(parser, action, key, path, words, document)
        _drop_opposites(settled.settings)
        for key, setting in settled.settings.items():
            if 0 < setting.rank < 3:
                action = flags(parser)[key]
                action.required = False
                parser.set_defaults(**{action.dest: setting.value})
        return settled

    def check(self, document: Document) -> None:
        """Refuse what a file has and nobody knows, or is not of the type that is expected.

        Raises
        ------
        ValueError
            With the place, and the nearest key that there is.
        """
        sections = {
            command.name: command for command in self._program.commands if command.name not in (DEVICES, "config")
        }
        known = [*SHARED, LIMITS, DEVICES, *sections]
        for key in document.table:
            if key in SHARED:
                _convert(document, (key,), self._example(key), document.table[key])
            elif key in sections:
                self._check_section(document, (key,), sections[key])
            elif key not in (LIMITS, DEVICES):
                raise document.error((key,), f"unknown key{_or(key, known)}")
        names = limit_names()
        for key in document.limits():
            if key not in names:
                raise document.error((LIMITS, key), f"no such limit{_or(key, names)}")
        document.devices()

    def _check_section(self, document: Document, keys: Words, command: Verb | Group) -> None:
        verbs = {verb.name: verb for verb in command.commands} if isinstance(command, Group) else {}
        own = [command] if isinstance(command, Verb) else [*command.commands]
        known = {key: action for verb in own for key, action in flags(_build(verb)).items()}
        for key, value in document.section(*keys).items():
            if key in verbs and isinstance(value, Mapping):
                self._check_section(document, (*keys, key), verbs[key])
            elif key not in known:
                raise document.error((*keys, key), f"unknown key{_or(key, [*known, *verbs])}")
            else:
                _convert(document, (*keys, key), known[key], value)

    def variables(self) -> list[str]:
        """Return variables that look like ours and are none, each with the nearest one."""
        known = set(OTHER_VARIABLES) | {_variable((), key) for key in (*SHARED, LIMITS)}
        for path, verb in _verbs(self._program.commands):
            known |= {_variable(path[:depth], key) for key in flags(_build(verb)) for depth in range(1, len(path) + 1)}
        wrong = sorted(name for name in self._environment if name.startswith(PREFIX) and name not in known)
        return [f"{name}{_or(name, sorted(known))}" for name in wrong]

    def _example(self, key: str) -> argparse.Action:
        """Return a flag that a shared key stands for."""
        for path, verb in _verbs(self._program.commands):
            if " ".join(path) in SHARED[key] and key in (own := flags(_build(verb))):
                return own[key]
        raise KeyError(key)

    def _limits(self) -> list[str]:
        text = self._environment.get(_variable((), LIMITS), "")
        return [part.strip() for part in text.split(",") if part.strip()]

    def _settle(
        self,
        parser: Parser,
        action: argparse.Action,
        key: str,
        path: Words,
        words: Sequence[str],
        document: Document | None,
    ) -> Setting:
        typed = [word for word in flags_among(words) if word in action.option_strings]
        if typed:
            return Setting(key, None, typed[0], 3)
        shared = _shared_name(parser, key, path)
        places = [(path[:depth], key) for depth in range(len(path), 0, -1)] + ([((), shared)] if shared else [])
        for where, name in places:
            if (text := self._environment.get(variable := _variable(where, name))) is not None:
                return Setting(key, _read_text(parser, action, variable, text), variable, 2)
        for where, name in places if document is not None else ():
            section = document.section(*where) if document is not None else {}
            if document is not None and name in section:
                value = _convert(document, (*where, name), action, section[name])
                return Setting(key, value, f"{document.path}: {'.'.join((*where, name))}", 1)
        return Setting(key, action.default, "default", 0)


def flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the long flags of a command that can have a default, without their dashes."""
    found = {}
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--") and option[2:] not in NOT_KEYS:
                found[option[2:]] = action
    return found


def _build(verb: Verb) -> Parser:
    parser = Parser(prog=verb.name)
    verb.add_arguments(parser)
    return parser


def _verbs(commands: Sequence[Verb | Group], path: Words = ()) -> Iterator[tuple[Words, Verb]]:
    for command in commands:
        if isinstance(command, Group):
            yield from _verbs(command.commands, (*path, command.name))
        else:
            yield (*path, command.name), command


def _shared_name(parser: Parser, key: str, path: Words) -> str | None:
    """Return the key at the top that holds for a flag: the monitor's name is --monitor where a command has that."""
    name = "name" if key == "monitor" else key
    if key == "name" and "--monitor" in parser._option_string_actions:
        return None
    return name if " ".join(path) in SHARED.get(name, ()) else None


def _variable(where: Words, key: str) -> str:
    return PREFIX + "_".join((*where, key)).upper().replace("-", "_")


def _drop_opposites(settings: dict[str, Setting]) -> None:
    """Let --state undo ``no-state = true`` of the file, and the other way round."""
    for key, setting in list(settings.items()):
        other = settings.get(f"no-{key}")
        if other is None or 0 in (setting.rank, other.rank) or setting.rank == other.rank:
            continue
        lower = min(setting, other, key=lambda one: one.rank)
        settings[lower.key] = lower._replace(rank=0, value=None, origin="default")


def _or(word: str, known: Sequence[str]) -> str:
    return nearest(word, known) or f", expected one of {', '.join(known)}"


def _takes_none(action: argparse.Action) -> bool:
    return action.nargs == 0


def _is_list(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*")


def _convert(document: Document, keys: Words, action: argparse.Action, value: Any) -> Any:
    """Return a value of the file as the flag would have it."""
    if _takes_none(action):
        if not isinstance(value, bool):
            raise document.error(keys, f"expected true or false, got {describe(value)}.")
        return value
    if _is_list(action):
        if not isinstance(value, list):
            raise document.error(keys, f"expected a list, got {describe(value)}.")
        return [_convert_one(document, keys, action, _join(one)) for one in value]
    return _convert_one(document, keys, action, value)


def _join(entry: Any) -> Any:
    """Return an entry of a list that is a table, as the text that a flag takes: ``kind=pause,asystole to=nurses``."""
    if not isinstance(entry, Mapping):
        return entry
    parts = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in entry.items()}
    return " ".join(f"{key}={str(part).lower() if isinstance(part, bool) else part}" for key, part in parts.items())


def _convert_one(document: Document, keys: Words, action: argparse.Action, value: Any) -> Any:
    wanted = action.type
    if wanted in (int, float):
        if isinstance(value, bool) or not isinstance(value, int if wanted is int else int | float):
            name = "a whole number" if wanted is int else "a number"
            raise document.error(keys, f"expected {name}, got {describe(value)}.")
        read: Any = value
    else:
        if not isinstance(value, str):
            raise document.error(keys, f"expected a text, got {describe(value)}.")
        try:
            read = wanted(value) if callable(wanted) else value
        except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
            raise document.error(keys, f"{error}.") from None
    if action.choices is not None and read not in action.choices:
        raise document.error(keys, f"expected one of {', '.join(map(str, action.choices))}, got {describe(value)}.")
    return _resolve(document, action, read)


def _resolve(document: Document, action: argparse.Action, read: Any) -> Any:
    """Return a value that may name a file, relative to where the configuration file lies."""
    folder = document.path.absolute().parent
    if isinstance(read, Path):
        return folder / read
    if action.metavar == NAMED_FILE:
        name, equals, file = read.rpartition("=")
        return f"{name}{equals}{folder / file}"
    return beside(document, read) if action.dest in MODELS else read


def beside(document: Document, name: str) -> str:
    """Return the path of a file that lies where a configuration file says; what is no file stays as it is."""
    file = document.path.absolute().parent / name
    return str(file) if file.is_file() else name


def _read_text(parser: Parser, action: argparse.Action, variable: str, text: str) -> Any:
    """Return a value of the environment as the flag would have it."""
    if _takes_none(action):
        if text.lower() not in TRUTH:
            raise ValueError(f"{variable}: expected true or false, got {text!r}.")
        return TRUTH[text.lower()]
    try:
        parts = [part.strip() for part in text.split(",")] if _is_list(action) else [text]
        values = [parser._get_value(action, part) for part in parts]
        for value in values:
            parser._check_value(action, value)
    except argparse.ArgumentError as error:
        raise ValueError(f"{variable}: {error.message}.") from None
    return values if _is_list(action) else values[0]
