"""Packets that are known beforehand, and the beats and alerts that an undisturbed monitor makes of them.

A few streams are made; each device plays one of them. A stream's beats and alerts depend on the device only by its id,
so the expected output of a fleet of hundreds costs no more than that of its streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.engine import Engine
from monitor.panel import Panel, load_panel
from tests.monitor.synthetic_ecg import WAVES

ALERTS = AlertSettings(n=1, m=2)
RATE_HZ = 250.0
START_S = 1_700_000_000.0
STREAMS = 20
ABNORMAL_EVERY = 13
"""Every 13th beat is wide and inverted."""
SILENCE_S = 8.0
"""Length of the flat line at the middle of a stream, if it is long enough."""
PLACEHOLDER = "soak-xxxx"
"""Placeholder of the same length as a device id."""


class Fleet:
    """Devices with all the packets they will send.

    Parameters
    ----------
    devices
        Number of devices.
    seconds
        Length of each signal.
    packet_s
        Length of a packet.
    seed
        Seed of the signals.
    """

    def __init__(self, devices: int, seconds: float, packet_s: float = 0.5, seed: int = 0) -> None:
        self.ids = [f"soak-{number:04d}" for number in range(devices)]
        self.packet_s = packet_s
        self.rounds = math.floor(seconds / packet_s)
        self.streams = min(STREAMS, devices)
        self._streams = [_cut(_signal((seed, k), seconds), packet_s, self.rounds) for k in range(self.streams)]
        panel = load_panel()
        self._beats, self.stream_alerts = zip(
            *(_expected_output(panel, stream) for stream in self._streams), strict=True
        )
        """Expected beats and alerts of each stream, by their ids; the device is `PLACEHOLDER`."""

    @cached_property
    def beats(self) -> dict[str, bytes]:
        """Expected beats of each device, by their ids."""
        return self._of_all(self._beats)

    @cached_property
    def alerts(self) -> dict[str, bytes]:
        """Expected alerts of each device, by their ids."""
        return self._of_all(self.stream_alerts)

    @property
    def packets(self) -> int:
        """Total number of packets."""
        return self.rounds * len(self.ids)

    def payload(self, device: int, seq: int) -> bytes:
        """Return an encoded packet."""
        return self._streams[device % self.streams][seq]

    def _of_all(self, expected: Sequence[dict[str, bytes]]) -> dict[str, bytes]:
        return {
            id_.replace(PLACEHOLDER, device): payload.replace(PLACEHOLDER.encode(), device.encode())
            for number, device in enumerate(self.ids)
            for id_, payload in expected[number % self.streams].items()
        }


def _expected_output(panel: Panel, stream: list[bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Run a separate engine to get the beats and alerts that the monitor must publish."""
    engine = Engine(panel, ALERTS)
    beats: dict[str, bytes] = {}
    alerts: dict[str, bytes] = {}
    for payload in stream:
        engine.feed(PLACEHOLDER, wire.decode_packet(payload), 0.0)
        output = engine.flush()
        beats |= {beat.id: wire.encode(beat) for beat in output.beats}
        alerts |= {alert.id: wire.encode(alert) for alert in output.alerts}
    return beats, alerts


def _cut(signal: npt.NDArray[np.int16], packet_s: float, rounds: int) -> list[bytes]:
    size = round(packet_s * RATE_HZ)
    return [
        wire.encode_packet(wire.Packet(seq, START_S + seq * packet_s, RATE_HZ, signal[seq * size : (seq + 1) * size]))
        for seq in range(rounds)
    ]


def _signal(seed: tuple[int, int], seconds: float) -> npt.NDArray[np.int16]:
    """An ECG of varying heart rate, with some abnormal beats and, if it is long, a flat line."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    signal = rng.normal(0, 5, samples)
    rr_s, at_s, number = rng.uniform(0.5, 1.1), 0.5, 0
    while at_s < seconds - 0.3:
        number += 1
        abnormal = number % ABNORMAL_EVERY == 0
        _add_beat(signal, at_s, -1000.0 if abnormal else 1000.0, 3.0 if abnormal else 1.0)
        at_s += rr_s * rng.uniform(0.95, 1.05)
    if seconds >= 8 * SILENCE_S:
        begin = round(0.5 * seconds * RATE_HZ)
        signal[begin : begin + round(SILENCE_S * RATE_HZ)] = 0
    return np.rint(signal).astype(np.int16)


def _add_beat(signal: npt.NDArray[np.float64], at_s: float, height_uv: float, width: float) -> None:
    first, last = max(0, round((at_s - 0.5) * RATE_HZ)), round((at_s + 0.7) * RATE_HZ)
    part = signal[first:last]
    t = (first + np.arange(part.size)) / RATE_HZ - at_s
    for offset_s, height, width_s in WAVES:
        part += height_uv * height * np.exp(-((t - offset_s) ** 2) / (2 * (width * width_s) ** 2))
