from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor import beat2
from training import sources
from training.wearers import UNKNOWN, N, S, Source, V, X, cut, follow, match

RATE_HZ = 250.0
RR_S = 0.8
NONE = np.zeros(0, np.int64)


def make_source(beats: int = 60, early: tuple[int, ...] = ()) -> Source:
    """A minute of a heart whose beats at `early` come 0.3 s early and are broad; all are annotated."""
    times = np.array([1 + RR_S * i - 0.3 * (i in early) for i in range(beats)])
    time_s = np.arange(round((times[-1] + 3) * RATE_HZ)) / RATE_HZ
    signal = np.random.default_rng(0).normal(0, 4, time_s.size)
    for i, at in enumerate(times):
        width, height = (0.03, -1400) if i in early else (0.012, 1000)
        signal += height * np.exp(-0.5 * ((time_s - at) / width) ** 2)
        signal += 200 * np.exp(-0.5 * ((time_s - at - 0.25) / 0.04) ** 2)
    labels = np.array([V if i in early else N for i in range(beats)])
    return Source("mitdb", "1", "1_0", RATE_HZ, signal, np.rint(times * 125).astype(np.int64), labels)


def test_found_beats_have_the_class_of_the_annotated_ones() -> None:
    found = cut(make_source(early=(20, 40)), 1)
    assert found["labels"].tolist().count(V) == 2
    assert set(found["labels"].tolist()) == {N, V}
    assert found["inputs"].shape == (len(found["labels"]), 2, beat2.LENGTH)
    beat2.check_inputs(found["inputs"], found["context"])


def test_only_the_annotated_ectopic_beats_come_early() -> None:
    found = cut(make_source(early=(20, 40)), 1)
    early = found["context"][:, 0] < 0.8
    assert np.array_equal(early, found["labels"] == V)


def test_a_recording_upside_down_gives_the_same_inputs() -> None:
    up, down = (cut(make_source(), sign) for sign in (1, -1))
    both = min(len(up["labels"]), len(down["labels"])) - 1
    difference = np.abs(up["inputs"][-both:].astype(float) - down["inputs"][-both:])
    assert np.median(difference.max(axis=(1, 2))) < 0.1


def test_a_beat_that_nobody_annotated_is_none() -> None:
    source = make_source()
    labels = cut(replace(source, marks=source.marks[:30], labels=source.labels[:30]), 1)["labels"].tolist()
    assert labels.count(X) >= 28


def test_missed_beats_are_counted() -> None:
    source = make_source()
    flat = source.samples_uv.copy()
    flat[5000:7500] = np.random.default_rng(1).normal(0, 4, 2500)
    missed = cut(replace(source, samples_uv=flat), 1)["missed"]
    assert 10 <= missed[N] <= 14


def test_beats_in_a_stretch_without_annotations_are_unknown() -> None:
    source = make_source()
    unknown = replace(source, marks=NONE, labels=NONE, rhythms=((0.0, 2000.0, S),), otherwise=UNKNOWN)
    found = cut(unknown, 1)
    assert np.array_equal(found["labels"] == S, found["at"] < 2000)


def test_beats_and_marks_match_one_to_one_within_150_ms() -> None:
    marks = np.array([100, 200, 300])
    assert match(np.array([99, 104, 220, 280]), marks).tolist() == [0, -1, -1, -1]
    assert match(np.array([118, 300]), marks).tolist() == [0, 2]
    assert match(np.array([150]), np.zeros(0, np.int64)).tolist() == [-1]


def test_the_beats_found_are_those_of_the_signal() -> None:
    source = make_source()
    found = follow(np.rint(source.samples_uv).astype(np.int16), RATE_HZ)
    assert np.abs(found.fiducials[1:-1, None] - source.marks).min(axis=1).max() <= 2


def test_noise_is_the_same_for_a_source_whenever_it_is_added() -> None:
    source, noises = make_source(), [np.random.default_rng(2).normal(size=5000)]
    first, second = (sources.add_noise(source, noises).samples_uv for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, source.samples_uv)


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown folder"):
        sources.read_sources(tmp_path)
