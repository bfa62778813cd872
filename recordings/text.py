"""Text files as other people write them: encodings, decimal commas. Knows nothing of what stands in them."""

from __future__ import annotations

from pathlib import Path

MOST_BYTES = 2 << 30
"""Largest text file that is read."""


def read_text(path: Path) -> str:
    """Contents of a text file in UTF-8, UTF-16 with its mark, or Latin-1.

    Raises
    ------
    ValueError
        It is empty, too large, or no text.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"got {size} bytes of text, expected at most {MOST_BYTES}: cut it into parts")
    text = decode(path.read_bytes())
    if "\0" in text:
        raise ValueError("got bytes that are no text")
    if not text.strip():
        raise ValueError("got an empty file")
    return text


def decode(content: bytes) -> str:
    """Text of bytes; Latin-1 where they are nothing else."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def number(word: str) -> float:
    """Value of a number with a point or a comma; raise `ValueError` if it is none."""
    return float(word.strip().strip('"').replace("\u2212", "-").replace(",", "."))
