"""Beats joined into continuous signals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import beat
from monitor.classify import Classifier
from simulator.beat_model import BeatModel
from simulator.beats import LABELS, Label, load_beats
from simulator.stream import Chain, Played, Signal, Stretch, cut, episodes, join_beats, resample

RATES = [100.0, 125.0, 130.0, 130.06, 250.0, 360.0, 512.617, 1000.0]


def drawn(labels: Sequence[Label], seed: int) -> Iterator[Stretch]:
    model = BeatModel.load()
    chains = {label: Chain(model.draw(label, 32, seed, period=100)) for label in labels}
    return join_beats(chains, episodes(labels, seed, 10, 20), seed)


def collect(stretches: Iterator[Stretch], count: int) -> tuple[Signal, list[Played]]:
    parts = list(islice(stretches, count))
    return np.concatenate([part.samples_uv for part in parts]), [played for part in parts for played in part.beats]


def windows_of(signal: Signal, played: Sequence[Played]) -> beat.Windows:
    """Cut a 125 Hz signal at the known R peaks, by the rules of `monitor.beat`."""
    times = np.array([one.r_peak_s for one in played])
    windows = []
    for number in range(2, len(played) - 3):
        recent = times[(times >= times[number] - beat.MEDIAN_RR_OVER_S) & (times <= times[number + 1])]
        first = round(times[number] * beat.RATE_HZ)
        windows.append(
            beat.fit_window(
                signal[first : first + beat.window_length(float(np.median(np.diff(recent))) * beat.RATE_HZ)]
            )
        )
    return np.array(windows)


@pytest.mark.parametrize("labels", [("normal",), ("abnormal",), LABELS])
def test_seams_are_no_steeper_than_the_beats_themselves(labels: tuple[Label, ...]) -> None:
    for seed in range(6):
        parts = list(islice(drawn(labels, seed), 60))
        inside = max(np.abs(np.diff(part.samples_uv)).max() for part in parts)
        seams = [abs(after.samples_uv[0] - before.samples_uv[-1]) for before, after in pairwise(parts)]
        assert max(seams) <= 1.1 * inside


def test_amplitude_stays_bounded_for_hours() -> None:
    signal, _ = collect(drawn(LABELS, 3), 4000)
    assert np.abs(signal).max() < 5000
    assert abs(np.median(signal)) < 500


@pytest.mark.parametrize("rate_hz", RATES)
def test_r_peaks_of_the_truth_are_r_peaks_of_the_signal(rate_hz: float) -> None:
    signal, played = collect(resample(drawn(("normal",), 1), beat.RATE_HZ, rate_hz), 40)
    for one in played[1:-2]:
        near = np.arange(round((one.r_peak_s - 0.1) * rate_hz), round((one.r_peak_s + 0.1) * rate_hz))
        peak = near[signal[near].argmax()]
        assert abs(peak / rate_hz - one.r_peak_s) <= 0.5 / beat.RATE_HZ + 1 / rate_hz


@pytest.mark.parametrize("rate_hz", RATES)
def test_resampling_has_no_edges_and_preserves_the_band(rate_hz: float) -> None:
    times = np.arange(2000) / beat.RATE_HZ
    tone = np.sin(2 * np.pi * 20 * times)
    pieces = (Stretch(part) for part in np.array_split(tone, 37))
    signal, _ = collect(resample(pieces, beat.RATE_HZ, rate_hz), 100)
    wanted = np.sin(2 * np.pi * 20 * np.arange(signal.size) / rate_hz)
    inner = slice(round(rate_hz), -round(rate_hz))
    assert np.abs(signal - wanted)[inner].max() < 0.01
    assert signal.size == round(2000 * rate_hz / beat.RATE_HZ + 0.499)


def test_upsampling_preserves_the_given_samples() -> None:
    given_signal, _ = collect(drawn(("normal",), 2), 20)
    signal, _ = collect(resample(drawn(("normal",), 2), beat.RATE_HZ, 250.0), 20)
    assert np.abs(signal[::2] - given_signal[: signal[::2].size]).max() < 1e-6


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8), rate_hz=st.sampled_from(RATES))
def test_any_block_size_gives_the_same_stream(sizes: list[int], rate_hz: float) -> None:
    signal, beats = collect(drawn(("normal",), 5), 8)
    whole, times = collect(resample(iter([Stretch(signal, tuple(beats))]), beat.RATE_HZ, rate_hz), 2)
    cuts = np.cumsum(list(islice(cycle(sizes), signal.size)))
    pieces = np.split(signal, cuts[cuts < signal.size])
    ends = np.cumsum([piece.size for piece in pieces]) / beat.RATE_HZ
    starts = [0.0, *ends[:-1]]
    blocks = (
        Stretch(piece, tuple(one for one in beats if start <= one.r_peak_s < end))
        for piece, start, end in zip(pieces, starts, ends, strict=True)
    )
    again, times_again = collect(resample(blocks, beat.RATE_HZ, rate_hz), 10_000)
    assert np.array_equal(again, whole)
    assert [one.r_peak_s for one in times_again] == [one.r_peak_s for one in times]


@given(size=st.integers(1, 2000))
def test_cutting_keeps_every_sample_and_every_beat_in_position(size: int) -> None:
    whole, beats = collect(drawn(("normal",), 4), 8)
    parts = list(cut(islice(drawn(("normal",), 4), 8), size, beat.RATE_HZ))
    assert all(part.samples_uv.size == size for part in parts[:-1])
    assert np.array_equal(np.concatenate([part.samples_uv for part in parts]), whole)
    assert [one.source for part in parts for one in part.beats] == [one.source for one in beats]
    for number, part in enumerate(parts):
        for one in part.beats:
            assert number * size <= round(one.r_peak_s * beat.RATE_HZ) < (number + 1) * size


def test_same_seed_gives_the_same_stream() -> None:
    first, again, other = (collect(drawn(LABELS, seed), 30)[0] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:500], other[:500])


def test_missing_samples_stay_missing_and_affect_nothing_else() -> None:
    signal = np.zeros(1000)
    signal[400:500] = np.nan
    resampled, _ = collect(resample(iter([Stretch(signal)]), 125.0, 250.0), 2)
    assert np.isnan(resampled[801:998]).all()
    assert not np.isnan(resampled[:798]).any()
    assert not np.isnan(resampled[1002:]).any()


def test_episodes_alternate() -> None:
    labels = list(islice(episodes(LABELS, seed=0, shortest=3, longest=5), 40))
    changes = np.flatnonzero([a != b for a, b in pairwise(labels)])
    assert labels[0] == "normal"
    assert set(np.diff(changes)) <= {3, 4, 5}


def test_chain_without_beats_is_refused() -> None:
    beats = BeatModel.load().draw("normal", 1, seed=0)
    with pytest.raises(ValueError, match="needs at least one beat"):
        Chain(type(beats)(beats.windows[:0], (), (), beats.lengths[:0]))


def test_pool_of_one_beat_repeats_it() -> None:
    chain = Chain(BeatModel.load().draw("normal", 1, seed=0))
    _, played = collect(join_beats({"normal": chain}, episodes(["normal"], 0), 0), 5)
    assert len({one.source for one in played}) == 1


def agreement(streams: Sequence[Iterator[Stretch]], count: int) -> float:
    """Fraction of beats with the same verdict before and after streaming."""
    classifier = Classifier()
    before, after = [], []
    for stretches in streams:
        signal, played = collect(stretches, count)
        windows = windows_of(signal, played)
        after.append(windows)
        before.append(np.array([one.window for one in played[2 : 2 + len(windows)]]))
    verdicts = [
        classifier.abnormal(classifier.probabilities(np.concatenate(part))) >= classifier.info.threshold
        for part in (before, after)
    ]
    return float(np.mean(verdicts[0] == verdicts[1]))


def resample_there_and_back(stretches: Iterator[Stretch], rate_hz: float) -> Iterator[Stretch]:
    return resample(resample(stretches, beat.RATE_HZ, rate_hz), rate_hz, beat.RATE_HZ)


@pytest.mark.parametrize("rate_hz", [130.0, 250.0, 512.617])
@pytest.mark.parametrize("label", LABELS)
def test_streamed_beats_of_ptb_get_the_verdict_of_their_rows(ecg_data: Path, label: Label, rate_hz: float) -> None:
    chain = Chain(load_beats(ecg_data / "ptbdb").where(label))
    streams = [join_beats({label: chain}, episodes([label], seed), seed) for seed in range(8)]
    assert agreement([resample_there_and_back(stream, rate_hz) for stream in streams], 80) >= 0.99


@pytest.mark.parametrize("label", LABELS)
def test_streamed_beats_of_the_model_get_the_verdict_of_their_windows(label: Label) -> None:
    assert agreement([resample_there_and_back(drawn((label,), seed), 250.0) for seed in range(12)], 80) >= 0.99
