"""How the loops over samples are compiled, and those of them that several rooms share.

numba keeps what it has compiled beside each module, and compiles again when that module changes, but not when another
one does from which a function came. So all of it is dropped when any module with such loops has changed. A constant
that comes from a module without any is not noticed: after a change of one, delete the ``__pycache__`` folders.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from numba import njit

STAMP = "loops.sha256"
"""File beside what was compiled, with the digest of what it was compiled from."""


def drop_stale(package: Path) -> None:
    """Delete what numba has compiled in a package if any of its modules with compiled loops has changed since.

    Where that cannot be written, numba keeps nothing either, or in a folder of its own.
    """
    digest = hashlib.sha256()
    for module in sorted(package.rglob("*.py")):
        text = module.read_bytes()
        if b"ecg.kernels" in text or module == Path(__file__):
            digest.update(text)
    stamp = package / "__pycache__" / STAMP
    with contextlib.suppress(OSError):
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        for compiled in package.rglob("__pycache__/*.nb[ci]"):
            compiled.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest.hexdigest())


drop_stale(Path(__file__).parents[1])

compiled = njit(cache=True, fastmath={"reassoc", "contract"})
"""Sums may be reordered to use vector instructions; their order depends on their length alone."""
compiled_exactly = njit(cache=True)
"""Every operation as it is written, for what must equal numpy's to the bit."""


@compiled_exactly
def copy(source: Any, target: Any) -> None:
    """To the begin of a target that does not overlap: an eighth of the time of an assignment to a slice."""
    for i in range(source.size):
        target[i] = source[i]


@compiled
def sort(values: Any) -> None:
    """In place, by insertion: the fastest way for up to a few dozen."""
    for i in range(1, values.size):
        value, k = values[i], i
        while k > 0 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value


@compiled
def median(values: Any) -> float:
    """Of a few values."""
    ordered = values.copy()
    sort(ordered)
    return float(ordered[ordered.size // 2] + ordered[(ordered.size - 1) // 2]) / 2
