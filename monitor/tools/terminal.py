"""``ecgwatch watch`` on a terminal: the board, drawn again as messages come."""

from __future__ import annotations

import logging
import time
from typing import NoReturn

from rich.console import Console
from rich.live import Live

from monitor import wire
from monitor.broker.source import Source
from monitor.tools.board import Board
from monitor.tools.view import draw
from monitor.tools.watch import MOST, Watcher

FRAME_S = 0.25
HOLD_S = 10.0
"""For how long a device stays in focus before a graver one takes its place."""


class Focus:
    """The device whose signal is shown, and a connection that brings it.

    Parameters
    ----------
    watcher
        Who watches.
    device
        Always this one; None: the one that needs a person most.
    """

    def __init__(self, watcher: Watcher, device: str | None) -> None:
        self._watcher = watcher
        self._wanted = device
        self.device = device
        self.source: Source | None = None
        self._since_s = -HOLD_S

    def turn(self, board: Board, now_s: float) -> None:
        """Choose the device, and take its signal."""
        if self.device not in board.states or now_s - self._since_s >= HOLD_S:
            self._choose(board, now_s)
        if self.source is None:
            return
        try:
            for message in self.source.poll(0.0, MOST):
                board.take(message, now_s, time.time())
            self.source.flush()
        except ConnectionError:  # it may not read signal, or the broker is away: the other connection says so
            self.close()

    def _choose(self, board: Board, now_s: float) -> None:
        states = board.sorted()
        device = self._wanted or (states[0].device if states else None)
        self._since_s = now_s
        if device is None or (device == self.device and self.source is not None):
            return
        self.close()
        self.device = device
        board.follow(device)
        source = self._watcher.subscribe("samples", device=device)
        try:
            source.open()
        except ConnectionError:
            return
        self.source = source

    def close(self) -> None:
        """End the connection."""
        if self.source is not None:
            self.source.close()
            self.source = None


def show(watcher: Watcher, device: str | None, console: Console | None = None) -> NoReturn:
    """Show the fleet until interrupted; a broker that goes away is waited for.

    Parameters
    ----------
    watcher
        Who watches.
    device
        Whose signal is shown; None: that of the device that needs a person most.
    console
        Where to; standard output if None.

    Raises
    ------
    ConnectionError
        The broker cannot be reached at the start, or refuses the connection.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # lines would tear the picture
    console = console or Console()
    board, focus = Board(watcher.topics), Focus(watcher, device)
    source = watcher.subscribe("alerts", "state")
    source.open()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _serve(watcher, source, board, focus, live)
    finally:
        focus.close()
        source.close()


def _serve(watcher: Watcher, source: Source, board: Board, focus: Focus, live: Live) -> NoReturn:
    drawn_s, asked = 0.0, set[str]()
    while True:
        messages = source.poll(FRAME_S, MOST)
        now_s = time.monotonic()
        for message in messages:
            board.take(message, now_s, time.time())
        source.ack(message.token for message in messages if message.token is not None)
        source.flush()
        board.is_connected = source.connected
        new = set() if board.has_retained else board.monitors.keys() - asked
        asked |= new
        for name in new | board.doubtful:  # where the broker hands out nothing, or what is old
            source.publish(watcher.topics.request(name, wire.REFRESH), b"{}", qos=1)
        board.doubtful.clear()
        focus.turn(board, now_s)
        if now_s - drawn_s >= FRAME_S:
            drawn_s = now_s
            live.update(draw(board, focus.device, live.console.size, now_s, time.time()), refresh=True)
