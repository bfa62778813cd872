"""A checksum before each state: one that is not as it was would lead the compiled loops astray."""

from __future__ import annotations

import zlib


def seal(state: bytes) -> bytes:
    """Put a checksum before a state."""
    return zlib.crc32(state).to_bytes(4, "big") + state


def unseal(sealed: bytes) -> bytes | None:
    """Return the state, or None if it is not as it was."""
    state = sealed[4:]
    return state if seal(state) == sealed else None
