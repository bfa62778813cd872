"""The whole path in one command, as `make demo` runs it, and its summary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "simulator", "demo", "--seconds", "12"]


def _numbers(text: str, pattern: str) -> list[float]:
    found = re.search(pattern, text)
    assert found, f"{pattern} not in:\n{text}"
    return [float(group) for group in found.groups()]


def _run_demo(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "ECGWATCH_DATA"}
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check(text: str) -> None:
    sent, lost = _numbers(text, r"packets +(\d+) sent, (\d+) lost")
    assert sent > 50
    assert lost == 0
    played, found = _numbers(text, r"beats +(\d+) played, (\d+) of")
    assert played > 50
    assert found >= 0.995 * played
    same, judged = _numbers(text, r"same verdict +(\d+) of (\d+)")
    assert judged > 50
    assert same >= 0.98 * judged  # a dozen seconds are few beats; a minute shows 99 % and more
    assert re.search(r"NEW +low +abnormal-beats", text)
    assert _numbers(text, r"latency, alert +p50 ([\d.]+) ms")[0] > 0


def test_demo_on_the_shipped_beats_detects_them_and_loses_nothing() -> None:
    text = _run_demo()
    assert text.startswith("playing made-up beats")
    _check(text)


def test_demo_prints_the_address_of_a_page_that_is_there_until_it_ends() -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert demo.stdout is not None
    found = next(match for line in demo.stdout if (match := re.match(r"web page: (http://\S+)", line)))
    with urllib.request.urlopen(found.group(1)) as answer:
        assert "ecgwatch" in answer.read().decode()
    demo.communicate(timeout=110)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(found.group(1))


def test_demo_on_real_ptb_beats_detects_them_and_loses_nothing(ecg_data: Path) -> None:
    text = _run_demo("--data", str(ecg_data))
    assert text.startswith("playing PTB beats")
    _check(text)


@pytest.mark.parametrize("after_s", [0.5, 8.0])
def test_ctrl_c_ends_the_demo_cleanly_at_any_time(after_s: float) -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after_s)
    demo.send_signal(signal.SIGINT)
    out, errors = demo.communicate(timeout=30)
    assert demo.returncode in (0, 130)
    assert "Traceback" not in out + errors
    children = subprocess.run(["pgrep", "-f", "--", "--name demo"], capture_output=True, text=True)
    assert children.stdout == ""
