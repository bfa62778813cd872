"""A real HTTP server that takes alerts, and can fail, hang, redirect, or be away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = int | str
"""A status, or "hang", "drop" or "redirect"."""


class Receiver:
    """Listens on a free port of this machine, or the one that is given.

    Parameters
    ----------
    answers
        To the first requests, in order; all later ones get 200.
    port
        Where.
    """

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.alerts: list[dict[str, Any]] = []
        """Those that were answered with 200."""
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Method, headers and body of all."""
        self._answers = list(answers)
        self._released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def do_GET(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append((handler.command, dict(handler.headers), body))
        answer = self._answers.pop(0) if self._answers else 200
        if answer == "hang":
            self._released.wait(60)
            return
        if answer == "drop":
            return
        status = 302 if answer == "redirect" else int(answer)
        if status == 200:
            self.alerts.append(json.loads(body))
        handler.send_response(status)
        if answer == "redirect":
            handler.send_header("Location", self.url)
        if answer == 429:
            handler.send_header("Retry-After", "7")
        handler.end_headers()
        handler.wfile.write(b"noted" if status == 200 else b"<b>\x1b[31mno\n")

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait until something has become true, or fail."""
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)
