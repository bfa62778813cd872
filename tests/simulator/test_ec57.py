"""Annotated classes against what a model called the beats."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import wire
from recordings.classes import CLASS_OF, CLASSES
from simulator.ec57 import MISSED, WITHHELD, Agreement, agree, count_answers, format_agreement, is_comparable
from simulator.stream import Played

SCORED = ("N", "S", "V", "F")
ANSWERS = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, WITHHELD, MISSED])), max_size=60)


def found(label: str | None) -> wire.Beat:
    """A beat that was called this, or withheld."""
    times = {"r_peak_s": 1.0, "qrs_s": 1.0, "delay_s": 0.3, "completed_s": 2.0}
    verdict = "withheld" if label is None else "normal" if label == "N" else "abnormal"
    return msgspec.convert(
        {"id": "a-1", "device": "a", "verdict": verdict, "label": label, "seq": 0, **times}, wire.Beat
    )


def agreement_of(text: str) -> Agreement:
    """Of words such as "VN", annotated as V and called N."""
    return agree(Counter((word[0], word[1:]) for word in text.split()))


def test_symbols_stand_for_the_classes_of_the_standard() -> None:
    symbols = {name: {symbol for symbol, of in CLASS_OF.items() if of == name} for name in CLASSES}
    assert symbols == {"N": set("NLRBej"), "S": set("AaJSn"), "V": set("VEr"), "F": set("F"), "Q": set("/fQ?")}


def test_only_a_model_of_the_classes_with_normal_first_is_comparable() -> None:
    for classes in (["N", "S", "V", "F", "Q"], ["N", "V", "S", "Q", "F"], ["N", "S", "V"], ["N", "S", "V", "F"]):
        assert is_comparable(classes)
    for others in (["V", "N", "S"], ["N", "S", "F"], ["N", "S", "V", "X"], ["N", "S", "V", "V"], ["normal", "V"]):
        assert not is_comparable(others)


def test_what_a_model_calls_beats_of_a_class_it_does_not_have_is_neither_right_nor_wrong() -> None:
    words = "NN NN NV SS VV VV FV FN QV FS"
    told = agree(Counter((word[0], word[1:]) for word in words.split()), ["N", "S", "V"])
    assert told.ppv_percent == {"N": 100, "S": 100, "V": pytest.approx(66.67, abs=0.01)}
    assert told.sensitivity_percent["V"] == told.abnormal_sensitivity_percent == 100
    assert told.macro_f1_percent == pytest.approx((80 + 100 + 80) / 3)
    assert told.confusion["F"] == {"N": 1, "S": 1, "V": 1}
    lines = list(format_agreement(told))
    assert lines[0].split()[:4] == ["class", "as", "N", "as"]
    assert lines[4].split() == ["F", "1", "1", "1", "0", "0", "-", "-", "-"]
    assert "does not have F and Q" in lines[-1]


def test_a_beat_counts_as_what_it_was_called_or_as_withheld_or_missed() -> None:
    annotated = [Played(float(i), symbol, "", 1.0) for i, symbol in enumerate("LVV/A")]
    beats = [found("S"), found("N"), found(None), found("F")]
    answers = count_answers(annotated, beats, {0: 1, 1: 2, 2: None, 4: 0})
    assert answers == Counter({("N", "N"): 1, ("V", WITHHELD): 1, ("V", MISSED): 1, ("S", "S"): 1})


def test_figures_are_those_of_the_definitions() -> None:
    told = agreement_of("NN NN NN NV SN SS VV VV VF FV")
    assert told.sensitivity_percent == {"N": 75, "S": 50, "V": pytest.approx(66.67, abs=0.01), "F": 0}
    assert told.ppv_percent == {"N": 75, "S": 100, "V": 50, "F": 0}
    assert told.f1_percent["V"] == pytest.approx(57.14, abs=0.01)
    assert told.macro_f1_percent == pytest.approx((75 + 66.667 + 57.143 + 0) / 4, abs=0.01)
    assert told.abnormal_sensitivity_percent == pytest.approx(100 * 5 / 6)
    assert told.abnormal_specificity_percent == 75
    assert told.abnormal_ppv_percent == pytest.approx(100 * 5 / 6)


def test_beats_that_nobody_judged_change_no_figure_but_are_counted() -> None:
    judged = "NN NV VV SS FF"
    plain, told = agreement_of(judged), agreement_of(f"{judged} Vwithheld Vwithheld Nmissed Smissed")
    assert told.withheld == {"N": 0, "S": 0, "V": 2, "F": 0, "Q": 0}
    assert told.missed == {"N": 1, "S": 1, "V": 0, "F": 0, "Q": 0}
    assert (told.confusion, told.sensitivity_percent) == (plain.confusion, plain.sensitivity_percent)
    assert told.abnormal_sensitivity_percent == plain.abnormal_sensitivity_percent == 100


def test_one_abnormal_class_called_another_is_right_as_abnormal_only() -> None:
    told = agreement_of("VS SF FQ QV NN")
    assert (told.abnormal_sensitivity_percent, told.abnormal_ppv_percent) == (100, 100)
    assert told.macro_f1_percent == 25


def test_a_class_that_is_not_there_has_no_figures_and_so_no_mean() -> None:
    told = agreement_of("NN VV SN")
    assert told.sensitivity_percent["F"] is told.f1_percent["F"] is told.macro_f1_percent is None
    assert agreement_of("").abnormal_ppv_percent is None


@given(ANSWERS)
def test_figures_equal_their_naive_twin(answers: list[tuple[str, str]]) -> None:
    def share(part: list[tuple[str, str]], whole: list[tuple[str, str]]) -> float | None:
        return 100 * len(part) / len(whole) if whole else None

    told = agree(Counter(answers))
    judged = [(truth, label) for truth, label in answers if label in CLASSES]
    for name in SCORED:
        hits = [one for one in judged if one == (name, name)]
        assert told.sensitivity_percent[name] == share(hits, [one for one in judged if one[0] == name])
        assert told.ppv_percent[name] == share(hits, [one for one in judged if one[1] == name])
        se, ppv = told.sensitivity_percent[name], told.ppv_percent[name]
        if se and ppv:
            assert told.f1_percent[name] == pytest.approx(2 * se * ppv / (se + ppv))
    abnormal = [one for one in judged if one[0] != "N"]
    alarms = [one for one in judged if one[1] != "N"]
    right = [one for one in abnormal if one in alarms]
    normal = [one for one in judged if one[0] == "N"]
    assert told.abnormal_sensitivity_percent == share(right, abnormal)
    assert told.abnormal_ppv_percent == share(right, alarms)
    assert told.abnormal_specificity_percent == share([one for one in normal if one[1] == "N"], normal)


def test_table_has_a_row_a_class_with_all_of_its_beats() -> None:
    lines = list(format_agreement(agreement_of("NN NN NV VV Vwithheld Smissed QN")))
    assert lines[0].split()[:5] == ["class", "as", "N", "as", "S"]
    assert lines[1].split() == ["N", "2", "0", "1", "0", "0", "0", "0", "66.67", "66.67", "66.67"]
    assert lines[2].split() == ["S", "0", "0", "0", "0", "0", "0", "1", "-", "-", "-"]
    assert lines[3].split() == ["V", "0", "0", "1", "0", "0", "1", "0", "100.00", "50.00", "66.67"]
    assert lines[5].split() == ["Q", "1", "0", "0", "0", "0", "0", "0", "-", "-", "-"]
    assert lines[6] == "macro F1 over N S V F: - %"
    assert lines[7] == "abnormal, any class but N: Se 50.00 %, specificity 66.67 %, PPV 50.00 %"
