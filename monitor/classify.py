"""One ONNX Runtime session that judges beats: (n, 187) float32 in, (n, classes) probabilities out.

A model may declare the RR context (`monitor.beat`) as a second input, (n, 3) float32. The first of its classes is the
normal one; a beat is as abnormal as it is unlikely to be of that class.

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
RR_INPUT = "rr"
"""Name of the second input, (n, 3) float32, of a model file that declares the RR context, and of no other."""
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
    """Class names, in the order of the output columns; the first is the normal one, all others are abnormal."""
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Probability of not being of the first class from which a beat counts as abnormal."""
    trained_on: dict[str, str]
    """Training data: what it is, and the SHA-256 of the rows that were used."""
    figures: dict[str, float]
    """Measured figures, such as "beat AUC, patients apart"."""
    context: list[str] = []
    """What the network sees beside the window: nothing, or `monitor.beat.RR_CONTEXT`."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Of the weights."""


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
        The file is no ONNX file, has no or other metadata, or inputs or outputs that contradict them.
    ValueError
        `provider` is "cuda" and this machine or this ONNX Runtime has none.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, provider: Provider = "cpu", threads: int = 1) -> None:
        path = find_model(model)
        data = path.read_bytes()
        self.sha256 = hashlib.sha256(data).hexdigest()
        providers = ["CPUExecutionProvider"]
        if choose_provider(provider) == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
            onnxruntime.preload_dlls()  # the CUDA libraries that pip installed
        self._session = _open_session(path, data, providers, threads)
        self.provider = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        if provider == "cuda" and self.provider == "cpu":
            raise ValueError("CUDA is here but ONNX Runtime could not start it; its log says why.")
        self.info = _check_session(path, self._session)
        self.warm_up()

    @property
    def needs_rr(self) -> bool:
        """Whether the model has declared the RR context."""
        return bool(self.info.context)

    def warm_up(self) -> None:
        """Run batches of one and of many once, so that no device's first beat pays for it."""
        for n in (1, MAX_BATCH):
            rr = np.ones((n, len(beat.RR_CONTEXT)), np.float32)
            self.probabilities(np.zeros((n, beat.LENGTH), np.float32), rr)

    def probabilities(self, windows: beat.Windows, rr: beat.RrContext | None = None) -> npt.NDArray[np.float32]:
        """Probability of each class for each window.

        Parameters
        ----------
        windows
            (n, 187) float32 in 0..1, see `monitor.beat`; n may be 0.
        rr
            (n, 3) float32, see `monitor.beat.rr_context`. Needed if `needs_rr`; other models do not look at it.

        Returns
        -------
        ndarray
            (n, classes) float32, columns in the order of ``info.classes``.

        Raises
        ------
        ValueError
            The model needs the RR context, and it is not given, of another shape or number of rows, or not finite.
        """
        given = {INPUT: windows}
        if self.needs_rr:
            given[RR_INPUT] = self._check_rr(rr, len(windows))
        parts = [
            self._session.run([OUTPUT], {name: rows[i : i + MAX_BATCH] for name, rows in given.items()})[0]
            for i in range(0, len(windows), MAX_BATCH)
        ]
        return np.concatenate([np.empty((0, len(self.info.classes)), np.float32), *parts])

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probability of not being of the first class: (n, classes) -> (n,)."""
        abnormal: npt.NDArray[np.float32] = np.clip(1.0 - probabilities[:, 0], 0.0, 1.0)
        return abnormal

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Class of each beat, by its column; the one place where a beat is decided to be normal or not.

        From ``info.threshold`` on a beat is abnormal, and of the most probable class but the first; else it is of the
        first. In double precision: whoever compares the two numbers of an alert comes to the same verdict.

        Parameters
        ----------
        probabilities
            (n, classes), as `probabilities` returns them.

        Returns
        -------
        ndarray
            (n,) int64 positions in ``info.classes``; 0 is normal.
        """
        abnormal = self.abnormal(probabilities).astype(np.float64) >= self.info.threshold
        return np.where(abnormal, 1 + probabilities[:, 1:].argmax(axis=1), 0)

    def labels(self, probabilities: npt.NDArray[np.float32]) -> list[str]:
        """Class of each beat by its name; see `columns`."""
        return [self.info.classes[column] for column in self.columns(probabilities)]

    def _check_rr(self, rr: beat.RrContext | None, n: int) -> beat.RrContext:
        asked = f"Model {self.info.name!r} needs the RR context of every beat ({', '.join(beat.RR_CONTEXT)})"
        if rr is None:
            raise ValueError(f"{asked}: got none.")
        if len(checked := beat.check_rr(rr)) != n:
            raise ValueError(f"{asked}: got {len(checked)} rows, expected {n}.")
        return checked


