"""What leaves the monitor, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from monitor import counters, wire
from monitor.alerts.episode import AlertSettings
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.source import Subscription
from monitor.service.run import LEAVES, Service
from monitor.service.settings import ServiceSettings
from monitor.state.memory import MemoryLocation
from tests.monitor.synthetic_ecg import beat_times, make_ecg

TOPICS = wire.Topics()
RATE_HZ = 250.0


class _NarrowSource(MemorySource):
    """A source whose broker takes no message above a size."""

    most = 700

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, "monitor", [Subscription(TOPICS.of("+", leaf), 1) for leaf in LEAVES])
        self._refused: list[str | None] = []

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        key: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        if len(payload) > self.most:
            self._refused.append(key)
        else:
            super().publish(topic, payload, qos, retain=retain, key=key, correlation=correlation)

    def take_refused(self) -> list[str | None]:
        refused, self._refused = self._refused, []
        return refused


def _alerts_of(service: Service, broker: MemoryBroker) -> list[wire.Alert]:
    """Play an ECG of which every beat counts as abnormal; return the alerts that were published."""
    service.panel.main.info = msgspec.structs.replace(service.panel.info, threshold=0.0)
    service.source.open()
    samples = make_ecg(beat_times(20.0), 20.0, RATE_HZ)
    with service.assembled() as loop:
        for seq in range(20):
            packet = wire.Packet(seq, 1e9 + seq, RATE_HZ, samples[seq * 250 : (seq + 1) * 250].astype(np.int16))
            broker.publish(TOPICS.of("a", "samples"), wire.encode_packet(packet))
            for _ in range(3):
                loop.turn(0.0)
        loop.finish()
    topic = TOPICS.of("a", "alerts")
    return [wire.decode(message.payload, wire.Alert) for message in broker.published if message.topic == topic]


SETTINGS = ServiceSettings(provider="cpu", alerts=AlertSettings(n=1, m=1))


def test_an_alert_too_large_for_the_broker_goes_out_without_what_is_long_and_is_kept_whole() -> None:
    broker = MemoryBroker()
    service = Service(replace(SETTINGS, state="memory:narrow"), source=_NarrowSource(broker))
    published = _alerts_of(service, broker)
    kept = [wire.decode(one.payload, wire.Alert) for one in MemoryLocation.named("narrow").read_history("monitor", 0.0)]
    assert published
    assert all(alert.waveform is None for alert in published if alert.kind == "abnormal-beats")
    assert any(alert.waveform is not None for alert in kept)
    assert max(len(alert.recent) for alert in published) < max(len(alert.recent) for alert in kept)
    assert {alert.id for alert in kept} == {alert.id for alert in published}
    assert service.engine.counts[counters.TOO_LARGE] <= 1  # the last status


def test_an_alert_too_large_even_without_its_waveform_is_counted_and_not_tried_again() -> None:
    broker = MemoryBroker()
    source = _NarrowSource(broker)
    source.most = 50
    service = Service(SETTINGS, source=source)
    assert _alerts_of(service, broker) == []
    assert service.engine.counts[counters.TOO_LARGE] >= service.engine.counts[counters.ALERTS] > 0
    assert source.take_refused() == []


def _errors(broker: MemoryBroker, device: str) -> list[wire.DeviceError]:
    topic = TOPICS.of(device, "error")
    return [wire.decode(message.payload, wire.DeviceError) for message in broker.published if message.topic == topic]


def test_a_device_hears_what_is_wrong_with_its_messages_once_a_minute_for_each_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    wanted = [Subscription(TOPICS.of("+", leaf), 1) for leaf in LEAVES]
    broker.publish(TOPICS.of("old", "samples"), b"x", retain=True)
    service = Service(SETTINGS, source=MemorySource(broker, "monitor", wanted))
    service.source.open()
    now_s = [1000.0]
    monkeypatch.setattr("monitor.service.loop.time.monotonic", lambda: now_s[0])
    with service.assembled() as loop:
        for _ in range(3):
            broker.publish(TOPICS.of("a", "samples"), b"{")
            broker.publish(TOPICS.of("a", "info"), b'{"rate_hz": 1}')
            loop.turn(0.0)
        assert [error.reason for error in _errors(broker, "a")] == ["rejected"]
        assert "Not a packet of samples" in _errors(broker, "a")[0].text
        assert [error.reason for error in _errors(broker, "old")] == ["retained"]
        now_s[0] += 61
        broker.publish(TOPICS.of("a", "info"), b"{}")
        loop.turn(0.0)
    assert [error.reason for error in _errors(broker, "a")] == ["rejected", "rejected"]
