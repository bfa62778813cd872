"""The published description of the wire is the wire."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from monitor import wire
from monitor.tools.asyncapi import document

PUBLISHED = Path(__file__).parents[3] / "docs" / "asyncapi.json"


def test_published_document_is_up_to_date() -> None:
    assert json.loads(PUBLISHED.read_text()) == document(), "run: python -m monitor asyncapi > docs/asyncapi.json"


def test_every_leaf_has_a_channel() -> None:
    addresses = [channel["address"] for channel in document()["channels"].values()]
    for leaf in wire.LEAVES:
        assert wire.Topics().of("{device}", leaf) in addresses


def test_all_references_lead_somewhere() -> None:
    whole = document()
    for reference in _references(whole):
        node = whole
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]


def test_every_field_is_described_by_its_struct() -> None:
    schemas = document()["components"]["schemas"]
    for struct in (wire.Info, wire.Samples, wire.Alert, wire.Beat, wire.MonitorStatus):
        fields = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert set(schemas[struct.__name__]["properties"]) == fields


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        return [r for key, value in node.items() for r in ([value] if key == "$ref" else _references(value))]
    if isinstance(node, list):
        return [r for value in node for r in _references(value)]
    return []
