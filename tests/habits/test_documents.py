"""What the documents say can be typed: every command exists, every flag, every file; and the walk-through works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ecgwatch.__main__
import export.__main__
import monitor.__main__
import simulator.__main__
import training.__main__
from monitor.command import Program, _find, build_parser
from simulator.broker import free_port
from tests.alerts.__main__ import FAMILIES
from tests.brokers import listens

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
PROGRAMS: dict[str, Program] = {
    "ecgwatch": ecgwatch.__main__.PROGRAM,
    "python -m monitor": monitor.__main__.PROGRAM,
    "python -m simulator": simulator.__main__.PROGRAM,
    "python -m training": training.__main__.PROGRAM,
    "python -m export": export.__main__.PROGRAM,
}
_STARTS = "|".join([*map(re.escape, PROGRAMS), r"python -m tests\.(?:soak|alerts)", "make", "pytest"])
_COMMAND = re.compile(rf"^(?:\$ )?(?:sudo )?({_STARTS}) (.+)$")
_FILE = re.compile(r"`((?:monitor|simulator|training|export|recordings|tests|deploy|examples)/[\w/.-]+\.\w+)`")
ON_PAPER = {"monitor/broker/amqp.py"}
"""Files that a document describes and that are not written."""
_INLINE = re.compile(r"`([^`\n]+)`")
_PLACEHOLDER = re.compile(r"^\[?[A-Z][A-Z.]*(\.csv)?(\.\.\.)?\]?$")


def _lines(document: Path) -> Iterator[str]:
    """Yield the lines of code blocks, joined where they go on, and what stands between backquotes elsewhere."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for number, part in enumerate(text.split("```")):
        if number % 2:
            yield from part.splitlines()[1:]
        else:
            yield from (found.replace("\n", " ") for found in _INLINE.findall(part))


def _commands() -> Iterator[tuple[str, str, str]]:
    for document in DOCUMENTS:
        for line in _lines(document):
            if found := _COMMAND.match(line.split("  #")[0].strip()):
                yield document.name, found.group(1), found.group(2)


COMMANDS = sorted(set(_commands()))


def _words(program: str, text: str) -> list[str]:
    """Return the words of a command, with something that can be parsed for each placeholder."""
    words = [word for word in shlex.split(text.split(" > ")[0]) if word != "..."]
    return ["ptb" if _PLACEHOLDER.match(word) else word.replace("NAME://host", "mqtt://host") for word in words]


@pytest.mark.parametrize(
    ("document", "program", "text"), [one for one in COMMANDS if one[1] in PROGRAMS], ids=lambda one: str(one)[:60]
)
def test_every_command_of_ours_can_be_parsed(document: str, program: str, text: str) -> None:
    words = _words(program, text)
    if words[:1] == ["--help"]:
        return
    verb, prog, rest = _find(PROGRAMS[program], words)
    if rest:  # in prose a command may be named without what it needs
        build_parser(verb, prog, is_configurable=PROGRAMS[program].configure is not None).read(rest)


def test_every_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {text.split()[0] for _, program, text in COMMANDS if program == "make"}
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_test_that_is_named_exists() -> None:
    for document, program, text in COMMANDS:
        if program == "pytest":
            paths = [word for word in text.split() if word.startswith("tests")]
            assert all((ROOT / path.split("::")[0]).exists() for path in paths), f"{document}: pytest {text}"


def test_every_row_of_the_soak_that_is_named_exists() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.soak", "--help"], capture_output=True, text=True, cwd=ROOT)
    named = {row for _, program, text in COMMANDS if "soak" in program for row in re.findall(r"--only (\w+)", text)}
    assert named
    assert all(row in done.stdout for row in named)


def test_every_figure_about_alerts_that_is_named_exists() -> None:
    named = {one for _, program, text in COMMANDS if "alerts" in program for one in re.findall(r"--only (\w+)", text)}
    assert named
    assert named <= FAMILIES.keys()


def test_every_file_that_is_linked_or_named_exists() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        missing = [link for link in links if not (document.parent / link).exists()]
        named = [path for path in _FILE.findall(text) if "NAME" not in path and path not in ON_PAPER]
        missing += [path for path in named if not (ROOT / path).exists()]
        assert missing == [], document.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700


def _start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecgwatch", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not is_so() and time.monotonic() < until_s:
        time.sleep(0.1)


def test_the_walk_through_by_hand_ends_with_alerts(tmp_path: Path) -> None:
    port = free_port()
    url = f"--broker=mqtt://127.0.0.1:{port}"
    running = [_start("broker", "--port", str(port))]
    try:
        _wait_until(lambda: listens(port))
        running += [_start("watch", url), _start("run", url, f"--state={tmp_path}")]
        time.sleep(5)
        running.append(_start("replay", url))
        watching = running[1].stdout
        assert watching is not None
        line = watching.readline()
        assert re.match(r"\d\d:\d\d:\d\d +sim-\d{4} +NEW +[a-z-]+", line), line
    finally:
        for process in reversed(running):
            process.terminate()
            process.communicate(timeout=20)
