"""Judges an uploaded file in a process of its own: ``python -m monitor.page.trial FILE MODEL``; the result is JSON.

It runs below `monitor.page.limited`.

Where the model looked is found by occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks",
2014): a part of the beat is replaced by a straight line; what that changes in the model's answer is its worth.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import beat
from monitor.classify import Classifier, answered

MOST_SHOWN = 1000
"""Beats whose waveform is returned ..."""
MOST_EXPLAINED = 200
"""... and of those, where the model looked."""
OCCLUDED, STEP = 15, 5
"""Samples that are covered at a time (0.12 s), and from one place to the next."""


def judge(file: Path, model: str) -> dict[str, Any]:
    """Return the verdict on each row of a CSV file of beats.

    Raises
    ------
    ValueError
        The file is none, or the model cannot judge single beats.
    """
    classifier = Classifier(model, "cpu")
    info = classifier.info
    if classifier.needs_rr:
        raise ValueError(
            f"The model {info.name} needs to know when the beats before and after came, which a file of single beats "
            "does not say. Choose another model."
        )
    windows, labels = beat.read_windows(file)
    probabilities = classifier.probabilities(windows)
    abnormal, sure = classifier.abnormal(probabilities), answered(probabilities)
    names = classifier.labels(probabilities)
    shown = windows[:MOST_SHOWN]
    return {
        "model": info.name,
        "threshold": info.threshold,
        "classes": info.classes,
        "rate_hz": info.rate_hz,
        "probabilities": [round(p, 4) if known else None for p, known in zip(abnormal.tolist(), sure, strict=True)],
        "names": [name if known else None for name, known in zip(names, sure, strict=True)],
        "labels": None if labels is None else labels.tolist(),
        "waveforms": _pack(shown),
        "lengths": [int(np.flatnonzero(window)[-1]) + 1 if window.any() else 0 for window in shown],
        "attention": [occlude(classifier, window).tolist() for window in windows[:MOST_EXPLAINED]],
        "step": STEP,
    }


def occlude(classifier: Classifier, window: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return how much the probability of being abnormal falls where a part of a beat is covered.

    Parameters
    ----------
    window
        (187,) float32.

    Returns
    -------
    ndarray
        (places,) float64, one every `STEP` samples: positive where what was covered spoke for abnormal.
    """
    starts = np.arange(0, beat.LENGTH - OCCLUDED + 1, STEP)
    covered = np.repeat(window[None], len(starts) + 1, axis=0)
    for row, start in enumerate(starts):
        end = start + OCCLUDED
        covered[row, start:end] = np.linspace(window[start], window[end - 1], OCCLUDED)
    abnormal = classifier.abnormal(classifier.probabilities(covered)).astype(np.float64)
    return np.asarray(np.round(abnormal[-1] - abnormal[:-1], 4), np.float64)


def _pack(windows: npt.NDArray[np.float32]) -> str:
    """Waveforms as bytes, 0 to 255 for 0 to 1, in base64."""
    return base64.b64encode((windows * 255).round().astype(np.uint8).tobytes()).decode()


def main() -> int:
    """Print the result, or the error that a person should read."""
    file, model = Path(sys.argv[1]), sys.argv[2]
    try:
        print(json.dumps(judge(file, model)))
    except MemoryError:
        print(json.dumps({"error": "The file is too large once it is unpacked."}))
    except (ValueError, OSError) as error:
        print(json.dumps({"error": str(error).replace(f"{file}, ", "").replace(f"{file}: ", "")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
