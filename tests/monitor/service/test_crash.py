"""What a killed monitor leaves undone, the next one finishes: real processes, a real broker, kill -9."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from monitor.state.location import locate
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.service.crash_harness import TOPICS, start_monitor, undisturbed, wait
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.subscriber import Subscriber

DEVICES, SECONDS, PACKET_S, RATE_HZ = 6, 24.0, 0.5, 250.0


def _packets(device: int) -> list[wire.Packet]:
    """An ECG of its own heart rate, the first a tachycardia, in packets of half a second that began long ago."""
    samples = make_ecg(beat_times(SECONDS, 0.38 + 0.12 * device), SECONDS, RATE_HZ)
    size = round(PACKET_S * RATE_HZ)
    return [
        wire.Packet(seq, 1e9 + seq * PACKET_S, RATE_HZ, samples[seq * size : (seq + 1) * size])
        for seq in range(samples.size // size)
    ]


class _Subscriber(Subscriber):
    """Keeps all that monitors tell."""

    def __init__(self, url: BrokerUrl) -> None:
        super().__init__(url, TOPICS.of("+", "beats"), TOPICS.of("+", "alerts"), TOPICS.monitor_status("+"))

    def on(self, leaf: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload in self.received if topic.endswith(f"/{leaf}")]


@contextmanager
def _subscribed(url: BrokerUrl) -> Iterator[_Subscriber]:
    subscriber = _Subscriber(url)
    try:
        yield subscriber
    finally:
        subscriber.close()


def _publish_all(url: BrokerUrl, pause_s: float) -> None:
    client = connection.make_client(url, "device")
    connection.connect(client, url)
    client.loop_start()
    for packets in zip(*(_packets(device) for device in range(DEVICES)), strict=True):
        for device, packet in enumerate(packets):
            client.publish(TOPICS.of(f"d{device}", "samples"), wire.encode_packet(packet), qos=1).wait_for_publish(10)
        time.sleep(pause_s)
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(("workers", "kind"), [(1, "directory"), (2, "directory"), (1, "database")])
def test_a_monitor_killed_again_and_again_loses_no_beat_and_no_alert(
    request: pytest.FixtureRequest, workers: int, kind: str, tmp_path: Path
) -> None:
    state = str(tmp_path / "state") if kind == "directory" else request.getfixturevalue("database_url")
    beats, alerts = undisturbed({f"d{device}": _packets(device) for device in range(DEVICES)})
    assert len(beats) > 100
    assert alerts
    rng = random.Random(workers)
    with run_mosquitto(find_mosquitto(), tmp_path) as url, _subscribed(url) as heard:
        options = ("--workers", str(workers), "--state", state)
        monitor = start_monitor(url, *options)
        wait(lambda: any(status["state"] == "online" for status in heard.on("status")))
        playing = threading.Thread(target=_publish_all, args=(url, 0.25))
        playing.start()
        for _ in range(4):
            time.sleep(rng.uniform(0.5, 3.0))
            monitor.kill()
            monitor.wait()
            monitor = start_monitor(url, *options)
        playing.join()
        wait(lambda: {beat["id"] for beat in heard.on("beats")} >= beats)
        wait(lambda: {alert["id"] for alert in heard.on("alerts")} >= alerts)
        time.sleep(1)
        monitor.send_signal(signal.SIGTERM)
        monitor.wait(20)
    assert {beat["id"] for beat in heard.on("beats")} == beats  # nothing else either
    assert {alert["id"] for alert in heard.on("alerts")} == alerts
    told: dict[str, dict[str, Any]] = {}
    for beat in heard.on("beats"):
        assert told.setdefault(beat["id"], beat) == beat  # also where it was told twice
    counted = locate(state if "://" in state else Path(state)).read_hourly("monitor", 0.0)
    assert sum(row.beats for row in counted) == len(beats)  # each once, however often it was found
