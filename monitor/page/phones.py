"""Phones that stand in for wearables: what a browser reads from a strap by Bluetooth is published as a device.

Rules
-----
* A page that streams says first what it is, then sends packets as they are on the wire, in JSON. Each is checked
  before it is published. Nothing is published once the login's session is over, and the connection is closed soon.
* Its device's id begins with `PREFIX`, so that no page can pass for another kind of device; and one page at a time is a
  device. Who opens another for the same device takes it over; somebody else may not.
* The page keeps its packets until the monitor's `ack`, which is passed on, and sends them again over a new connection.
  So a connection is closed where the broker is away: nothing is kept here.

The page's server publishes, and not the phone: a phone needs no password of the broker, no second port and no MQTT, and
who may stream is decided by the page's login.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Protocol

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from monitor import wire
from monitor.page.hub import Heard
from monitor.page.sessions import LOGGED_OUT, Session

PREFIX = "phone-"
"""Of the ids of these devices."""
HELLO_S = 10.0
"""How long a page may take to say what it is."""
CHECK_S = 0.5
"""How often it is looked whether the session still holds."""
SESSION_OVER = LOGGED_OUT, "You are logged out: log in, and start again."
MOST_PHONES = 100
MOST_NEWS = 1000
"""Messages for a page that waits to take them."""
REFUSED, GARBAGE, LATER = 4403, 1007, 1013
"""Why a connection is closed: this may not be, this is no packet, try again."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a page says first."""

    device: Annotated[str, msgspec.Meta(pattern=rf"^{PREFIX}[A-Za-z0-9_-]{{1,58}}$")]
    rate_hz: wire.Rate
    lead: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "ECG"
    resolution_uv: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    first_seen_s: wire.Time
    """When it began to stream."""


class Broker(Protocol):
    """As much of the broker's connection as is needed here."""

    def subscribe(self, topic: str, qos: int) -> None:
        """Hear a topic."""

    def unsubscribe(self, topic: str) -> None:
        """Hear it no more."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish with QoS 1, or raise `ConnectionError` if there is no broker."""


class _Phone:
    """An open page."""

    def __init__(self, user: str, socket: WebSocket) -> None:
        self.user, self.socket = user, socket
        self.may_go_on: Callable[[], bool] = socket.scope["may_go_on"]
        self.news: asyncio.Queue[str] = asyncio.Queue(MOST_NEWS)

    def tell(self, message: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # a later one says more
            self.news.put_nowait(message)

    async def send(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while self.may_go_on():
                with contextlib.suppress(TimeoutError):
                    await self.socket.send_text(await asyncio.wait_for(self.news.get(), CHECK_S))
            await self.socket.close(*SESSION_OVER)


class Phones:
    """All pages that stream.

    Parameters
    ----------
    topics
        Of the wire.
    broker
        Where to publish.
    refused
        Where to count what is refused, by its reason.
    """

    def __init__(self, topics: wire.Topics, broker: Broker, refused: Counter[str]) -> None:
        self._topics, self._broker, self._refused = topics, broker, refused
        self._open: dict[str, _Phone] = {}

    def take(self, messages: Iterable[Heard]) -> list[Heard]:
        """Pass on what is said to devices that are phones; return the other messages."""
        others = []
        for one in messages:
            *_, device, leaf = one.topic.split("/")
            if leaf not in ("ack", "error"):
                others.append(one)
            elif (phone := self._open.get(device)) is not None:
                phone.tell(f'{{"{leaf}": {one.payload.decode("utf-8", "replace")}}}')
        return others

    async def serve(self, socket: WebSocket) -> None:
        """Publish what one page sends, until it is closed."""
        session: Session | None = socket.scope["session"]
        if session is not None and session.role != "responder":
            self._refused["role"] += 1
            await socket.close(REFUSED)
            return
        await socket.accept()
        code, reason = 1000, ""
        try:
            hello = wire.decode((await asyncio.wait_for(socket.receive_text(), HELLO_S)).encode(), Hello)
            code, reason = await self._stream(socket, hello, "" if session is None else session.user)
        except (TimeoutError, KeyError, wire.PacketError) as error:
            self._refused["phone"] += 1
            code, reason = GARBAGE, str(error)
        except WebSocketDisconnect:
            return
        with contextlib.suppress(RuntimeError):
            await socket.close(code, reason[:120])

    async def _stream(self, socket: WebSocket, hello: Hello, user: str) -> tuple[int, str]:
        """Publish as a device; return why the connection is to be closed."""
        known = self._open.get(hello.device)
        if (known is not None and known.user != user) or len(self._open) >= MOST_PHONES:
            self._refused["phone"] += 1
            return REFUSED, f"{hello.device} is streaming already, from somebody else's page: choose another name."
        phone = self._open[hello.device] = _Phone(user, socket)
        if known is not None:
            with contextlib.suppress(RuntimeError):
                await known.socket.close(REFUSED, f"{hello.device} goes on in another page.")
        sending = asyncio.create_task(phone.send())
        try:
            return await self._publish(phone, hello)
        finally:
            sending.cancel()
            if self._open.get(hello.device) is phone:
                self._leave(hello.device)

    async def _publish(self, phone: _Phone, hello: Hello) -> tuple[int, str]:
        of = self._topics.of
        try:
            for leaf in ("ack", "error"):
                self._broker.subscribe(of(hello.device, leaf), 1)
            info = wire.Info(
                rate_hz=hello.rate_hz,
                lead=hello.lead,
                resolution_uv=hello.resolution_uv,
                first_seen_s=hello.first_seen_s,
            )
            self._broker.publish(of(hello.device, "info"), wire.encode(info), True)
            self._broker.publish(of(hello.device, "status"), wire.encode(wire.DeviceStatus(state="online")), True)
            phone.tell('{"ready": true}')
            while True:
                packet = (await phone.socket.receive_text()).encode()
                wire.decode_packet(packet)
                if not phone.may_go_on():
                    return SESSION_OVER
                self._broker.publish(of(hello.device, "samples"), packet)
        except WebSocketDisconnect:
            return 1000, ""
        except ConnectionError as error:
            return LATER, str(error)

    def _leave(self, device: str) -> None:
        del self._open[device]
        for leaf in ("ack", "error"):
            self._broker.unsubscribe(self._topics.of(device, leaf))
        with contextlib.suppress(ConnectionError):
            gone = wire.encode(wire.DeviceStatus(state="offline"))
            self._broker.publish(self._topics.of(device, "status"), gone, True)
