"""The page's scripts: plain modules, type-checked, formatted, complete, and nobody else's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.monitor.page.browser import node_tool

STATIC = Path(__file__).parents[3] / "monitor" / "page" / "static"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scripts_are_well_typed() -> None:
    _run(str(node_tool(".bin", "tsc")), "-p", str(STATIC / "jsconfig.json"))


def test_the_scripts_are_formatted() -> None:
    _run(str(node_tool(".bin", "prettier")), "--check", str(STATIC))


def test_the_scripts_hold_to_the_rules() -> None:
    rules = str(Path(__file__).with_name("eslint.config.mjs"))
    eslint = str(node_tool(".bin", "eslint"))
    _run(eslint, "--no-config-lookup", "--config", rules, "--max-warnings", "0", str(STATIC))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for file in (*STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("*.html")):
        text = file.read_text(encoding="utf-8")
        assert re.findall(r"https?://(?!www\.w3\.org)", text) == [], file.name
        for module in re.findall(r'from "([^"]+)"', text):
            assert (STATIC / module).is_file(), f"{module} in {file.name}"


def test_functions_are_small() -> None:
    for file in STATIC.glob("*.js"):
        lengths = re.findall(
            r"^(?:  )?(?:async |export |function )*[\w ]+\(.*\) \{\n((?:.*\n)*?)^(?:  )?\}", file.read_text(), re.M
        )
        assert all(body.count("\n") <= 60 for body in lengths), file.name
