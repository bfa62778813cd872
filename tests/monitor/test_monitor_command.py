"""The command line, and what it must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monitor import wire
from monitor.__main__ import main
from monitor.beat import RrContext, Windows
from monitor.broker import connection
from monitor.classify import SHAPE_MODEL, Classifier
from monitor.panel import DEFAULT_MODEL
from monitor.tools.watch import describe, format_alert
from tests.monitor.tiny_model import tiny_info, write_tiny


def _loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after running some code."""
    run = [sys.executable, "-c", f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())


def test_the_service_loads_neither_torch_nor_the_other_packages() -> None:
    loaded = _loaded_by("import monitor.service.run, monitor.service.supervisor")
    assert not loaded & {"prometheus_client", "torch", "training", "export", "simulator", "pandas", "onnx"}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, contextlib, io\nfrom monitor.__main__ import main\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])"
    assert not _loaded_by(code) & {"numpy", "scipy", "numba", "onnxruntime", "paho", "msgspec", "prometheus_client"}


@pytest.mark.parametrize("verb", ["run", "doctor", "watch", "history", "classify", "models", "bench", "asyncapi"])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "usage: python -m monitor" in capsys.readouterr().out


def test_defaults_in_the_help_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in (connection.DEFAULT_URL, wire.PREFIX, DEFAULT_MODEL, SHAPE_MODEL):
        assert f"(default: {default})" in text


def _write(path: Path, rows: list[list[float]]) -> str:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return str(path)


BEAT = [1.0, 0.2] + [0.3] * 80 + [0.0] * 105
FULL_BEAT = [1.0, 0.2] + [0.3] * 185


def test_classify_tells_verdict_and_confidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", _write(tmp_path / "b.csv", [BEAT, BEAT]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [beat["row"] for beat in told["beats"]] == [1, 2]
    assert told["agree"] is None
    for beat in told["beats"]:
        abnormal = beat["probability"] >= told["threshold"]
        assert beat["verdict"] == ("abnormal" if abnormal else "normal")
        assert beat["confidence"] == pytest.approx(beat["probability"] if abnormal else 1 - beat["probability"])


