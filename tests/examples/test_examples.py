from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from monitor import wire
from simulator.broker import EmbeddedBroker
from tests.conftest import find_mosquitto, run_mosquitto
from tests.simulator.recorder import wait_for
from tests.subscriber import Subscriber

EXAMPLES = Path(__file__).parents[2] / "examples"
TOPICS = wire.Topics()
MAIN = """
#include "packet.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    static int16_t samples[65536];
    static uint8_t out[ECG_PACKET_SIZE(65535)];
    uint16_t n = (uint16_t)atoi(argv[4]);
    for (int i = 0; i < n; i++) samples[i] = (int16_t)(i * 7919 - 32768);
    uint32_t seq = (uint32_t)strtoul(argv[1], 0, 10);
    size_t size = ecg_packet(out, seq, strtoull(argv[2], 0, 10), strtof(argv[3], 0), samples, n);
    return fwrite(out, 1, size, stdout) == size && size <= ECG_PACKET_SIZE(n) && argc == 5 ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc")
    folder = tmp_path_factory.mktemp("packet")
    (folder / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{EXAMPLES / 'esp32'}"]
    sources = [str(folder / "main.c"), str(EXAMPLES / "esp32" / "packet.c")]
    subprocess.run([compiler, *flags, *sources, "-o", str(folder / "packet")], check=True)
    return folder / "packet"


@pytest.mark.parametrize(
    ("seq", "start_ms", "rate_hz", "n"),
    [(0, 0, 250.0, 1), (7, 1_700_000_000_123, 130.0, 73), (2**32 - 1, 1_900_000_000_000, 512.0, 32_767)],
)
def test_a_packet_built_in_c_is_what_the_monitor_reads(
    built: Path, seq: int, start_ms: int, rate_hz: float, n: int
) -> None:
    words = [str(built), str(seq), str(start_ms), str(rate_hz), str(n)]
    packet = wire.decode_packet(subprocess.run(words, check=True, capture_output=True).stdout)
    assert (packet.seq, packet.start_s, packet.rate_hz) == (seq, start_ms / 1000, rate_hz)
    assert packet.samples.tolist() == ((np.arange(n) * 7919 - 32768 + 2**15) % 2**16 - 2**15).astype(int).tolist()


def test_the_device_in_python_publishes_what_the_contract_wants_and_keeps_it_until_the_ack() -> None:
    with EmbeddedBroker(port=0) as broker:
        listener = Subscriber(broker.url, TOPICS.of("+", "samples"), TOPICS.of("+", "info"), TOPICS.of("+", "status"))
        words = [sys.executable, str(EXAMPLES / "device.py"), "patch", broker.url.host, str(broker.url.port)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: len(listener.payloads(TOPICS.of("patch", "samples"))) >= 3, 20)
            packets = [wire.decode_packet(payload) for payload in listener.payloads(TOPICS.of("patch", "samples"))]
            assert list(dict.fromkeys(packet.seq for packet in packets))[:2] == [0, 1]
            assert {packet.samples.size for packet in packets} == {250}
            assert wire.decode(listener.payloads(TOPICS.of("patch", "info"))[0], wire.Info).resolution_uv == 1.0
            error = wire.DeviceError(reason="retained", text="publish samples without the retain flag")
            listener.publish(TOPICS.of("patch", "error"), wire.encode(error))
            listener.publish(TOPICS.of("patch", "ack"), wire.encode(wire.Ack(seq=2)))
            assert process.stderr is not None
            assert "publish samples without the retain flag" in process.stderr.readline()
        finally:
            process.kill()
            process.communicate()
        wait_for(lambda: listener.payloads(TOPICS.of("patch", "status"))[-1:] == [b'{"state": "offline"}'], 20)
        listener.close()


def test_the_device_in_python_is_online_again_after_a_lost_connection(tmp_path: Path) -> None:
    with run_mosquitto(find_mosquitto(), tmp_path) as url:
        listener = Subscriber(url, TOPICS.of("patch", "status"))

        def wait_until_said(state: str, times: int) -> None:
            payload = f'{{"state": "{state}"}}'.encode()
            wait_for(lambda: listener.payloads(TOPICS.of("patch", "status")).count(payload) == times, 20)

        words = [sys.executable, str(EXAMPLES / "device.py"), "patch", url.host, str(url.port)]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            wait_until_said("online", 1)
            other = mqtt.Client(CallbackAPIVersion.VERSION2, "patch")  # the broker ends the device's connection
            other.connect(url.host, url.port)
            wait_until_said("offline", 1)
            other.disconnect()
            wait_until_said("online", 2)
        finally:
            process.kill()
            process.wait()
            listener.close()
