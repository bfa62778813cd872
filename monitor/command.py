"""The face that all command lines of the project share: verbs, help, one-line errors, and what to install.

Rules
-----
* Only the parser of the verb that was typed is built, and what a verb needs is imported when it runs: help answers at
  once.
* An error is one line on standard error, and exit status 2. An unknown command or flag is reported with the nearest
  one that exists; flags are not abbreviated.
* A missing package is reported with the extra that brings it.

Knows nothing of what any verb does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from monitor.nearest import nearest

OWN_PACKAGES = (
    "monitor",
    "recordings",
    "analysis",
    "recorder",
    "gateway",
    "simulator",
    "training",
    "export",
    "ecgwatch",
)
"""What no extra brings."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its name, its flags, and what it does."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    """Returns the exit status, None for 0. ``options.command_line`` is what was typed."""
    extra: str | None = None
    """Extra of ecgwatch that brings what it imports beyond the base installation."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Verbs behind a name of their own, such as ``train`` in ``ecgwatch train fit``."""

    name: str
    help: str
    commands: tuple[Verb, ...]
    aliases: tuple[str, ...] = ()


class Section(NamedTuple):
    """Commands that belong together, for those who look for one."""

    title: str
    commands: tuple[str, ...]


Configure = Callable[["Parser", tuple[str, ...], Sequence[str]], Any]
"""Takes the parser of a command, what it is called, and its words; sets defaults, and returns what the command gets as
``options.settled``. May raise ValueError."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command line."""

    name: str
    """Stands before each error."""
    prog: str
    """How it is started."""
    description: str
    commands: tuple[Verb | Group, ...]
    configure: Configure | None = None
    """Gives a command what it goes by beside its flags; None: nothing."""
    sections: tuple[Section, ...] = ()
    """How its help lists the commands, what a newcomer needs first; none: as one list."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but for those that say nothing: "default: None"."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False or action.default in ([], ())
        return action.help if says_nothing else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which shows defaults in its help."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see '{self.prog} --help')\n")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words of a command line; exit with status 2 where that cannot be done."""
        for word in flags_among(words):
            if word not in self._option_string_actions:
                self.error(f"unknown flag {word}{nearest(word, self._option_string_actions)}")
        return self.parse_args(words)


def run_program(program: Program, words: Sequence[str] | None = None) -> int:
    """Run the command that was typed.

    Parameters
    ----------
    program
        The command line.
    words
        What was typed after its name; `sys.argv` if None.

    Returns
    -------
    int
        Exit status: that of the verb, 2 after an error, 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        After help, and after words that cannot be understood.
    """
    typed = list(sys.argv[1:] if words is None else words)
    verb, prog, rest = _find(program, typed)
    parser = build_parser(verb, prog, is_configurable=program.configure is not None)
    settled = None
    if program.configure is not None and not {"-h", "--help"} & set(rest):
        path = (*prog.removeprefix(program.prog).split(), verb.name)
        try:
            settled = program.configure(parser, path, rest)
        except ValueError as error:
            return _fail(program.name, str(error))
    options = parser.read(rest)
    options.settled = settled
    options.command_line = shlex.join([*program.prog.split(), *typed])
    return _run(program.name, verb, options)


def build_parser(verb: Verb, prog: str, *, is_configurable: bool = False) -> Parser:
    """Return the parser of one verb; `is_configurable` if it may be told where the configuration file is."""
    parser = Parser(prog=f"{prog} {verb.name}", description=_sentence(verb.help))
    verb.add_arguments(parser)
    if is_configurable:
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="configuration; else ECGWATCH_CONFIG, else ./ecgwatch.toml if there is one",
        )
    return parser


def build_full_parser(program: Program) -> Parser:
    """Return a parser of all verbs, as shell completion needs it."""
    return _build_overview(program.prog, program.description, program.commands, with_arguments=True)


