"""Lines of numbers from a serial port, by `pyserial`: what a microcontroller prints of an AD8232 and its kin.

A line is one sample; of several numbers in it one is chosen. A line without a number, such as the "!" that many
sketches print while an electrode is off, is a missing sample. Lines carry no time: samples are counted, and placed by
when they arrive.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import numpy as np

from gateway.stream import Chunk, Reopened

log = logging.getLogger(__name__)

RETRY_S = 1.0
MOST_BYTES = 1 << 16
_number = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")


class SerialStream(Reopened):
    """A serial port.

    Parameters
    ----------
    port
        Its name, such as /dev/ttyUSB0, or a URL of pyserial's.
    rate_hz
        Lines a second.
    resolution_uv
        Microvolts in one of the numbers.
    baud
        Speed of the port.
    column
        Which number of a line, from 0.
    lead
        Name of the lead.
    """

    def __init__(
        self,
        port: str,
        rate_hz: float,
        resolution_uv: float,
        *,
        baud: int = 115_200,
        column: int = 0,
        lead: str = "ECG",
    ) -> None:
        self.rate_hz, self.resolution_uv, self.lead = rate_hz, resolution_uv, lead
        super().__init__(f"the port {port}", RETRY_S)
        self._port_name, self._baud, self._column = port, baud, column
        self._port: Any = None
        self._rest = b""
        self._is_first = True

    def open(self) -> None:
        """Open the port; see `Stream.open`."""
        try:
            import serial
        except ImportError:
            raise ValueError("Serial ports need the package pyserial: pip install 'ecgwatch[serial]'.") from None
        try:
            self._port = serial.serial_for_url(self._port_name, self._baud, timeout=0.05)
        except (serial.SerialException, OSError, ValueError) as error:
            raise ConnectionError(f"The port {self._port_name} cannot be opened: {error}.") from None
        self._rest, self._is_first = b"", True

    def read(self, wait_s: float) -> list[Chunk]:
        """Return the samples of the lines that are complete; a port that went away is opened again."""
        if self._port is None:
            self.reopen(wait_s)
            return []
        try:
            came = self._port.read(max(1, min(MOST_BYTES, self._port.in_waiting)))
        except OSError as error:  # pyserial's exceptions are such
            log.warning("lost the port %s: %s", self._port_name, error)
            self.close()
            return []
        *lines, self._rest = (self._rest + came).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            self._rest = b""
        if lines and self._is_first:  # it may be the second half of a line
            lines, self._is_first = lines[1:], False
        if not lines:
            return []
        values = np.array([parse_line(line, self._column) for line in lines])
        return [Chunk(time.time() - values.size / self.rate_hz, values * self.resolution_uv)]

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()
            self._port = None


def parse_line(line: bytes, column: int) -> float:
    """Value of a number in a line; NaN if there is no such number."""
    numbers = _number.findall(line.decode("ascii", "replace"))
    return float(numbers[column].replace(",", ".")) if len(numbers) > column else float("nan")
