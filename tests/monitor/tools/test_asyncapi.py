"""The published description of the wire is the wire."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from monitor import wire
from monitor.tools.asyncapi import document

PUBLISHED = Path(__file__).parents[3] / "docs" / "asyncapi.json"


def test_published_document_is_up_to_date() -> None:
    assert json.loads(PUBLISHED.read_text()) == document(), "run: ecgwatch asyncapi > docs/asyncapi.json"


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


def test_every_field_that_is_not_plain_by_its_name_is_described() -> None:
    schemas = document()["components"]["schemas"]
    plain = {"id", "device", "kind", "schema", "state", "version", "model", "model_sha256", "heart_rate_bpm", "rate_hz"}
    for struct in (wire.Info, wire.Samples, wire.Ack, wire.DeviceError, wire.Alert, wire.Beat, wire.MonitorStatus):
        fields = schemas[struct.__name__]["properties"]
        missing = {name for name, field in fields.items() if "description" not in field} - plain
        assert not missing, struct.__name__


def test_what_an_ack_means_stands_in_the_document() -> None:
    assert (
        "below this sequence number" in document()["components"]["schemas"]["Ack"]["properties"]["seq"]["description"]
    )


def test_every_message_has_an_example_that_decodes() -> None:
    for name, message in document()["components"]["messages"].items():
        [example] = message["examples"]
        struct = getattr(wire, message["payload"]["$ref"].rpartition("/")[2])
        assert msgspec.convert(example["payload"], struct), name


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        return [r for key, value in node.items() for r in ([value] if key == "$ref" else _references(value))]
    if isinstance(node, list):
        return [r for value in node for r in _references(value)]
    return []
