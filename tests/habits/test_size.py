"""Functions stay small: at most 60 lines, three levels of nesting, eight arguments; exceptions say why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("monitor", "recordings", "analysis", "recorder", "gateway", "simulator", "training", "export", "ecgwatch")
MOST_LINES, MOST_LEVELS, MOST_ARGUMENTS = 60, 3, 8
EXCEPTIONS = {
    "monitor/ecg/segment.py:_segment": "a compiled loop: every array it works on is an argument",
    "monitor/ecg/segment.py:_push": "a compiled loop: every array it works on is an argument",
    "simulator/replay.py:__init__": "what a person can choose of a replay, by keyword, with defaults",
    "training/fit.py:fit": "what a person can choose of a training run, by keyword, with defaults",
    "training/fit.py:train_network": "the training loop, read top to bottom: schedule, epoch, batch, evaluation",
    "training/baselines.py:measure": "a loop over rounds, baselines and streams, timed where it stands",
    "training/metrics.py:choose_point": "a grid search in its four loops",
    "training/page.py:task_sections": "one section of a page after the other; no branches",
}
"""Function, and why it is larger than the rest."""
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions() -> Iterator[tuple[str, _Function]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, _Function):
                    yield f"{path.relative_to(ROOT)}:{node.name}", node


def _lines(function: _Function) -> int:
    """Lines of code: the docstring does not count."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _levels(node: ast.AST, level: int = 0) -> int:
    deepest = level
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, _levels(child, level + (isinstance(child, _BLOCKS) and not is_elif)))
    return deepest


def _arguments(function: _Function) -> int:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in given if one.arg not in ("self", "cls")])


@pytest.mark.parametrize(
    ("measure", "most"), [(_lines, MOST_LINES), (_levels, MOST_LEVELS), (_arguments, MOST_ARGUMENTS)]
)
def test_functions_are_small(measure: object, most: int) -> None:
    assert callable(measure)
    sizes = {name: measure(function) for name, function in _functions()}
    assert len(sizes) > 500
    assert {name: size for name, size in sizes.items() if size > most and name not in EXCEPTIONS} == {}


def test_every_exception_is_needed() -> None:
    large = {
        name
        for name, function in _functions()
        if _lines(function) > MOST_LINES or _levels(function) > MOST_LEVELS or _arguments(function) > MOST_ARGUMENTS
    }
    assert set(EXCEPTIONS) <= large


def test_exceptions_are_few_and_say_why() -> None:
    assert len(EXCEPTIONS) <= 30
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())