def test_classify_withholds_what_the_model_gives_no_number_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Classifier.probabilities

    def no_number_for_the_second(self: Classifier, windows: Windows, rr: RrContext | None = None) -> Windows:
        given = usual(self, windows, rr)
        given[1:2] = np.nan
        return given

    monkeypatch.setattr(Classifier, "probabilities", no_number_for_the_second)
    file = _write(tmp_path / "b.csv", [[*BEAT, 0.0], [*BEAT, 0.0]])
    assert main(["classify", file, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["beats"][0]["verdict"] != "withheld"
    assert shown["beats"][1] == {
        "row": 2, "verdict": "withheld", "class": None, "confidence": None, "probability": None, "label": 0,
        "agrees": False,
    }  # fmt: skip
    assert main(["classify", file]) == 0
    assert "     2  withheld  the model gave no answer" in capsys.readouterr().out.splitlines()


def test_classify_compares_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", _write(tmp_path / "b.csv", [[*BEAT, 0.0], [*BEAT, 1.0]])]) == 0
    out = capsys.readouterr().out
    assert "1 of 2 agree with their label (50.0 %)" in out
    assert out.count("differs") == 1


def test_classify_names_the_class_of_a_model_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the tiny model a beat whose window is well filled is a V; label 0 is normal, any other is not."""
    model = str(write_tiny(tmp_path / "tiny.onnx", tiny_info(context=[])))
    file = _write(tmp_path / "b.csv", [[*BEAT, 0.0], [*FULL_BEAT, 4.0], [*FULL_BEAT, 0.0]])
    assert main(["classify", file, "--model", model, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(beat["class"], beat["verdict"]) for beat in told["beats"]] == [
        ("N", "normal"),
        ("V", "abnormal"),
        ("V", "abnormal"),
    ]
    assert [beat["agrees"] for beat in told["beats"]] == [True, True, False]
    assert main(["classify", file, "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["1", "normal", "N"],
        ["2", "abnormal", "V"],
        ["3", "abnormal", "V"],
    ]


def test_classify_names_a_class_that_goes_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the tiny model a beat whose window is half empty is an N at 0.73 and a V at 0.27."""
    model = str(write_tiny(tmp_path / "tiny.onnx", tiny_info(context=[], threshold=0.25)))
    assert main(["classify", _write(tmp_path / "b.csv", [BEAT]), "--model", model, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["beats"]
    assert (told["verdict"], told["class"]) == ("abnormal", "V")
    assert told["probability"] == told["confidence"] == pytest.approx(0.27, abs=0.01)


def test_classify_says_why_a_model_with_rr_context_cannot_judge_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny(tmp_path / "tiny.onnx")
    assert main(["classify", _write(tmp_path / "b.csv", [BEAT]), "--model", str(model)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    for words in ("'tiny'", "previous_rr_s, next_rr_s, median_rr_s", "CSV", "--model ptb judges single windows"):
        assert words in said


def test_classify_reads_genuine_rows(ecg_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(ecg_data / "kaggle_fragments" / "ptbdb_normal_first11.csv"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["beats"]) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "none.csv"], "none.csv"),
        (["classify", "{beats}", "--model", "none"], "No model 'none'"),
        (["run", "--broker", "http://x"], "Not a broker URL"),
        (["run", "--broker", "mqtt://a:b@x"], "must not hold a password"),
        (["run", "--alert", "6/5"], "got 6 of 5"),
        (["run", "--metrics", "x:y"], "[HOST:]PORT"),
        (["run", "--name", "a/b"], "A monitor's name must match [A-Za-z0-9_-]{1,64}: got 'a/b'."),
        (["run", "--name", "a/b", "--workers", "2"], "A monitor's name must match"),
        (["history", "--name", "a.b"], "A monitor's name must match"),
        (["history", "--device", "no spaces"], "A device id must match"),
        (["bench", "--devices", "0"], "more than 0"),
        (["bench", "--versus", "--rounds", "0"], "a round to measure"),
        (["bench", "--worse-than", "0.5"], "got 0.5, expected 1 or more"),
        (["bench", "--baseline", "none.json"], "none.json is no report of a bench"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beats = _write(tmp_path / "beats.csv", [BEAT])
    assert main([argument.format(beats=beats) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a/b"], "A monitor's name must match"),
        (["--workers", "0"], "at least one worker"),
        (["--state", __file__], "--state must be a directory: got the file"),
        (["--metrics", "x:y"], "Not an address to listen on"),
        (["--workers", "2", "--prefix", "a/#"], "A topic prefix must be"),
    ],
)
def test_with_a_log_of_json_bad_input_is_a_line_of_json(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "monitor", "run", "--log", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    [line] = map(json.loads, done.stderr.splitlines())
    assert line["level"] == "ERROR"
    assert message in line["message"]


def test_with_a_log_of_json_an_error_of_the_monitor_itself_is_a_line_as_well() -> None:
    code = "import monitor.__main__ as m\nm._settings = lambda _: 1 / 0\n"
    code += "raise SystemExit(m.main(['run', '--log', 'json']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    [line] = map(json.loads, done.stderr.splitlines())
    assert "ZeroDivisionError" in line["exception"]


@pytest.mark.parametrize("verb", ["models", "asyncapi"])  # less than Python's buffer holds, and more
def test_a_reader_that_has_seen_enough_is_no_error(verb: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "monitor", verb], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_bench_measures_every_stage_and_the_whole_path() -> None:
    command = [sys.executable, "-m", "monitor", "bench", "--devices", "2", "--seconds", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"cpu", "python", "onnxruntime", "model", "provider"} <= set(told["machine"])
    assert told["latency"]["broker"] == "the embedded broker"
    rows = told["latency"]["milliseconds"]
    for stage in ("decode", "segment", "classify", "publish", "whole path, beat"):
        assert rows[stage]["n"] > 0
        assert 0 < rows[stage]["p50"] <= rows[stage]["p99"] <= rows[stage]["max"]


@pytest.mark.parametrize(("label", "shown"), [("V", True), ("abnormal", False), ("normal", False), (None, False)])
def test_an_alert_is_one_line_for_a_person(label: str | None, shown: bool) -> None:
    alert = wire.Alert(
        id="a-1-abnormal-beats-end", episode="a-1-abnormal-beats", device="h10", kind="abnormal-beats",
        severity="low", state="end", time_s=12.0, since_s=2.0, beats=7, label=label, probability=0.25,
        heart_rate_bpm=71.6, seq=1, completed_s=13.0,
    )  # fmt: skip
    line = describe(alert)
    assert "\n" not in line
    assert (f"class {label}" in line) == shown
    assert "class" not in line or shown
    for word in ("h10", "END", "low", "abnormal-beats", "p 0.25", "7 abnormal beats", "72/min", "after 10 s"):
        assert word in line


def test_what_happened_stands_in_the_line() -> None:
    alert = wire.Alert(
        id="a", episode="a", device="h10", kind="asystole", severity="high", state="new", time_s=12.0, since_s=12.0,
        text="No heartbeat for 5 s.", beats=3, seq=1, completed_s=13.0,
    )  # fmt: skip
    line = describe(alert)
    assert "high" in line
    assert "No heartbeat for 5 s." in line
    assert "abnormal beats" not in line


@pytest.mark.parametrize("as_json", [True, False])
def test_a_forged_alert_moves_no_cursor_and_makes_no_line(as_json: bool) -> None:
    alert = wire.Alert(
        id="a", episode="a", device="\x1b[2Jh10\r\n\u202e", kind="abnormal-beats", severity="low", state="new",
        time_s=12.0, since_s=12.0, label="\x9b31m", probability=0.25, seq=1, completed_s=13.0,
    )  # fmt: skip
    line = format_alert(wire.encode(alert), as_json)
    assert line.isprintable()
    assert "h10" in line
    if as_json:
        assert json.loads(line)["device"] == alert.device
