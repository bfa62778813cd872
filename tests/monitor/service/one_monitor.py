"""A monitor on a broker in memory, turned by hand, with a device that plays an ECG and a person who asks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.service.loop import Loop
from monitor.service.run import Service, subscriptions
from monitor.service.settings import ServiceSettings
from tests.monitor.state.saving import WAIT_S
from tests.monitor.synthetic_ecg import beat_times, make_ecg

TOPICS = wire.Topics()
RATE_HZ, START_S = 250.0, 1_700_000_000.0
ANSWERS = TOPICS.answer("monitor", "nurse")


def heart(rr_s: float | Sequence[float], seconds: float = 40.0) -> npt.NDArray[np.int16]:
    """(n,) int16 microvolts."""
    return make_ecg(beat_times(seconds, rr_s), seconds, RATE_HZ)


SLOW, CALM = heart(1.8), heart(0.8)
"""What is alerted as bradycardia, and what is not."""


@dataclass
class Monitor:
    """A monitor that is turned by hand."""

    broker: MemoryBroker
    service: Service
    loop: Loop
    sent: dict[str, int] = field(default_factory=dict)
    """Packets of each device so far."""

    def play(self, device: str, ecg: npt.NDArray[np.int16]) -> None:
        """Let a device send an ECG, a second a packet, after what it sent before."""
        for at in range(0, ecg.size, 250):
            seq = self.sent.get(device, 0)
            packet = wire.Packet(seq, START_S + seq, RATE_HZ, ecg[at : at + 250])
            self.broker.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))
            self.sent[device] = seq + 1
        self.turn()

    def turn(self, times: int = 3) -> None:
        """Let the loop turn so often, and on until the store has done what it was asked."""
        for _ in range(times):
            self.loop.turn(0.0)
        until_s, parts = time.monotonic() + WAIT_S, self.loop._parts
        while parts.checkpoint.is_open or parts.intake._waiting:
            assert time.monotonic() < until_s, "the store does not answer"
            self.loop.turn(0.0)

    def ask(self, verb: str, device: str, **fields: Any) -> wire.Answer | None:
        """Ask the monitor; return its answer, if one has come."""
        asked = {"by": "nurse", "device": device, "id": uuid4().hex, "response_topic": ANSWERS} | fields
        before = len(self.messages(ANSWERS))
        self.broker.publish(TOPICS.request("monitor", verb), json.dumps(asked).encode())
        self.turn()
        answers = self.messages(ANSWERS)[before:]
        assert len(answers) <= 1
        return wire.decode(answers[0], wire.Answer) if answers else None

    def messages(self, topic: str) -> list[bytes]:
        return [one.payload for one in self.broker.published if one.topic == topic]

    def alerts(self, device: str) -> list[wire.Alert]:
        return [wire.decode(payload, wire.Alert) for payload in self.messages(TOPICS.of(device, "alerts"))]

    def state(self, device: str) -> wire.DeviceState | None:
        """What a late subscriber gets."""
        kept = self.broker.retained.get(TOPICS.of(device, "state"))
        return None if kept is None else wire.decode(kept.payload, wire.DeviceState)


@contextmanager
def running(
    broker: MemoryBroker, *, finishes: bool = True, client: type[MemorySource] = MemorySource, **settings: Any
) -> Iterator[Monitor]:
    """Run a monitor; one that does not finish is killed at the end, as by kill -9."""
    source = client(broker, "monitor", subscriptions(TOPICS, "monitor"))
    service = Service(ServiceSettings(provider="cpu", **settings), source=source)
    source.open()
    with service.assembled() as loop:
        yield Monitor(broker, service, loop)
        if finishes:
            loop.finish()
        else:
            broker.cut("monitor")
