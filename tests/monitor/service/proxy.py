"""A line between clients and a broker that can be made to fail."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Self

from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST


class Proxy:
    """Passes bytes on to a port of this machine and back, as long as it is entered.

    Parameters
    ----------
    target
        The port.
    """

    def __init__(self, target: int) -> None:
        self.stalled = False
        """While true no byte moves, and nobody is told."""
        self._target = target
        self._listener = socket.create_server((HOST, 0), backlog=100)
        self.url = BrokerUrl(HOST, int(self._listener.getsockname()[1]))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._cutting = self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()

    def cut(self) -> None:
        """Break all connections; what was on its way is lost."""
        self._cutting = True
        while self._cutting:
            time.sleep(0.01)

    def _run(self) -> None:
        with self._listener:
            while not self._stopping:
                if self._cutting:
                    self._close(*self._peers)
                    self._cutting = False
                if self.stalled:
                    time.sleep(0.01)
                else:
                    self._pass_on()
            self._close(*self._peers)

    def _pass_on(self) -> None:
        readable, _, _ = select.select([self._listener, *self._peers], [], [], 0.02)
        for sock in readable:
            if sock is self._listener:
                self._accept()
            elif sock in self._peers:
                try:
                    data = sock.recv(65536)
                    self._peers[sock].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    self._close(sock, self._peers[sock], reset=False)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection((HOST, self._target))
        except OSError:
            client.close()
            return
        self._peers |= {client: broker, broker: client}

    def _close(self, *socks: socket.socket, reset: bool = True) -> None:
        for sock in socks:
            self._peers.pop(sock)
            with contextlib.suppress(OSError):
                if reset:  # what was on its way is lost, also what one side has sent before it closed
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
