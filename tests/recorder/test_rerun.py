"""What would have been alerted otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from recorder.archive import Archive
from recorder.comparison import MOST_ROWS, choose
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
    page = tmp_path / "comparison.html"
    limit = ["--limit", "tachycardia-bpm=70", "--strips", str(tmp_path / "strips"), "-o", str(page)]
    assert main([*words, *limit, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert ("only now", "tachycardia") in {(one["where"], one["kind"]) for one in found["alerts"]}
    assert [path.suffix for path in (tmp_path / "strips").iterdir()] == [".svg"] * len(
        [one for one in found["alerts"] if one["where"] != "both"]
    )
    shown = page.read_text()
    differ = [one for one in found["alerts"] if one["where"] != "both"]
    rows = re.findall(r"<h3>(.*?)</h3>", shown)
    assert sum(" · tachycardia · only now" in row for row in rows) == sum(
        one["kind"] == "tachycardia" for one in differ if one["where"] == "only now"
    )
    assert shown.count("<img") == 2 * len(rows) >= 2 * len(differ)
    assert "no such alert" in shown
    assert "nsv, tachycardia-bpm=70" in shown
    assert 'src="http' not in shown
    assert main(words) == 0
    assert "only before" in capsys.readouterr().out


def test_a_long_comparison_shows_the_longest_and_one_of_each_kind_that_both_have() -> None:
    before = [Spell("a", 1000.0 * n, 1000.0 * n + n, "") for n in range(70)]
    both = [Spell("b", 100_000.0 + 1000 * n, None, "") for n in range(3)]
    shown = choose(compare([*before, *both], both), 200_000.0)
    assert [pair.spell.kind for pair in shown] == ["a"] * MOST_ROWS + ["b"]
    assert [pair.spell.begin_s for pair in shown[:-1]] == [1000.0 * n for n in range(10, 70)]


def test_comparison_with_another_ending_is_refused_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rerun", "a", "--record", str(tmp_path), "-o", "x.svg"]) == 2
    assert "got 'x.svg', expected a name that ends in .html" in capsys.readouterr().err