def _find(program: Program, words: list[str]) -> tuple[Verb, str, list[str]]:
    """Return the verb that was typed, the program and group before it, and the words after it."""
    prog, description, commands, sections = program.prog, program.description, program.commands, program.sections
    while True:
        word = words[0] if words else ""
        found = next((one for one in commands if word in (one.name, *one.aliases)), None)
        if found is None:
            overview = _build_overview(prog, description, commands, is_listed_elsewhere=bool(sections))
            if sections:
                _list_by_sections(overview, commands, sections)
            _explain(overview, words, sections[0].commands if sections else (), commands)
        words = words[1:]
        if isinstance(found, Verb):
            return found, prog, words
        prog, description, commands, sections = f"{prog} {found.name}", _sentence(found.help), found.commands, ()


def _list_by_sections(overview: Parser, commands: Iterable[Verb | Group], sections: Iterable[Section]) -> None:
    """Let a parser's help list commands by sections."""
    helps = {command.name: command.help for command in commands}
    width = min(shutil.get_terminal_size().columns, 100) - 2
    column = max(map(len, helps)) + 4
    lines = []
    for title, names in sections:
        lines.append(f"\n{title}:")
        for name in names:
            lead = f"  {name:<{column - 2}}"
            lines += textwrap.wrap(helps[name], width, initial_indent=lead, subsequent_indent=" " * column)
    overview.formatter_class = argparse.RawDescriptionHelpFormatter
    overview.usage = f"{overview.prog} COMMAND ..."
    overview.description = "\n".join([*textwrap.wrap(overview.description or "", width), *lines])
    overview.epilog = f"'{overview.prog} COMMAND --help' tells more of each."


def _explain(
    overview: Parser, words: Sequence[str], first: Sequence[str], commands: Sequence[Verb | Group]
) -> NoReturn:
    """Exit, where no verb was typed: with the help or the version that was asked for, or with an error."""
    names = [name for command in commands for name in (command.name, *command.aliases)]
    if not words:
        which = f", such as {', '.join(first)}" if first else f": {', '.join(command.name for command in commands)}"
        overview.error(f"expected a command{which}")
    if not words[0].startswith("-"):
        overview.error(f"unknown command {words[0]!r}{nearest(words[0], names)}")
    overview.read(words[:1])
    overview.error(f"expected a command after {words[0]}")


def _build_overview(
    prog: str,
    description: str,
    commands: Iterable[Verb | Group],
    *,
    with_arguments: bool = False,
    is_listed_elsewhere: bool = False,
) -> Parser:
    """Return a parser that lists commands; it knows their flags only where `with_arguments` is set."""
    overview = Parser(prog=prog, description=description)
    overview.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version and exit"
    )
    shown = argparse.SUPPRESS if is_listed_elsewhere else None
    listed = overview.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser, help=shown)
    for command in commands:
        made = listed.add_parser(command.name, help=command.help, aliases=command.aliases)
        if with_arguments and isinstance(command, Verb):
            command.add_arguments(made)
        elif with_arguments and isinstance(command, Group):
            below = made.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
            for verb in command.commands:
                verb.add_arguments(below.add_parser(verb.name, help=verb.help))
    return overview


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for, which takes longer than the help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"ecgwatch {version('ecgwatch')}")
        parser.exit()


def _run(name: str, verb: Verb, options: argparse.Namespace) -> int:
    try:
        status = verb.run(options) or 0
        sys.stdout.flush()  # now, while a closed reader can still be distinguished from an error
        return status
    except BrokenPipeError:  # the reader of our output has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes as it ends
        return 0
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if verb.extra is None or not missing or missing in OWN_PACKAGES:
            raise
        return _fail(name, f"{verb.name} needs the package {missing}: pip install 'ecgwatch[{verb.extra}]'")
    except (ValueError, OSError) as error:
        return _fail(name, str(error))
    except KeyboardInterrupt:
        return 130


def _fail(name: str, message: str) -> int:
    print(f"{name}: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def flags_among(words: Iterable[str]) -> Iterable[str]:
    """Yield the long flags among the words, without their values, up to a lone ``--``."""
    for word in words:
        if word == "--":
            return
        if word.startswith("--") and " " not in word:
            yield word.partition("=")[0]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
