"""Messages as a monitor publishes them, for the tests of the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from monitor import wire
from monitor.page.hub import Heard

NOW_S = 1_800_000_000.0
TOPICS = wire.Topics()
STRIP = wire.Strip(
    start_s=NOW_S - 9,
    rate_hz=125.0,
    unit="uV",
    samples=[int(1000 * (i % 100 == 0)) for i in range(1250)],
    beats=[
        wire.StripBeat(time_s=NOW_S - 8.2, label="N", verdict="normal"),
        wire.StripBeat(time_s=NOW_S - 7.4, label="V", verdict="abnormal"),
    ],
)


def alert(device: str = "a", kind: str = "asystole", state: wire.AlertState = "new", **fields: Any) -> wire.Alert:
    """Return a step of an alert's life; its episode is named after device and kind."""
    given: dict[str, Any] = {
        "id": f"{device}:{kind}:{state}:{fields.get('time_s', NOW_S)}",
        "episode": f"{device}:{kind}",
        "severity": "high",
        "time_s": NOW_S,
        "since_s": NOW_S - 3,
        "text": "No heartbeat for 6 s.",
        "seq": 7,
        "completed_s": NOW_S,
    }
    return wire.Alert(device=device, kind=kind, state=state, **(given | fields))


def active(one: wire.Alert, **fields: Any) -> wire.ActiveAlert:
    """Return an alert as the state of its device lists it."""
    return wire.ActiveAlert(
        episode=one.episode, kind=one.kind, severity=one.severity, since_s=one.since_s, text=one.text, **fields
    )


def state(device: str = "a", **fields: Any) -> wire.DeviceState:
    """Return the state of a device that streams."""
    given: dict[str, Any] = {"connection": "streaming", "heart_rate_bpm": 72.0, "time_s": NOW_S}
    return wire.DeviceState(device=device, **(given | fields))


def beat(device: str = "a", time_s: float = NOW_S, **fields: Any) -> wire.Beat:
    """Return a normal beat."""
    given: dict[str, Any] = {
        "id": f"{device}:{time_s}",
        "r_peak_s": time_s,
        "qrs_s": time_s,
        "delay_s": 0.1,
        "verdict": "normal",
        "label": "N",
        "rr_s": 0.8,
        "heart_rate_bpm": 75.0,
        "seq": 0,
        "completed_s": time_s + 1,
    }
    return wire.Beat(device=device, **(given | fields))


def packet(seq: int = 0, start_s: float = NOW_S, n: int = 125, rate_hz: float = 125.0) -> wire.Packet:
    """Return a packet that counts upwards."""
    return wire.Packet(seq, start_s, rate_hz, np.arange(n, dtype=np.int16))


def heard(device: str, leaf: str, message: Any) -> Heard:
    """Return a message as it comes from the broker; bytes are sent as they are."""
    if isinstance(message, wire.Packet):
        payload = wire.encode_packet(message)
    else:
        payload = message if isinstance(message, bytes) else wire.encode(message)
    return Heard(TOPICS.of(device, leaf), payload)


def status(name: str = "monitor", **fields: Any) -> Heard:
    """Return the status of a monitor that is online."""
    given: dict[str, Any] = {
        "state": "online",
        "version": "1",
        "model": "ptb",
        "model_sha256": "0" * 64,
        "since_s": NOW_S - 60,
    }
    return Heard(TOPICS.monitor_status(name), wire.encode(wire.MonitorStatus(**(given | fields))))
