"""The configuration file: read from TOML, with errors that name the file, the line and the key.

Rules
-----
* Keys at the top are shared by all commands that watch; a section ``[run]`` gives defaults for the flags of the command
  of that name. ``[limits]`` are those of all devices, ``[devices.ID]`` has the name and the limits of one.
* What a person decides by a request goes before what the file says of a device.
* No secrets: a file that many may read names the files that hold them.

Knows the file's form, and what it says of devices; nothing of commands and their flags.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

NAME = "ecgwatch.toml"
LIMITS, DEVICES = "limits", "devices"
"""Sections that are of no command."""
MAX_NAME = 64
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADER = re.compile(r"^\s*\[{1,2}\s*(.+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"^\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_SECRET = re.compile(r"(^|[-_])(password|passwd|secret|token|api[-_]?key|credentials?)$")
_PASSWORD_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@", re.IGNORECASE)


class DeviceDefaults(NamedTuple):
    """What the file says of a device."""

    name: str | None = None
    limits: Mapping[str, Mapping[str, float]] = {}
    """Kind of alert -> name of a parameter -> its value."""


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration file as it was read.

    Raises
    ------
    ValueError
        It holds a secret; see also `read`.
    """

    path: Path
    text: str
    table: Mapping[str, Any]

    def __post_init__(self) -> None:
        _refuse_secrets(self, (), self.table)

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises
        ------
        ValueError
            It cannot be read, or is no TOML: with the line.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"The configuration file {path} cannot be read: {reason}.") from None
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"\(at line (\d+)", str(error))
            where = f"{path}:{line.group(1)}" if line else f"{path}"
            raise ValueError(f"{where}: not TOML: {str(error).partition(' (at')[0]}.") from None
        return cls(path, text, table)

    def error(self, keys: Sequence[str], message: str) -> ValueError:
        """Return an error about a key, with its place."""
        line = find_line(self.text, keys)
        return ValueError(f"{self.path}{'' if line is None else f':{line}'}: {'.'.join(keys)}: {message}")

    def section(self, *keys: str) -> Mapping[str, Any]:
        """Return a section; empty if there is none.

        Raises
        ------
        ValueError
            There is something else in its place.
        """
        table: Any = self.table
        for depth, key in enumerate(keys, 1):
            table = table.get(key, {})
            if not isinstance(table, Mapping):
                raise self.error(keys[:depth], f"expected a section, got {describe(table)}.")
        found: Mapping[str, Any] = table
        return found

    def limits(self) -> dict[str, float]:
        """Return the limits of all devices, by name.

        Raises
        ------
        ValueError
            A value is no number.
        """
        return self._numbers((LIMITS,), self.section(LIMITS))

    def devices(self) -> dict[str, DeviceDefaults]:
        """Return what it says of devices, by id; limits are only known to be numbers.

        Raises
        ------
        ValueError
            Something is not of the form that is expected.
        """
        found = {}
        for device in self.section(DEVICES):
            keys = (DEVICES, device)
            if not _DEVICE_ID.fullmatch(device):
                raise self.error(keys, "not the id of a device: expected 1 to 64 letters, digits, _ or -.")
            section = self.section(*keys)
            if unknown := [key for key in section if key not in DeviceDefaults._fields]:
                raise self.error((*keys, unknown[0]), f"unknown key, expected {' or '.join(DeviceDefaults._fields)}.")
            limits = {
                kind: self._numbers((*keys, LIMITS, kind), self.section(*keys, LIMITS, kind))
                for kind in self.section(*keys, LIMITS)
            }
            found[device] = DeviceDefaults(self._name(keys, section.get("name")), limits)
        return found

    def _name(self, keys: Sequence[str], name: object) -> str | None:
        if name is None:
            return None
        if not isinstance(name, str) or not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
            raise self.error((*keys, "name"), f"expected 1 to {MAX_NAME} printable characters, got {describe(name)}.")
        return name.strip()

    def _numbers(self, keys: Sequence[str], table: Mapping[str, object]) -> dict[str, float]:
        for key, value in table.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self.error((*keys, key), f"expected a number, got {describe(value)}.")
        return {key: value for key, value in table.items() if isinstance(value, int | float)}


def find_line(text: str, keys: Sequence[str]) -> int | None:
    """Return the number of the line on which a key stands, or the nearest section above it; None if neither is found.

    Parameters
    ----------
    text
        TOML.
    keys
        The sections, and the key in them.
    """
    header: tuple[str, ...] = ()
    wanted, best, depth = tuple(keys), None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(line):
            header = here = _split(found.group(1))
        elif found := _KEY.match(line):
            here = (*header, *_split(found.group(1)))
        else:
            continue
        shared = len(here) if here == wanted[: len(here)] else 0
        if here[: len(wanted)] == wanted:  # the key is spelled out in the header of a table below it
            shared = len(wanted)
        if shared > depth:
            best, depth = number, shared
    return best


def describe(value: object) -> str:
    """Return what a value is, and the value, for an error."""
    names = {
        bool: "the truth value",
        int: "the number",
        float: "the number",
        str: "the text",
        list: "a list",
        dict: "a section",
    }
    name = names.get(type(value), "a date or time")
    if isinstance(value, bool):
        return f"{name} {str(value).lower()}"
    return (
        name
        if isinstance(value, list | dict)
        else f"{name} {str(value)[:60]!r}"
        if isinstance(value, str)
        else f"{name} {value}"
    )


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted))


def _refuse_secrets(document: Document, keys: tuple[str, ...], value: object) -> None:
    """Look through all that the file says."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _SECRET.search(key.lower()) and isinstance(inner, str):
                raise document.error(
                    (*keys, key), f"secrets do not belong into this file: name a file that holds it, with {key}-file."
                )
            _refuse_secrets(document, (*keys, key), inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets(document, keys, inner)
    elif isinstance(value, str) and _PASSWORD_IN_URL.search(value):
        raise document.error(keys, "a URL in this file must not hold a password: name a file that holds it.")
