"""Samples <-> bytes: lossless, about half a byte a sample on real ECG.

FLAC by `soundfile` (libsndfile), as WFDB's signal formats 508 to 524 use it: linear prediction, and Rice codes for what
is left. Before that, steps that all samples have in common are divided out, since many devices send 5 uV as five steps
of 1 uV; and missing samples are taken out, since each would cost as much as a hundred others.
"""

from __future__ import annotations

import io
import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.wire import NO_SAMPLE

Steps = npt.NDArray[np.int16]
RATE_HZ = 8000
"""What the FLAC header says; the rate is kept beside it."""
LEAST = 16
"""Fewer samples stay as they are."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """Samples, compressed."""

    samples: int
    offset: int
    """The first one."""
    step: int
    """What all differences from it are multiples of."""
    missing: list[int]
    """Begins and lengths of the runs of `NO_SAMPLE`, alternating."""
    flac: bytes
    """Of the others, less offset, in steps; int16 where they are few."""


def pack(samples: Steps) -> Packed:
    """Compress samples.

    Raises
    ------
    ValueError
        `soundfile` is not installed.
    """
    is_missing = samples == NO_SAMPLE
    known = samples[~is_missing].astype(np.int64)
    offset = int(known[0]) if known.size else 0
    step = math.gcd(*np.unique(known - offset).tolist()) or 1 if known.size else 1
    reduced = (known - offset) // step
    fits = known.size >= LEAST and reduced.min() >= -32768 and reduced.max() <= 32767
    if not fits:
        offset, step, reduced = 0, 1, known
    content = _to_flac(reduced.astype(np.int16)) if known.size >= LEAST else reduced.astype("<i2").tobytes()
    return Packed(samples.size, offset, step, _runs(is_missing), content)


def unpack(packed: Packed) -> Steps:
    """Return samples as they were."""
    lengths = packed.missing[1::2]
    count = packed.samples - sum(lengths)
    reduced = _from_flac(packed.flac) if count >= LEAST else np.frombuffer(packed.flac, "<i2")
    if reduced.size != count:
        raise ValueError(f"got {reduced.size} samples, expected {count}")
    is_missing = np.zeros(packed.samples, bool)
    for begin, length in zip(packed.missing[::2], lengths, strict=True):
        is_missing[begin : begin + length] = True
    samples = np.full(packed.samples, NO_SAMPLE, np.int16)
    samples[~is_missing] = reduced.astype(np.int64) * packed.step + packed.offset
    return samples


def require() -> None:
    """Raise `ValueError` if what packs and unpacks is not installed."""
    _soundfile()


def _runs(is_missing: npt.NDArray[np.bool_]) -> list[int]:
    edges = np.flatnonzero(np.diff(is_missing, prepend=False, append=False))
    begins, ends = edges[::2], edges[1::2]
    return [int(one) for pair in zip(begins, ends - begins, strict=True) for one in pair]


def _to_flac(samples: Steps) -> bytes:
    file = io.BytesIO()
    _soundfile().write(file, samples, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.getvalue()


def _from_flac(content: bytes) -> Steps:
    soundfile = _soundfile()
    try:
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"got samples that cannot be unpacked: {error}") from None
    return np.asarray(samples, np.int16)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: without libsndfile
        raise ValueError("The record needs the package soundfile: pip install 'ecgwatch[record]'.") from None
    return soundfile
