"""A device that is heard and not judged is named: in the log, and to itself."""

from __future__ import annotations

import numpy as np
import pytest

from monitor import wire
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.source import Subscription
from monitor.service.run import LEAVES, Service
from monitor.service.settings import ServiceSettings
from tests.monitor.synthetic_ecg import beat_times, make_ecg

TOPICS = wire.Topics()
RATE_HZ = 250.0


def test_numbers_without_a_rule_are_logged_once_and_told_to_the_device(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker()
    wanted = [Subscription(TOPICS.of("+", leaf), 1) for leaf in LEAVES]
    service = Service(ServiceSettings(provider="cpu"), source=MemorySource(broker, "monitor", wanted))
    service.source.open()
    samples = make_ecg(beat_times(30.0), 30.0, RATE_HZ)
    numbers = np.random.default_rng(0).integers(0, 10**6, 30).tolist()
    with service.assembled() as loop:
        for i, seq in enumerate(numbers):
            packet = wire.Packet(seq, 1e9 + i, RATE_HZ, samples[i * 250 : (i + 1) * 250].astype(np.int16))
            broker.publish(TOPICS.of("odd", "samples"), wire.encode_packet(packet))
            loop.turn(0.0)
        loop.finish()
    errors = [
        wire.decode(message.payload, wire.DeviceError)
        for message in broker.published
        if message.topic == TOPICS.of("odd", "error")
    ]
    assert [error.reason for error in errors] == ["seq"]
    assert errors[0].seq in numbers
    assert sum("odd:" in message and errors[0].text in message for message in caplog.messages) == 1
