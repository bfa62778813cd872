"""The page's application: files, WebSocket, JSON and login behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from monitor import wire
from monitor.page.api import Api, on_too_large
from monitor.page.asking import Asker
from monitor.page.guard import Guard, TooLarge
from monitor.page.hub import Heard, Hub
from monitor.page.login import Login
from monitor.page.past import Past
from monitor.page.phones import Phones
from monitor.page.sessions import LOGGED_OUT, Sessions
from monitor.page.settings import PageSettings
from monitor.page.users import UserFile, users_file
from monitor.page.viewer import MOST_WATCHED, Viewer

STATIC = Path(__file__).with_name("static")
TICK_S = 1.0
RETAINED_S = 2.0
"""A broker that hands out what it retains does so within this time."""
FRAME_S = 1 / 30
"""A page is sent something no more often than that."""
MOST_VIEWERS = 200


class Broker(Protocol):
    """The connection to the broker; see `monitor.page.feed.Feed`."""

    answer_name: str
    """Under which name answers come to this client."""

    def start(self, on_messages: Callable[[list[Heard]], None], on_connected: Callable[[bool], None]) -> None:
        """Connect, and call back in the running event loop."""

    def stop(self) -> None:
        """Disconnect."""

    def subscribe(self, topic: str, qos: int) -> None:
        """Hear a topic."""

    def unsubscribe(self, topic: str) -> None:
        """Hear it no more."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish."""


class Page:
    """What runs behind the routes.

    Parameters
    ----------
    settings
        How the page runs.
    feed
        The connection to the broker.
    now
        Seconds since 1970.
    """

    def __init__(self, settings: PageSettings, feed: Broker, now: Callable[[], float] = time.time) -> None:
        topics = wire.Topics(settings.prefix)
        self.refused: Counter[str] = Counter()
        """What was refused, by its reason."""
        self.hub = Hub(topics, feed)
        self._feed, self._now = feed, now
        self._asker = Asker(topics, settings.name, feed.answer_name, feed.publish)
        self._topics, self._name = topics, settings.name
        self._connected_s = math.inf
        self._past = Past(settings.state, settings.name)
        self.phones = Phones(topics, feed, self.refused)
        feed.subscribe(self._asker.answer_topic, 1)

    async def run(self) -> None:
        """Read the history, connect, and do what is due, until cancelled."""
        for alert in await asyncio.to_thread(lambda: list(self._past.alerts())):
            self.hub.fleet.take_alert(alert, 0.0)
        self._feed.start(self.take, self._note_connected)
        try:
            while True:
                self.hub.tick(self._now())
                self._ask_for_what_was_retained()
                await asyncio.sleep(TICK_S)
        finally:
            self._feed.stop()

    def _note_connected(self, connected: bool) -> None:
        self.hub.has_retained, self._connected_s = False, self._now()
        self.hub.set_connected(connected, self._now())

    def _ask_for_what_was_retained(self) -> None:
        """Ask the monitor to say again how all devices are, if the broker does not hand out what it has retained."""
        if self._connected_s + RETAINED_S < self._now() and self.hub.connected:
            self._connected_s = math.inf
            if not self.hub.has_retained:
                self._ask_to_say_again(self._name)

    def _ask_to_say_again(self, monitor: str) -> None:
        with contextlib.suppress(ConnectionError):
            self._feed.publish(self._topics.request(monitor, wire.REFRESH), b"{}")

    def take(self, messages: list[Heard]) -> None:
        """Take what came from the broker."""
        answers = [one for one in messages if one.topic == self._asker.answer_topic]
        for answer in answers:
            try:
                self._asker.take(answer.payload)
            except wire.PacketError:
                self.hub.refused["answer"] += 1
        others = self.phones.take(one for one in messages if one.topic != self._asker.answer_topic)
        self.hub.take(others, self._now())
        for monitor in self.hub.take_doubtful():
            self._ask_to_say_again(monitor)

    def api(self) -> Api:
        """Return the handlers of what the scripts ask for."""
        return Api(self.hub, self._asker, self._past, self.refused)

    async def serve(self, socket: WebSocket) -> None:
        """Keep one open page up to date."""
        if len(self.hub.viewers) >= MOST_VIEWERS:
            self.refused["too many pages"] += 1
            await socket.close(1013)
            return
        await socket.accept()
        changed = asyncio.Event()
        viewer = Viewer(changed.set)
        self.hub.join(viewer)
        sending = asyncio.create_task(self._send(socket, viewer, changed))
        try:
            while True:
                self._take_wish(viewer, await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError, KeyError, ValueError):  # RuntimeError: it was closed here
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(1003)
        finally:
            self.hub.leave(viewer, self._now())
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    def _take_wish(self, viewer: Viewer, text: str) -> None:
        """Take what a page wants to see: devices, and until when it has their signal.

        Raises
        ------
        ValueError
            It is not that.
        """
        wish: Any = json.loads(text)
        devices = wish.get("watch") if isinstance(wish, dict) else None
        if not isinstance(devices, dict) or len(devices) > MOST_WATCHED:
            raise ValueError(f"A page must say what it watches: expected at most {MOST_WATCHED} devices.")
        had_until = {wire.check_device_id(device): float(until) for device, until in devices.items()}
        self.hub.watch(viewer, had_until, self._now())

    async def _send(self, socket: WebSocket, viewer: Viewer, changed: asyncio.Event) -> None:
        """Send what there is, when there is something; a slow connection makes this wait, and nobody else."""
        may_go_on: Callable[[], bool] = socket.scope["may_go_on"]
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while may_go_on():
                for message in viewer.take(self.hub.fleet, self._now()):
                    await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
                await asyncio.sleep(FRAME_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), 0.5)
                changed.clear()
            await socket.close(LOGGED_OUT)


