"""Gateways by their commands: what a wearable sends stands on the broker as a device's packets."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker.connection import BrokerUrl
from tests.subscriber import Subscriber

TOPICS = wire.Topics()


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.05)


@contextmanager
def _gateway(broker: BrokerUrl, device: str, *words: str) -> Iterator[Subscriber]:
    """Run a gateway until it has sent two packets and has said goodbye."""
    command = [sys.executable, "-m", "ecgwatch", "gateway", *words, "--device", device, "--broker", str(broker)]
    with Subscriber(broker, TOPICS.of(device, "+")) as heard:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            _wait(lambda: len(heard.payloads(TOPICS.of(device, "samples"))) >= 2 or process.poll() is not None)
            yield heard
        finally:
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "packets sent" in printed


def _packets(heard: Subscriber, device: str) -> list[wire.Packet]:
    return [wire.decode_packet(payload) for payload in heard.payloads(TOPICS.of(device, "samples"))]


def _info(heard: Subscriber, device: str) -> wire.Info:
    return wire.decode(heard.payloads(TOPICS.of(device, "info"))[0], wire.Info)


def test_lines_of_a_serial_port_become_packets(broker_url: BrokerUrl) -> None:
    device, port = pty.openpty()
    tty.setraw(device)
    tty.setraw(port)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.02):
            os.write(device, b"".join(b"%d\n" % (number + i) for i in range(5)))
            number += 5

    writing = threading.Thread(target=write)
    writing.start()
    try:
        words = ["serial", os.ttyname(port), "--rate", "250", "--resolution", "2.5", "--lead", "II"]
        with _gateway(broker_url, "by-wire", *words) as heard:
            first, second, *_ = _packets(heard, "by-wire")
            info = _info(heard, "by-wire")
    finally:
        stop.set()
        writing.join()
    assert (info.rate_hz, info.lead, info.resolution_uv) == (250.0, "II", 2.5)
    assert (first.seq, second.seq, first.samples.size) == (0, 1, 125)
    steps = np.diff(np.concatenate([first.samples, second.samples]).astype(int))
    assert np.count_nonzero(steps == 1) == steps.size


def test_board_of_brainflow_becomes_a_device(broker_url: BrokerUrl) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("brainflow", reason="pip install 'ecgwatch[brainflow]'")
    with _gateway(broker_url, "by-board", "brainflow", "synthetic", "--channel", "2") as heard:
        packets, info = _packets(heard, "by-board"), _info(heard, "by-board")
    assert (info.rate_hz, info.lead, info.resolution_uv) == (250.0, "ECG 2", 1.0)
    assert np.ptp(packets[0].samples) > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serial", "/dev/nothing", "--rate", "250", "--resolution", "1"], "The port /dev/nothing cannot be opened"),
        (["brainflow", "synthetic", "--set", "serial_port"], "expected NAME=VALUE"),
        (["polar", "--packet", "60"], "A packet lasts more than 0 and at most 10 s"),
        (["polar", "--device", "a/b"], "A device id must match"),
    ],
)
def test_what_cannot_be_read_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["gateway", *words])
    except SystemExit as ended:  # the parser's own refusals
        status = int(ended.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err
