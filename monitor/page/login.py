"""Logging in and out."""

from __future__ import annotations

import asyncio
import html
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from monitor.page.guard import read_cookie
from monitor.page.sessions import LASTS_S, LoginLimit, Session, Sessions
from monitor.page.users import User, check_password, read_users

FORM = Path(__file__).with_name("static") / "login.html"
MESSAGE = "<!-- message -->"
MOST_TRYING = 50
"""Logins that wait for each other: some 50 ms each."""


class Login:
    """The handlers.

    Parameters
    ----------
    sessions
        Who is logged in.
    users
        File of the people who may; None: there is no login, and everybody who may ask is a responder.
    cookie
        Name of the cookie.
    is_secure
        Whether the browser shall send the cookie over HTTPS alone.
    refused
        Where to count failed logins.
    """

    def __init__(
        self, sessions: Sessions, users: Path | None, cookie: str, is_secure: bool, refused: Counter[str]
    ) -> None:
        self._sessions, self._users, self._cookie, self._is_secure = sessions, users, cookie, is_secure
        self._refused = refused
        self._limit = LoginLimit()
        self._hashing = asyncio.Semaphore(1)
        self._trying = 0

    async def form(self, _request: Request) -> Response:
        """The form."""
        return _form("")

    async def log_in(self, request: Request) -> Response:
        """Check name and password; begin a session."""
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        name, password = (fields.get(field, [""])[0] for field in ("name", "password"))
        if self._trying >= MOST_TRYING:
            self._refused["too many logins"] += 1
            return _form("Too many people log in at this moment: try again.", 429)
        self._trying += 1
        try:
            async with self._hashing:
                return await self._try(request, name, password)
        finally:
            self._trying -= 1

    async def _try(self, request: Request, name: str, password: str) -> Response:
        """Try a password, one at a time: guesses that come together wait for the failures of those before them."""
        now_s = request.app.state.now()
        keys = (f"name {name[:64]}", f"address {request.client.host if request.client else ''}")
        if (wait_s := self._limit.wait_s(keys, now_s)) > 0:
            self._refused["too many logins"] += 1
            return _form(f"Too many failed logins: wait {wait_s:.0f} seconds.", 429)
        user = await asyncio.to_thread(self._check, name, password)
        if user is None:
            self._limit.note_failure(keys, now_s)
            self._refused["login"] += 1
            return _form("Name or password is wrong.", 401)
        self._limit.note_success(keys)
        token, _ = self._sessions.begin(user, now_s)
        return self._with_cookie(RedirectResponse("/", 303), token)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        token = read_cookie(request.headers, self._cookie)
        if token is not None:
            self._sessions.end(token)
        answer = JSONResponse({})
        answer.delete_cookie(self._cookie)
        return answer

    async def session(self, request: Request) -> Response:
        """Say who is logged in, and give the token against forged requests."""
        session: Session | None = request.scope["session"]
        if session is not None:
            return self._told(session)
        token, session = self._sessions.begin(None, request.app.state.now())
        return self._with_cookie(self._told(session), token)

    def _told(self, session: Session) -> Response:
        login = self._users is not None
        return JSONResponse({"user": session.user, "role": session.role, "csrf": session.csrf, "login": login})

    def _check(self, name: str, password: str) -> User | None:
        return None if self._users is None else check_password(read_users(self._users), name, password)

    def _with_cookie(self, answer: Response, token: str) -> Response:
        answer.set_cookie(
            self._cookie, token, max_age=int(LASTS_S), httponly=True, samesite="strict", secure=self._is_secure
        )
        return answer


def _form(message: str, status: int = 200) -> Response:
    text = FORM.read_text(encoding="utf-8").replace(MESSAGE, html.escape(message))
    return HTMLResponse(text, status)
