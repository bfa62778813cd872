"""Packets that are known beforehand, and what a monitor that nothing befalls makes of them.

A few streams are made; each device plays one of them. A stream's beats and alerts are the same whoever plays it, but
for the device's id, so a fleet of hundreds costs no more to foresee than its streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.synthetic_ecg import WAVES

ALERTS = AlertSettings(n=1, m=2)
RATE_HZ = 250.0
START_S = 1_700_000_000.0
STREAMS = 20
ODD = 13
"""Every so many beats one is wide and upside down."""
SILENCE_S = 8.0
"""The third quarter of a stream begins with so much of a flat line, where there is room."""
NOBODY = "soak-xxxx"
"""As long as a device's id."""


class Fleet:
    """Devices with all they will ever send.

    Parameters
    ----------
    devices
        How many.
    seconds
        Length of each one's signal.
    packet_s
        Length of a packet.
    seed
        Another one, other signals.
    """

    def __init__(self, devices: int, seconds: float, packet_s: float = 0.5, seed: int = 0) -> None:
        self.ids = [f"soak-{number:04d}" for number in range(devices)]
        self.packet_s = packet_s
        self.rounds = math.floor(seconds / packet_s)
        self.streams = min(STREAMS, devices)
        self._streams = [_cut(_signal((seed, k), seconds), packet_s, self.rounds) for k in range(self.streams)]
        classifier = Classifier("ptb", "cpu")
        self._beats, self.stream_alerts = zip(*(_foresee(classifier, stream) for stream in self._streams), strict=True)
        """Of each stream what is to be told of its beats, and of its alerts, by their ids; the device is `NOBODY`."""

    @cached_property
    def beats(self) -> dict[str, bytes]:
        """What is to be told of each device's beats, by their ids."""
        return self._of_all(self._beats)

    @cached_property
    def alerts(self) -> dict[str, bytes]:
        """What is to be told of each device's alerts, by their ids."""
        return self._of_all(self.stream_alerts)

    @property
    def packets(self) -> int:
        """Packets of all devices together."""
        return self.rounds * len(self.ids)

    def payload(self, device: int, seq: int) -> bytes:
        """Return a packet, as it is sent."""
        return self._streams[device % self.streams][seq]

    def _of_all(self, told: Sequence[dict[str, bytes]]) -> dict[str, bytes]:
        return {
            id_.replace(NOBODY, device): payload.replace(NOBODY.encode(), device.encode())
            for number, device in enumerate(self.ids)
            for id_, payload in told[number % self.streams].items()
        }


def _foresee(classifier: Classifier, stream: list[bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Ask an engine of its own what the monitor will say."""
    engine = Engine(classifier, ALERTS)
    beats: dict[str, bytes] = {}
    alerts: dict[str, bytes] = {}
    for payload in stream:
        engine.feed(NOBODY, wire.decode_packet(payload), 0.0)
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
    """An ECG of a varying heart rate, with some odd beats and, if it is long, a flat line."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    signal = rng.normal(0, 5, samples)
    rr_s, at_s, number = rng.uniform(0.5, 1.1), 0.5, 0
    while at_s < seconds - 0.3:
        number += 1
        odd = number % ODD == 0
        _add_beat(signal, at_s, -1000.0 if odd else 1000.0, 3.0 if odd else 1.0)
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
