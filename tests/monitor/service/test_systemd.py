"""What systemd hears, on a real socket."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.service.systemd import SOCKET_VARIABLE, notify


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Listen where NOTIFY_SOCKET points, as systemd does."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    address = str(tmp_path / "notify") if request.param == "path" else f"@ecgwatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        listener.settimeout(5)
        monkeypatch.setenv(SOCKET_VARIABLE, address)
        yield listener


def test_each_state_is_one_datagram(listening: socket.socket) -> None:
    assert notify("READY=1\nSTATUS=8 devices")
    assert notify("WATCHDOG=1")
    assert listening.recv(100) == b"READY=1\nSTATUS=8 devices"
    assert listening.recv(100) == b"WATCHDOG=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    assert not notify("READY=1")


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-listens-here", "vsock:2:1234", ""])
def test_socket_that_nobody_listens_on_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, address)
    assert not notify("READY=1")


def test_systemd_that_does_not_read_does_not_hold_up_the_monitor(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "settimeout", lambda self, _seconds: self.setblocking(False))
    sent = 0
    while notify("WATCHDOG=1"):
        sent += 1
    assert sent > 0
