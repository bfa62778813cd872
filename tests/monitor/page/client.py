"""A page without a network: its application, a browser's client, and a broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient, WebSocketTestSession

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.page.app import make_app
from monitor.page.settings import PageAddress, PageSettings
from monitor.page.users import add_user
from tests.monitor.page.fake_broker import FakeBroker, agree
from tests.monitor.page.messages import NOW_S

PORT = 8520
ORIGIN = f"http://127.0.0.1:{PORT}"
PASSWORD = "correct horse battery"


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now_s: float = NOW_S

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@dataclass
class Page:
    """A page, as a browser has it before it."""

    client: TestClient
    broker: FakeBroker
    clock: Clock
    csrf: str = ""

    def begin(self) -> None:
        """Load the session, as the page's script does."""
        self.csrf = self.client.get("/api/session").json()["csrf"]

    def log_in(self, name: str, password: str = PASSWORD) -> int:
        """Log in; return the status."""
        return self.client.post(
            "/login", data={"name": name, "password": password}, headers={"origin": ORIGIN}, follow_redirects=False
        ).status_code

    def post(self, path: str, **arguments: Any) -> Any:
        """Send what the page's script sends."""
        headers = {"origin": ORIGIN, "x-csrf-token": self.csrf} | arguments.pop("headers", {})
        return self.client.post(path, headers=headers, **arguments)

    def connect(self, headers: dict[str, str] | None = None, path: str = "/ws") -> WebSocketTestSession:
        """Open a WebSocket, from the page itself unless headers say otherwise."""
        url = f"ws://127.0.0.1:{PORT}{path}"
        return self.client.websocket_connect(url, headers={"origin": ORIGIN} if headers is None else headers)

    def refused(self) -> dict[str, int]:
        """Return what was refused so far."""
        counts: dict[str, int] = self.client.get("/api/monitor").json()["refused"]
        return counts


@contextmanager
def open_page(
    users: Path | None = None,
    answer: Callable[[str, wire.Request], wire.Answer] | None = agree,
    base_url: str = ORIGIN,
    phones: bool = False,
) -> Iterator[Page]:
    """Serve a page; with a file of users it asks for a login."""
    settings = PageSettings(
        BrokerUrl("127.0.0.1"),
        address=PageAddress(port=PORT),
        users=users,
        login=users is not None,
        plain_http=True,  # the client sends no cookie for HTTPS alone over HTTP
        phones=phones,
    )
    broker, clock = FakeBroker(answer), Clock()
    with TestClient(make_app(settings, broker, clock), base_url) as client:
        yield Page(client, broker, clock)


def make_users(folder: Path) -> Path:
    """Return a file with a viewer, vi, and a responder, rex."""
    file = folder / "users.json"
    add_user(file, "vi", "viewer", PASSWORD)
    add_user(file, "rex", "responder", PASSWORD)
    return file
