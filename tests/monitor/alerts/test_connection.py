"""A device from which nothing comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor import wire
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.monitor.tiny_model import tiny_info, write_tiny

START_S, RATE_HZ = 1_700_000_000.0, 250.0
ECG = make_ecg(beat_times(40.0, 0.9), 40.0, RATE_HZ)
PACKETS = [wire.Packet(k, START_S + k, RATE_HZ, ECG[250 * k : 250 * (k + 1)]) for k in range(40)]
OFFLINE = wire.DeviceStatus(state="offline")


class Player:
    """An engine, and what it has alerted; a packet comes each second."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.engine = Engine(classifier)
        self.alerts: list[wire.Alert] = []

    def feed(self, begin: int, end: int) -> None:
        for packet in PACKETS[begin:end]:
            self.engine.feed("a", packet, float(packet.seq))
        self.flush()

    def flush(self) -> None:
        self.alerts += [alert for alert in self.engine.flush().alerts if alert.kind == "device-silent"]

    def restart(self) -> None:
        """Go on in another process, from what was saved."""
        saved, self.engine = self.engine.save("a"), Engine(self._classifier)
        self.engine.restore("a", saved, 0.0)

    @property
    def states(self) -> list[str]:
        return [alert.state for alert in self.alerts]


@pytest.fixture
def player(tmp_path: Path) -> Player:
    # No beat is abnormal.
    return Player(Classifier(write_tiny(tmp_path / "tiny.onnx", tiny_info(threshold=1.0))))


def _go_silent(player: Player, how: str) -> None:
    if how == "offline":
        player.engine.status("a", OFFLINE, 10.0)
    else:
        assert player.engine.tick(70.0) == ["a"]
    player.flush()


@pytest.mark.parametrize("how", ["silent", "offline"])
def test_it_is_alerted_on_the_devices_clock_and_ends_with_the_next_packet(player: Player, how: str) -> None:
    player.feed(0, 10)
    _go_silent(player, how)
    [new] = player.alerts
    assert (new.state, new.severity, new.time_s, new.since_s) == ("new", "technical", START_S + 10, START_S + 10)
    assert (new.id, new.seq) == (f"a-{round(1000 * new.time_s)}-device-silent-new", 9)
    player.feed(12, 20)
    [_, end] = player.alerts
    assert (end.state, end.episode, end.time_s) == ("end", new.episode, START_S + 15)  # 12 to 14 waited for 10 and 11


def test_a_last_will_and_then_silence_are_one_alert(player: Player) -> None:
    player.feed(0, 10)
    for how in ("offline", "offline"):
        _go_silent(player, how)
    assert player.engine.tick(1000.0) == []
    player.flush()
    assert player.states == ["new"]


@pytest.mark.parametrize("how", ["silent", "offline"])
def test_it_is_the_same_alert_after_a_crash(player: Player, how: str) -> None:
    player.feed(0, 8)
    saved = player.engine.save("a")
    player.feed(8, 10)
    _go_silent(player, "offline")
    player.engine.forget(float("inf"))
    player.engine.bury(player.engine.take_tombstones())
    player.flush()
    [before, _] = player.alerts
    player.engine.restore("a", saved, 0.0)
    player.feed(8, 10)
    _go_silent(player, how)
    assert player.alerts[2] == before


def test_it_ends_also_in_a_process_that_did_not_begin_it(player: Player) -> None:
    player.feed(0, 10)
    _go_silent(player, "silent")
    player.restart()
    player.feed(8, 10)  # delivered again: the device is not back
    assert player.states == ["new"]
    player.feed(10, 12)
    assert player.states == ["new", "end"]


def test_a_device_that_comes_and_goes_is_alerted_each_time(player: Player) -> None:
    for k in range(5):
        player.feed(k, k + 1)
        player.engine.status("a", OFFLINE, float(k))
        player.flush()
    assert player.states == ["new", "end"] * 4 + ["new"]
    assert len({alert.id for alert in player.alerts}) == 9


def test_a_device_that_never_sent_a_packet_is_not_missed(player: Player) -> None:
    player.engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=START_S), 0.0)
    player.engine.status("a", OFFLINE, 1.0)
    player.engine.tick(1000.0)
    player.flush()
    assert not player.alerts


def test_it_ends_as_gone_when_the_device_is_forgotten(player: Player) -> None:
    player.feed(0, 10)
    _go_silent(player, "silent")
    player.engine.forget(float("inf"))
    player.flush()
    assert [(alert.state, alert.reason) for alert in player.alerts[1:]] == [("end", "gone")]
