"""The documentation site: Sphinx, with MyST for Markdown and furo for its looks. ``make docs`` builds it."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

project = "ecgwatch"
author = "the authors of ecgwatch"
copyright = "the authors of ecgwatch; Apache-2.0"
version = release = installed("ecgwatch")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ecgwatch {release}"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring, napoleon_google_docstring = True, False
intersphinx_mapping: dict[str, tuple[str, None]] = {}  # nothing is fetched while it is built
nitpicky = False


def write_commands(app: object) -> None:
    """Write the reference of all commands from their parsers, so that it cannot be out of date."""
    from ecgwatch.__main__ import PROGRAM
    from monitor.command import Group, build_parser

    parts = ["# Commands\n", "What `ecgwatch COMMAND --help` prints.\n"]
    for command in PROGRAM.commands:
        verbs = command.commands if isinstance(command, Group) else (command,)
        prog = f"ecgwatch {command.name}" if isinstance(command, Group) else "ecgwatch"
        for verb in verbs:
            text = build_parser(verb, prog).format_help()
            parts.append(f"## {prog} {verb.name}\n\n```text\n{text}```\n")
    target = DOCS / "_generated" / "commands.md"
    target.parent.mkdir(exist_ok=True)
    content = "\n".join(parts)
    if not target.exists() or target.read_text(encoding="utf-8") != content:
        target.write_text(content, encoding="utf-8")


def setup(app: object) -> None:
    """Connect to Sphinx."""
    app.connect("builder-inited", write_commands)  # type: ignore[attr-defined]
