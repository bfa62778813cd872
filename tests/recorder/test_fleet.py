"""A fleet of 200 devices, recorded for ten minutes by a recorder that is killed every minute: takes ten minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor import wire
from recorder.archive import Archive
from recorder.kept import read_kept
from tests.brokers import Broker
from tests.recorder.test_archive import make_packets
from tests.subscriber import Subscriber

DEVICES = 200
MINUTES = int(os.environ.get("ECGWATCH_MINUTES", "10"))


@pytest.mark.long
@pytest.mark.timeout(60 * MINUTES + 300)
def test_fleet_misses_no_sample_while_its_recorder_is_killed_every_minute(tmp_path: Path) -> None:
    broker = Broker("mosquitto", tmp_path / "broker")
    root, topics = tmp_path / "record", wire.Topics()
    command = [sys.executable, "-m", "ecgwatch", "record", "--broker", str(broker.url), "--record", str(root)]
    minute = make_packets(60.0)
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        with Subscriber(broker.url) as device:
            begin_s = time.monotonic()
            for second in range(60 * MINUTES):
                packet = minute[second % 60]
                payload = wire.encode_packet(wire.Packet(second, 1000.0 + second, 250.0, packet.samples))
                for number in range(DEVICES):
                    device.client.publish(topics.of(f"d{number}", "samples"), payload, qos=1)
                if second % 60 == 40:
                    running.send_signal(signal.SIGKILL)
                    running.wait(20)
                    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                time.sleep(max(0.0, begin_s + second + 1 - time.monotonic()))
            time.sleep(10)
    finally:
        running.terminate()
        running.wait(60)
        broker.end()
    sizes = [path.stat().st_size for path in Archive(root).files()]
    samples = 0
    for number in range(DEVICES):
        kept = sorted(read_kept(root, f"d{number}").packets, key=lambda one: one.seq)
        assert [one.seq for one in kept] == list(range(60 * MINUTES))
        samples += sum(one.samples.size for one in kept)
    assert samples == DEVICES * 60 * MINUTES * 250
    print(f"{samples} samples, none missing, {sum(sizes) / samples:.3f} byte a sample")
    assert sum(sizes) / samples < 0.9
