"""Boards that BrainFlow makes up, and plays from a file: what it gives becomes the samples that the wire has."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.brainflow_board import BrainFlowStream, find_board, place
from gateway.stream import GAP_S, Chunk, Packetizer
from tests.monitor.synthetic_ecg import beat_times, make_ecg

if os.environ.get("CI") != "true":
    pytest.importorskip("brainflow", reason="pip install 'ecgwatch[brainflow]'")

RATE_HZ, ROWS, ECG, TIMES = 250.0, 32, 1, 30
"""Of the board that BrainFlow makes up."""


def _read(stream: BrainFlowStream, count: int) -> list[Chunk]:
    stream.open()
    chunks: list[Chunk] = []
    until_s = time.monotonic() + 30
    while sum(chunk.samples_uv.size for chunk in chunks) < count and time.monotonic() < until_s:
        chunks += stream.read(0.05)
    stream.close()
    return chunks


def test_made_up_board_streams_at_its_rate() -> None:
    began_s = time.time()
    chunks = _read(BrainFlowStream("synthetic", {}), 500)
    packets = Packetizer(RATE_HZ, 125, 1.0)
    made = [packet for chunk in chunks for packet in packets.add(chunk)]
    assert len(made) >= 4
    assert [packet.start_s for packet in made] == sorted(packet.start_s for packet in made)
    assert began_s - 0.5 < made[0].start_s < began_s + 20
    assert np.ptp(np.concatenate([packet.samples for packet in made])) > 10


def test_ecg_in_a_file_comes_through_sample_by_sample(tmp_path: Path) -> None:
    from brainflow.data_filter import DataFilter

    ecg = make_ecg(beat_times(3.0, 0.8), 3.0, RATE_HZ).astype(np.float64)
    data = np.zeros((ROWS, ecg.size))
    data[ECG], data[TIMES] = ecg + 150_000.0, 1_700_000_000.0 + np.arange(ecg.size) / RATE_HZ  # 150 mV of an electrode
    DataFilter.write_file(data, str(tmp_path / "board.csv"), "w")
    parameters = {"file": str(tmp_path / "board.csv"), "master_board": "synthetic"}
    got = np.concatenate(
        [chunk.samples_uv for chunk in _read(BrainFlowStream("playback_file", parameters), ecg.size - 5)]
    )
    np.testing.assert_allclose(np.diff(got), np.diff(ecg[: got.size]), atol=1e-6)
    assert np.abs(got).max() < 5000


def test_bursts_are_placed_by_when_the_last_sample_came_and_cut_where_nothing_came() -> None:
    arrived_s = np.array([1.0, 1.0, 1.0, 1.0, 2.0 + GAP_S, 2.0 + GAP_S])
    first, second = place(arrived_s, np.arange(6.0), 100.0)
    assert [first.start_s, second.start_s] == pytest.approx([0.97, 1.99 + GAP_S])
    assert (first.samples_uv.tolist(), second.samples_uv.tolist()) == ([0, 1, 2, 3], [4, 5])


@pytest.mark.parametrize(
    ("board", "parameters", "channel", "message"),
    [
        ("syntetic", {}, 0, r"Board: got 'syntetic', expected one of .*synthetic"),
        ("synthetic", {"port": "x"}, 0, r"Parameter of a board: got 'port', expected one of .*serial_port"),
        ("synthetic", {"ip_port": "x"}, 0, r"Parameter ip_port of a board: got 'x', expected a whole number"),
        ("synthetic", {}, 16, r"The board has 16 ECG channels, from 0: got channel 16"),
        ("muse_2", {}, 0, r"has no ECG channel"),
    ],
)
def test_what_cannot_be_opened_says_what_was_expected(
    board: str, parameters: dict[str, str], channel: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BrainFlowStream(board, parameters, channel).open()


def test_board_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectionError, match="The board cyton cannot be opened"):
        BrainFlowStream("cyton", {"serial_port": "/dev/nothing"}).open()


def test_boards_are_found_by_any_form_of_their_name() -> None:
    boards = {"GANGLION_BOARD": 1, "MUSE_2_BOARD": 38}
    assert [find_board(name, boards) for name in ("ganglion", "GANGLION_BOARD", "muse-2")] == [1, 1, 38]
