"""All formats that are read, behind one interface: a file in, a `Recording` out, whoever wrote it.

Adding one is a module with a function `read`, and an entry here. A format is known by what is in a file, not by its
name. Whatever is wrong with a file is one `ValueError` that names the file, the format and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from recordings import apple, edf, ishne, kardia, opensignals, polar, table
from recordings.reader import find_base, read_recording
from recordings.recording import Choices, Recording
from recordings.text import decode

HEAD = 16_384
"""Bytes by which a format is known."""
ALL = Choices()


class Format(NamedTuple):
    """How one kind of file is known and read."""

    name: str
    """For `--format`."""
    title: str
    recognises: Callable[[Path, bytes], bool]
    """From the first `HEAD` bytes."""
    read: Callable[[Path, Choices], Recording]
    """Raises `ValueError`, without the file's name."""


def _is_wfdb(path: Path, _head: bytes) -> bool:
    base = find_base(path)
    return path.suffix == ".hea" or base.with_name(f"{base.name}.hea").is_file()


def _read_wfdb(path: Path, choices: Choices) -> Recording:
    return read_recording(path, choices.lead, choices.annotator)


def _begins(*marks: bytes) -> Callable[[Path, bytes], bool]:
    return lambda _path, head: head.startswith(marks)


def _text(test: Callable[[str], bool]) -> Callable[[Path, bytes], bool]:
    return lambda _path, head: b"\0" not in head.replace(b"\xff\xfe", b"")[:64] and test(decode(head))


FORMATS = (
    Format("ishne", "ISHNE Holter", _begins(ishne.MAGIC, ishne.ANNOTATIONS), ishne.read_ishne),
    Format("kardia", "AliveCor ATC", _begins(kardia.SIGNATURE), kardia.read_atc),
    Format("edf", "EDF or BDF", _begins(b"0       ", edf.BDF_MARK), edf.read_edf),
    Format(
        "opensignals",
        "OpenSignals",
        _text(lambda text: text.startswith(opensignals.MARK)),
        opensignals.read_opensignals,
    ),
    Format("polar", "Polar Sensor Logger", _text(polar.is_sensor_logger), polar.read_sensor_logger),
    Format("polar-frames", "Polar frames", _text(polar.is_frames), polar.read_frames),
    Format("apple", "an export of the Apple Watch", _text(apple.is_apple), apple.read_apple),
    Format("wfdb", "WFDB", _is_wfdb, _read_wfdb),
    Format("csv", "a table", _text(lambda text: any(char.isdigit() for char in text)), table.read_table),
)
"""In the order in which they are tried."""
NAMES = tuple(one.name for one in FORMATS)


def read(path: Path, choices: Choices = ALL, name: str | None = None) -> Recording:
    """Read one lead of a file.

    Parameters
    ----------
    path
        The file; of a WFDB record any of its files, or their common name.
    choices
        What is not to be found or guessed.
    name
        Of the format; found out if not given.

    Raises
    ------
    ValueError
        The file is missing, empty, truncated, damaged, too large or of no known format; what was chosen is not in it;
        or the package that reads it is not installed.
    """
    wanted = find_format(path) if name is None else _by_name(name)
    if wanted.name == "wfdb":
        return _read_wfdb(path, choices)  # its errors name the record already
    try:
        return wanted.read(path, choices)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, IndexError, EOFError, OverflowError) as error:  # what a broken file does to a library
        what = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path} cannot be read as {wanted.title}: {what}.") from None


def find_format(path: Path) -> Format:
    """Return the format of a file, by what is in it.

    Raises
    ------
    ValueError
        There is no such file, it is empty, or of no known format.
    """
    if path.is_dir() and not (path.name and _is_wfdb(path, b"")):
        raise ValueError(f"{path} is a folder, expected a file, or the name of a WFDB record.")
    if not path.is_file():
        if _is_wfdb(path, b""):
            return _by_name("wfdb")
        raise ValueError(f"No file {path}, and no WFDB record {path}.hea.")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise ValueError(f"{path} is empty.")
    for one in FORMATS:
        if one.recognises(path, head):
            return one
    known = ", ".join(one.title for one in FORMATS)
    raise ValueError(f"{path} is of no known format: it begins with {head[:12]!r}, expected {known}.")


def _by_name(name: str) -> Format:
    for one in FORMATS:
        if one.name == name:
            return one
    raise ValueError(f"Format: got {name!r}, expected {', '.join(NAMES)}.")
