"""What numba has compiled is dropped when what it was compiled from has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.ecg.kernels import drop_stale

LOOPS = "from monitor.ecg.kernels import compiled\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two modules, one with loops, whose compiled code is of now."""
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "plain.py").write_text("")
    (tmp_path / "inner" / "__pycache__").mkdir(parents=True)
    drop_stale(tmp_path)
    (tmp_path / "inner" / "__pycache__" / "loops.f-1.py311.nbi").write_bytes(b"")
    return tmp_path


def _kept(package: Path) -> int:
    drop_stale(package)
    return len(list(package.rglob("*.nbi")))


def test_compiled_code_stays_while_no_module_with_loops_changes(package: Path) -> None:
    (package / "plain.py").write_text("changed = True\n")
    assert _kept(package) == 1


def test_compiled_code_of_all_modules_is_dropped_when_one_with_loops_changes(package: Path) -> None:
    (package / "loops.py").write_text(LOOPS + "changed = True\n")
    assert _kept(package) == 0
