"""What people decided survives kill -9 of the real thing: two workers, a real broker, a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgwatch.__main__ import main
from monitor import wire
from monitor.broker.connection import BrokerUrl
from tests.conftest import find_mosquitto, run_mosquitto
from tests.monitor.service.crash_harness import start_monitor, wait
from tests.monitor.service.one_monitor import RATE_HZ, SLOW, START_S, TOPICS
from tests.subscriber import Subscriber

DEVICES = ("a", "b", "c", "d")
"""Of both workers."""


class _Ward(Subscriber):
    """Plays devices, and keeps their states."""

    def play(self, begin_s: int, end_s: int) -> None:
        for seq in range(begin_s, end_s):
            packet = wire.Packet(seq, START_S + seq, RATE_HZ, SLOW[seq * 250 : (seq + 1) * 250])
            for device in DEVICES:
                self.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet))

    def is_online(self) -> bool:
        statuses = [payload for topic, payload in self.received if topic.endswith("status")]
        return bool(statuses) and wire.decode(statuses[-1], wire.MonitorStatus).state == "online"

    def states(self) -> dict[str, wire.DeviceState]:
        """The latest of each device."""
        found = {topic: payload for topic, payload in self.received if topic.endswith("/state") and payload}
        return {state.device: state for state in (wire.decode(one, wire.DeviceState) for one in found.values())}


def _ask(url: BrokerUrl, *words: str) -> None:
    assert main([*words, "--by", "anna", "--broker", str(url)]) == 0


@pytest.mark.long
def test_what_two_workers_were_asked_holds_in_one_process_after_they_are_killed(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with (
        run_mosquitto(find_mosquitto(), tmp_path) as url,
        _Ward(url, TOPICS.of("+", "state"), TOPICS.monitor_status("monitor")) as ward,
    ):
        monitor = start_monitor(url, "--state", state, "--workers", "2")
        try:
            wait(ward.is_online, 60)
            ward.play(0, 30)
            wait(lambda: sum(bool(one.alerts) for one in ward.states().values()) == len(DEVICES))
            for device in DEVICES:
                _ask(url, "ack", device)
                _ask(url, "device", "set", device, "--name", f"Bed {device}", "--limits", "pause.limit_s=5")
        finally:
            monitor.kill()
            monitor.wait()
        ward.messages.clear()
        monitor = start_monitor(url, "--state", state)
        try:
            wait(ward.is_online, 60)
            ward.play(30, 32)
            wait(lambda: {*ward.states()} == {*DEVICES})
            for device, told in ward.states().items():
                assert told.name == f"Bed {device}"
                assert told.limits == {"pause": {"limit_s": 5.0}}
                assert [(one.kind, one.acknowledged_by) for one in told.alerts] == [("bradycardia", "anna")]
        finally:
            monitor.kill()
            monitor.wait()
