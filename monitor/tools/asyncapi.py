"""The wire as one AsyncAPI 3 document, made from the message structs of `monitor.wire`."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Any

import msgspec

from monitor import wire

_CHANNELS: list[tuple[str, str, type[msgspec.Struct], str, int, bool, str]] = [
    ("info", "{device}/info", wire.Info, "receive", 1, True, "What a device says of itself, once."),
    ("samples", "{device}/samples", wire.Samples, "receive", 1, False, "The signal, packet by packet."),
    ("deviceStatus", "{device}/status", wire.DeviceStatus, "receive", 1, True, "Also the device's last will."),
    ("truth", "{device}/truth", wire.Truth, "receive", 0, False, "Simulated devices only: what was played."),
    ("ack", "{device}/ack", wire.Ack, "send", 0, False, "What a device need not keep any more."),
    (
        "error",
        "{device}/error",
        wire.DeviceError,
        "send",
        0,
        False,
        "What is wrong with a device's messages.",
    ),
    ("beats", "{device}/beats", wire.Beat, "send", 1, False, "Every beat's verdict, if the monitor runs with --beats."),
    ("alerts", "{device}/alerts", wire.Alert, "send", 1, False, "What a person should look at."),
    ("state", "{device}/state", wire.DeviceState, "send", 0, True, "How a device and its wearer are now."),
    ("request", "monitor/{name}/request/{verb}", wire.Request, "receive", 1, False, "What a person asks of a monitor."),
    (
        "reload",
        "monitor/{name}/request/reload",
        wire.Reload,
        "receive",
        1,
        False,
        "To read the configuration file again.",
    ),
    ("answer", "monitor/{name}/answer/{client}", wire.Answer, "send", 1, False, "What came of a request."),
    (
        "forgotten",
        "monitor/{name}/forgotten",
        wire.Forgotten,
        "send",
        1,
        False,
        "A device that a person had forgotten.",
    ),
    ("monitorStatus", "monitor/{name}/status", wire.MonitorStatus, "send", 1, True, "Also the monitor's last will."),
]
"""(name, address, message, what the monitor does, QoS, retained, what it is)."""


_ALERT: dict[str, Any] = {"id": "patch-1-1700000042480-abnormal-beats-new", "device": "patch-1", "seq": 42}
EXAMPLES: dict[type[msgspec.Struct], msgspec.Struct] = {
    wire.Info: wire.Info(rate_hz=250, lead="II", resolution_uv=0.5, first_seen_s=1.7e9),
    wire.Samples: wire.Samples(seq=42, start_s=1.700000042e9, rate_hz=250, samples=[12, 15, 11]),
    wire.DeviceStatus: wire.DeviceStatus(state="offline"),
    wire.Truth: wire.Truth(r_peak_s=1.70000004248e9, label="abnormal", source="ptbdb_abnormal.csv:17", duration_s=0.8),
    wire.Ack: wire.Ack(seq=43),
    wire.DeviceError: wire.DeviceError(reason="retained", text="Publish samples without the retain flag.", seq=42),
    wire.Beat: wire.Beat(
        id="patch-1-1700000042480",
        device="patch-1",
        r_peak_s=1.70000004248e9,
        qrs_s=1.700000042496e9,
        delay_s=0.33,
        verdict="abnormal",
        label="abnormal",
        probability=0.97,
        rr_s=0.8,
        heart_rate_bpm=75.0,
        seq=43,
        completed_s=1.700000044e9,
    ),
    wire.Alert: wire.Alert(
        **_ALERT,
        episode="patch-1-1700000040880-abnormal-beats",
        kind="abnormal-beats",
        severity="low",
        state="new",
        time_s=1.70000004248e9,
        since_s=1.70000004088e9,
        beats=3,
        completed_s=1.700000044e9,
    ),
    wire.DeviceState: wire.DeviceState(
        device="patch-1",
        name="Bed 4",
        connection="streaming",
        heart_rate_bpm=75.0,
        rhythm="atrial fibrillation",
        judged=0.98,
        alerts=[
            wire.ActiveAlert(
                episode="patch-1-1700000040880-atrial-fibrillation",
                kind="atrial-fibrillation",
                severity="medium",
                since_s=1.70000004088e9,
                text="The beats follow at irregular intervals, as in atrial fibrillation.",
            )
        ],
        silenced=[wire.Silence(kind="lead-off", until_s=1.700001e9, by="nurse-2", reason="Washing.")],
        limits={"bradycardia": {"below_bpm": 45.0}},
        monitor="monitor",
        heard_s=1.7000000448e9,
        time_s=1.700000045e9,
    ),
    wire.Request: wire.Request(
        by="nurse-2",
        device="patch-1",
        episode="patch-1-1700000040880-atrial-fibrillation",
        id="7",
        response_topic="ecg/v1/monitor/monitor/answer/page-1",
    ),
    wire.Reload: wire.Reload(by="nurse-2", id="8", response_topic="ecg/v1/monitor/monitor/answer/page-1"),
    wire.Answer: wire.Answer(id="7", ok=True, text="Acknowledged atrial-fibrillation of patch-1."),
    wire.Forgotten: wire.Forgotten(device="patch-1", time_s=1.700000045e9),
    wire.MonitorStatus: wire.MonitorStatus(
        state="online",
        version="0.1.0",
        model="ptb",
        model_sha256="5ec91c6a",
        since_s=1.7e9,
        time_s=1.700000045e9,
        devices=1,
        streaming=1,
    ),
}
"""One message of each kind."""


def document() -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document of the whole wire, as the monitor sees it."""
    messages = [message for _, _, message, *_ in _CHANNELS]
    _, schemas = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
    for name, described in _field_docstrings().items():
        for field, text in described.items():
            schemas.get(name, {}).get("properties", {}).get(field, {})["description"] = text
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ecgwatch",
            "version": str(wire.SCHEMA),
            "description": (
                "ECG devices publish samples over MQTT; the monitor publishes alerts. Devices send JSON or "
                "MessagePack, told apart by the first byte ('{' is JSON); in MessagePack `samples` is a byte string "
                f"of int16, little-endian. The prefix {wire.PREFIX} of all addresses can be configured."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, address, text) for name, address, _, _, _, _, text in _CHANNELS},
        "operations": {
            f"{action}{name[0].upper()}{name[1:]}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "bindings": {"mqtt": {"qos": qos, "retain": retained, "bindingVersion": "0.2.0"}},
            }
            for name, _, _, action, qos, retained, _ in _CHANNELS
        },
        "components": {
            "messages": {name: _message(name, message) for name, _, message, *_ in _CHANNELS},
            "schemas": schemas,
        },
    }


