"""A small statistical model of PTB heartbeats, for machines without the PTB files.

Beats are stretched to a common period, so that the next R peak is at phase 1; for each class the model holds the mean
shape, a few principal components, and the distribution of the scores and of the period. A virtual patient is one draw
from that distribution; its beats are small variations of it, as large as those between a beat and its nearest
neighbour in the files. No patient's beat is stored.

Knows nothing about streams: it returns `Beats`, as if they had been loaded from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor import beat
from simulator.beats import LABELS, Beats, Label, next_r_peak

MODEL_FILE = Path(__file__).parent / "beat_model.npz"
"""The model shipped with the project."""
PHASES = 160
"""Number of points of a shape."""
PHASE_STOP = 1.25
"""A shape runs from the R peak (phase 0) past the next one (phase 1) to here."""
COMPONENTS = 8
"""Principal components of a class."""
MAX_DEVIATION = 1.0
"""Maximum distance of a virtual patient from the mean in each component, in standard deviations."""
PERIODS = (60, 140)
"""Shortest and longest period of a drawn beat, samples (125 and 54 beats per minute)."""
FORMAT = 1

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassModel:
    """Distribution of one class of beats."""

    mean: Array
    """(160,) mean shape."""
    components: Array
    """(8, 160) principal components, unit length."""
    patients: Array
    """(9,) standard deviation of the scores and of the log period between virtual patients."""
    period: Array
    """(9,) regression of the log period on the scores, then its mean."""
    beats: Array
    """(8,) standard deviation of the scores from beat to beat."""


class BeatModel:
    """A generator of heartbeats.

    Parameters
    ----------
    classes
        Distribution of each class.
    """

    def __init__(self, classes: dict[Label, ClassModel]) -> None:
        self.classes = classes

    @classmethod
    def load(cls, path: Path = MODEL_FILE) -> BeatModel:
        """Load a model.

        Raises
        ------
        ValueError
            The file is missing or does not hold such a model.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) != FORMAT:
                    raise ValueError(f"got format {int(file['format'])}, expected {FORMAT}")
                fields = ClassModel.__dataclass_fields__
                classes = {
                    label: ClassModel(**{name: file[f"{label}_{name}"].astype(np.float64) for name in fields})
                    for label in LABELS
                }
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a model of beats: {error}.") from None
        return cls(classes)

    def save(self, path: Path) -> None:
        """Write the model to a .npz file."""
        arrays = {
            f"{label}_{name}": getattr(model, name).astype(np.float32)
            for label, model in self.classes.items()
            for name in ClassModel.__dataclass_fields__
        }
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, format=np.array(FORMAT), **arrays)

    def draw(self, label: Label, count: int, seed: int, period: int | None = None) -> Beats:
        """Draw the beats of one virtual patient.

        Parameters
        ----------
        label
            Class of the patient's beats.
        count
            Number of beats.
        seed
            The same seed gives the same patient and beats.
        period
            Median period of the beats, samples at 125 Hz; drawn as well if None.
        """
        rng = np.random.default_rng((seed, LABELS.index(label)))
        model = self.classes[label]
        normal = np.clip(rng.standard_normal(COMPONENTS + 1), -MAX_DEVIATION, MAX_DEVIATION) * model.patients
        patient, log_period = normal[:-1], normal[:-1] @ model.period[:-1] + normal[-1] + model.period[-1]
        if period is None:
            period = round(float(np.clip(np.exp(log_period), *PERIODS)))
        length = min(beat.window_length(period), beat.LENGTH)
        scores = patient + rng.standard_normal((count, COMPONENTS)) * model.beats
        shapes = model.mean + scores @ model.components  # (count, 160)
        periods = period + np.clip(np.rint(rng.standard_normal(count) * period * 0.01), -3, 3)
        phases = np.linspace(0, PHASE_STOP, PHASES)
        windows = [
            beat.fit_window(np.interp(np.arange(length) / own, phases, shape))
            for own, shape in zip(periods, shapes, strict=True)
        ]
        sources = tuple(f"model:{label}:{seed}:{number}" for number in range(count))
        return Beats(np.array(windows), (label,) * count, sources, np.full(count, length))


def fit_model(beats: Beats) -> BeatModel:
    """Fit a model to the beats of both classes."""
    return BeatModel({label: _fit_class(beats.where(label)) for label in LABELS})


def _fit_class(beats: Beats) -> ClassModel:
    if len(beats) < 10 * COMPONENTS:
        raise ValueError(f"Too few beats to fit a model: got {len(beats)} of a class, expected {10 * COMPONENTS}.")
    pairs = zip(beats.windows, beats.lengths, strict=True)
    shapes, periods = map(np.array, zip(*(_normalise(window, int(length)) for window, length in pairs), strict=True))
    mean = shapes.mean(axis=0)
    _, _, components = np.linalg.svd(shapes - mean, full_matrices=False)
    components = components[:COMPONENTS]
    scores = (shapes - mean) @ components.T  # (n, 8)
    design = np.column_stack([scores, np.ones(len(scores))])
    period, *_ = np.linalg.lstsq(design, np.log(periods), rcond=None)
    residual = float(np.std(np.log(periods) - design @ period))
    patients = np.append(scores.std(axis=0), residual)
    return ClassModel(mean, components, patients, period, _beat_to_beat_spread(scores))


def _normalise(window: npt.NDArray[np.float32], length: int) -> tuple[Array, int]:
    """Return a beat's closed shape at 160 phases of its period, and the period in samples.

    Where a window ends before phase 1.25, the shape continues with the beginning of the beat.
    """
    period = next_r_peak(window, length)
    phases = np.linspace(0, PHASE_STOP, PHASES)
    signal = window[:length].astype(np.float64)
    shape = np.interp(phases * period, np.arange(length), signal)
    head = np.interp((phases - 1) * period, np.arange(length), signal)  # one period earlier
    shape = np.where(phases * period > length - 1, head + shape[-1] - head[-1], shape)
    return _close(shape), period


def _close(shape: Array) -> Array:
    """Make the part after phase 1 equal to the beginning, as in a steady rhythm.

    Half the difference is added to the beginning and half subtracted from the end; the correction fades out over a
    fifth of a period further inside.
    """
    phases = np.linspace(0, PHASE_STOP, PHASES)
    again = np.interp(np.clip(phases + 1, None, PHASE_STOP), phases, shape)  # one period later
    half = (again - shape) / 2
    overlap = PHASE_STOP - 1
    ahead = np.interp(phases, [overlap, overlap + 0.2], [1.0, 0.0])
    beginning = np.where(phases <= overlap, half, np.interp(overlap, phases, half)) * ahead
    behind = np.interp(phases, [0.8, 1.0], [0.0, 1.0])
    end = np.interp(np.clip(phases - 1, 0, None), phases, half) * behind
    closed: Array = shape + beginning - end
    return closed


def _beat_to_beat_spread(scores: Array) -> Array:
    """Standard deviation of one beat around its patient: from each beat's difference to its nearest neighbour."""
    distances = ((scores[:, None, :] - scores[None, :, :]) ** 2).sum(axis=2) if len(scores) <= 1000 else None
    if distances is None:
        rows = np.random.default_rng(0).permutation(len(scores))[:1000]
        distances = ((scores[rows, None, :] - scores[None, rows, :]) ** 2).sum(axis=2)
        scores = scores[rows]
    np.fill_diagonal(distances, np.inf)
    differences = scores - scores[distances.argmin(axis=1)]
    spread: Array = np.median(np.abs(differences), axis=0) / 0.6745 / np.sqrt(2)
    return spread
