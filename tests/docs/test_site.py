"""The documentation site is built without a warning, and its snippets run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ecgwatch.__main__ import PROGRAM
from monitor.command import Group
from tests.recordings.foreign_files import ecg_uv, write_edf

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason="pip install 'ecgwatch[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} >= pages
    first = (site / "index.html").read_text()
    assert all(f'href="{page}.html"' in first for page in pages - {"index"})


def test_every_command_has_its_help_on_the_site(site: Path) -> None:
    page = (site / "_generated" / "commands.html").read_text()
    for command in PROGRAM.commands:
        for verb in command.commands if isinstance(command, Group) else (command,):
            assert f"{verb.name}" in page


def test_page_needs_nothing_of_another_machine(site: Path) -> None:
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', (site / "index.html").read_text())
    assert fetched == []


def test_snippet_of_the_python_interface_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "API.md").read_text(), re.DOTALL)
    path = write_edf(tmp_path / "x.edf", ecg_uv(256.0), 256.0)
    exec(code.replace("FILE.edf", str(path)), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert all(re.fullmatch(r"[\d.]+ (N|S|V|None)", line) for line in lines)
