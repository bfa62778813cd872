"""The wire as one AsyncAPI 3 document, made from the message structs of `monitor.wire`."""

from __future__ import annotations

from typing import Any

import msgspec

from monitor import wire

_CHANNELS: list[tuple[str, str, type[msgspec.Struct], str, int, bool, str]] = [
    ("info", "{device}/info", wire.Info, "receive", 1, True, "What a device says of itself, once."),
    ("samples", "{device}/samples", wire.Samples, "receive", 1, False, "The signal, packet by packet."),
    ("deviceStatus", "{device}/status", wire.DeviceStatus, "receive", 1, True, "Also the device's last will."),
    ("truth", "{device}/truth", wire.Truth, "receive", 0, False, "Simulated devices only: what was played."),
    ("ack", "{device}/ack", wire.Ack, "send", 0, False, "What a device need not keep any more."),
    ("beats", "{device}/beats", wire.Beat, "send", 1, False, "Every beat's verdict, if the monitor runs with --beats."),
    ("alerts", "{device}/alerts", wire.Alert, "send", 1, False, "What a person should look at."),
    ("monitorStatus", "monitor/{name}/status", wire.MonitorStatus, "send", 1, True, "Also the monitor's last will."),
]
"""(name, address, message, what the monitor does, QoS, retained, what it is)."""


def document() -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document of the whole wire, as the monitor sees it."""
    messages = [message for _, _, message, *_ in _CHANNELS]
    _, schemas = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
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
    }
