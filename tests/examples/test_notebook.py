"""The notebook runs from begin to end, on beats that are drawn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_notebook_trains_compares_exports_and_judges(tmp_path: Path) -> None:
    settings = {
        "ECGWATCH_NOTEBOOK_QUIET": "1", "ECGWATCH_NOTEBOOK_EPOCHS": "2", "ECGWATCH_NOTEBOOK_OUT": str(tmp_path),
        "ECGWATCH_DATA": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "examples" / "notebook.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, check=False)
    assert done.returncode == 0, done.stderr
    assert "480 beats of 24 people" in done.stdout
    assert len(re.findall(r"confusion: normal \d+ right, \d+ wrong; abnormal \d+ right, \d+ wrong", done.stdout)) == 2
    assert re.search(r"the beat is \w+; the model says \w+, with confidence 0\.\d{3}", done.stdout)
    assert re.search(r"7\d beats: \{.*\}; alerts: \[", done.stdout)
    assert {path.name for path in tmp_path.glob("*.png")} == {"beats.png", "curves.png"}
