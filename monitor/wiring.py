"""How the inputs and outputs of a model file meet the monitor's: (n, 187) windows in, (n, classes) probabilities out.

Networks are exported in many ways that mean the same. What leaves no doubt is adapted; whatever does leave some is
refused with `ModelMismatch`:

* the input: (n, 187), or with further axes of length 1; float16, float32 or float64; a batch of a fixed size;
* the output: a matrix, one column that is the second class of two, or a map from class to probability for each beat
  (ZipMap); the other outputs are not looked at;
* the form of the answers, see `Form`: read off what a few windows give, see `monitor.probe`.

Knows nothing of files, metadata or thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from monitor import beat

INPUT, OUTPUT = "beats", "probabilities"
"""Names of the input and the output in the model files that the project exports."""
RR_INPUT = "rr"
"""Name of the second input, (n, 3) float32, of a model that declares the RR context, and of no other."""
MAX_BATCH = 256
"""Most beats in one call of the network: larger batches cost latency and gain no speed."""
FLOATS: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
SUM_TOLERANCE = 5e-3
"""How far from 1 the probabilities of a beat may add up: half precision comes within 1e-3."""

Form = Literal["probabilities", "percent", "log-probabilities", "logits"]
"""What the numbers of an output are. Logits become probabilities by softmax, or by the logistic function of one."""
Answers = npt.NDArray[np.float32]
"""(n, classes), or (n, 1) of the second class of two, as the network gave them."""


class ModelMismatch(ValueError):
    """The model file contradicts what the monitor would do with it."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where the windows go in, and where the answers come out."""

    input: str
    shape: tuple[int, ...]
    """Of one window: (187,), (187, 1), (1, 187) ..."""
    dtype: type[np.floating[Any]]
    batch: int | None
    """The one number of beats that the network takes at a time; None if it takes any."""
    output: str
    keys: tuple[int | str, ...] | None
    """Of the maps that the output consists of, in the order of the classes; None if it is an array."""
    is_one_column: bool = False
    """Whether it holds one number a beat, of the second of two classes."""


def find_wiring(
    session: Any, classes: Sequence[str], needs_rr: bool, windows: beat.Windows, rr: beat.RrContext
) -> Wiring:
    """Find out where windows go in and answers come out, by the declarations and by trying a few windows.

    Parameters
    ----------
    session
        Of ONNX Runtime.
    classes
        Names of the classes.
    needs_rr
        Whether the model declares the RR context.
    windows, rr
        To try.

    Raises
    ------
    ModelMismatch
        There is no such input or output, or more than one that could be meant.
    """
    node = find_input(session, needs_rr)
    batch = node.shape[0] if node.shape and isinstance(node.shape[0], int) else None
    names = [one.name for one in session.get_outputs()]
    tries = [Wiring(node.name, shape, FLOATS[node.type], batch, "", None) for shape in _shapes(node)]
    given, errors = {}, []
    for wiring in tries:
        try:
            given[wiring] = _call(session, names, wiring, windows[: batch or len(windows)], rr if needs_rr else None)
        except Exception as error:  # ONNX Runtime raises many kinds, none documented
            errors.append(error)
    if not given:
        n = batch or len(windows)
        raise ModelMismatch(f"cannot judge a batch of {n} beats: {_one_line(errors[0])}")
    if len(given) > 1:
        shapes = ", ".join(str(one.shape) for one in given)
        raise ModelMismatch(f"input {node.name!r} takes windows of the shapes {shapes}, expected one")
    [(wiring, values)] = given.items()
    return _find_output(session, wiring, dict(zip(names, values, strict=True)), classes)


def find_input(session: Any, needs_rr: bool) -> Any:
    """Return the declaration of the input that takes windows.

    Raises
    ------
    ModelMismatch
        The inputs are not the windows, and the RR context if that is declared.
    """
    nodes = session.get_inputs()
    wanted = {INPUT: beat.LENGTH} | ({RR_INPUT: len(beat.RR_CONTEXT)} if needs_rr else {})
    others = [node for node in nodes if not (needs_rr and node.name == RR_INPUT and _is_rr(node))]
    if len(nodes) != len(wanted) or len(others) != 1 or others[0].type not in FLOATS or not _shapes(others[0]):
        asked = " and ".join(f"one {name!r}, float32, any batch size x {width}" for name, width in wanted.items())
        got = [(node.name, node.type, node.shape) for node in nodes]
        raise ModelMismatch(
            f"inputs with context {list(beat.RR_CONTEXT) if needs_rr else []}: expected {asked}: got {got}"
        )
    return others[0]


