"""Learning to tell atrial fibrillation, from small recordings that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts.finding import NORMAL, WITHHELD
from monitor.fibrillation import INPUTS, NETWORK, REGULAR, answer
from monitor.panel import load_panel
from monitor.rhythm import LOOK_EVERY
from recordings.reader import open_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from training import af
from training.__main__ import main
from training.af import Recording, Told, assign_folds, choose_limit, find_alerts, gather, least_limit, odds_of, play

RATE_HZ, SECONDS = 250.0, 30.0
OF_EACH = 10


def _signal_uv(label: str, seed: int) -> npt.NDArray[np.float64]:
    """Irregular beats with waves of their own (A); a steady heart (N); one with early beats (O)."""
    chance = np.random.default_rng(seed)
    if label == "A":
        rr_s = chance.uniform(0.5, 1.1, 60)
    elif label == "N":
        rr_s = chance.uniform(0.7, 0.9) + 0.03 * np.sin(np.arange(60) / 3) + chance.normal(0, 0.01, 60)
    else:
        rr_s = np.where(np.arange(60) % 6 == 0, 0.55, np.where(np.arange(60) % 6 == 1, 1.1, 0.8))
        rr_s = rr_s + chance.normal(0, 0.01, 60)
    signal: npt.NDArray[np.float64] = make_ecg(beat_times(SECONDS, rr_s.tolist()), SECONDS, RATE_HZ).astype(float)
    return signal + chance.normal(0, 15, signal.size)


def _write_challenge(folder: Path) -> None:
    folder.mkdir()
    rows = []
    with open_wfdb("test") as wfdb:
        for k in range(3 * OF_EACH):
            label, name = "ANO"[k % 3], f"A{k:05}"
            signal = _signal_uv(label, k)[:, None] / 1000
            wfdb.wrsamp(name, RATE_HZ, ["mV"], ["ECG"], signal, fmt=["16"], write_dir=str(folder))
            rows.append(f"{name},{label}")
    (folder / "REFERENCE.csv").write_text("\n".join(rows) + "\n")


def _told(odds: list[float], withheld: list[int] | None = None, spans: tuple[tuple[float, float], ...] = ()) -> Told:
    verdicts = np.full(len(odds), NORMAL, np.uint8)
    verdicts[withheld or []] = WITHHELD
    qrs_s = 0.8 * np.arange(len(odds), dtype=np.float64)
    recording = Recording("a", "mitdb", "a", 10.0, np.zeros(8 * len(odds)), "", spans)
    return Told(recording, np.zeros((len(odds), len(INPUTS))), verdicts, qrs_s)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan"))), min_size=1, max_size=30), st.sets(st.integers(0, 29))
)
def test_the_least_limit_is_where_the_detector_begins_to_be_quiet(odds: list[float], withheld: set[int]) -> None:
    told, known = _told(odds, [k for k in withheld if k < len(odds)]), np.array(odds)
    limit = least_limit(told, known)
    assert not find_alerts(told, known, max(limit, -50.0))
    if np.isfinite(limit):
        assert find_alerts(told, known, np.nextafter(limit, -np.inf))


def test_beats_whose_past_is_partly_in_fibrillation_teach_nothing() -> None:
    labels = _told([0.0] * 300, spans=((80.0, 160.0),)).labels
    assert (labels[:100] == 0).all()
    assert np.isnan(labels[101:140]).all()
    assert (labels[150:200] == 1).all()
    assert (labels[-40:] == 0).all()


def test_only_judged_beats_of_rhythms_that_are_not_plainly_regular_teach() -> None:
    told = _told([0.0] * 40, withheld=[0, 2, 4])
    told.numbers[10:20] = REGULAR
    told.numbers[20:30] = np.nan
    taught = gather([told])
    assert len(taught.numbers) == -(-(40 - 3 - 20) // af.EVERY)
    assert (taught.labels == 0).all()
    assert taught.weights.sum() <= af.WEIGHTS["mitdb"]


def test_a_person_is_in_one_fold_whatever_was_added_to_the_signal() -> None:
    clean = [Recording(str(k), "cinc2017", str(k), 10.0, np.zeros(10), "ANO"[k % 3]) for k in range(30)]
    folds = assign_folds([*clean, Recording("1", af.NOISY, "1", 10.0, np.zeros(10), "N")])
    for label in "ANO":
        assert sorted(folds[one.person] for one in clean if one.label == label) == sorted([*range(af.FOLDS)] * 2)


def test_the_limit_leaves_enough_recordings_of_each_label_quiet() -> None:
    least = {"N": np.linspace(-3, 1, 101).tolist(), "O": np.linspace(-3, 3, 101).tolist()}
    limit = choose_limit(least)
    for label, limits in least.items():
        assert np.mean(np.array(limits) <= limit) >= af.SPECIFICITY[label]
    assert choose_limit(least | {af.MOTION: [0.0, limit + 1]}) == limit + 1


def test_the_odds_are_those_of_the_engine() -> None:
    signal = _signal_uv("A", 1)
    told = play(Recording("a", "cinc2017", "a", RATE_HZ, signal, "A"), load_panel())
    odds = odds_of(told, NETWORK)
    known = np.isfinite(odds) & (odds != REGULAR)
    assert known.sum() > 15
    first = int(np.flatnonzero(known)[0])
    assert first % LOOK_EVERY == 0
    assert odds[first] == answer(told.numbers[first], NETWORK)


def test_noise_is_that_of_the_fold_and_as_loud_as_it_should_be(tmp_path: Path) -> None:
    folder = tmp_path / "nstdb_noise"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 1, (360 * 300, 2))
    with open_wfdb("test") as wfdb:
        wfdb.wrsamp("ma", 360, ["mV"] * 2, ["a", "b"], noise, fmt=["16"] * 2, write_dir=str(folder))
    clean = [Recording(str(k), "cinc2017", str(k), RATE_HZ, _signal_uv("N", k), "N") for k in range(3)]
    noisy = list(af._add_noise(clean, folder))
    assert [one.source for one in noisy] == [af.NOISY] * 3
    for one, before in zip(noisy, clean, strict=True):
        added = one.samples_uv - before.samples_uv
        snr_db = 10 * np.log10(af._usual_height(before) ** 2 / 8 / added.var())
        assert min(abs(snr_db - one_db) for one_db in af.SNR_DB) < 0.1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_command_learns_a_network_that_the_monitor_can_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_challenge(tmp_path / "cinc2017")
    out = tmp_path / "network.py"
    assert main(["af", str(tmp_path), "--json", "--out", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)["1"]
    assert figures["cinc2017 A"] == f"{OF_EACH} of {OF_EACH}, 100.0%"
    assert figures["cinc2017 N"].startswith("0 of")
    scope: dict[str, object] = {}
    exec(out.read_text(), scope)
    assert scope.keys() >= {"INPUTS", "HIDDEN", "OUT", "BIAS"}
    assert list(scope["INPUTS"]) == list(INPUTS)  # type: ignore[call-overload]


def test_without_labelled_recordings_nothing_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["af", str(tmp_path)]) == 2
    assert "got no recordings of CinC 2017" in capsys.readouterr().err
