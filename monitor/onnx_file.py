"""The parts of an ONNX file that must be read and written without the package onnx: metadata, and where weights lie.

An ONNX file is a protocol buffer message, `ModelProto`: a row of fields, each with a number. Fields of repeated
messages may be appended to a file, so metadata need nothing but bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of protocol buffer fields."""
GRAPH, METADATA = 7, 14
"""Fields of `ModelProto`: its graph, and one entry of its metadata."""
KEY, VALUE = 1, 2
"""Fields of an entry (`StringStringEntryProto`)."""
INITIALIZER, EXTERNAL = 5, 13
"""Fields of `GraphProto` and of `TensorProto`: a tensor, and one entry of where its weights lie."""


def list_external(content: bytes) -> list[str]:
    """Names of the files beside a model file that hold weights of it, in order."""
    found: set[str] = set()
    for graph in _messages(content, GRAPH):
        for tensor in _messages(graph, INITIALIZER):
            entries = dict(_entry(entry) for entry in _messages(tensor, EXTERNAL))
            if b"location" in entries:
                found.add(entries[b"location"].decode())
    return sorted(found)


def set_metadata(content: bytes, key: str, value: str) -> bytes:
    """Return a model file with one entry of its metadata set."""
    kept = [
        content[begin:end]
        for number, begin, end, payload in _fields(content)
        if number != METADATA or _entry(payload)[0] != key.encode()
    ]
    entry = _write(KEY, key.encode()) + _write(VALUE, value.encode())
    return b"".join([*kept, _write(METADATA, entry)])


def external_files(path: Path, content: bytes) -> list[Path]:
    """Files that hold weights of a model file; nothing is raised where it is no ONNX file."""
    try:
        return [path.parent / name for name in list_external(content)]
    except (ValueError, IndexError):
        return []


def _messages(content: bytes, wanted: int) -> Iterator[bytes]:
    return (payload for number, _, _, payload in _fields(content) if number == wanted)


def _entry(content: bytes) -> tuple[bytes, bytes]:
    """Key and value of an entry."""
    parts = {number: payload for number, _, _, payload in _fields(content)}
    return parts.get(KEY, b""), parts.get(VALUE, b"")


def _fields(content: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Number, begin, end and payload of each field of a message.

    Raises
    ------
    ValueError, IndexError
        It is no message.
    """
    at = 0
    while at < len(content):
        begin = at
        tag, at = _varint(content, at)
        kind = tag & 7
        start = at
        if kind == VARINT:
            _, at = _varint(content, at)
        elif kind == BYTES:
            size, start = _varint(content, at)
            at = start + size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"got a field of kind {kind}, expected 0, 1, 2 or 5")
        if at > len(content):
            raise ValueError("got a field that passes the end")
        yield tag >> 3, begin, at, content[start:at]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Number at a place, seven bits a byte, lowest first; and the place after it."""
    value = shift = 0
    while True:
        value |= (content[at] & 0x7F) << shift
        at += 1
        if content[at - 1] < 0x80:
            return value, at
        shift += 7


def _write(number: int, payload: bytes) -> bytes:
    return _write_varint(number << 3 | BYTES) + _write_varint(len(payload)) + payload


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
