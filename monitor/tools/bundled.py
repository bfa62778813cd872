"""The bundled models: the description stored in each, in one line or as JSON, and its card."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from monitor import beat2, class_model
from monitor.classify import INPUT, RR_INPUT, ModelInfo, bundled_models, find_model
from monitor.panel import DEFAULT_MODEL, read_info

HEADINGS = ("name", "network", "precision", "classes", "inputs", "threshold", "size", "SHA-256", "figures")
FIGURES_WIDTH = 60
"""Characters for figures in the line of a model."""
FOOTER = "Not a medical device. 'ecgwatch models NAME' prints a model's card: read it before you believe a model."


class Bundled(NamedTuple):
    """A bundled model, not made ready to judge."""

    name: str
    """Of its file, and what ``--model`` takes."""
    info: ModelInfo
    size_bytes: int
    sha256: str
    is_default: bool

    def as_json(self) -> dict[str, Any]:
        """The description stored in the file, and the size and checksum of the file."""
        about = {"default": self.is_default, "size_bytes": self.size_bytes, "sha256": self.sha256}
        return {**msgspec.to_builtins(self.info), **about}


def look_up(name: str) -> Bundled:
    """What is known of a bundled model.

    Raises
    ------
    FileNotFoundError
        No such model is bundled.
    ModelMismatch
        The file contradicts the monitor.
    """
    content = _find(name).read_bytes()
    return Bundled(name, read_info(name), len(content), hashlib.sha256(content).hexdigest(), name == DEFAULT_MODEL)


def read_card(name: str) -> str:
    """Return the card of a bundled model, as Markdown; FileNotFoundError if no such model is bundled."""
    return _find(name).with_suffix(".md").read_text(encoding="utf-8")


def list_models() -> list[Bundled]:
    """All bundled models, by name."""
    return [look_up(name) for name in bundled_models()]


def format_list(models: list[Bundled]) -> str:
    """One line for each model, below a heading; then what to bear in mind."""
    rows = [HEADINGS, *(_cells(model) for model in models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", FOOTER])


def headline(figures: dict[str, float]) -> str:
    """The first figures of the test part, or of any if there is none: as many of a kind as fit.

    Names are "test, data, split: heading"; what precedes the colon is printed once.
    """
    names = [name for name in figures if name.startswith("test")] or list(figures)
    text, group = "", None
    for name in names:
        of, _, heading = name.rpartition(": ")
        more = f", {heading} {figures[name]:g}" if text else f"{name} {figures[name]:g}"
        if group not in (None, of) or len(text + more) > FIGURES_WIDTH:
            break
        text, group = text + more, of
    return text


def _cells(model: Bundled) -> tuple[str, ...]:
    info = model.info
    return (
        f"{model.name} (default)" if model.is_default else model.name,
        info.network,
        info.precision,
        ", ".join(info.classes),
        ", ".join(_inputs(info)),
        f"{info.threshold:.3f}",
        f"{model.size_bytes / 1000:.0f} kB",
        model.sha256[:12],
        headline(info.figures),
    )


def _inputs(info: ModelInfo) -> tuple[str, ...]:
    if info.contract == beat2.CONTRACT:
        return class_model.INPUTS
    return (INPUT, RR_INPUT) if info.context else (INPUT,)


def _find(name: str) -> Path:
    if name not in bundled_models():
        raise FileNotFoundError(f"No model {name!r} is bundled: expected one of {', '.join(bundled_models())}.")
    return find_model(name)
