"""What stands before every request: who may ask, from where, and how much; and the headers of every answer.

Rules
-----
* Without a login the page answers only to this machine under its own names, and never through a proxy: a foreign name
  that points here (DNS rebinding) is refused.
* What changes something, and the WebSocket, must come from the page itself: same origin; and what changes something
  brings the session's token.
* A body is cut off at its limit, whatever its header says.
* Whatever is refused is counted by its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from secrets import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.page.sessions import Session, Sessions
from monitor.page.settings import LOOPBACK_NAMES

CSRF_HEADER = "x-csrf-token"
PUBLIC = ("/login", "/healthz", "/static/style.css", "/static/icon.svg")
"""What can be asked for without a login."""
MOST_BYTES = 64 * 1024
"""Of a body, unless its path is among `UPLOADS`."""
UPLOADS = {"/api/try": 64 * 1024 * 1024, "/api/analyse": 64 * 1024 * 1024}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class TooLarge(ValueError):
    """A body is larger than it may be."""


class Guard:
    """The outermost layer of the page.

    Parameters
    ----------
    app
        What is guarded; it finds the session in ``scope["session"]``, None if nobody is logged in, and what says
        whether it still holds in ``scope["may_go_on"]``.
    sessions
        Who is logged in.
    cookie
        Name of the cookie: cookies know no ports, and two pages may run on one machine.
    needs_login
        Whether people must log in; else everybody who may ask at all is a responder.
    refused
        Where to count what is refused.
    now
        Seconds since 1970.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        cookie: str,
        needs_login: bool,
        refused: Counter[str],
        now: Callable[[], float],
    ) -> None:
        self._app, self._sessions, self._cookie, self._needs_login = app, sessions, cookie, needs_login
        self._refused, self._now = refused, now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = read_cookie(headers, self._cookie)
        scope["session"] = self._find(token)
        scope["may_go_on"] = lambda: not self._needs_login or self._find(token) is not None
        refusal = self._refuse(scope, headers)
        if scope["type"] == "websocket":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 4401 if refusal.status_code in (303, 401) else 4403})
                return
            await self._app(scope, receive, send)
            return
        answer = self._app if refusal is None else refusal
        await answer(scope, self._limited(scope, receive), _with_headers(send))

    def _find(self, token: str | None) -> Session | None:
        if token is None:
            return None
        session = self._sessions.find(token, self._now())
        if session is None:
            self._refused["unknown cookie"] += 1
        return session

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """Return what to answer instead, if the request must not pass."""
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD")
        checks = (
            ("host", not self._needs_login and not _is_local(headers)),
            ("origin", (changes or scope["type"] == "websocket") and not _same_origin(headers)),
            ("too large", _says_too_much(scope, headers)),
        )
        for reason, is_wrong in checks:
            if is_wrong:
                self._refused[reason] += 1
                return _refusal(reason)
        session: Session | None = scope["session"]
        if self._needs_login and session is None and scope["path"] not in PUBLIC:
            self._refused["no login"] += 1
            return RedirectResponse("/login", 303) if scope["path"] in ("/", "/phone") else _refusal("no login")
        if changes and scope["path"] != "/login" and not _has_token(session, headers):
            self._refused["token"] += 1
            return _refusal("token")
        return None

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        limit = UPLOADS.get(scope["path"], MOST_BYTES)
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                self._refused["too large"] += 1
                raise TooLarge(f"More than {limit} bytes.")
            return message

        return limited


def read_cookie(headers: Headers, name: str) -> str | None:
    """Return the token in the page's cookie."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


_REFUSALS = {
    "host": (421, "This page answers only to this machine: open it as http://127.0.0.1, or start it with a login."),
    "origin": (403, "This must come from the page itself."),
    "too large": (413, "This is larger than the page takes."),
    "no login": (401, "Log in first."),
    "token": (403, "The page is out of date: load it again."),
}


def _refusal(reason: str) -> Response:
    status, text = _REFUSALS[reason]
    return JSONResponse({"error": text}, status, {"connection": "close"} if status == 413 else None)


def _is_local(headers: Headers) -> bool:
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in LOOPBACK_NAMES and not any(name in headers for name in FORWARDED)


def _same_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this host; browsers send an origin with all that are asked about here."""
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host", "")


def _says_too_much(scope: Scope, headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return not length.isdecimal() or int(length) > UPLOADS.get(scope["path"], MOST_BYTES)


def _has_token(session: Session | None, headers: Headers) -> bool:
    return session is not None and compare_digest(session.csrf.encode(), headers.get(CSRF_HEADER, "").encode())


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return with_headers