def run(
    session: Any, wiring: Wiring, windows: beat.Windows, rr: beat.RrContext | None, most: int = MAX_BATCH
) -> Answers:
    """Answers of the network to any number of windows, in batches that it takes, of `most` at most."""
    size = wiring.batch or most
    parts = []
    for i in range(0, len(windows), size):
        [given] = _call(
            session, [wiring.output], wiring, windows[i : i + size], None if rr is None else rr[i : i + size]
        )
        parts.append(_matrix(given, wiring.keys)[: len(windows) - i])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def to_probabilities(answers: Answers, form: Form) -> Answers:
    """Probability of each class: (n, classes) or (n, 1) -> (n, classes)."""
    if answers.shape[1] == 1:
        second = 1 / (1 + np.exp(-answers)) if form == "logits" else _scaled(answers, form)
        return np.concatenate([1 - second, second], axis=1)
    if form == "logits":
        powers = np.exp(answers - answers.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    return _scaled(answers, form)


def find_form(answers: Answers) -> Form | None:
    """Form of finite answers to several windows; None if they leave a doubt."""
    low, high, one_column = float(answers.min()), float(answers.max()), answers.shape[1] == 1
    if low >= 0 and high <= 1 + SUM_TOLERANCE:
        return "probabilities" if one_column or _adds_up(answers, 1) else None
    if one_column:
        return "logits" if low < 0 else None  # above 0 alone it may be percent as well
    if low >= 0 and _adds_up(answers, 100):
        return "percent"
    if high <= SUM_TOLERANCE and _adds_up(np.exp(answers), 1):
        return "log-probabilities"
    return "logits"


def _adds_up(answers: Answers, total: float) -> bool:
    return bool((np.abs(answers.sum(axis=1) / total - 1) <= SUM_TOLERANCE).all())


def _scaled(answers: Answers, form: Form) -> Answers:
    if form == "percent":
        return answers / np.float32(100)
    return np.exp(answers) if form == "log-probabilities" else answers


def _is_rr(node: Any) -> bool:
    shape = node.shape
    is_free = len(shape) == 2 and not isinstance(shape[0], int)
    return is_free and shape[1] == len(beat.RR_CONTEXT) and node.type == "tensor(float)"


def _shapes(node: Any) -> list[tuple[int, ...]]:
    """Shapes of one window that an input may take: one axis of 187, the others of 1."""
    if not node.shape:  # nothing is declared
        return [(beat.LENGTH,), (beat.LENGTH, 1), (1, beat.LENGTH)]
    axes = node.shape[1:]
    shapes = [tuple(beat.LENGTH if i == long else 1 for i in range(len(axes))) for long in range(len(axes))]
    return [
        shape
        for shape in shapes
        if all(not isinstance(axis, int) or axis == n for axis, n in zip(axes, shape, strict=True))
    ]


def _call(
    session: Any, names: list[str], wiring: Wiring, windows: beat.Windows, rr: beat.RrContext | None
) -> list[Any]:
    """Outputs for one batch. A network of a fixed batch gets the last window again and again until it is full."""
    n = len(windows)
    if wiring.batch is not None and n < wiring.batch:
        windows = np.concatenate([windows, np.repeat(windows[-1:], wiring.batch - n, axis=0)])
    feeds = {wiring.input: windows.reshape(-1, *wiring.shape).astype(wiring.dtype, copy=False)}
    if rr is not None:
        feeds[RR_INPUT] = rr
    outputs: list[Any] = session.run(names, feeds)
    return outputs


def _matrix(given: Any, keys: tuple[int | str, ...] | None) -> Answers:
    """Make what an output gave for n beats an array, (n, columns)."""
    if keys is not None:
        return np.array([[row[key] for key in keys] for row in given], np.float32)
    return np.asarray(given, np.float32).reshape(len(given), -1)


def _find_output(session: Any, wiring: Wiring, values: Mapping[str, Any], classes: Sequence[str]) -> Wiring:
    """Choose the output that holds the answers."""
    n = wiring.batch or max((len(value) for value in values.values() if np.ndim(value)), default=0)
    fitting: dict[Wiring, Answers] = {}
    for name, value in values.items():
        keys = _keys(value, classes)
        if keys is None and not _fits(value, n, len(classes)):
            continue
        answers = _matrix(value, keys)
        fitting[replace(wiring, output=name, keys=keys, is_one_column=answers.shape[1] == 1)] = answers
    if len(fitting) > 1:  # such as logits beside probabilities
        sure = {
            one: got for one, got in fitting.items() if np.isfinite(got).all() and find_form(got) == "probabilities"
        }
        fitting = sure or fitting
    if len(fitting) != 1:
        asked = f"expected one {OUTPUT!r}, float32, any batch size x {len(classes)}"
        got = [(node.name, node.type, node.shape) for node in session.get_outputs()]
        raise ModelMismatch(f"outputs for the classes {', '.join(classes)}: {asked}: got {got}")
    [(found, answers)] = fitting.items()
    _check_names(values, answers, classes)
    return found


def _keys(value: Any, classes: Sequence[str]) -> tuple[int | str, ...] | None:
    """Keys of the maps of an output, in the order of the classes; None if it has none."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return None
    keys = sorted(value[0])
    if keys and isinstance(keys[0], str):
        if set(keys) != set(classes):
            raise ModelMismatch(f"its classes are named {', '.join(keys)}: got --classes {','.join(classes)}")
        return tuple(classes)
    if len(keys) != len(classes):
        raise ModelMismatch(
            f"it tells {len(keys)} classes apart: got the names of {len(classes)}: {', '.join(classes)}"
        )
    return tuple(keys)


def _fits(value: Any, n: int, classes: int) -> bool:
    """Whether an output can be the answers: a row for each beat, and a column for each class or one for the second."""
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating) or value.ndim == 0:
        return False
    columns = value.size // n if n and len(value) == n else 0
    return columns == classes or (columns == 1 and classes == 2)


def _check_names(values: Mapping[str, Any], answers: Answers, classes: Sequence[str]) -> None:
    """Where the network names the class of each beat as well, it must be the name that the order of columns gives."""
    texts = [value for value in values.values() if isinstance(value, np.ndarray) and value.dtype == object]
    for text in texts:
        names = [str(name) for name in text.reshape(-1)]
        best = [classes[column] for column in answers.argmax(axis=1)] if answers.shape[1] > 1 else names
        if names != best:
            raise ModelMismatch(
                f"it calls beats {', '.join(sorted(set(names)))} where the classes {', '.join(classes)} in this order "
                f"give {', '.join(sorted(set(best)))}: name its classes in the order of its columns"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
