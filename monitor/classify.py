"""One ONNX Runtime session that judges beats: (n, 187) float32 in, (n, classes) probabilities out.

A model file describes itself: `ModelInfo` is stored in it as JSON under the metadata key ``ecgwatch``. A file that does
not fit this runtime is refused when it is loaded, with `ModelMismatch`. The classifier keeps no state between calls
and knows nothing of devices.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from monitor import beat

METADATA_KEY = "ecgwatch"
INPUT, OUTPUT = "beats", "probabilities"
"""Names of the input, (n, 187) float32, and the output, (n, classes) float32, of every model file."""
NORMAL = "normal"
"""The class that is not abnormal; every model has it."""
MODELS = Path(__file__).parent / "models"
"""Where the bundled models lie."""
DEFAULT_MODEL = "ptb"
MAX_BATCH = 256
"""Most beats in one call of the network: larger batches cost latency and gain no speed."""

Provider = Literal["cpu", "cuda", "auto"]


class ModelMismatch(ValueError):
    """The model file contradicts what the monitor would do with it."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model file says of itself."""

    name: str
    """Name of the model, such as "ptb"."""
    network: str
    """Name of the network, such as "cnn"."""
    contract: str
    """`monitor.beat.CONTRACT` of the windows it was trained on."""
    rate_hz: float
    length: int
    scaling: str
    """"minmax": each window scaled to 0..1 by its own minimum and maximum."""
    classes: list[str]
    """Class names, in the order of the output columns; one of them is "normal"."""
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Probability of not being normal from which a beat counts as abnormal."""
    trained_on: dict[str, str]
    """Training data: what it is, and the SHA-256 of the rows that were used."""
    figures: dict[str, float]
    """Measured figures, such as "beat AUC, patients apart"."""


EXPECTED = {
    "contract": beat.CONTRACT,
    "rate_hz": beat.RATE_HZ,
    "length": beat.LENGTH,
    "scaling": "minmax",
}
"""What `ModelInfo` of any usable file must say."""


class Classifier:
    """A loaded model.

    Parameters
    ----------
    model
        Name of a bundled model, or path of an ONNX file.
    provider
        "cpu"; "cuda", refused where there is none; "auto", CUDA where there is one.
    threads
        Threads of ONNX Runtime. One is best for latency: a beat is too small to share.

    Raises
    ------
    FileNotFoundError
        There is no such model.
    ModelMismatch
        The file is no ONNX file, has no or other metadata, or its input or output has another shape.
    ValueError
        `provider` is "cuda" and this machine or this ONNX Runtime has none.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, provider: Provider = "cpu", threads: int = 1) -> None:
        path = find_model(model)
        data = path.read_bytes()
        self.sha256 = hashlib.sha256(data).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: they are raised as well
        # Idle threads that spin would eat the core that reads the network.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        if choose_provider(provider) == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
            onnxruntime.preload_dlls()  # the CUDA libraries that pip installed
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime raises many kinds, none documented
            raise ModelMismatch(f"{path} cannot be loaded as an ONNX model: {error}") from None
        self.provider = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        if provider == "cuda" and self.provider == "cpu":
            raise ValueError("CUDA is here but ONNX Runtime could not start it; its log says why.")
        self.info = _read_info(path, self._session)
        self._normal = self.info.classes.index(NORMAL)
        self.warm_up()

    def warm_up(self) -> None:
        """Run batches of one and of many once, so that no device's first beat pays for it."""
        for n in (1, MAX_BATCH):
            self.probabilities(np.zeros((n, beat.LENGTH), np.float32))

    def probabilities(self, windows: beat.Windows) -> npt.NDArray[np.float32]:
        """Probability of each class for each window.

        Parameters
        ----------
        windows
            (n, 187) float32 in 0..1, see `monitor.beat`; n may be 0.

        Returns
        -------
        ndarray
            (n, classes) float32, columns in the order of ``info.classes``.
        """
        parts = [
            self._session.run([OUTPUT], {INPUT: windows[i : i + MAX_BATCH]})[0]
            for i in range(0, len(windows), MAX_BATCH)
        ]
        return np.concatenate([np.empty((0, len(self.info.classes)), np.float32), *parts])

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probability of not being normal: (n, classes) -> (n,)."""
        abnormal: npt.NDArray[np.float32] = np.clip(1.0 - probabilities[:, self._normal], 0.0, 1.0)
        return abnormal


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in MODELS.glob("*.onnx"))


def find_model(model: str | Path) -> Path:
    """Path of a bundled model by its name, or the given path; FileNotFoundError if there is none."""
    bundled = MODELS / f"{model}.onnx"
    if str(model) in bundled_models():
        return bundled
    path = Path(model)
    if path.is_file():
        return path
    raise FileNotFoundError(f"No model {str(model)!r}: got neither a file nor one of {', '.join(bundled_models())}.")


def choose_provider(provider: Provider) -> Literal["cpu", "cuda"]:
    """Decide between CPU and CUDA; see `Classifier`."""
    if provider == "cpu":
        return "cpu"
    missing = _why_no_cuda()
    if missing is None:
        return "cuda"
    if provider == "cuda":
        raise ValueError(f"No CUDA here: {missing}. Use --provider cpu or auto.")
    return "cpu"


def _why_no_cuda() -> str | None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "the installed ONNX Runtime has no CUDA provider (pip install 'ecgwatch[cuda]' brings one)"
    if not os.path.exists("/dev/nvidiactl") and os.name == "posix":
        return "there is no NVIDIA device on this machine"
    return None


def _read_info(path: Path, session: Any) -> ModelInfo:
    stored = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if stored is None:
        raise ModelMismatch(f"{path} has no metadata {METADATA_KEY!r}: export it with 'python -m export onnx'.")
    try:
        info = msgspec.json.decode(stored, type=ModelInfo)
    except msgspec.MsgspecError as error:
        raise ModelMismatch(f"{path}: metadata {METADATA_KEY!r} is unreadable: {error}") from None
    for field, expected in EXPECTED.items():
        if (got := getattr(info, field)) != expected:
            raise ModelMismatch(f"{path}: {field} must match the monitor: got {got!r}, expected {expected!r}.")
    if NORMAL not in info.classes or len(info.classes) < 2 or len(set(info.classes)) != len(info.classes):
        raise ModelMismatch(f"{path}: classes must be different and one be {NORMAL!r}: got {info.classes}.")
    _check_node(path, session.get_inputs(), INPUT, beat.LENGTH)
    _check_node(path, session.get_outputs(), OUTPUT, len(info.classes))
    return info


def _check_node(path: Path, nodes: list[Any], name: str, width: int) -> None:
    got = [(node.name, node.type, node.shape) for node in nodes]
    if (
        len(nodes) != 1
        or nodes[0].name != name
        or nodes[0].type != "tensor(float)"
        or not _batch_of(nodes[0].shape, width)
    ):
        raise ModelMismatch(f"{path}: expected one {name!r}, float32, any batch size x {width}: got {got}.")


def _batch_of(shape: list[Any], width: int) -> bool:
    """Whether a shape is (any number, width): ONNX names a free dimension, or leaves it None."""
    return len(shape) == 2 and not isinstance(shape[0], int) and shape[1] == width
