"""One ONNX Runtime session that tells the class of beats: inputs of `monitor.beat2` in, probabilities of N, S, V out.

The file describes itself as those of `monitor.classify` do; a file of another contract is refused when it is loaded.
Keeps no state between calls and knows nothing of devices.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from monitor import beat2
from monitor.classify import METADATA_KEY, MODELS, ModelInfo
from monitor.wiring import MAX_BATCH, ModelMismatch

INPUTS, OUTPUT = ("beats", "context"), "probabilities"
"""Names of the inputs and of the output in the file."""
SCALING = "template"
"""Windows and templates are in heights of the template's QRS complex."""
DEFAULT = MODELS / "beat2" / "nsv.onnx"
"""The bundled class model."""
EXPECTED = {
    "contract": beat2.CONTRACT,
    "rate_hz": beat2.RATE_HZ,
    "length": beat2.LENGTH,
    "scaling": SCALING,
    "context": list(beat2.CONTEXT),
}
"""Values that the description of any usable file must have."""


class ClassModel:
    """A loaded class model.

    Raises
    ------
    ModelMismatch
        The file is no ONNX file, or describes itself not at all or as something else than a class model on `beat/2`.
    """

    def __init__(self, path: Path = DEFAULT) -> None:
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a beat is too small to share
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            stored = self._session.get_modelmeta().custom_metadata_map[METADATA_KEY]
            self.info = msgspec.json.decode(stored, type=ModelInfo)
        except Exception as error:  # ONNX Runtime raises many kinds, none documented
            raise ModelMismatch(f"{path} cannot be read as a class model: {error}") from None
        for name, expected in EXPECTED.items():
            if (got := getattr(self.info, name)) != expected:
                raise ModelMismatch(f"{path}, {name}: got {got!r}, expected {expected!r}.")
        if (names := tuple(node.name for node in self._session.get_inputs())) != INPUTS:
            raise ModelMismatch(f"{path}, inputs: got {names}, expected {INPUTS}.")

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

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Position of each beat's class; see `monitor.classify.Classifier.columns`: (n, classes) -> (n,)."""
        abnormal = np.clip(1.0 - probabilities[:, 0], 0.0, 1.0).astype(np.float64) >= self.info.threshold
        return np.where(abnormal, 1 + probabilities[:, 1:].argmax(axis=1), 0)
