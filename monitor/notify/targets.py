"""Where notifications go: webhooks, and whatever Apprise reaches.

Rules
-----
* A webhook gets the alert as JSON by POST: as it was published, with the name of its device as ``device_name``. The id
  of the alert is also in the header ``Idempotency-Key``, percent-encoded: it may come again, and is the same then.
* Any status 2xx is delivered. Redirections are not followed: a POST would become a GET without its body.
* What a server says is shown as printable text, and the URL of a target never: it may be a secret by itself.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import msgspec

TIMEOUT_S = 10.0
MOST_WAIT_S = 3600.0
"""Longest wait that a server can ask for."""
SHOWN = 200
"""Bytes of an answer that are shown."""
BUSY = (408, 425, 429)
"""Statuses from 400 to 499 that say nothing about what was sent."""
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,32})=(.+)", re.DOTALL)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")


class Outcome(NamedTuple):
    """What came of an attempt."""

    ok: bool
    text: str
    is_refused: bool = False
    """Whether the target works, and does not take this one."""
    wait_s: float = 0.0
    """For how long it asks to be left alone."""


class Target(Protocol):
    """Where notifications go."""

    @property
    def name(self) -> str:
        """As in rules."""

    def send(self, alert: dict[str, Any]) -> Outcome:
        """Deliver an alert, and wait for the answer; raises nothing."""


class Webhook:
    """A URL that takes JSON by POST.

    Parameters
    ----------
    name
        As in rules.
    url
        http or https.
    headers
        Sent as well.
    timeout_s
        Longest silence of the server.

    Raises
    ------
    ValueError
        It is no such URL.
    """

    def __init__(
        self, name: str, url: str, headers: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or not url.isascii() or any(char.isspace() for char in url):
            raise ValueError(f"Not the URL of a webhook ({name}): expected http://host/path or https://host/path.")
        if parts.username is not None:
            raise ValueError(f"The URL of a webhook ({name}) must hold no user or password: use a header in a file.")
        self.name = name
        self._url, self._headers, self._timeout_s = url, dict(headers or {}), timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, alert: dict[str, Any]) -> Outcome:
        """See `Target`."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ecgwatch",
            "Idempotency-Key": quote(str(alert["id"]), safe="!#$&'()*+,/:;=?@[]"),
            **self._headers,
        }
        request = urllib.request.Request(self._url, msgspec.json.encode(alert), headers, method="POST")
        began_s = time.monotonic()
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                text = _printable(answer.read(SHOWN))
                return Outcome(True, f"{answer.status} {answer.reason}{f': {text}' if text else ''}")
        except urllib.error.HTTPError as error:
            return _explain(error)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                return Outcome(False, f"no answer within {time.monotonic() - began_s:.1f} s")
            return Outcome(False, _printable(str(reason).encode()) or type(error).__name__)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _explain(error: urllib.error.HTTPError) -> Outcome:
    with error:
        try:
            text = _printable(error.read(SHOWN))
        except (OSError, HTTPException):
            text = ""
    asked = error.headers.get("Retry-After", "") if error.headers else ""
    wait_s = min(float(asked), MOST_WAIT_S) if asked.isascii() and asked.isdigit() else 0.0
    is_refused = 300 <= error.code < 500 and error.code not in BUSY
    return Outcome(False, f"{error.code} {error.reason}{f': {text}' if text else ''}", is_refused, wait_s)


class Apprise:
    """A service that Apprise reaches, by its URL.

    Raises
    ------
    ValueError
        Apprise does not know such a URL.
    ModuleNotFoundError
        Apprise is not installed.
    """

    def __init__(self, name: str, url: str) -> None:
        import apprise

        self.name = name
        self._service = apprise.Apprise()
        if not self._service.add(url):
            raise ValueError(f"Apprise does not know the URL of {name}.")

    def send(self, alert: dict[str, Any]) -> Outcome:
        """See `Target`."""
        kind = {"high": "failure", "medium": "warning"}.get(str(alert["severity"]), "info")
        try:
            ok = self._service.notify(title=title(alert), body=body(alert), notify_type=kind)
        except Exception as error:  # whatever one of a hundred services raises must not end the others
            return Outcome(False, f"{type(error).__name__}: {_printable(str(error).encode())}")
        return Outcome(bool(ok), "delivered" if ok else "Apprise could not deliver it; see its log")


def title(alert: dict[str, Any]) -> str:
    """One line: the priority, what, whose."""
    ended = {"new": "", "end": " is over"}.get(alert["state"], f" {alert['state']}")
    return f"{alert['severity'].upper()} {alert['kind']}{ended}: {alert.get('device_name') or alert['device']}"


def body(alert: dict[str, Any]) -> str:
    """What happened and when, and what this is not."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(alert["time_s"]))
    return f"{alert.get('text') or alert['kind']}\n{alert['device']}, {when}\nResearch use, not a medical device."


def read_webhook(text: str, timeout_s: float) -> Webhook:
    """Return a webhook from ``[NAME=]URL``; its name is the host's, if none is given.

    Raises
    ------
    ValueError
        See `Webhook`.
    """
    name, url = _split(text)
    return Webhook(name or _host(url), url, timeout_s=timeout_s)


def read_webhook_file(text: str, timeout_s: float) -> Webhook:
    """Return a webhook from ``[NAME=]FILE``: the URL in the first line, then headers such as ``Authorization: ...``.

    Raises
    ------
    ValueError
        The file cannot be read, or holds something else.
    """
    name, file = _split(text)
    lines = _read_lines(Path(file))
    headers = {}
    for line in lines[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise ValueError(f"The file {file} must hold a URL, and below it headers such as 'Authorization: ...'.")
        headers[found.group(1)] = found.group(2)
    return Webhook(name or _host(lines[0]), lines[0], headers, timeout_s)


def read_apprise_file(text: str) -> list[Apprise]:
    """Return what Apprise reaches from ``[NAME=]FILE``: a URL of Apprise in each line, ``#`` before remarks.

    Raises
    ------
    ValueError
        The file cannot be read, or holds something else.
    """
    name, file = _split(text)
    lines = _read_lines(Path(file))
    base = name or Path(file).stem
    return [Apprise(base if len(lines) == 1 else f"{base}-{number}", line) for number, line in enumerate(lines, 1)]


def _split(text: str) -> tuple[str, str]:
    found = _NAMED.fullmatch(text)
    return (found.group(1), found.group(2)) if found else ("", text)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "webhook"
    except ValueError:
        return "webhook"


def _read_lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The file {file} cannot be read: {error}.") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"The file {file} is empty: expected a URL.")
    return lines


def _printable(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)