def read_info(model: str | Path) -> ModelInfo:
    """What a model says of itself, checked as `Classifier` does, without making it ready to judge.

    Raises
    ------
    FileNotFoundError, ModelMismatch
        As `Classifier`.
    """
    path = find_model(model)
    return _check_session(path, _open_session(path, path.read_bytes(), ["CPUExecutionProvider"], threads=1))


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


def _open_session(path: Path, data: bytes, providers: list[str], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: they are raised as well
    # Idle threads that spin would eat the core that reads the network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises many kinds, none documented
        raise ModelMismatch(f"{path} cannot be loaded as an ONNX model: {error}") from None


def _check_session(path: Path, session: Any) -> ModelInfo:
    """Return the description in a loaded model file, or say how it contradicts the monitor or the file."""
    info = _read_metadata(path, session)
    for field, expected in EXPECTED.items():
        if (got := getattr(info, field)) != expected:
            raise ModelMismatch(f"{path}: {field} must match the monitor: got {got!r}, expected {expected!r}.")
    if info.context not in ([], list(beat.RR_CONTEXT)):
        raise ModelMismatch(f"{path}: context must be [] or {list(beat.RR_CONTEXT)}: got {info.context}.")
    if len(info.classes) < 2 or len(set(info.classes)) != len(info.classes):
        raise ModelMismatch(f"{path}: classes must be two or more, all different: got {info.classes}.")
    rr = {RR_INPUT: len(beat.RR_CONTEXT)} if info.context else {}
    _check_nodes(f"{path}, inputs with context {info.context}", session.get_inputs(), {INPUT: beat.LENGTH} | rr)
    _check_nodes(f"{path}, outputs", session.get_outputs(), {OUTPUT: len(info.classes)})
    return info


def _read_metadata(path: Path, session: Any) -> ModelInfo:
    stored = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if stored is None:
        raise ModelMismatch(f"{path} has no metadata {METADATA_KEY!r}: export it with 'python -m export onnx'.")
    try:
        return msgspec.json.decode(stored, type=ModelInfo)
    except msgspec.MsgspecError as error:
        raise ModelMismatch(f"{path}: metadata {METADATA_KEY!r} is unreadable: {error}") from None


def _check_nodes(where: str, nodes: list[Any], widths: dict[str, int]) -> None:
    """Inputs or outputs must be these, by name and number of columns, in any order."""
    fits = all(
        node.name in widths and node.type == "tensor(float)" and _is_batch_of(node.shape, widths[node.name])
        for node in nodes
    )
    if len(nodes) != len(widths) or not fits:
        wanted = " and ".join(f"one {name!r}, float32, any batch size x {width}" for name, width in widths.items())
        got = [(node.name, node.type, node.shape) for node in nodes]
        raise ModelMismatch(f"{where}: expected {wanted}: got {got}.")


def _is_batch_of(shape: list[Any], width: int) -> bool:
    """Whether a shape is (any number, width): ONNX names a free dimension, or leaves it None."""
    return len(shape) == 2 and not isinstance(shape[0], int) and shape[1] == width
