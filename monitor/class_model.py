"""One ONNX Runtime session that tells the class of beats: inputs of `monitor.beat2` in, probabilities of N, S, V out.

The file describes itself as those of `monitor.classify` do; a file of another contract, or one that gives answers that
make no sense, is refused when it is loaded. Keeps no state between calls and knows nothing of devices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor import beat2
from monitor.classify import (
    ModelInfo,
    Provider,
    checksum,
    decide,
    find_model,
    open_on,
    probability_of_abnormal,
    read_metadata,
)
from monitor.wiring import MAX_BATCH, ModelMismatch

INPUTS, OUTPUT = ("beats", "context"), "probabilities"
"""Names of the inputs and of the output in the file."""
SCALING = "template"
"""Windows and templates are in heights of the template's QRS complex."""
CLASS_MODEL = "nsv"
"""The bundled class model."""
EXPECTED = {
    "contract": beat2.CONTRACT,
    "rate_hz": beat2.RATE_HZ,
    "length": beat2.LENGTH,
    "scaling": SCALING,
    "context": list(beat2.CONTEXT),
    "output": "probabilities",
}
"""Values that the description of any usable file must have."""
TOLERANCE = 1e-3
"""How far from 1 the probabilities of a beat may add up."""


class ClassModel:
    """A loaded class model.

    Parameters
    ----------
    model
        Name of a bundled model, or path of an ONNX file.
    provider, threads
        See `monitor.classify.Classifier`.

    Raises
    ------
    FileNotFoundError
        There is no such model.
    ModelMismatch
        The file is no ONNX file, describes itself not at all or as something else than a class model on `beat/2`, or
        its answers are no probabilities.
    ValueError
        `provider` is "cuda" and this machine or this ONNX Runtime has none.
    """

    def __init__(self, model: str | Path = CLASS_MODEL, provider: Provider = "cpu", threads: int = 1) -> None:
        path = find_model(model)
        self.sha256 = checksum(path)
        self._session, self.provider = open_on(path, provider, threads)
        self.info = check_info(path, read_metadata(path, self._session))
        if (names := tuple(node.name for node in self._session.get_inputs())) != INPUTS:
            raise ModelMismatch(f"{path}, inputs: got {names}, expected {INPUTS}.")
        self._try(path)

    def probabilities(self, windows: beat2.Windows, context: beat2.Context) -> npt.NDArray[np.float32]:
        """Probability of each of ``info.classes`` for each beat: (n, 2, 120), (n, 21) -> (n, classes); n may be 0.

        Raises
        ------
        ValueError
            The inputs are not those of `monitor.beat2`.
        """
        windows, context = beat2.check_inputs(windows, context)
        parts = [np.empty((0, len(self.info.classes)), np.float32)]
        for begin in range(0, len(windows), MAX_BATCH):
            part = slice(begin, begin + MAX_BATCH)
            parts += self._session.run([OUTPUT], dict(zip(INPUTS, (windows[part], context[part]), strict=True)))
        return np.concatenate(parts)

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probability of not being of the first class: (n, classes) -> (n,)."""
        return probability_of_abnormal(probabilities)

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Position of each beat's class; see `monitor.classify.decide`: (n, classes) -> (n,)."""
        return decide(probabilities, self.info.threshold)

    def _try(self, path: Path) -> None:
        """Ask for batches of one and of many, so that no device's first beat pays for it, and look at the answers."""
        for n in (1, MAX_BATCH):
            windows, context = np.zeros((n, 2, beat2.LENGTH), np.float32), np.ones((n, len(beat2.CONTEXT)), np.float32)
            try:
                answers = self.probabilities(windows, context)
                self.columns(answers)
            except Exception as error:  # ONNX Runtime raises many kinds, none documented
                raise ModelMismatch(f"{path}: cannot judge {n} beats: {' '.join(str(error).split())}") from None
            if answers.shape != (n, len(self.info.classes)) or not np.allclose(answers.sum(axis=1), 1, atol=TOLERANCE):
                expected = f"{n} x {len(self.info.classes)} probabilities"
                raise ModelMismatch(f"{path}: answers must be {expected}, rows that add up to 1: got {answers}.")


def check_info(path: Path, info: ModelInfo) -> ModelInfo:
    """Return the description of a class model; `ModelMismatch` if it contradicts the monitor."""
    for name, expected in EXPECTED.items():
        if (got := getattr(info, name)) != expected:
            raise ModelMismatch(f"{path}: {name} must match the monitor: got {got!r}, expected {expected!r}.")
    if len(info.classes) < 2 or len(set(info.classes)) != len(info.classes):
        raise ModelMismatch(f"{path}: classes must be two or more, all different: got {info.classes}.")
    return info
