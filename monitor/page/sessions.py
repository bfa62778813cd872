"""Who is logged in, and who has tried too often. In memory: a restart logs everybody out.

The browser holds a random token in a cookie; only its hash is kept here. What changes something must also bring the
session's second token, which a foreign page cannot read (against cross-site request forgery).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from monitor.page.users import Role, User

LASTS_S = 12 * 3600.0
MOST_SESSIONS = 10_000
LOGGED_OUT = 4401
"""Why a WebSocket is closed whose session is over."""
FREE_FAILURES = 5
"""Failed logins of a name or an address before it must wait."""
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
"""The wait doubles with each further failure."""
FORGOTTEN_S = 3600.0
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's login."""

    user: str
    role: Role
    csrf: str
    """Must come with whatever changes something."""
    until_s: float
    account: User | None = field(default=None, repr=False)
    """Whose it is, as it stood in the file of users; None where nobody logs in."""


class Sessions:
    """All logins.

    Parameters
    ----------
    accounts
        Returns who may log in now: a session is over once its user is not among them as they were; None: whoever has
        a session may go on.
    """

    def __init__(self, accounts: Callable[[], Mapping[str, User]] | None = None) -> None:
        self._accounts = accounts
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, account: User | None, now_s: float) -> tuple[str, Session]:
        """Begin a session, a responder's where nobody logs in; return the token for its cookie as well."""
        token = secrets.token_urlsafe(32)
        user = "" if account is None else account.name
        role = "responder" if account is None else account.role
        session = Session(user, role, secrets.token_urlsafe(32), now_s + LASTS_S, account)
        self._sessions[_digest(token)] = session
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token, session

    def find(self, token: str, now_s: float) -> Session | None:
        """Return the session of a cookie's token, if there is one and it is not over."""
        session = self._sessions.get(_digest(token))
        if session is not None and (session.until_s < now_s or not self._is_user(session)):
            self.end(token)
            return None
        return session

    def _is_user(self, session: Session) -> bool:
        return self._accounts is None or self._accounts().get(session.user) == session.account

    def end(self, token: str) -> None:
        """Log out."""
        self._sessions.pop(_digest(token), None)


class LoginLimit:
    """How often a login may fail, by name and by address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, keys: tuple[str, ...], now_s: float) -> float:
        """Return for how long these must not try; 0 if they may."""
        return max((self._until(key) - now_s for key in keys), default=0.0)

    def note_failure(self, keys: tuple[str, ...], now_s: float) -> None:
        """Note a failed login."""
        for key in keys:
            count, when_s = self._failures.pop(key, (0, now_s))
            self._failures[key] = (1 if when_s < now_s - FORGOTTEN_S else count + 1, now_s)
        while len(self._failures) > MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def note_success(self, keys: tuple[str, ...]) -> None:
        """Forget the failures of these."""
        for key in keys:
            self._failures.pop(key, None)

    def _until(self, key: str) -> float:
        count, when_s = self._failures.get(key, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return when_s + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(20, count - FREE_FAILURES))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
