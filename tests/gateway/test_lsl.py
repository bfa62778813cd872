"""A real outlet of LabStreamingLayer on this machine, through gateway, broker and monitor: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import wire
from monitor.engine import Engine
from monitor.panel import load_panel
from tests.brokers import Broker
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.subscriber import Subscriber

RATE_HZ = 130.0
if os.environ.get("CI") != "true":
    pytest.importorskip("pylsl", reason="pip install 'ecgwatch[lsl]'")
import pylsl  # noqa: E402 - it needs liblsl, which the package brings for most systems


class Outlet:
    """An outlet that sends an ECG in real time, in chunks of 73 samples."""

    def __init__(self, name: str, seconds: float, unit: str = "microvolts") -> None:
        info = pylsl.StreamInfo(name, "ECG", 2, RATE_HZ, "float32", f"source-{name}")
        channels = info.desc().append_child("channels")
        for label in ("RESP", "ECG II"):
            channels.append_child("channel").append_child_value("label", label).append_child_value("unit", unit)
        self.signal = make_ecg(beat_times(seconds, 0.8), seconds, RATE_HZ)
        self._outlet = pylsl.StreamOutlet(info, 73, 360)
        self._thread = threading.Thread(target=self._push, daemon=True)

    def start(self) -> None:
        """Begin once somebody listens."""
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _push(self) -> None:
        assert self._outlet.wait_for_consumers(30)
        begin_s, begin = time.monotonic(), pylsl.local_clock()
        for i in range(0, self.signal.size, 73):
            part = self.signal[i : i + 73]
            time.sleep(max(0.0, begin_s + (i + part.size) / RATE_HZ - time.monotonic()))
            rows = np.stack([np.zeros(part.size), part], axis=1).astype(np.float32)
            self._outlet.push_chunk(rows.tolist(), begin + (i + part.size - 1) / RATE_HZ)


def _start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecgwatch", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def _run(tmp_path: Path, seconds: float, kills: int) -> tuple[Outlet, list[wire.Packet], list[dict[str, Any]]]:
    """Send, and return the packets and the beats that were published."""
    broker = Broker("mosquitto", tmp_path / "broker")
    url = f"--broker={broker.url}"
    run = ["run", url, "--beats", "--state", str(tmp_path / "state")]
    monitor, gateway = _start(*run), None
    try:
        with Subscriber(broker.url, "ecg/v1/lsl-1/samples", "ecg/v1/lsl-1/beats", "ecg/v1/monitor/+/status") as seen:
            _wait_until(lambda: any(topic.endswith("/status") for topic, _ in seen.received))
            outlet = Outlet(f"test-{os.getpid()}-{seconds}", seconds)
            outlet.start()
            gateway = _start("gateway", "lsl", url, "--stream", f"test-{os.getpid()}-{seconds}", "--device", "lsl-1")
            for _ in range(kills):
                time.sleep(seconds / (kills + 1))
                monitor.send_signal(signal.SIGKILL)
                monitor.wait(20)
                monitor = _start(*run)
            outlet.join()
            time.sleep(2)
            gateway.terminate()
            gateway.wait(30)
            _wait_until(lambda: _last_beat(seen) > _end(seen) - 4)
            packets = [wire.decode_packet(payload) for payload in seen.payloads("ecg/v1/lsl-1/samples")]
            beats = [json.loads(payload) for payload in seen.payloads("ecg/v1/lsl-1/beats")]
    finally:
        for process in (monitor, gateway):
            if process is not None:
                process.kill()
                process.wait(20)
        broker.end()
    return outlet, packets, beats


def _end(seen: Subscriber) -> float:
    return max(wire.decode_packet(payload).start_s for payload in seen.payloads("ecg/v1/lsl-1/samples"))


def _last_beat(seen: Subscriber) -> float:
    return max((json.loads(payload)["qrs_s"] for payload in seen.payloads("ecg/v1/lsl-1/beats")), default=0.0)


def _wait_until(is_so: Any, seconds: float = 60.0) -> None:
    until_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.1)


def _check(outlet: Outlet, packets: list[wire.Packet], beats: list[dict[str, Any]]) -> None:
    once = {packet.seq: packet for packet in packets}
    assert sorted(once) == list(range(len(once)))
    np.testing.assert_array_equal(np.concatenate([once[seq].samples for seq in sorted(once)]), outlet.signal)
    engine = Engine(load_panel())
    engine.describe("lsl-1", wire.Info(rate_hz=RATE_HZ, lead="ECG II", resolution_uv=1.0), 0.0)
    expected = {}
    for seq in sorted(once):
        engine.feed("lsl-1", once[seq], 0.0)
        expected.update({beat.id: (beat.verdict, beat.label) for beat in engine.flush().beats})
    got = {beat["id"]: (beat["verdict"], beat["label"]) for beat in beats}
    assert got == {name: expected[name] for name in got}
    assert set(expected) - set(got) <= set(list(expected)[-4:])  # what the end of the stream leaves undecided


def test_samples_of_an_outlet_reach_the_monitor_and_its_beats_are_those_of_direct_feeding(tmp_path: Path) -> None:
    _check(*_run(tmp_path, 12.0, kills=0))


@pytest.mark.long
@pytest.mark.timeout(500)
def test_five_minutes_of_an_outlet_with_the_monitor_killed(tmp_path: Path) -> None:
    outlet, packets, beats = _run(tmp_path, 300.0, kills=1)
    _check(outlet, packets, beats)
    print(f"{outlet.signal.size} samples, {len({one.seq for one in packets})} packets, {len(beats)} beats, none lost")


def test_stream_without_a_unit_or_that_is_not_there_is_named() -> None:
    from gateway.lsl import LslStream

    outlet = Outlet(f"unit-{os.getpid()}", 1.0, unit="furlongs")
    with pytest.raises(ValueError, match=r"got signal 1 .ECG II. in 'furlongs', expected V, mV, uV or nV"):
        LslStream(f"unit-{os.getpid()}").open()
    stream = LslStream(f"unit-{os.getpid()}", unit="mV")
    stream.open()
    assert (stream.rate_hz, stream.lead) == (RATE_HZ, "ECG II")
    stream.close()
    del outlet


def test_stream_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.lsl import LslStream

    monkeypatch.setattr("gateway.lsl.FIND_S", 0.5)
    with pytest.raises(ConnectionError, match=r"No LSL stream whose name is 'nothing'"):
        LslStream("nothing").open()
