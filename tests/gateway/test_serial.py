"""A serial port, as a pseudo terminal of this machine."""

from __future__ import annotations

import os
import pty
import time
import tty

import numpy as np
import pytest

from gateway.serial_port import SerialStream, parse_line


@pytest.mark.parametrize(
    ("line", "column", "value"),
    [
        (b"512\r", 0, 512.0), (b"512,7\r", 0, 512.7), (b"-3.5", 0, -3.5), (b"12 345 6", 1, 345.0),
        (b"t:12;ecg:345", 1, 345.0),
        (b"!", 0, np.nan), (b"", 0, np.nan), (b"\xff\xfe", 0, np.nan), (b"12", 3, np.nan), (b"1e3", 0, 1000.0),
    ],
)  # fmt: skip
def test_line_is_a_number_or_a_missing_sample(line: bytes, column: int, value: float) -> None:
    np.testing.assert_equal(parse_line(line, column), value)


def _read(stream: SerialStream, count: int) -> list[float]:
    values: list[float] = []
    until_s = time.monotonic() + 10
    while len(values) < count and time.monotonic() < until_s:
        for chunk in stream.read(0.05):
            values += chunk.samples_uv.tolist()
    return values


def test_lines_become_samples_and_the_first_half_line_none() -> None:
    device, port = pty.openpty()
    tty.setraw(device)
    tty.setraw(port)
    stream = SerialStream(os.ttyname(port), 250.0, 2.0)
    stream.open()
    os.write(device, b"99\n1\n2\n!\n")
    os.write(device, b"3")
    time.sleep(0.1)
    os.write(device, b"4\n5\n")
    np.testing.assert_equal(_read(stream, 5), [2.0, 4.0, np.nan, 68.0, 10.0])
    stream.close()
    os.close(device)
    os.close(port)


def test_port_that_goes_away_is_waited_for_and_one_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectionError, match=r"The port /dev/nothing cannot be opened"):
        SerialStream("/dev/nothing", 250.0, 1.0).open()
    device, port = pty.openpty()
    stream = SerialStream(os.ttyname(port), 250.0, 1.0)
    stream.open()
    os.close(port)
    os.close(device)
    for _ in range(5):
        assert stream.read(0.01) == []
    stream.close()
