"""One ONNX Runtime session that judges beats: (n, 187) float32 in, (n, classes) probabilities out.

Files that were exported in other ways are adapted where that leaves no doubt, see `monitor.wiring`, and every file must
give sensible answers to a few beats before it is used, see `monitor.probe`. A model may declare the RR context
(`monitor.beat`) as a second input, (n, 3) float32. The first of its classes is the normal one; a beat is as
abnormal as it is unlikely to be of that class.

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
from numba import njit

from monitor import beat, probe, wiring
from monitor.beat2 import CONTRACT as CLASS_CONTRACT
from monitor.onnx_file import external_files
from monitor.wiring import INPUT as INPUT
from monitor.wiring import MAX_BATCH as MAX_BATCH
from monitor.wiring import OUTPUT as OUTPUT
from monitor.wiring import RR_INPUT as RR_INPUT
from monitor.wiring import Form
from monitor.wiring import ModelMismatch as ModelMismatch

METADATA_KEY = "ecgwatch"
MODELS = Path(__file__).parent / "models"
"""Where the bundled models lie."""
SHAPE_MODEL = "ptb"
"""The bundled model of single windows that judges if no other is named."""

CPU_BATCH = 64
"""Beats that a CPU takes at a time: what lies between the layers then stays in its cache (6 % less time than 256)."""

Provider = Literal["cpu", "cuda", "auto"]


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description that a model file holds of itself."""

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
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Of the weights."""
    output: Form = "probabilities"
    """What the numbers of its output are."""
    leads: list[str] = []
    """Leads that it has a say on, as devices name them; empty: on any."""


EXPECTED = {
    "contract": beat.CONTRACT,
    "rate_hz": beat.RATE_HZ,
    "length": beat.LENGTH,
    "scaling": "minmax",
}
"""Values that `ModelInfo` of any usable file must have."""


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
        The file is no ONNX file, has no or other metadata, inputs or outputs that contradict them, or gives answers
        that make no sense.
    ValueError
        `provider` is "cuda" and this machine or this ONNX Runtime has none.
    """

    def __init__(self, model: str | Path = SHAPE_MODEL, provider: Provider = "cpu", threads: int = 1) -> None:
        path = find_model(model)
        self.sha256 = checksum(path)
        self._session, self.provider = open_on(path, provider, threads)
        self.info = check_session(path, self._session)
        self.wiring, _ = find_answers(path, self._session, self.info.classes, self.needs_rr, self.info.output)
        self.warm_up()

    @property
    def needs_rr(self) -> bool:
        """Whether the model has declared the RR context."""
        return bool(self.info.context)

    def warm_up(self) -> None:
        """Run batches of one and of many once, so that no device's first beat pays for it."""
        for n in (1, CPU_BATCH, MAX_BATCH):
            rr = np.ones((n, len(beat.RR_CONTEXT)), np.float32)
            self.columns(self.probabilities(np.zeros((n, beat.LENGTH), np.float32), rr))

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
            (n, classes) float32, columns in the order of ``info.classes``. A row that is not finite is no answer: such
            a beat must be withheld.

        Raises
        ------
        ValueError
            The model needs the RR context, and it is not given, of another shape or number of rows, or not finite.
        """
        context = self._check_rr(rr, len(windows)) if self.needs_rr else None
        if not len(windows):
            return np.empty((0, len(self.info.classes)), np.float32)
        most = CPU_BATCH if self.provider == "cpu" else MAX_BATCH
        answers = wiring.run(self._session, self.wiring, windows, context, most)
        return wiring.to_probabilities(answers, self.info.output)

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probability of not being of the first class: (n, classes) -> (n,)."""
        return probability_of_abnormal(probabilities)

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Position of each beat's class; see `decide`: (n, classes) -> (n,)."""
        return decide(probabilities, self.info.threshold)

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


