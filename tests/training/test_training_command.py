from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training import data
from training.__main__ import TASKS, main

HELP = """
import sys, training.__main__
try:
    training.__main__.main(["fit", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""


def test_help_does_not_load_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "default: 10, or at most 60" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--data", "/nowhere"], "got no data set"),
        (["fit"], "ECGWATCH_DATA"),
        (["fit", "--epochs", "0"], "expected at least 1"),
        (["evaluate", "/nowhere"], "got no finished run"),
        (["fetch", "x"], "got 'x', expected one of kaggle, ptbdb, mitdb"),
    ],
)
def test_failed_command_prints_one_line_and_returns_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECGWATCH_DATA", raising=False)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_command_line_offers_every_task() -> None:
    assert set(TASKS) == set(data.TASKS)


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        main(["fit", "--datas", str(Path.cwd())])
    assert refused.value.code == 2
