"""The dashboard shows what is exported, and nothing else."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from monitor import counters, wire
from monitor.service.metrics import Collector, HealthBoard
from tests.deploy.secured import DEPLOY

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "ecgwatch.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
ADDED = {"instance", "job"}
"""Labels that Prometheus adds."""


def _exported() -> dict[str, set[str]]:
    """Name of each metric -> its labels."""
    state = wire.DeviceState(device="a", name="Bed 4", connection="streaming", heart_rate_bpm=60, judged=1, time_s=0)
    counts = {one.name: 1 for one in counters.DEFINED} | {
        family.of("x"): 1 for family in counters.FAMILIES if family.prefix
    }
    board = HealthBoard(states={"a": state})
    board.note(
        wire.MonitorStatus(state="online", version="1", model="m", model_sha256="", since_s=0, counts=counts, devices=1)
    )
    samples = [sample for metric in Collector(board).collect() for sample in metric.samples]
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _queries() -> list[str]:
    variables = [one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return [target["expr"] for panel in PANELS for target in panel.get("targets", [])] + variables


def test_every_metric_that_the_dashboard_names_is_exported_with_its_labels() -> None:
    exported = _exported()
    for query in _queries():
        names = re.findall(r"ecgwatch_\w+", query)
        assert names
        assert set(names) <= set(exported), query
        for name, inside in re.findall(r"(ecgwatch_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+) *!?=", inside)) <= exported[name] | ADDED, query
        labels = set().union(*(exported[name] for name in names)) | ADDED
        for listed in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query):
            assert set(listed.split(", ")) <= labels, query


def test_every_metric_of_the_monitor_is_on_the_dashboard() -> None:
    shown = {name for query in _queries() for name in re.findall(r"ecgwatch_\w+", query)}
    assert set(_exported()) - shown == {"ecgwatch_info"}


def test_legends_name_labels_that_the_query_leaves() -> None:
    for panel in PANELS:
        for target in panel.get("targets", []):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"(by|group_left) \([^)]*\b{label}\b", target["expr"]), panel["title"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_lies_in_the_grid_and_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    place = panel["gridPos"]
    assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    if panel["type"] != "row":
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
    for other in PANELS:
        if other is not panel:
            assert not _overlap(place, other["gridPos"]), other["title"]


def _overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not is_beside and not (a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])


def test_ids_are_unique_and_brackets_match() -> None:
    assert all(a["id"] != b["id"] for a, b in combinations(PANELS, 2))
    for query in _queries():
        for opening, closing in ("()", "{}", "[]"):
            assert query.count(opening) == query.count(closing), query
