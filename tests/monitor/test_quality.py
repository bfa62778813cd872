"""What is withheld from the model, and when an electrode counts as off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.quality import Contact, to_signal, why_unfit
from monitor.wire import NO_SAMPLE
from tests.monitor.ecg import beat_times, make_ecg

BEAT = make_ecg(beat_times(2.0), 2.0, 125.0)[62:182].astype(np.float32)


def test_a_clean_beat_is_fit() -> None:
    assert why_unfit(BEAT) is None


def test_gain_makes_no_difference() -> None:
    assert why_unfit(BEAT * np.float32(40)) is None
    assert why_unfit(BEAT / np.float32(40)) is None


def test_a_missing_sample_is_named() -> None:
    broken = BEAT.copy()
    broken[17] = np.nan
    assert why_unfit(broken) == "missing samples"


def test_a_flat_stretch_is_named() -> None:
    assert why_unfit(np.full(120, 3.0, np.float32)) == "flat"


def test_noise_is_named() -> None:
    noise = np.random.default_rng(0).normal(0, 300, 120).astype(np.float32)
    assert why_unfit(noise) == "noise"
    assert why_unfit(BEAT + noise) == "noise"


def test_no_sample_becomes_nan() -> None:
    signal = to_signal(np.array([5, NO_SAMPLE, -7], np.int16))
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, [5, np.nan, -7])


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