def make_app(settings: PageSettings, feed: Broker, now: Callable[[], float] = time.time) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    settings
        How the page runs.
    feed
        The connection to the broker; started and stopped with the application.
    now
        Seconds since 1970.
    """
    page = Page(settings, feed, now)
    users = users_file(settings.users) if settings.needs_login else None
    sessions = Sessions(None if users is None else UserFile(users).users)
    cookie = f"ecgwatch-{settings.address.port}"
    is_secure = settings.certificate is not None or (settings.needs_login and not settings.plain_http)
    login = Login(sessions, users, cookie, is_secure, page.refused)
    api = page.api()

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(page.run())
        yield
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    routes = [
        Route("/", _index),
        Route("/healthz", _healthz),
        Route("/login", login.form, methods=["GET"]),
        Route("/login", login.log_in, methods=["POST"]),
        Route("/api/session", login.session),
        Route("/api/logout", login.log_out, methods=["POST"]),
        Route("/api/device/{device}", api.device),
        Route("/api/limits/{device}", api.limits),
        Route("/api/alert", api.alert),
        Route("/api/monitor", api.monitor),
        Route("/api/card/{model}", api.card),
        Route("/api/request/{verb}", api.request, methods=["POST"]),
        Route("/api/try", api.trial, methods=["POST"]),
        Route("/api/analyse", api.analyse, methods=["POST"]),
        WebSocketRoute("/ws", page.serve),
        *_phone_routes(settings, page),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={TooLarge: on_too_large})
    app.state.now, app.state.page = now, page
    return Guard(app, sessions, cookie, settings.needs_login, page.refused, now)


def _phone_routes(settings: PageSettings, page: Page) -> list[Route | WebSocketRoute]:
    if not settings.phones:
        return []
    return [Route("/phone", _phone), WebSocketRoute("/phone/ws", page.phones.serve)]


async def _phone(_request: Request) -> Response:
    return FileResponse(STATIC / "phone.html")


async def _index(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok")
