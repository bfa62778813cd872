"""What is withheld from the model, and when an electrode counts as off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.beat import Signal
from monitor.ecg.quality import (
    BIAS,
    FIRST_CHANGE,
    FIRST_LIKENESS,
    NOISE_RATIO,
    REMEMBERED,
    ROUGH,
    SCORES,
    SHAPE,
    SHAPE_PART,
    STATE,
    WEIGHTS,
    _push,
    _watch_closely,
)
from monitor.wire import NO_SAMPLE
from tests.monitor.one_stream import BeatQuality, Contact, Heartbeat, Resampler, Segmenter
from tests.monitor.synthetic_ecg import beat_times, make_ecg

BEAT = make_ecg(beat_times(2.0), 2.0, 125.0)[62:182].astype(np.float32)


def _alone(signal: Signal) -> str | None:
    """Why the first beat of a stream is withheld."""
    return BeatQuality().why_unfit(signal)


def test_a_clean_beat_is_fit() -> None:
    assert _alone(BEAT) is None


def test_gain_makes_no_difference() -> None:
    assert _alone(BEAT * np.float32(40)) is None
    assert _alone(BEAT / np.float32(40)) is None


def test_a_missing_sample_is_named() -> None:
    broken = BEAT.copy()
    broken[17] = np.nan
    assert _alone(broken) == "missing samples"


def test_a_flat_stretch_is_named() -> None:
    assert _alone(np.full(120, 3.0, np.float32)) == "flat"


def test_noise_is_named() -> None:
    noise = np.random.default_rng(0).normal(0, 300, 120).astype(np.float32)
    assert _alone(noise) == "noise"
    assert _alone(BEAT + noise) == "noise"


def _judge(signals: Iterable[Signal]) -> list[str | None]:
    quality = BeatQuality()
    return [quality.why_unfit(signal) for signal in signals]


def _clean_beats(count: int) -> list[Signal]:
    ecg = make_ecg(beat_times(0.8 * count + 2), 0.8 * count + 2, 125.0).astype(np.float32)
    return [ecg[62 + 100 * i : 182 + 100 * i] for i in range(count)]


def _noise_beats(count: int) -> list[Signal]:
    """As large as a QRS complex and as slow as an electrode that moves."""
    steps = np.random.default_rng(0).normal(0, 300, 120 * count + 12).astype(np.float32)
    smooth = np.convolve(steps, np.ones(13, np.float32) / 4, "valid").astype(np.float32)
    return list(smooth.reshape(count, 120))


@pytest.mark.parametrize("gain", [0.05, 1.0, -1.0, 20.0])
def test_clean_beats_of_any_gain_and_polarity_pass_from_the_first(gain: float) -> None:
    assert set(_judge(beat * np.float32(gain) for beat in _clean_beats(30))) == {None}


@pytest.mark.parametrize("gain", [0.1, 10.0])
def test_a_change_of_gain_withholds_nothing(gain: float) -> None:
    beats = _clean_beats(40)
    assert set(_judge(beats[:20] + [beat * np.float32(gain) for beat in beats[20:]])) == {None}


@pytest.mark.parametrize("every", [1, 2, 3])
def test_ectopic_beats_pass_as_a_run_and_in_bigeminy_and_trigeminy(every: int) -> None:
    t = np.arange(120) / 125
    wide = 1500 * np.exp(-(((t - 0.05) / 0.06) ** 2)) - 700 * np.exp(-(((t - 0.3) / 0.1) ** 2))
    ectopic = (wide + np.random.default_rng(0).normal(0, 5, 120)).astype(np.float32)
    beats = _clean_beats(60)
    beats[20:40] = [ectopic if i % every == 0 else beat for i, beat in enumerate(beats[20:40])]
    assert set(_judge(beats)) == {None}


def _broad_beats(count: int, bpm: float) -> list[Signal]:
    """A ventricular tachycardia whose complexes pass into one another, as high as the clean beats."""
    t = np.arange(int(count * 7500 / bpm) + 120) / 125
    phase = 2 * np.pi * t * bpm / 60
    ecg = 700 * np.cos(phase) + 250 * np.cos(2 * phase + 1) + np.random.default_rng(0).normal(0, 10, t.size)
    begins = np.rint(np.arange(count) * 7500 / bpm).astype(int)
    return [ecg[begin : begin + 120].astype(np.float32) for begin in begins]


@pytest.mark.parametrize("bpm", [120.0, 160.0, 200.0, 240.0])
def test_a_tachycardia_of_broad_complexes_is_judged_from_its_fourth_beat_at_the_latest(bpm: float) -> None:
    told = _judge(_clean_beats(20) + _broad_beats(20, bpm))
    assert set(told[:20]) == {None}
    assert set(told[23:]) == {None}


def test_broad_complexes_that_are_rough_are_withheld() -> None:
    rough = np.random.default_rng(1).normal(0, 150, (20, 120)).astype(np.float32)
    told = _judge(_clean_beats(20) + list(_broad_beats(20, 200.0) + rough))
    assert set(told[23:]) == {"noise"}


def _tremor(count: int, share: float) -> npt.NDArray[np.float32]:
    """White noise, most of whose steps are larger than what tells noise, over the height of a clean beat."""
    height = float(np.ptp(BEAT))
    return np.random.default_rng(2).normal(0, share * height, (count, 120)).astype(np.float32)


def test_qrs_complexes_that_stand_out_of_tremor_are_judged() -> None:
    clean, tremor = _clean_beats(40), _tremor(20, 0.09)
    assert _alone(clean[20] + tremor[0]) == "noise"
    assert set(_judge(clean[:20] + list(clean[20:] + tremor))) == {None}


def test_tremor_that_hides_the_qrs_complexes_is_withheld() -> None:
    clean, tremor = _clean_beats(40), _tremor(20, 0.4)
    assert set(_judge(clean[:20] + list(clean[20:] + tremor))[20:]) == {"noise"}


def test_hum_is_named_however_alike_it_makes_the_beats() -> None:
    hum = 0.5 * np.ptp(BEAT) * np.cos(2 * np.pi * 50 * np.arange(120) / 125)
    hummed = [(beat + hum).astype(np.float32) for beat in _clean_beats(40)[20:]]
    assert set(_judge(_clean_beats(20) + hummed)[20:]) == {"mains"}


def test_a_burst_of_noise_is_withheld_and_judging_resumes() -> None:
    clean = _clean_beats(50)
    told = _judge(clean[:20] + _noise_beats(20) + clean[20:])
    assert set(told[:20]) == {None}
    assert set(told[26:40]) == {"noise"}
    assert set(told[45:]) == {None}


def test_noise_from_the_start_is_withheld() -> None:
    assert _judge(_noise_beats(20))[2:] == ["noise"] * 18


def test_flat_and_missing_beats_leave_no_trace() -> None:
    beats = _clean_beats(12)
    broken = [np.full(120, np.nan, np.float32), np.full(120, 3.0, np.float32), np.full(10, np.nan, np.float32)]
    told = _judge(beats[:6] + broken + beats[6:])
    assert told[6:9] == ["missing samples", "flat", "missing samples"]
    assert set(told[:6] + told[9:]) == {None}


@given(st.lists(st.integers(2, 187), min_size=1, max_size=40), st.integers(0, 2**31))
def test_whatever_comes_gets_the_same_answer_again(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    beats = [(rng.normal(0, 1, n) * 10.0 ** rng.integers(-2, 5)).astype(np.float32) for n in sizes]
    told = _judge(beats)
    assert set(told) <= {None, "flat", "noise", "mains"}
    assert _judge(beats) == told


def _naive_score(beats: list[npt.NDArray[np.float64]]) -> float:
    """Of the latest beat, as the documentation has it."""
    *before, beat = beats[-REMEMBERED - 1 :]
    halves = [b[: b.size // 2 * 2].reshape(-1, 2).mean(axis=1) for b in (*before, beat)]
    *shapes, shape = [half[: min(SHAPE, int(SHAPE_PART * half.size))] for half in halves]
    half = halves[-1]
    wander = abs(np.median(half[: half.size // 2 : 2]) - np.median(half[half.size // 2 :: 2])) / np.ptp(beat)
    ranges = [np.ptp(beat[i : i + 9]) for i in range(0, beat.size // 8 * 8, 8)]
    activity = np.median(ranges) / max(ranges)
    change, likeness = FIRST_CHANGE, FIRST_LIKENESS
    if before:
        change = abs(np.log(np.ptp(beat)) - np.median([np.log(np.ptp(b)) for b in before]))
        alike = []
        for other in shapes:
            n = min(shape.size, other.size)
            pairs = [(shape[:n], other[:n]), (shape[1:n], other[: n - 1]), (shape[: n - 1], other[1:n])]
            alike.append(max(np.corrcoef(a, b)[0, 1] for a, b in pairs))
        likeness = float(np.sort(alike)[len(alike) // 2 :].mean())
    logs = np.log([np.clip(activity, 0.01, None), np.clip(change, 0.01, 1.5)])
    score = BIAS + np.dot(WEIGHTS, [min(wander, 0.5), *logs, likeness])
    return float(np.clip(score, *SCORES))


@given(st.lists(st.integers(24, 187), min_size=1, max_size=14), st.integers(0, 2**31))
def test_the_score_is_the_mean_of_the_last_beats_scores_as_documented(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ecg = make_ecg(beat_times(4.0), 4.0, 125.0)[62:]
    level, noise = 10.0 ** rng.uniform(-1, 3, 2)
    beats = [(ecg[:n] + rng.normal(level, noise, n).cumsum() / 5).astype(np.float32) for n in sizes]
    state = np.zeros(1, STATE)
    told = [_push(state[0], beat) for beat in beats]
    naive = [_naive_score([b.astype(float) for b in beats[: i + 1]]) for i in range(len(beats))]
    means = [np.mean(naive[max(0, i + 1 - REMEMBERED) : i + 1]) for i in range(len(naive))]
    np.testing.assert_allclose(told, means, atol=0.005)


def test_beats_that_are_flat_but_for_their_end_are_like_nothing() -> None:
    beat = np.full(120, 30001.0, np.float32)
    beat[110:] += 50
    state = np.zeros(1, STATE)
    _push(state[0], beat)
    flat = BIAS + np.dot(WEIGHTS, [0.0, np.log(0.01), np.log(0.01), 0.0])
    assert _push(state[0], beat) == pytest.approx((state["score"][0, 0] + np.clip(flat, *SCORES)) / 2)


def test_noise_is_rough_and_most_of_its_steps_are_large() -> None:
    rng = np.random.default_rng(0)
    for scale in np.geomspace(1, 100, 60):
        beat = (BEAT + rng.normal(0, scale, BEAT.size)).astype(np.float32)
        bends, steps = (np.abs(np.diff(beat, order)).sum() for order in (2, 1))
        noisy = np.median(np.abs(np.diff(beat))) > NOISE_RATIO * np.ptp(beat) and bends > ROUGH * steps
        assert _alone(beat) == ("noise" if noisy else None)


def test_what_is_remembered_of_a_stream_is_small() -> None:
    assert STATE.itemsize <= 2000


def _cut(samples: npt.ArrayLike, rate_hz: float) -> list[Heartbeat]:
    return Segmenter().push(Resampler(rate_hz, 0.0).push(np.asarray(samples, np.float32)))


def _is_withheld(beats: list[Heartbeat]) -> npt.NDArray[np.bool_]:
    quality = BeatQuality()
    return np.array([beat.median_rr is None or quality.why_unfit(beat.signal) is not None for beat in beats], bool)


def _unjudged_part(beats: list[Heartbeat], seconds: float) -> float:
    """Part of a recording that is not judged: a beat stands for the time to the next one, 3 s without any are silence.

    A recording counts as flagged for most of its length if this exceeds one half.
    """
    r_peaks = np.array([beat.r_peak / 125 for beat in beats])
    starts, ends = np.append(0.0, r_peaks), np.append(r_peaks, seconds)
    spans = ends - starts
    return float(spans[np.append(False, _is_withheld(beats)) | (spans > 3)].sum() / seconds)


def test_flagged_consumer_recordings_do_not_get_worse(ecg_data: Path) -> None:
    """Floor: CinC 2017 too noisy (~) against normal (N), atrial fibrillation (A), other rhythms (O).

    Measured, in percent of the recordings: ~ 79.3, N 1.9, A 3.1, O 2.5.
    """
    loadmat = pytest.importorskip("scipy.io").loadmat
    labels = pd.read_csv(ecg_data / "cinc2017" / "REFERENCE.csv", header=None, names=["record", "label"])
    flagged = []
    for name in labels["record"]:
        samples = loadmat(ecg_data / "cinc2017" / f"{name}.mat")["val"].ravel()
        flagged.append(_unjudged_part(_cut(samples, 300.0), samples.size / 300) > 0.5)
    percent = 100 * pd.Series(flagged).groupby(labels["label"]).mean()
    print(f"withheld, in percent of the recordings: {percent.round(1).to_dict()}")
    assert percent["~"] >= 78
    assert percent["N"] <= 3
    assert percent["A"] <= 7
    assert percent["O"] <= 5


def test_heart_disease_is_not_withheld_as_noise(ecg_data: Path) -> None:
    """Ceiling: beats of MIT-BIH DS1, first lead. Measured, in percent: all 2.1; all but 108, 203, 207: 0.1."""
    wfdb = pytest.importorskip("wfdb")
    withheld = {}
    for header in sorted((ecg_data / "mitdb").glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")), channels=[0], physical=False)
        withheld[header.stem] = _is_withheld(_cut(record.d_signal[:, 0], record.fs))
    easy = [told for name, told in withheld.items() if name not in ("108", "203", "207")]  # noise in plain sight
    print(f"withheld: {np.concatenate(list(withheld.values())).mean():.2%}, easy {np.concatenate(easy).mean():.2%}")
    assert np.concatenate(list(withheld.values())).mean() <= 0.03
    assert np.concatenate(easy).mean() <= 0.005


def test_clinical_recordings_are_judged(ecg_data: Path) -> None:
    """Ceiling: PTB, mostly infarctions, and PTB-XL. Measured, in percent of the beats: 0.4 and 1.3."""
    ptb = np.load(ecg_data / "ptbdb" / "ptbdb_leadII_1000hz_int16_uV.npz")
    xl = np.load(ecg_data / "ptbxl" / "ptbxl_leadII_500hz_int16_uV.npz")["x"]
    assert np.concatenate([_is_withheld(_cut(ptb[name], 1000.0)) for name in ptb.files]).mean() <= 0.01
    assert np.concatenate([_is_withheld(_cut(samples, 500.0)) for samples in xl]).mean() <= 0.018


def test_noise_in_the_qrs_band_is_withheld_once_it_drowns_the_beats(ecg_data: Path) -> None:
    """Two minutes clean, two with noise of 1 to 10 Hz, and so on; ratio of powers as the Noise Stress Test has it."""
    wfdb = pytest.importorskip("wfdb")
    filters = pytest.importorskip("scipy.signal")
    clean = wfdb.rdrecord(str(ecg_data / "mitdb" / "101"), channels=[0], sampto=360 * 600).p_signal[:, 0] * 200
    white = np.random.default_rng(0).standard_t(3, clean.size)
    noise = filters.sosfilt(filters.butter(2, (1, 10), "bandpass", fs=360, output="sos"), white)
    noisy = np.arange(clean.size) // (360 * 120) % 2 == 1
    height = np.median([np.ptp(beat.signal) for beat in _cut(clean, 360.0)])
    for snr_db, least, most in [(12, 0.0, 0.12), (0, 0.95, 1.0)]:
        scale = np.sqrt(height**2 / 8 / 10 ** (snr_db / 10)) / noise.std()
        beats = _cut(clean + np.where(noisy, scale * noise, 0), 360.0)
        inside = noisy[[round(beat.r_peak / 125 * 360) for beat in beats]]
        withheld = _is_withheld(beats)
        assert least <= withheld[inside].mean() <= most
        assert withheld[~inside].mean() <= 0.06


@pytest.mark.parametrize("value", [0, 1234, NO_SAMPLE])
def test_two_seconds_without_a_change_are_lead_off(value: int) -> None:
    contact = Contact(100.0)
    moving = np.arange(50, dtype=np.int16)
    assert contact.push(moving) == []
    assert contact.push(np.full(400, value, np.int16)) in ([200], [199], [201])
    assert contact.is_off
    assert contact.push(moving) == []
    assert not contact.is_off


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_lead_off_is_found_at_the_same_place_however_the_stream_was_cut(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(-9, 9, 150).astype(np.int16) for _ in range(3)]
    still = [np.full(250, 3, np.int16), np.full(180, 3, np.int16), np.full(260, NO_SAMPLE, np.int16)]
    signal = np.concatenate([p for pair in zip(parts, still, strict=True) for p in pair])
    whole = Contact(100.0).push(signal)
    contact, at, i, found = Contact(100.0), 0, 0, []
    while at < signal.size:
        found += [at + place for place in contact.push(signal[at : at + cuts[i % len(cuts)]])]
        at, i = at + cuts[i % len(cuts)], i + 1
    assert found == whole
    assert len(whole) == 2


_PIECES: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.int64]]] = {
    "moving": lambda rng, n: rng.integers(-300, 300, n),
    "nearly still": lambda rng, n: rng.integers(0, 2, n),
    "still": lambda rng, n: np.full(n, rng.choice([-300, 0, 299])),
    "gone": lambda rng, n: np.full(n, NO_SAMPLE),
    "full range": lambda rng, n: rng.integers(NO_SAMPLE, 2**15, n),
}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(_PIECES)), st.integers(1, 700)), min_size=1, max_size=6),
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_samples_that_are_passed_over_leave_what_looking_at_each_would(
    pieces: list[tuple[str, int]], cuts: list[int]
) -> None:
    rng = np.random.default_rng(len(pieces))
    samples = np.concatenate([_PIECES[what](rng, n) for what, n in pieces]).astype(np.int16)
    closely = Contact(250.0)
    streams: list[int] = []
    places: list[int] = []
    state = closely.state.view(np.recarray)[0]
    look_at_each: Any = _watch_closely.py_func
    look_at_each(state, samples, 0, samples.size, 0, streams, places)
    contact, at, i, found = Contact(250.0), 0, 0, []
    while at < samples.size:
        found += [at + place for place in contact.push(samples[at : at + cuts[i % len(cuts)]])]
        at, i = at + cuts[i % len(cuts)], i + 1
    assert contact.state.tobytes() == closely.state.tobytes()
    assert found == places


def _clip_places(samples: npt.NDArray[np.int16], cuts: list[int]) -> list[int]:
    contact, at, i = Contact(250.0), 0, 0
    while at < samples.size:
        contact.push(samples[at : at + cuts[i % len(cuts)]])
        at, i = at + cuts[i % len(cuts)], i + 1
    return contact.clipped


_ECG = make_ecg(beat_times(20.0), 20.0, 250.0)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_clipped_peaks_are_found_at_the_same_places_however_the_stream_was_cut(cuts: list[int]) -> None:
    places = _clip_places(np.minimum(_ECG, 500).astype(np.int16) + np.int16(2000), cuts)
    times = beat_times(20.0)
    times = times[times > 2.0]  # the range is known
    assert len(places) == len(times)
    assert np.abs(np.array(places) / 250 - times).max() < 0.03


def test_round_peaks_steps_and_missing_samples_are_not_clipped() -> None:
    coarse = (_ECG // 100 * 100).astype(np.int16)  # ten steps high: a flat baseline, met gently
    holes = _ECG.copy()
    holes[1000:1100] = NO_SAMPLE
    for samples in (_ECG, -_ECG, coarse // 100, holes):
        assert _clip_places(samples.astype(np.int16), [250]) == []