def _channel(name: str, address: str, text: str) -> dict[str, Any]:
    parameters = {
        "device": {"description": f"Device id: {wire.DEVICE_ID}."},
        "name": {"description": "Name of the monitor."},
        "verb": {"description": "What is asked.", "enum": list(wire.VERBS)},
        "client": {"description": "Of the client's choice, such as its id."},
    }
    return {
        "address": f"{wire.PREFIX}/{address}",
        "description": text,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {key: value for key, value in parameters.items() if f"{{{key}}}" in address},
    }


def _message(name: str, message: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": (message.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
        "examples": [{"payload": msgspec.to_builtins(EXAMPLES[message])}],
        **_properties(message),
    }


def _properties(message: type[msgspec.Struct]) -> dict[str, Any]:
    """Return what of the properties of MQTT 5 has a meaning."""
    correlation = {"type": "string", "format": "binary", "description": "Comes back with the answer as it was sent."}
    topic = {"type": "string", "description": "Where the answer shall go, instead of `response_topic`."}
    found = {
        wire.Request: {"responseTopic": topic, "correlationData": correlation},
        wire.Reload: {"responseTopic": topic, "correlationData": correlation},
        wire.Answer: {"correlationData": correlation | {"description": "That of the request, if it had any."}},
    }.get(message)
    return {} if found is None else {"bindings": {"mqtt": found | {"bindingVersion": "0.2.0"}}}


def _field_docstrings() -> dict[str, dict[str, str]]:
    """The text under each field of each struct of the wire, as it stands in the source: Python does not keep it."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(wire)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
                for field, text in pairwise(node.body)
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found
