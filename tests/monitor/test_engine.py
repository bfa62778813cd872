"""Packets in, beats and alerts out: no broker, no clock, no sleeping."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from monitor import beat2, wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.limits import SHORTEST_SILENCE_S
from monitor.beat import LENGTH, RR_LIMIT, RrContext, Windows
from monitor.class_model import ClassModel
from monitor.classify import Classifier, ModelInfo
from monitor.ecg.resample import DELAY_S
from monitor.engine import CONNECTIONS, LAYOUT, SILENT_S, Engine, SavedDevice, Tally
from monitor.panel import Panel, load_panel
from monitor.stream import EARLY_PACKETS, LATE_PACKETS, RATE_CHANGES, RATE_PACKETS
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.monitor.tiny_model import tiny_info, write_tiny

START_S = 1_700_000_000.0
RATE_HZ = 250.0


class RateClassifier:
    """A small fake: calls a beat abnormal when its window is short, that is, when the heart is fast."""

    info = ModelInfo(
        name="rate", network="none", contract="beat/1", rate_hz=125.0, length=LENGTH, scaling="minmax",
        classes=["normal", "abnormal"], threshold=0.5, trained_on={}, figures={},
    )  # fmt: skip
    sha256 = "0" * 64
    needs_rr = False

    def probabilities(self, windows: Windows, rr: RrContext | None) -> npt.NDArray[np.float32]:
        assert (rr is not None) == self.needs_rr
        fast = (np.count_nonzero(windows, axis=1) < 90).astype(np.float32) * 0.9
        return np.stack([1 - fast, fast], axis=1)

    def abnormal(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return probabilities[:, 1]

    def columns(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return (probabilities[:, 1] >= self.info.threshold).astype(np.int64)


class RrClassifier(RateClassifier):
    """The same, but it asks for the RR context and keeps it."""

    needs_rr = True

    def __init__(self) -> None:
        self.rr: list[list[float]] = []

    def probabilities(self, windows: Windows, rr: RrContext | None) -> npt.NDArray[np.float32]:
        assert rr is not None
        self.rr += rr.tolist()
        return super().probabilities(windows, rr)


def _engine(n: int = 3, m: int = 5, classifier: RateClassifier | Panel | None = None) -> Engine:
    """With the bundled models the device "a" is known to have lead II, of which the shape model speaks."""
    engine = Engine(cast(Classifier, classifier or RateClassifier()), AlertSettings(n=n, m=m))
    if isinstance(classifier, Panel):
        engine.describe("a", _info(START_S), 0.0)
    return engine


@lru_cache
def _bundled() -> Panel:
    return load_panel()


def _packets(
    samples: npt.NDArray[np.int16], sizes: int | Sequence[int] = 250, rate_hz: float = RATE_HZ, start_s: float = START_S
) -> list[wire.Packet]:
    sizes = [sizes] if isinstance(sizes, int) else sizes
    packets: list[wire.Packet] = []
    at = 0
    while at < samples.size:
        size = sizes[len(packets) % len(sizes)]
        packets.append(wire.Packet(len(packets), start_s + at / rate_hz, rate_hz, samples[at : at + size]))
        at += size
    return packets


def _run(engine: Engine, packets: Iterable[wire.Packet], device: str = "a") -> tuple[list[wire.Beat], list[wire.Alert]]:
    beats, alerts = [], []
    for packet in packets:
        engine.feed(device, packet, packet.start_s)
        output = engine.flush()
        beats += output.beats
        alerts += output.alerts
    return beats, alerts


CALM = make_ecg(beat_times(40.0, 0.9), 40.0, RATE_HZ)
FAST = make_ecg(beat_times(40.0, 0.5), 40.0, RATE_HZ)
FITFUL_TIMES = beat_times(40.0, [0.8, 0.86, 0.78, 0.5, 1.15, 0.8, 0.8, 1.9])
FITFUL = make_ecg(FITFUL_TIMES, 40.0, RATE_HZ)
"""Premature beats, and pauses of more than two median intervals."""


ECTOPIC_TIMES = beat_times(40.0, 0.8)[[12, 21, 30, 40]] - 0.3
ECTOPIC = make_ecg(np.setdiff1d(beat_times(40.0, 0.8), ECTOPIC_TIMES + 0.3), 40.0, RATE_HZ)
for _t in ECTOPIC_TIMES:  # early, broad, upside down, with a T wave the other way
    _at = np.arange(ECTOPIC.size) / RATE_HZ - _t
    ECTOPIC += (-1800 * np.exp(-((_at / 0.05) ** 2)) + 700 * np.exp(-(((_at - 0.28) / 0.08) ** 2))).astype(np.int16)


def _info(first_seen_s: float) -> wire.Info:
    return wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=first_seen_s)


def _steady(beats: list[wire.Beat]) -> list[wire.Beat]:
    return [beat for beat in beats if beat.verdict != "withheld"]


def test_every_beat_gets_a_verdict_with_its_time_and_rate() -> None:
    beats, alerts = _run(_engine(), _packets(CALM))
    times = beat_times(40.0, 0.9) + START_S
    found = np.array([beat.r_peak_s for beat in beats])
    assert all(np.abs(found - t).min() <= 0.008 for t in times[:-2])
    assert {beat.verdict for beat in beats} == {"normal"}
    assert beats[-1].heart_rate_bpm == pytest.approx(60 / 0.9, abs=1)
    assert beats[-1].rr_s == pytest.approx(0.9, abs=0.01)
    assert alerts == []


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("packet", [50, 250, 1000])
def test_a_beat_to_which_the_model_gives_no_number_is_withheld_and_counted(broken: float, packet: int) -> None:
    class Failing(RateClassifier):
        """Gives no number for the beats whose windows are of an odd length."""

        def probabilities(self, windows: Windows, rr: RrContext | None) -> npt.NDArray[np.float32]:
            answers = super().probabilities(windows, rr)
            answers[np.count_nonzero(windows, axis=1) % 2 == 1] = broken
            return answers

    engine = _engine(classifier=Failing())
    beats, _ = _run(engine, _packets(FITFUL, packet))
    withheld = [beat for beat in beats if beat.verdict == "withheld"]
    assert 0 < len(withheld) < len(beats)
    assert {(beat.reason, beat.label, beat.probability) for beat in withheld} == {
        ("no answer of the model", None, None)
    }
    assert {beat.verdict for beat in beats if beat not in withheld} <= {"normal", "abnormal"}
    assert engine.counts["withheld: no answer of the model"] == engine.counts["beats withheld"] == len(withheld)
    for beat in beats:
        wire.encode(beat)


def test_a_model_that_gives_no_answers_is_told_instead_of_silence() -> None:
    class Silent(RateClassifier):
        """Gives no number for any beat."""

        def probabilities(self, windows: Windows, rr: RrContext | None) -> npt.NDArray[np.float32]:
            return np.full((len(windows), 2), np.nan, np.float32)

    beats, alerts = _run(_engine(classifier=Silent()), _packets(FAST))
    assert {beat.verdict for beat in beats} == {"withheld"}
    assert {alert.kind for alert in alerts} == {"poor-signal"}


def test_abnormal_beats_become_one_alert_that_names_all_a_person_needs() -> None:
    engine = _engine()
    engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=2.0, first_seen_s=START_S), 0.0)
    beats, alerts = _run(engine, _packets(FAST))
    new = alerts[0]
    assert (new.state, new.kind, new.severity, new.device) == ("new", "abnormal-beats", "low", "a")
    assert (new.model, new.threshold, new.label) == ("rate", 0.5, "abnormal")
    assert new.probability == pytest.approx(0.9)
    assert new.beats == 3
    assert new.time_s == beats[2].r_peak_s
    assert new.since_s == beats[0].r_peak_s
    assert new.waveform is not None
    assert new.waveform.unit == "uV"
    assert max(new.waveform.samples) == pytest.approx(2000, rel=0.1)  # 1000 steps of 2 uV
    assert {alert.state for alert in alerts[1:]} == {"update"}
    assert {alert.episode for alert in alerts} == {new.episode}
    json.loads(wire.encode(new))


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        (0.5, {("N", "normal"), ("V", "abnormal")}),
        (1.0, {("N", "normal")}),  # also where V is the most probable class
        (0.0, {("V", "abnormal"), ("S", "abnormal")}),  # also where N is
    ],
)
def test_the_label_of_many_classes_goes_with_the_verdict(
    threshold: float, told: set[tuple[str, str]], tmp_path: Path
) -> None:
    classifier = Classifier(write_tiny(tmp_path / "tiny.onnx", tiny_info(threshold=threshold)))
    early = make_ecg(beat_times(40.0, [0.8, 0.8, 0.5, 1.1]), 40.0, RATE_HZ)
    beats, alerts = _run(Engine(classifier, AlertSettings(n=1, m=2)), _packets(early))
    assert {(beat.label, beat.verdict) for beat in beats} == told
    labels = {alert.label for alert in alerts if alert.state == "new" and alert.kind == "abnormal-beats"}
    assert labels == ({"V"} if threshold < 1 else set())


def test_an_early_broad_beat_is_ventricular_to_the_bundled_models_and_abnormal() -> None:
    beats, _ = _run(_engine(classifier=_bundled()), _packets(ECTOPIC))
    judged = _steady(beats)
    assert len(judged) > 40
    assert [b.label for b in judged if np.abs(ECTOPIC_TIMES + START_S - b.qrs_s).min() < 0.15] == ["V"] * 4
    assert {(b.label, b.verdict) for b in judged} == {("N", "normal"), ("V", "abnormal")}


def test_beats_of_a_class_model_wait_for_what_stands_around_them_and_not_for_the_next() -> None:
    for signal in (CALM, FAST):
        beats, _ = _run(_engine(classifier=_bundled()), _packets(signal, 5))
        steady = [b for b in beats if b.r_peak_s > START_S + 10 and b.rr_s is not None]
        waits_s = [b.completed_s - b.qrs_s for b in steady]
        windows_s = [max(0.6, 1.2 * (b.rr_s or 0.0)) for b in steady]
        assert len(steady) > 20
        assert np.subtract(waits_s, windows_s).max() < DELAY_S + 0.05


class WatchingClassModel(RateClassifier):
    """A class model to whom every beat is of the first class, and which keeps what it saw."""

    info = msgspec.structs.replace(RateClassifier.info, contract=beat2.CONTRACT, classes=["N", "S", "V"])

    def __init__(self) -> None:
        self.context: list[list[float]] = []

    def probabilities(self, windows: Windows, rr: object) -> npt.NDArray[np.float32]:
        self.context += cast(npt.NDArray[np.float32], rr).tolist()
        return np.tile(np.array([1, 0, 0], np.float32), (len(windows), 1))


class AbnormalShapes(RateClassifier):
    """A shape model that calls every beat abnormal and speaks of lead II."""

    info = msgspec.structs.replace(RateClassifier.info, leads=["II"])

    def probabilities(self, windows: Windows, rr: RrContext | None) -> npt.NDArray[np.float32]:
        return np.tile(np.array([0.1, 0.9], np.float32), (len(windows), 1))


def _panel_of_fakes() -> Panel:
    return Panel(cast(ClassModel, WatchingClassModel()), cast(Classifier, AbnormalShapes()))


LEARNED = beat2.CONTEXT.index("learned")


def test_what_is_usual_for_a_wearer_is_known_across_gaps_restarts_and_another_process() -> None:
    panel = _panel_of_fakes()
    model, engine = cast(WatchingClassModel, panel.main), _engine(classifier=panel)
    _run(engine, _packets(CALM))
    assert model.context[0][LEARNED] == 0
    assert model.context[-1][LEARNED] == 1
    _run(engine, _packets(CALM, start_s=START_S + 1000))  # after a gap, counted from 0
    saved, other = engine.save("a"), _engine(classifier=panel)
    other = Engine(panel)
    other.restore("a", saved, 0.0)
    _run(other, _packets(CALM, start_s=START_S + 2000))
    learned = [row[LEARNED] for row in model.context]
    assert len(learned) > 110
    assert min(learned[30:]) == 1
    _run(engine, _packets(CALM), "b")
    assert model.context[len(learned)][LEARNED] == 0


def test_beats_that_are_withheld_teach_nothing_of_their_wearer() -> None:
    noise = np.random.default_rng(0).normal(0, 2000, 30 * 250).astype(np.int16)
    engine = _engine(classifier=_panel_of_fakes())
    beats, _ = _run(engine, _packets(np.concatenate([CALM, noise])))
    assert engine._wearers.states["intervals"].max() == len(_steady(beats)) - 1 < len(beats) - 10


@pytest.mark.parametrize(("lead", "speaks"), [("II", True), ("ECG lead II", True), ("V5", False), (None, False)])
def test_the_shape_model_speaks_only_of_its_leads(lead: str | None, speaks: bool) -> None:
    engine = Engine(_panel_of_fakes())
    if lead is not None:
        engine.describe("a", msgspec.structs.replace(_info(START_S), lead=lead), 0.0)
    beats, alerts = _run(engine, _packets(CALM))
    assert {b.shape_probability for b in _steady(beats)} == ({float(np.float32(0.9))} if speaks else {None})
    assert {b.verdict for b in _steady(beats)} == {"normal"}
    assert [alert.kind for alert in alerts] == (["abnormal-beats"] * len(alerts) if speaks else [])
    assert bool(alerts) is speaks


def test_a_shape_that_was_always_abnormal_is_told_once_and_ends_as_usual() -> None:
    hour = np.tile(CALM, 15)
    beats, alerts = _run(_engine(classifier=_panel_of_fakes()), _packets(hour))
    assert len(_steady(beats)) > 600
    new, *_, end = alerts
    assert [alert.state for alert in alerts].count("new") == 1
    assert (new.model, new.label, new.threshold) == ("rate", "abnormal", 0.5)
    assert (new.severity, end.state, end.reason) == ("low", "end", "usual")
    assert end.time_s - new.time_s < 60


def test_alert_ends_when_the_beats_are_calm_again() -> None:
    samples = np.concatenate([FAST, CALM])
    states = [alert.state for alert in _run(_engine(), _packets(samples))[1] if alert.kind == "abnormal-beats"]
    assert states[0] == "new"
    assert states[-1] == "end"
    assert states.count("new") == 1


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=5))
def test_the_same_beats_however_the_stream_was_packed(sizes: list[int]) -> None:
    def told(sizes: Sequence[int]) -> list[tuple[str, str, float | None, float | None]]:
        beats, _ = _run(_engine(), _packets(FAST, sizes))
        return [(beat.id, beat.verdict, beat.probability, beat.rr_s) for beat in beats]

    assert told(sizes) == told([250])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=5))
def test_the_bundled_models_say_the_same_however_the_stream_was_packed(sizes: list[int]) -> None:
    def told(sizes: Sequence[int]) -> list[tuple[str, str, str | None, float | None, float | None, str | None]]:
        beats, _ = _run(_engine(classifier=_bundled()), _packets(ECTOPIC, sizes))
        return [(b.id, b.verdict, b.label, b.probability, b.shape_probability, b.reason) for b in beats]

    assert told(sizes) == told([250])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=5))
def test_the_same_rr_context_however_the_stream_was_packed(sizes: list[int]) -> None:
    def told(sizes: Sequence[int]) -> list[list[float]]:
        classifier = RrClassifier()
        _run(_engine(classifier=classifier), _packets(FITFUL, sizes))
        return classifier.rr

    assert told(sizes) == told([250])


def test_rr_context_is_what_the_times_of_the_beats_say() -> None:
    classifier = RrClassifier()
    engine = _engine(classifier=classifier)
    beats, _ = _run(engine, _packets(FITFUL))
    engine.forget(float("inf"))
    beats += engine.flush().beats
    assert len(beats) == len(FITFUL_TIMES)
    assert len(classifier.rr) == len(_steady(beats)) >= len(beats) - 1
    qrs_s = [beat.qrs_s for beat in beats]
    for i, row in enumerate(classifier.rr):
        median_s, around = row[2], np.diff(qrs_s[max(0, i - 20) : i + 4])
        assert around.min() - 0.01 <= median_s <= around.max() + 0.01
        previous_s = qrs_s[i] - qrs_s[i - 1] if i else median_s
        next_s = qrs_s[i + 1] - qrs_s[i] if i + 1 < len(qrs_s) else median_s
        assert row[:2] == pytest.approx([min(previous_s, RR_LIMIT * median_s), min(next_s, RR_LIMIT * median_s)])


def test_a_premature_beat_is_seen_between_a_short_and_a_long_interval() -> None:
    classifier = RrClassifier()
    times = beat_times(40.0, 0.9)
    times[30] -= 0.35
    _run(_engine(classifier=classifier), _packets(make_ecg(times, 40.0, RATE_HZ)))
    early = [i for i, (previous, after, median) in enumerate(classifier.rr) if previous < 0.7 < 1.2 < after]
    assert early == [30]
    assert classifier.rr[30] == pytest.approx([0.55, 1.25, 0.9], abs=0.02)


def test_a_pause_counts_for_two_median_intervals_and_is_not_waited_out() -> None:
    classifier = RrClassifier()
    engine = _engine(classifier=classifier)
    times = beat_times(40.0, 0.9)
    last = times[times < 20][-1]
    beats, _ = _run(engine, _packets(make_ecg(times[(times < 20) | (times > 25)], 40.0, RATE_HZ), 25))
    i = int(np.argmin([abs(beat.r_peak_s - START_S - last) for beat in beats]))
    assert classifier.rr[i] == pytest.approx([0.9, 1.8, 0.9], abs=0.02)
    assert beats[i].completed_s - beats[i].qrs_s < 1.8 + 0.8
    assert classifier.rr[i + 1] == pytest.approx([0.9, 0.9, 0.9], abs=0.02)  # what lies behind it is a gap, not rhythm


def test_only_a_model_that_asks_for_the_next_beat_waits_for_it() -> None:
    def waits_s(classifier: RateClassifier) -> list[float]:
        beats, _ = _run(_engine(classifier=classifier), _packets(CALM, 5))
        return [beat.completed_s - beat.r_peak_s for beat in beats if beat.r_peak_s > START_S + 10]

    prompt, patient = waits_s(RateClassifier()), waits_s(RrClassifier())
    assert max(prompt) < 1.2 * 0.9 + DELAY_S + 0.04
    assert min(patient) > 0.9 + 0.25


@pytest.mark.parametrize("restarts", [False, True])
def test_the_last_beat_before_the_end_or_a_restart_is_judged_without_the_next(restarts: bool) -> None:
    classifier = RrClassifier()
    engine = _engine(classifier=classifier)
    info = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=START_S)
    engine.describe("a", info, 0.0)
    times = beat_times(30.0, 0.9)[:-1]
    _run(engine, _packets(make_ecg(times, 30.0, RATE_HZ)[: round((times[-1] + 1.2) * RATE_HZ)]))  # its window, no more
    if restarts:
        engine.describe("a", msgspec.structs.replace(info, first_seen_s=START_S + 100), 0.0)
        engine.feed("a", wire.Packet(0, START_S + 100, RATE_HZ, CALM[:250]), 0.0)
    else:
        engine.forget(float("inf"))
    [last] = engine.flush().beats
    assert last.r_peak_s == pytest.approx(START_S + times[-1], abs=0.01)
    assert last.verdict == "normal"
    assert len(classifier.rr) == len(times)
    assert classifier.rr[-1] == pytest.approx([0.9, 0.9, 0.9], abs=0.02)


def test_one_batch_for_all_devices_gives_what_each_alone_gives() -> None:
    together = _engine()
    alone = {device: _run(_engine(), _packets(signal), device)[0] for device, signal in (("a", FAST), ("b", CALM))}
    found: list[wire.Beat] = []
    for one, other in zip(_packets(FAST), _packets(CALM), strict=True):
        together.feed("a", one, 0.0)
        together.feed("b", other, 0.0)
        found += together.flush().beats
    for device in ("a", "b"):
        assert [b for b in found if b.device == device] == alone[device]


def test_beats_are_added_up_by_hour_and_class() -> None:
    engine = _engine()
    beats = _run(engine, _packets(FAST))[0]
    expected = Counter((int(one.r_peak_s // 3600), one.label or "withheld") for one in beats)
    [known] = engine.records()
    hourly = known.hourly
    assert {key: n for key, (n, _) in hourly.items()} == expected
    judged = [one.heart_rate_bpm for one in beats if one.label is not None and one.heart_rate_bpm is not None]
    n, rr_ms = (
        sum(column) for column in zip(*(v for (_, what), v in hourly.items() if what != "withheld"), strict=True)
    )
    assert 60_000 * n / rr_ms == pytest.approx(np.mean(judged), rel=0.02)


def test_duplicates_are_counted_and_change_nothing() -> None:
    packets = _packets(FAST)
    doubled = [p for packet in packets for p in (packet, packet)]
    engine = _engine()
    assert _run(engine, doubled)[0] == _run(_engine(), packets)[0]
    assert engine.counts["duplicates"] == len(packets)


def test_packets_that_overtook_others_wait_for_them() -> None:
    packets = _packets(FAST)
    swapped = [packets[i ^ 1] for i in range(len(packets))]
    engine = _engine()
    ids = [beat.id for beat in _run(engine, swapped)[0]]
    assert ids == [beat.id for beat in _run(_engine(), packets)[0]]
    assert engine.counts["gaps"] == 0


@pytest.mark.parametrize("order", [(1, 2, 3, 0), (3, 1, 1, 2, 3, 0), (2, 0, 1)])
def test_the_first_packets_of_a_stream_may_be_overtaken_as_well(order: tuple[int, ...]) -> None:
    packets = _packets(FAST)
    engine = _engine()
    beats = _run(engine, [*(packets[i] for i in order), *packets[max(order) + 1 :]])[0]
    assert beats == _run(_engine(), packets)[0]
    assert engine.counts["duplicates"] == len(order) - len(set(order))


@pytest.mark.parametrize("first", [1, EARLY_PACKETS, EARLY_PACKETS + 1, 20])
def test_a_stream_that_is_joined_late_begins_with_the_first_packet_that_came(first: int) -> None:
    packets = _packets(FAST)[first:]
    engine = _engine()
    engine.feed("a", packets[0], 0.0)
    assert engine.next_seq("a") == (0 if first <= EARLY_PACKETS else first + 1)
    for packet in packets[1 : 1 + EARLY_PACKETS]:
        engine.feed("a", packet, 0.0)
    assert engine.next_seq("a") == first + 1 + EARLY_PACKETS
    assert _run(engine, packets[1 + EARLY_PACKETS :])[0]
    assert not {"gaps", "duplicates"} & set(engine.counts)


def test_a_lost_packet_is_a_gap_that_is_told_and_ends_with_the_next_judged_beat() -> None:
    packets = [packet for packet in _packets(CALM) if packet.seq != 15]
    engine = _engine()
    beats, alerts = _run(engine, packets)
    assert [(a.kind, a.state) for a in alerts] == [("gap", "new"), ("gap", "end")]
    assert engine.counts["gaps"] == 1
    assert not [b for b in beats if START_S + 15.1 < b.r_peak_s < START_S + 15.9]
    assert [b for b in beats if b.r_peak_s > START_S + 17]


def test_a_gap_resets_only_that_device() -> None:
    engine = _engine()
    untouched = []
    for packet, other in zip(_packets(CALM), _packets(FAST), strict=True):
        if packet.seq != 15:
            engine.feed("broken", packet, 0.0)
        engine.feed("whole", other, 0.0)
        untouched += [beat for beat in engine.flush().beats if beat.device == "whole"]
    assert untouched == _run(_engine(), _packets(FAST), "whole")[0]


def test_what_waits_for_a_missing_packet_is_bounded() -> None:
    engine = _engine()
    packets = _packets(CALM)
    engine.feed("a", packets[0], 0.0)
    for packet in packets[2 : 2 + EARLY_PACKETS]:
        engine.feed("a", packet, 0.0)
        assert engine.counts["gaps"] == 0
    engine.feed("a", packets[2 + EARLY_PACKETS], 0.0)
    assert engine.counts["gaps"] == 1


def test_no_more_samples_wait_for_a_missing_packet_than_the_largest_packet_has() -> None:
    engine = _engine()
    samples = np.zeros(wire.MAX_SAMPLES // 2, np.int16)
    for seq in (0, 2, 3):
        engine.feed("a", wire.Packet(seq, START_S + seq * samples.size / RATE_HZ, RATE_HZ, samples), 0.0)
        assert engine.counts["gaps"] == 0
    engine.feed("a", wire.Packet(5, START_S + 5 * samples.size / RATE_HZ, RATE_HZ, samples[:2]), 0.0)
    assert engine.counts["gaps"] == 1
    assert engine.next_seq("a") == 4


def test_what_still_waits_is_judged_when_the_device_is_forgotten() -> None:
    packets = _packets(CALM)
    engine = _engine()
    _run(engine, [*packets[:30], *packets[31:33]])
    before = engine.counts["gaps"]
    engine.forget(START_S + 1000)
    engine.flush()
    assert engine.counts["gaps"] == before + 1
    assert engine.devices == 0


@pytest.mark.parametrize("jump_s", [5.0, -5.0])
def test_a_clock_that_jumps_resets_the_stream(jump_s: float) -> None:
    packets = [
        wire.Packet(p.seq, p.start_s + (jump_s if p.seq >= 20 else 0), p.rate_hz, p.samples) for p in _packets(CALM)
    ]
    engine = _engine()
    beats, _ = _run(engine, packets)
    assert engine.counts["clock jumps"] == 1
    assert [b for b in beats if b.r_peak_s > START_S + 25 + jump_s]


def test_a_drifting_clock_is_followed_without_a_reset() -> None:
    """The device says 250 Hz but samples at 250.5: after 40 s its time stamps are 80 ms ahead."""
    packets = [
        wire.Packet(p.seq, START_S + (p.start_s - START_S) * 0.998, p.rate_hz, p.samples) for p in _packets(CALM)
    ]
    engine = _engine()
    beats, _ = _run(engine, packets)
    times = START_S + beat_times(40.0, 0.9) * 0.998
    assert engine.counts["clock jumps"] == 0
    late = [b for b in beats if b.r_peak_s > START_S + 20]
    assert all(np.abs(times - b.r_peak_s).min() < 0.03 for b in late)


def test_a_new_rate_resets_the_stream() -> None:
    engine = _engine()
    first = _packets(CALM)[:20]
    slow = make_ecg(beat_times(20.0, 0.9), 20.0, 130.0)
    then = [
        wire.Packet(20 + p.seq, p.start_s, p.rate_hz, p.samples)
        for p in _packets(slow, 130, 130.0, first[-1].start_s + 1)
    ]
    beats, _ = _run(engine, [*first, *then])
    assert engine.counts["rate changes"] == 1
    assert [b for b in beats if b.r_peak_s > START_S + 30]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_device_that_names_a_new_rate_in_each_packet_is_refused_but_for_a_few(restarts: bool) -> None:
    engine = _engine()
    packets = 1000
    for seq in range(packets):
        if restarts:
            engine.describe("a", _info(START_S + seq), 0.0)
        engine.feed("a", wire.Packet(seq, START_S + seq, 60 * 1.06 ** (seq * 29 % 70), CALM[:100]), 0.0)
        engine.flush()
    taken = packets - engine.counts["refused: rate changes"]
    assert taken == pytest.approx(1 + RATE_CHANGES + packets / RATE_PACKETS, abs=1)


def test_a_packet_that_was_refused_for_its_rate_is_needed_and_taken_later() -> None:
    engine = _engine()
    start_s = START_S
    for seq in range(2 * RATE_CHANGES):
        engine.feed("a", wire.Packet(seq, start_s, rate_hz := 100.0 + 100 * seq, CALM[:100]), 0.0)
        if engine.counts["refused: rate changes"]:
            break
        start_s += 100 / rate_hz
    assert engine.next_seq("a") == seq == 1 + RATE_CHANGES
    then = _again(CALM, seq, start_s)
    for packet in then[:1] * RATE_PACKETS + then:
        engine.feed("a", packet, 0.0)
    assert engine.next_seq("a") == then[-1].seq + 1
    assert engine.counts["gaps"] == 0


def test_packets_that_wait_for_a_lost_one_are_taken_before_a_new_rate() -> None:
    engine = _engine()
    packets = _packets(CALM)[:30]
    then = _again(CALM[: 10 * 125], 30, START_S + 30, 125.0)
    _run(engine, [*packets[:20], *packets[21:24], then[0], *then[1:]])  # 20, and all from 24 on, are lost
    assert engine.next_seq("a") == then[-1].seq + 1
    assert (engine.counts["gaps"], engine.counts["rate changes"], engine.counts["device restarts"]) == (1, 1, 0)


def test_packets_from_before_a_new_rate_that_come_again_change_nothing() -> None:
    engine = _engine()
    first = _packets(CALM)[:20]
    faster = make_ecg(beat_times(20.0, 0.9), 20.0, 300.0)
    then = [wire.Packet(20 + p.seq, p.start_s, 300.0, p.samples) for p in _packets(faster, 300, 300.0, START_S + 20)]
    beats, _ = _run(engine, [*first, *then[:5], *first[-5:], *then])
    assert (engine.counts["rate changes"], engine.counts["duplicates"]) == (1, 10)
    assert beats == _run(_engine(), [*first, *then])[0]


@pytest.mark.parametrize("start_s", [START_S + 100, 1000.0])
def test_a_restarted_device_is_taken_up_again_whatever_its_clock_says(start_s: float) -> None:
    engine = _engine()
    again = make_ecg(beat_times(60.0, 0.9), 60.0, RATE_HZ)
    beats, _ = _run(engine, [*_packets(CALM), *_packets(again, start_s=start_s)])
    assert engine.counts["device restarts"] == 1
    assert engine.counts["duplicates"] <= LATE_PACKETS
    assert [b for b in beats if start_s + 30 < b.r_peak_s < start_s + 60]


@pytest.mark.parametrize("told", [False, True])
def test_packets_that_wait_for_a_lost_one_are_taken_before_a_restart(told: bool) -> None:
    packets, then = _packets(CALM), _packets(CALM, start_s=START_S + 100)
    lossy = [*packets[:30], *packets[31:33]]
    alone, engine = _engine(), _engine()
    for one in (alone, engine):
        one.describe("a", _info(START_S), 0.0)
    expected = _run(alone, lossy)[0]
    beats = _run(engine, lossy)[0]
    alone.forget(float("inf"))
    if told:
        engine.describe("a", _info(START_S + 100), 0.0)
    expected += alone.flush().beats
    beats += _run(engine, then[:1])[0]
    assert beats == expected
    assert (engine.counts["gaps"], engine.counts["device restarts"]) == (1, 1)


@pytest.mark.parametrize("saved", [False, True])
def test_packets_that_come_again_across_a_restart_of_their_device_change_nothing(saved: bool) -> None:
    first, then = _packets(CALM), _packets(make_ecg(beat_times(60.0, 0.9), 60.0, RATE_HZ), start_s=START_S + 70)
    undisturbed, _ = _run(_engine(), [*first, *then])
    engine = _engine()
    beats, _ = _run(engine, [*first, *then[:5]])
    if saved:
        engine, state = _engine(), engine.save("a")
        engine.restore("a", state, 0.0)
    beats += _run(engine, [*first[-20:], *then])[0]
    assert beats == undisturbed
    assert engine.counts["duplicates"] == 25


def _again(samples: npt.NDArray[np.int16], seq: int, start_s: float, rate_hz: float = RATE_HZ) -> list[wire.Packet]:
    """Packets whose count begins with `seq`."""
    packets = _packets(samples, round(rate_hz), rate_hz, start_s)
    return [wire.Packet(seq + packet.seq, packet.start_s, rate_hz, packet.samples) for packet in packets]


BROKEN = {
    "the clock set back": (_again(CALM, 40, START_S - 3600), 37, 43),
    "the clock set back by 3 s": (_again(CALM, 40, START_S + 37), 34, 43),
    "the clock set forward": (_again(CALM, 40, START_S + 3640), 37, 43),
    "two restarts": ([*_again(CALM[:1000], 0, START_S + 45), *_again(CALM, 0, START_S + 50)], 37, 47),
    "a glitch of the clock": ([*_again(CALM[:500], 40, START_S + 3640), *_again(CALM, 42, START_S + 42)], 37, 45),
    "two glitches of the clock": (
        [
            *_again(CALM[:500], 40, START_S + 3640),
            *_again(CALM[:500], 42, START_S + 42),
            *_again(CALM[:500], 44, START_S - 3600),
            *_again(CALM, 46, START_S + 46),
        ],
        36,
        50,
    ),
    "another rate for a while": (
        [*_again(CALM[:250], 40, START_S + 40, 125.0), *_again(CALM, 42, START_S + 42)],
        37,
        45,
    ),
}
"""What comes after 40 packets, and from where to where in all of it packets come again."""


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("times", [1, 2])
def test_packets_that_come_again_across_a_break_change_nothing(case: str, saved: bool, times: int) -> None:
    then, begin, end = BROKEN[case]
    packets = [*_packets(CALM), *then]
    undisturbed = _run(_engine(), packets)
    engine = _engine()
    beats, alerts = _run(engine, packets[:end])
    before = engine.counts["duplicates"]
    if saved:
        engine, state, before = _engine(), engine.save("a"), 0
        engine.restore("a", state, 0.0)
    again = _run(engine, [*packets[begin:end] * times, *packets[end:]])
    assert (beats + again[0], alerts + again[1]) == undisturbed
    assert engine.counts["duplicates"] == before + times * (end - begin)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["clock back", "clock forward", "restart", "loss", "rate"]),
            st.integers(2, 3600),
            st.integers(2, 14),
        ),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_packets_that_come_again_across_any_breaks_change_nothing(
    parts: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    packets, begins = _packets(CALM[:2500]), [0]
    for kind, by_s, count in parts:
        last, rate_hz = packets[-1], packets[-1].rate_hz
        seq, start_s = last.seq + 1, last.start_s + 1
        if kind == "clock back":
            start_s -= by_s
        elif kind == "clock forward":
            start_s += by_s
        elif kind == "restart":
            seq, start_s = 0, max(packet.start_s for packet in packets) + by_s
        elif kind == "loss":
            seq, start_s = seq + by_s % 4, start_s + by_s % 4
        else:
            rate_hz = 375.0 - rate_hz
        begins.append(len(packets))
        packets += _again(CALM[: round(count * rate_hz)], seq, start_s, rate_hz)
    end = data.draw(st.integers(1, len(packets)))
    begin = data.draw(st.integers([0, 0, 0, *[at for at in begins if at < end]][-4], end - 1))
    undisturbed = _run(_engine(), packets)
    first, then = _engine(), _engine()
    beats, alerts = _run(first, packets[:end])
    then.restore("a", first.save("a"), 0.0)
    again = _run(then, packets[begin:])
    assert (beats + again[0], alerts + again[1]) == undisturbed


def test_info_of_a_restarted_device_resets_it_at_once() -> None:
    engine = _engine()
    for first_seen_s in (1000.0, START_S):
        engine.describe("a", _info(first_seen_s), 0.0)
        engine.describe("a", _info(first_seen_s), 0.0)  # a retained message may come twice
        _run(engine, _packets(CALM, start_s=first_seen_s))
    assert engine.counts["duplicates"] == 0
    assert engine.counts["device restarts"] == 1


def test_infos_and_packets_that_come_again_across_two_restarts_change_nothing() -> None:
    def play(runs: Sequence[int]) -> tuple[list[wire.Beat], int]:
        engine = _engine()
        beats = []
        for run in runs:
            engine.describe("a", _info(START_S + 50 * run), 0.0)
            beats += _run(engine, _packets(CALM, start_s=START_S + 50 * run))[0]
        return beats, engine.counts["device restarts"]

    assert play([0, 1, 0, 1, 2, 0, 1, 2]) == play([0, 1, 2])


def test_a_device_that_says_that_it_was_started_again_loses_nothing_by_a_clock_that_was_set_back() -> None:
    engine = _engine()
    for first_seen_s in (START_S, 1000.0):
        engine.describe("a", _info(first_seen_s), 0.0)
        beats, _ = _run(engine, _packets(CALM, start_s=first_seen_s))
    _, *since = beats  # the first still waited for its end when the device was started again
    assert since == _run(_engine(), _packets(CALM, start_s=1000.0))[0]
    assert engine.counts["device restarts"] == 1


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("back_s", [20.0, 3600.0, 1e8])
def test_abnormal_beats_are_told_at_once_after_a_clock_was_set_back(back_s: float, saved: bool) -> None:
    engine = _engine()
    before = np.concatenate([FAST, CALM[:6000]])  # an episode that ended just now
    _, alerts = _run(engine, _packets(before))
    assert alerts[-1].state == "end"
    if saved:
        engine, state = _engine(), engine.save("a")
        engine.restore("a", state, 0.0)
    start_s = START_S + 64 - back_s
    _, alerts = _run(engine, _again(FAST, 64, start_s))
    new = next(alert for alert in alerts if alert.kind == "abnormal-beats")
    assert new.state == "new"
    assert start_s < new.since_s < new.time_s < start_s + 5


def test_an_episode_ends_where_the_clock_is_set_back_and_a_new_one_begins() -> None:
    engine = _engine()
    _, alerts = _run(engine, [*_packets(FAST), *_again(FAST, 40, START_S - 3600)])
    told = [alert for alert in alerts if alert.kind == "abnormal-beats" and alert.state != "update"]
    assert [alert.state for alert in told] == ["new", "end", "new"]
    assert told[0].episode == told[1].episode != told[2].episode
    assert told[1].time_s < told[2].time_s < START_S - 3590
    assert told[2].since_s == told[1].time_s
    assert len({alert.id for alert in alerts}) == len(alerts)


def test_gaps_are_told_after_a_glitch_of_the_clock() -> None:
    engine = _engine()
    ecg = np.concatenate([CALM, CALM, CALM, CALM])
    packets = _packets(ecg)
    glitch = [wire.Packet(p.seq, p.start_s + 86400, p.rate_hz, p.samples) for p in packets[20:28]]
    _run(engine, [*packets[:20], *glitch, *packets[28:60]])
    _, alerts = _run(engine, [*packets[80:110], *packets[130:]])
    told = [(alert.state, alert.time_s - START_S) for alert in alerts if alert.kind == "gap"]
    assert [state for state, _ in told] == ["new", "end"] * 2
    assert [time_s for state, time_s in told if state == "new"] == [80, 130]


def test_each_device_is_counted_by_how_it_is() -> None:
    engine = _engine()
    for device, samples in {
        "well": CALM,
        "off": np.full_like(CALM, 100),
        "off and gone": np.full_like(CALM, 100),
    }.items():
        for packet in _packets(samples):
            engine.feed(device, packet, 20.0 if device == "off and gone" else 31.0)
    engine.describe("gone", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=START_S), 0.0)
    engine.flush()
    assert engine.tally(20.0 + SILENT_S) == Tally(streaming=1, lead_off=2, silent=1)
    assert engine.tally(31.0) == Tally(streaming=1, lead_off=1, silent=2)
    engine.forget(31.0)
    assert engine.tally(31.0) == Tally(streaming=1, lead_off=1, silent=0)


def test_lead_off_is_told_instead_of_beats() -> None:
    samples = np.concatenate([CALM[:5000], np.full(1500, wire.NO_SAMPLE, np.int16), CALM])
    _, alerts = _run(_engine(), _packets(samples))
    assert [(a.kind, a.state) for a in alerts if a.kind == "lead-off"] == [("lead-off", "new"), ("lead-off", "end")]
    off = next(a for a in alerts if a.kind == "lead-off")
    assert off.time_s == pytest.approx(START_S + 20 + 2, abs=0.1)
    assert off.severity == "technical"


@pytest.mark.parametrize("classifier", [RateClassifier(), RrClassifier()])
@pytest.mark.parametrize("size", [25, 1000, 10_000])
def test_a_beat_from_before_the_electrode_came_off_does_not_end_that_alert(
    classifier: RateClassifier, size: int
) -> None:
    """Whether it came in one packet with the end of the contact, or waited for the next beat meanwhile."""
    loss = round(19.75 * RATE_HZ)  # after the T wave of the beat at 19.4 s
    beats, alerts = _run(
        _engine(classifier=classifier),
        _packets(np.concatenate([CALM[:loss], np.full(10_000 - loss, CALM[loss], np.int16)]), size),
    )
    assert beats[-1].r_peak_s == pytest.approx(START_S + 19.4, abs=0.01)
    assert beats[-1].verdict == "normal"
    assert [(alert.kind, alert.state) for alert in alerts] == [("lead-off", "new")]


def test_what_one_flush_tells_is_told_in_order() -> None:
    engine = _engine()
    for packet in _packets(np.concatenate([CALM[:5000], np.full(1500, CALM[5000], np.int16), CALM])):
        engine.feed("a", packet, 0.0)
    alerts = [alert for alert in engine.flush().alerts if alert.kind == "lead-off"]
    assert [alert.state for alert in alerts] == ["new", "end"]
    assert START_S + 20 < alerts[0].time_s < START_S + 26 < alerts[1].time_s


def test_noise_is_told_as_poor_signal_and_never_judged() -> None:
    noise = np.random.default_rng(0).normal(0, 2000, 30 * 250).astype(np.int16)
    beats, alerts = _run(_engine(), _packets(np.concatenate([CALM, noise, CALM])))
    inside = [b for b in beats if START_S + 42 < b.r_peak_s < START_S + 68]
    assert {b.verdict for b in inside} == {"withheld"}
    assert {a.kind for a in alerts if a.time_s < START_S + 70} == {"poor-signal"}


def test_signal_that_breaks_every_few_seconds_is_no_heart_that_stops_but_has_no_beats() -> None:
    broken = [packet for packet in _packets(np.tile(CALM, 2)) if packet.seq < 20 or packet.seq % 3]
    _, alerts = _run(_engine(), broken)
    assert "no-beats" in {alert.kind for alert in alerts}
    assert {alert.severity for alert in alerts} == {"technical"}


def test_a_heart_that_stops_is_alerted() -> None:
    wander = (300 * np.sin(np.arange(20 * 250) / 250)).astype(np.int16)
    _, alerts = _run(_engine(), _packets(np.concatenate([CALM, wander, CALM])))
    silent = [a for a in alerts if a.severity == "high"]
    assert [(a.kind, a.state) for a in silent] == [("asystole", "new"), ("asystole", "end")]
    assert silent[0].time_s == pytest.approx(START_S + 40 + SHORTEST_SILENCE_S, abs=1.5)


def test_waveform_of_a_device_that_never_said_its_resolution_is_in_steps() -> None:
    alert = _run(_engine(), _packets(FAST))[1][0]
    assert alert.waveform is not None
    assert alert.waveform.unit == "step"


def test_idle_devices_are_forgotten() -> None:
    engine = _engine()
    engine.feed("old", _packets(CALM)[0], 0.0)
    engine.feed("young", _packets(CALM)[0], 100.0)
    engine.forget(before_s=50.0)
    assert engine.devices == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(
            wire.Packet,
            seq=st.integers(0, 12) | st.integers(0, 2**53),
            start_s=st.floats(0, 30) | st.floats(0, wire.MAX_TIME_S),
            rate_hz=st.sampled_from([50.0, 250.0, 4000.0, 130.061]),
            samples=st.integers(1, 400).map(lambda n: np.arange(n, dtype=np.int16) * 997),
        ),
        max_size=40,
    ),
    st.sampled_from([RateClassifier, RrClassifier, _bundled]),
)
def test_no_packet_that_decodes_can_stop_the_engine(
    packets: list[wire.Packet], kind: Callable[[], RateClassifier | Panel]
) -> None:
    engine = _engine(classifier=kind())
    beats, alerts = _run(engine, packets)
    engine.forget(float("inf"))
    engine.flush()
    for message in (*beats, *alerts):
        json.loads(wire.encode(message))
    assert engine.counts["packets"] == len(packets)


def test_every_beat_is_accounted_for_when_a_stream_breaks_or_ends() -> None:
    engine = _engine()
    packets = [packet for packet in _packets(CALM) if packet.seq != 20]
    beats, _ = _run(engine, packets)
    engine.forget(float("inf"))
    beats += engine.flush().beats
    times = START_S + beat_times(40.0, 0.9)
    lost = (times > START_S + 19.9) & (times < START_S + 21.2)
    found = np.array([beat.r_peak_s for beat in beats])
    assert all(np.abs(found - t).min() <= 0.008 for t in times[~lost])
    assert {b.reason for b in beats if b.verdict == "withheld"} == {"window incomplete"}


_SICK = np.concatenate([CALM[:3000], FAST[:4000], CALM[:2500]])
_SICK[2000:2100] = wire.NO_SAMPLE


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 110),
    st.integers(0, 20),
    st.sampled_from([RateClassifier, RrClassifier, _bundled]),
    st.sampled_from([75, 250]),
)
def test_a_monitor_that_goes_on_where_another_was_saved_tells_the_same(
    saved_at: int, more: int, kind: Callable[[], RateClassifier | Panel], size: int
) -> None:
    """Another is saved, takes `more` packets and dies; what came after it was saved comes again, and some before."""
    packets = _packets(_SICK, size)
    saved_at = min(saved_at, len(packets) - 1)
    late = max(2, saved_at - 1)  # two that overtook each other, one of them before the state is saved
    packets[late], packets[late - 1] = packets[late - 1], packets[late]
    whole = _run(_engine(classifier=kind()), packets)
    first = _engine(classifier=kind())
    before = _run(first, packets[:saved_at])
    saved = first.save("a")
    _run(first, packets[saved_at : saved_at + more])
    second = Engine(cast(Classifier, kind()), AlertSettings(n=3, m=5))
    second.restore("a", saved, 0.0)
    after = _run(second, packets[max(0, saved_at - 3) :])
    assert (before[0] + after[0], before[1] + after[1]) == whole


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 2500) | st.integers(45, 55), min_size=1, max_size=8),
    st.floats(0.1, 1),
    st.floats(0, 1),
    st.booleans(),
)
def test_packets_of_any_lengths_that_come_again_change_nothing(
    sizes: list[int], taken: float, again_from: float, saved: bool
) -> None:
    packets = _packets(FAST[: min(10_000, 200 * sum(sizes) // len(sizes))], sizes)
    end = max(1, round(taken * len(packets)))
    undisturbed, _ = _run(_engine(), packets)
    engine = _engine()
    beats, _ = _run(engine, packets[:end])
    if saved:
        engine, state = _engine(), engine.save("a")
        engine.restore("a", state, 0.0)
    begin = round(again_from * end)
    beats += _run(engine, packets[begin:])[0]
    assert beats == undisturbed
    assert engine.counts["duplicates"] == end - begin
    assert engine.counts["device restarts"] == 0


def test_packets_of_many_lengths_from_before_a_stream_was_joined_are_dropped() -> None:
    packets = _packets(FAST, [55, 45, 50, 47, 53])
    engine = _engine()
    beats, _ = _run(engine, packets[120:125])
    beats += _run(engine, packets[80:])[0]
    assert beats == _run(_engine(), packets[120:])[0]
    assert engine.counts["device restarts"] == 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(25, 500), min_size=1, max_size=8), st.floats(0, 100))
def test_a_restarted_device_is_taken_up_at_once_whatever_the_lengths_of_its_packets(
    sizes: list[int], pause_s: float
) -> None:
    engine = _engine()
    packets = _packets(CALM, sizes)
    assume(not 190 <= len(packets) <= 257)  # numbers that begin again there may be those of a counter of 8 bits
    _run(engine, [*packets, *_packets(CALM, sizes, start_s=START_S + 40 + pause_s)])
    assert (engine.counts["device restarts"], engine.counts["duplicates"]) == (1, 0)


def test_a_state_of_another_version_or_a_damaged_one_is_refused() -> None:
    engine = _engine()
    _run(engine, _packets(CALM))
    saved = engine.save("a")
    of_another = zstandard.decompress(saved).replace(LAYOUT.encode(), b"0" * len(LAYOUT))
    for broken in (saved[:-7], b"", zstandard.compress(of_another)):
        with pytest.raises(ValueError, match="saved state of device a is"):
            _engine().restore("a", broken, 0.0)


def test_windows_of_a_heart_too_slow_for_187_samples_are_cut_and_counted() -> None:
    engine = _engine()
    beats, _ = _run(engine, _packets(make_ecg(beat_times(40.0, 1.5), 40.0, RATE_HZ)))
    assert engine.counts["windows truncated at 187 samples"] == len(beats) > 20
    assert {beat.verdict for beat in beats} == {"normal"}


@pytest.fixture
def two_devices_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.devices.MAX_DEVICES", 2)


@pytest.mark.usefixtures("two_devices_at_most")
def test_one_device_too_many_is_refused_and_counted() -> None:
    engine = _engine()
    for device in ("a", "b", "c"):
        _run(engine, _packets(CALM)[:2], device)
    assert engine.counts["refused: too many devices"] == 2
    assert [engine.knows(device) for device in "abc"] == [True, True, False]


@pytest.mark.usefixtures("two_devices_at_most")
def test_a_new_name_in_every_packet_neither_disturbs_a_device_nor_keeps_the_next_one_out() -> None:
    engine, packets = _engine(), _packets(CALM)
    told: list[wire.Beat] = []
    for packet in packets:
        told += _run(engine, [packet])[0]
        for k in range(5 if packet.seq else 0):  # not before it was heard twice
            _run(engine, packets[:1], f"stranger-{packet.seq}-{k}")
    assert told == _run(_engine(), packets)[0]
    assert engine.counts["devices evicted"] == 5 * (len(packets) - 1) - 1
    assert engine.counts["refused: too many devices"] == 0
    assert _run(engine, packets, "next")[0] == [
        msgspec.structs.replace(beat, device="next", id=beat.id.replace("a-", "next-", 1)) for beat in told
    ]


@pytest.mark.usefixtures("two_devices_at_most")
def test_a_saved_device_pushes_out_another_before_that_is_known_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.engine.MAX_DEVICES", 2)
    former, engine, packets = _engine(), _engine(), _packets(CALM)
    before = _run(former, packets[:20])[0]
    for device in ("b", "c"):
        engine.feed(device, packets[0], START_S)
    engine.flush()
    engine.restore("a", former.save("a"), START_S)
    assert [engine.knows(device) for device in "abc"] == [True, False, True]
    assert before + _run(engine, packets[20:])[0] == _run(_engine(), packets)[0]


def test_of_a_device_that_cannot_be_restored_nothing_stays() -> None:
    former, engine, packets = _engine(), _engine(), _packets(CALM)
    _run(former, packets[:20])
    saved = msgspec.msgpack.decode(zstandard.decompress(former.save("a")))
    position = [one.name for one in msgspec.structs.fields(SavedDevice)].index("tape")
    saved[position] = [0, 0.0, 1.0, b"x"]
    with pytest.raises(ValueError, match="A saved tape must have at most"):
        engine.restore("a", zstandard.compress(msgspec.msgpack.encode(saved)), START_S)
    assert not engine.knows("a")
    assert _run(engine, packets) == _run(_engine(), packets)


@pytest.mark.usefixtures("two_devices_at_most")
def test_those_pushed_out_are_named_with_the_forgotten_also_if_they_came_again() -> None:
    engine, [packet, *_] = _engine(), _packets(CALM)
    for device in ("a", "b", "c", "d", "a"):  # the last three push out the first three
        engine.feed(device, packet, 0.0)
    assert [engine.has_forgotten(device) for device in "abcd"] == [True, True, True, False]
    engine.bury(engine.take_tombstones())
    assert not engine.has_forgotten("a")
    engine.forget(1.0)
    assert sorted(engine.tombstones) == ["a", "d"]
    assert engine.devices == 0


def test_what_is_open_ends_when_the_device_is_forgotten_with_the_reason() -> None:
    engine = _engine()
    _, alerts = _run(engine, _packets(FAST))
    engine.forget(float("inf"))
    [end] = engine.flush().alerts
    assert (end.state, end.reason, end.episode) == ("end", "gone", alerts[0].episode)
    assert end.time_s == end.completed_s == START_S + 40
    assert b"reason" not in wire.encode(alerts[0])


def test_a_device_is_found_silent_once_until_a_packet_comes_that_was_not_taken_before() -> None:
    engine, packets = _engine(), _packets(CALM)
    engine.feed("a", packets[0], 100.0)
    engine.feed("b", packets[0], 130.0)
    assert engine.tick(160.0) == []
    assert engine.tick(161.0) == ["a"]
    assert engine.tick(170.0) == []
    engine.feed("a", packets[0], 171.0)  # a broker repeats it
    assert engine.tick(195.0) == ["b"]
    assert engine.tick(300.0) == []
    engine.feed("a", packets[1], 300.0)
    assert engine.tick(361.0) == ["a"]


def test_a_device_that_stops_its_samples_and_repeats_its_info_is_told_as_silent() -> None:
    engine, packets = _engine(), _packets(CALM)
    engine.feed("a", packets[0], 0.0)
    alerts = []
    for second in range(1, 100):
        engine.describe("a", _info(START_S), second)
        engine.tick(second)
        alerts += engine.flush().alerts
    [alert] = alerts
    assert (alert.kind, alert.text) == ("device-silent", "No samples come from the device.")


def test_a_device_that_sends_the_same_packet_for_ever_is_told_as_sending_nothing_usable() -> None:
    engine, packets = _engine(), _packets(CALM)
    alerts, told = [], []
    for second in range(100):
        engine.feed("a", packets[0], second)
        told += engine.tick(second)
        alerts += engine.flush().alerts
    [alert] = alerts
    assert (told, alert.kind, alert.state) == (["a"], "device-silent", "new")
    assert "nothing that can be used" in alert.text
    look = engine.look(100.0)
    assert [CONNECTIONS[i] for i in look.connections] == ["silent"]
    engine.feed("a", packets[1], 101.0)
    assert [(one.kind, one.state) for one in engine.flush().alerts] == [("device-silent", "end")]


@pytest.mark.parametrize("saved", [False, True])
def test_a_device_whose_every_packet_is_refused_is_told_until_it_is_forgotten(saved: bool) -> None:
    engine = _engine()
    for second in range(70):
        engine.refuse("a", second, START_S + second)
        engine.tick(second)
    [alert] = engine.flush().alerts
    assert (alert.kind, alert.state, alert.since_s) == ("device-silent", "new", START_S)
    assert "nothing that can be used" in alert.text
    assert len(engine.look(70.0).devices) == 1
    if saved:
        state, engine = engine.save("a"), _engine()
        engine.restore("a", state, 70.0)
    engine.forget(1000.0)
    assert [(one.kind, one.reason) for one in engine.flush().alerts] == [("device-silent", "gone")]


def test_a_status_makes_no_device_and_its_online_is_a_sign_of_life() -> None:
    engine = _engine()
    engine.status("a", wire.DeviceStatus(state="offline"), 100.0)
    assert engine.devices == 0
    engine.feed("a", _packets(CALM)[0], 100.0)
    engine.status("a", wire.DeviceStatus(state="online"), 150.0)
    assert engine.tick(205.0) == []
    engine.status("a", wire.DeviceStatus(state="offline"), 200.0)
    assert engine.tick(300.0) == []  # that it is away is known


def test_an_info_that_names_another_start_each_time_breaks_nothing_while_the_packets_go_on() -> None:
    engine, beats = _engine(), []
    for packet in _packets(CALM):
        if packet.seq % 10 == 0:
            engine.describe("a", _info(packet.start_s), 0.0)
        beats += _run(engine, [packet])[0]
    assert beats == _run(_engine(), _packets(CALM))[0]
    assert not {"device restarts", "gaps"} & set(engine.counts)


def test_what_a_device_must_be_told_of_a_restart_waits_for_its_next_packet() -> None:
    engine = _engine()
    engine.describe("a", _info(START_S), 0.0)
    _run(engine, _packets(CALM)[:20])
    engine.describe("a", _info(START_S + 20), 0.0)
    assert engine.next_seq("a") is None  # an old number would have it drop packets that were never sent
    engine.feed("a", _packets(CALM)[20], 0.0)
    assert engine.next_seq("a") == 21


def test_a_device_need_not_say_when_it_began() -> None:
    engine = _engine()
    for packet in _packets(CALM):
        engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=2.0), 0.0)
        engine.feed("a", packet, 0.0)
    assert engine.counts["device restarts"] == 0


def test_two_devices_of_one_id_are_noted_and_packets_that_come_again_are_not() -> None:
    engine, again = _engine(), _engine()
    for one, other in zip(_packets(CALM), _packets(FAST, start_s=START_S + 0.4), strict=True):
        for packet in (one, other):
            engine.feed("a", packet, 0.0)
        for packet in (one, one, one):
            again.feed("a", packet, 0.0)
    [notice] = [notice for notice in engine.take_notices() if notice.reason == "identity"]
    assert "another device may use this id" in notice.text
    assert again.take_notices() == []


@pytest.mark.parametrize("seconds", range(1, 12))
def test_a_device_that_restarts_with_its_clock_set_back_is_not_taken_for_two(seconds: int) -> None:
    engine = _engine()
    for packet in [*_packets(CALM)[:seconds], *_packets(FAST, start_s=START_S - 1000.0)]:
        engine.feed("a", packet, 0.0)
    assert "identity" not in {notice.reason for notice in engine.take_notices()}


def test_what_is_told_of_a_device_without_a_clock_can_be_read_and_restored() -> None:
    engine = _engine(classifier=_bundled())
    slow = make_ecg(beat_times(150.0, 1.7), 150.0, RATE_HZ)
    beats, alerts = _run(engine, [replace(packet, start_s=0.0) for packet in _packets(slow)])
    assert "bradycardia" in {alert.kind for alert in alerts}
    assert min(alert.since_s for alert in alerts) < 0
    known = engine.record("a")
    assert known is not None
    for told in [*beats, *alerts, *known.active.values()]:
        assert wire.decode(wire.encode(told), type(told)) == told
    other = _engine(classifier=_bundled())
    other.erase("a")
    other.bury(other.take_tombstones())
    other.restore("a", engine.save("a"), 0.0)
    assert other.save("a") == engine.save("a")


def test_what_is_wrong_with_a_devices_packets_is_noted_once() -> None:
    engine = _engine()
    for packet in _packets(CALM, 50):
        engine.feed("a", replace(packet, start_s=float(int(packet.start_s))), 0.0)
    engine.flush()
    [notice] = engine.take_notices()
    assert (notice.owner, notice.reason) == ("a", "clock")
    assert engine.take_notices() == []


@settings(deadline=None, max_examples=150)
@given(
    level=st.integers(-32_767, 32_767),
    rate_hz=st.floats(50, 1000),
    size=st.integers(1, 600),
    packets=st.integers(1, 8),
)
@example(575, 256.0, 128, 10)  # these two once broke the monitor
@example(1, 250.0, 327, 1)
def test_a_flat_signal_breaks_nothing_whatever_its_level_and_rate(
    level: int, rate_hz: float, size: int, packets: int
) -> None:
    engine = _engine()
    for seq in range(packets):
        samples = np.full(size, level, np.int16)
        engine.feed("flat", wire.Packet(seq, 1e9 + seq * size / rate_hz, rate_hz, samples), 0.0)
        engine.flush()
    engine.forget(1.0)
    assert {beat.verdict for beat in engine.flush().beats} <= {"withheld"}