def probability_of_abnormal(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probability of not being of the first class: (n, classes) -> (n,)."""
    abnormal: npt.NDArray[np.float32] = np.minimum(np.maximum(1.0 - probabilities[:, 0], 0.0), 1.0)
    return abnormal


def decide(probabilities: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.int64]:
    """Class of each beat, by its column; the one place where a beat is decided to be normal or not.

    From the threshold on a beat is abnormal, and of the most probable class but the first; else it is of the first. In
    double precision: a client that compares the two numbers of an alert comes to the same verdict.

    Parameters
    ----------
    probabilities
        (n, classes), as a model gives them.
    threshold
        Of its description.

    Returns
    -------
    ndarray
        (n,) int64 positions in the classes of the model; 0 is normal.
    """
    columns: npt.NDArray[np.int64] = _decide(np.ascontiguousarray(probabilities), threshold)
    return columns


@njit(cache=True)
def _decide(probabilities: Any, threshold: float) -> Any:
    """With numpy, that took as long for one beat as a tenth of its signal path."""
    columns = np.zeros(len(probabilities), np.int64)
    for i in range(len(probabilities)):
        abnormal = min(max(np.float32(1) - probabilities[i, 0], np.float32(0)), np.float32(1))
        if abnormal >= threshold:
            columns[i] = 1 + probabilities[i, 1:].argmax()
    return columns


def answered(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether a model gave an answer to each beat: (n, classes) -> (n,). What is not a number is none."""
    return np.asarray(np.isfinite(probabilities).all(axis=1), np.bool_)


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


def open_on(path: Path, provider: Provider, threads: int) -> tuple[Any, Literal["cpu", "cuda"]]:
    """Open a model file where it is to run; return the session and where that is; see `Classifier`."""
    providers = ["CPUExecutionProvider"]
    if choose_provider(provider) == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
        onnxruntime.preload_dlls()  # the CUDA libraries that pip installed
    session = open_session(path, providers, threads)
    runs_on: Literal["cpu", "cuda"] = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    if provider == "cuda" and runs_on == "cpu":
        raise ValueError("CUDA is here but ONNX Runtime could not start it; its log says why.")
    return session, runs_on


def open_session(path: Path, providers: list[str], threads: int) -> Any:
    """Open a model file in ONNX Runtime; `ModelMismatch` if that is not possible."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: errors are raised as well
    # Idle threads that spin would eat the core that reads the network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for file in external_files(path, path.read_bytes()):
        if not file.is_file():
            raise ModelMismatch(
                f"{path}: its weights lie in {file.name}, which is not beside it. Put it there, or save the model as "
                f"one file: onnx.save(onnx.load({path.name!r}), ...)."
            )
    try:
        return onnxruntime.InferenceSession(str(path.absolute()), options, providers=providers)
    except Exception as error:  # ONNX Runtime raises many kinds, none documented
        raise ModelMismatch(f"{path} cannot be loaded as an ONNX model: {' '.join(str(error).split())}") from None


def find_answers(
    path: Path, session: Any, classes: list[str], needs_rr: bool, declared: Form | None
) -> tuple[wiring.Wiring, Form]:
    """Try a session, and return where its answers are and what they are; `ModelMismatch` if they make no sense."""
    windows, rr = probe.probe_windows()
    try:
        found = wiring.find_wiring(session, classes, needs_rr, windows, rr)

        def answer(some: beat.Windows, their_rr: beat.RrContext) -> wiring.Answers:
            return wiring.run(session, found, some, their_rr if needs_rr else None)

        return found, probe.check_answers(answer, declared)
    except ModelMismatch as error:
        raise ModelMismatch(f"{path}: {error}.") from None
    except Exception as error:  # ONNX Runtime's, on a batch of another size than the one that was tried before
        raise ModelMismatch(f"{path}: cannot judge batches of any size: {' '.join(str(error).split())}") from None


def checksum(path: Path) -> str:
    """SHA-256 of a model file, and of the files beside it that hold its weights."""
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    for file in external_files(path, content):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def check_session(path: Path, session: Any) -> ModelInfo:
    """Return the description in a loaded model file; `ModelMismatch` if it contradicts the monitor or the file."""
    info = read_metadata(path, session)
    if info.contract == CLASS_CONTRACT:
        raise ModelMismatch(
            f"{path} is a class model, contract {info.contract}: it judges streams, not single windows."
        )
    for field, expected in EXPECTED.items():
        if (got := getattr(info, field)) != expected:
            raise ModelMismatch(f"{path}: {field} must match the monitor: got {got!r}, expected {expected!r}.")
    if info.context not in ([], list(beat.RR_CONTEXT)):
        raise ModelMismatch(f"{path}: context must be [] or {list(beat.RR_CONTEXT)}: got {info.context}.")
    if len(info.classes) < 2 or len(set(info.classes)) != len(info.classes):
        raise ModelMismatch(f"{path}: classes must be two or more, all different: got {info.classes}.")
    try:
        wiring.find_input(session, bool(info.context))
    except ModelMismatch as error:
        raise ModelMismatch(f"{path}, {error}.") from None
    return info


def read_metadata(path: Path, session: Any) -> ModelInfo:
    """Return the description in a loaded model file, unchecked; `ModelMismatch` if there is none."""
    stored = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if stored is None:
        raise ModelMismatch(
            f"{path} has no metadata {METADATA_KEY!r} that describe it. To make it a model of the monitor: "
            f"ecgwatch models adopt {path} --classes normal,abnormal --threshold 0.5"
        )
    try:
        return msgspec.json.decode(stored, type=ModelInfo)
    except msgspec.MsgspecError as error:
        raise ModelMismatch(f"{path}: metadata {METADATA_KEY!r} is unreadable: {error}") from None
