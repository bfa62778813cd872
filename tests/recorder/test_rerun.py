"""What would have been alerted otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from recorder.archive import Archive
from recorder.rerun import compare
from recordings.annotations import Spell
from tests.recorder.test_archive import NOW_S, make_packets
from tests.recorder.test_hand_out import INFO


def test_episodes_of_one_kind_that_overlap_or_are_near_are_the_same() -> None:
    before = [Spell("a", 0, 10, ""), Spell("a", 100, 110, ""), Spell("b", 50, None, "")]
    now = [Spell("a", 9, 20, ""), Spell("a", 115, 120, ""), Spell("a", 300, 310, ""), Spell("b", 0, 30, "")]
    got = [(pair.where, pair.spell.kind, pair.spell.begin_s) for pair in compare(before, now)]
    assert got == [
        ("both", "a", 0), ("only now", "b", 0), ("only before", "b", 50), ("both", "a", 100), ("only now", "a", 300),
    ]  # fmt: skip


def test_other_limits_alert_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Archive(tmp_path / "r").add("a", make_packets(60.0, start_s=1_790_000_000.0), [INFO], NOW_S)
    words = ["rerun", "a", "--since", "2020-01-01", "--record", str(tmp_path / "r")]
    limit = ["--limit", "tachycardia-bpm=70", "--strips", str(tmp_path / "strips")]
    assert main([*words, *limit, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert ("only now", "tachycardia") in {(one["where"], one["kind"]) for one in found["alerts"]}
    assert [path.suffix for path in (tmp_path / "strips").iterdir()] == [".svg"] * len(
        [one for one in found["alerts"] if one["where"] != "both"]
    )
    assert main(words) == 0
    assert "only before" in capsys.readouterr().out
