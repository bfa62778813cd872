"""A board of BrainFlow, by `brainflow`: OpenBCI's Cyton and Ganglion, Shimmer3, Callibri, Mentalab Explore and others.

BrainFlow gives microvolts, and the time at which a sample arrived. Radios deliver in bursts, so samples are counted,
and placed by when the last of them came. A constant is taken off, the median of what came first: electrodes bring an
offset that may be larger than what a packet can hold.

Only the boards that BrainFlow makes up and plays from files were tried: no hardware was at hand.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.stream import GAP_S, Chunk, Reopened

log = logging.getLogger(__name__)

PLAYBACK = "PLAYBACK_FILE_BOARD"
SILENT_S, RETRY_S = 5.0, 2.0
"""A board from which nothing comes for so long is opened again, and so often that is tried."""
KEPT = 45_000
"""Samples that BrainFlow keeps until they are read."""


class BrainFlowStream(Reopened):
    """An ECG channel of a board.

    Parameters
    ----------
    board
        Its name as BrainFlow has it, such as "synthetic" or "GANGLION_BOARD", in any case.
    parameters
        Of `BrainFlowInputParams`, such as serial_port, by name.
    channel
        Which of the board's ECG channels, from 0.
    """

    def __init__(self, board: str, parameters: Mapping[str, str], channel: int = 0) -> None:
        super().__init__(f"the board {board}", RETRY_S)
        self._name, self._parameters, self._channel = board, dict(parameters), channel
        self._board: Any = None
        self._rows = 0, 0  # of the ECG and of the times
        self._offset_uv: float | None = None
        self._is_file = False
        self._heard_s = 0.0

    def open(self) -> None:
        """Connect; see `Stream.open`."""
        shim = _load()
        board_id = find_board(self._name, {one.name: one.value for one in shim.BoardIds})
        params = _parameters(shim, self._parameters)
        self._is_file = board_id == shim.BoardIds[PLAYBACK].value
        described_by = params.master_board if self._is_file else board_id
        try:
            about = shim.BoardShim.get_board_descr(described_by)
        except shim.BrainFlowError as error:
            raise ValueError(f"BrainFlow knows nothing of the board {self._name}: {error}.") from None
        self._describe(about)
        board = shim.BoardShim(board_id, params)
        try:
            board.prepare_session()
            board.start_stream(KEPT)
        except shim.BrainFlowError as error:
            _release(board)
            raise ConnectionError(f"The board {self._name} cannot be opened: {error}.") from None
        self._board, self._heard_s = board, time.monotonic()

    def read(self, wait_s: float) -> list[Chunk]:
        """Return what has come; a board from which nothing comes is opened again."""
        if self._board is None:
            self.reopen(wait_s)
            return []
        if not self._board.get_board_data_count():
            time.sleep(wait_s)
        data = self._board.get_board_data()
        if not data.shape[1]:
            if not self._is_file and time.monotonic() - self._heard_s > SILENT_S:
                log.warning("nothing comes from the board %s; it is opened again", self._name)
                self.close()
            return []
        self._heard_s = time.monotonic()
        ecg, times = self._rows
        samples_uv = data[ecg]
        if self._offset_uv is None:
            self._offset_uv = float(np.median(samples_uv))
        return place(data[times], samples_uv - self._offset_uv, self.rate_hz)

    def close(self) -> None:
        """Disconnect."""
        if self._board is not None:
            _release(self._board)
            self._board = None

    def _describe(self, about: Mapping[str, Any]) -> None:
        channels = about.get("ecg_channels", [])
        if not channels:
            raise ValueError(f"The board {about.get('name', self._name)} has no ECG channel.")
        if not 0 <= self._channel < len(channels):
            raise ValueError(f"The board has {len(channels)} ECG channels, from 0: got channel {self._channel}.")
        self._rows = channels[self._channel], about["timestamp_channel"]
        self.rate_hz = float(about["sampling_rate"])
        self.lead = "ECG" if len(channels) == 1 else f"ECG {self._channel}"


def place(arrived_s: npt.NDArray[np.float64], samples_uv: npt.NDArray[np.float64], rate_hz: float) -> list[Chunk]:
    """Cut samples where nothing came for a while; each part ends when its last sample arrived."""
    breaks = np.flatnonzero(np.diff(arrived_s) > GAP_S) + 1
    begins = [0, *breaks.tolist()]
    return [
        Chunk(float(arrived_s[end - 1]) - (end - begin - 1) / rate_hz, samples_uv[begin:end])
        for begin, end in zip(begins, [*begins[1:], arrived_s.size], strict=True)
    ]


def find_board(name: str, boards: Mapping[str, int]) -> int:
    """Return the number of a board by its name, with or without its end "_BOARD"."""
    wanted = name.upper().replace("-", "_")
    for one in (wanted, f"{wanted}_BOARD"):
        if one in boards:
            return boards[one]
    known = ", ".join(sorted(one.removesuffix("_BOARD").lower() for one in boards if one != "NO_BOARD"))
    raise ValueError(f"Board: got {name!r}, expected one of {known}.")


def _parameters(shim: Any, given: Mapping[str, str]) -> Any:
    params = shim.BrainFlowInputParams()
    known = vars(params)
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"Parameter of a board: got {name!r}, expected one of {', '.join(sorted(known))}.")
        if name == "master_board":
            boards = {one.name: one.value for one in shim.BoardIds}
            params.master_board = find_board(value, boards)
            continue
        try:
            setattr(params, name, int(value) if isinstance(known[name], int) else value)
        except ValueError:
            raise ValueError(f"Parameter {name} of a board: got {value!r}, expected a whole number.") from None
    return params


def _release(board: Any) -> None:
    if board.is_prepared():
        board.release_session()


def _load() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, by which it finds its library on Python 3.11
            from brainflow import board_shim

            board_shim.BoardShim.disable_board_logger()
    except ImportError as error:
        text = "Boards of BrainFlow need the package brainflow: pip install 'ecgwatch[brainflow]'."
        if error.name == "pkg_resources":
            text = "On Python 3.11 BrainFlow needs an older setuptools: pip install 'setuptools<81'."
        raise ValueError(text) from None
    return board_shim
