"""Names and units of signals."""

from __future__ import annotations

import pytest

from recordings.leads import choose_lead, is_ecg, is_other


@pytest.mark.parametrize(
    "name",
    ["I", "II", "iii", "aVR", "avf", "V1", "v6", "V3R", "MLII", "ML5", "MCL1", "MV2", "CM5", "CC5", "D3", "E-S", "vx",
     "ECG", "ECG1", "ECG lead II", "EKG", "Lead II", "mod.V1", "ecg_2", "V5 "],
)  # fmt: skip
def test_name_of_an_ecg_lead_is_known(name: str) -> None:
    assert is_ecg(name)
    assert not is_other(name)


@pytest.mark.parametrize(
    "name", ["RESP", "Resp A", "ABP", "PLETH", "EDA", "foot GSR", "EMG", "EEG", "C3-A2", "HR", "CO2", "marker", "PAP1"]
)  # fmt: skip
def test_name_of_another_signal_is_no_ecg(name: str) -> None:
    assert not is_ecg(name)


@pytest.mark.parametrize(
    ("signals", "chosen"),
    [
        ("II/mV V1/mV", 0),
        ("V5/mV MLII/mV", 0),
        ("RESP/mV II/mV", 1),
        ("ABP/mmHg PLETH/NU ECG/mV", 2),
        ("EEG/uV EMG/uV V2/uV", 2),
        ("RESP/mV chan2/mV", 1),
        ("chan1/mV chan2/mV", 0),
        ("II/NU V1/mV", 1),
        ("RESP/mV ABP/mmHg", 0),
    ],
)
def test_lead_to_take_is_the_first_ecg_in_volts(signals: str, chosen: int) -> None:
    names, units = zip(*(signal.split("/") for signal in signals.split(" ")), strict=True)
    assert choose_lead(names, units) == chosen


@pytest.mark.parametrize(
    ("signals", "refused"), [("RESP/mV II/NU", "signal 1 .II. in 'NU'"), ("ABP/mmHg", "signal 0 .ABP. in 'mmHg'")]
)
def test_without_an_ecg_in_volts_the_unit_is_named(signals: str, refused: str) -> None:
    names, units = zip(*(signal.split("/") for signal in signals.split(" ")), strict=True)
    with pytest.raises(ValueError, match=refused):
        choose_lead(names, units)
