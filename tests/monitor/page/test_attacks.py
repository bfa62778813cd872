"""The page under attack: everything here must be refused and counted, or shown as the text that it is."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.websockets import WebSocketDisconnect

from monitor.broker.connection import BrokerUrl
from monitor.page.app import make_app
from monitor.page.guard import HEADERS, MOST_BYTES
from monitor.page.login import MOST_TRYING
from monitor.page.sessions import FREE_FAILURES
from monitor.page.settings import PageAddress, PageSettings
from tests.monitor.page.client import ORIGIN, PORT, Clock, Page, open_page
from tests.monitor.page.fake_broker import FakeBroker
from tests.monitor.page.messages import alert, heard, state

SCRIPT = "<script>alert(1)</script>"
PRIVATE = (
    "/",
    "/api/session",
    "/api/device/a",
    "/api/alert?episode=x",
    "/api/monitor",
    "/api/card/ptb",
    "/static/app.js",
)
STATIC = Path(__file__).parents[3] / "monitor" / "page" / "static"


@pytest.fixture
def open_to_me() -> Iterator[Page]:
    """A page on loopback, without a login."""
    with open_page() as page:
        page.begin()
        yield page


@pytest.fixture
def closed(users: Path) -> Iterator[Page]:
    """A page with a login, and nobody logged in."""
    with open_page(users) as page:
        yield page


@pytest.mark.parametrize("path", PRIVATE)
def test_nothing_is_shown_without_a_login(closed: Page, path: str) -> None:
    answer = closed.client.get(path, follow_redirects=False)
    assert answer.status_code in (303, 401)
    assert "ECG" not in answer.text


def test_no_strip_comes_without_a_login(closed: Page) -> None:
    with pytest.raises(WebSocketDisconnect), closed.connect() as socket:
        socket.receive()


@pytest.mark.parametrize("cookie", ["x", "", "../../etc/passwd", "A" * 5000, '"; admin=1', "é"])
def test_a_forged_cookie_is_no_login(closed: Page, cookie: str) -> None:
    header = f"ecgwatch-{PORT}={cookie}".encode()
    answer = closed.client.get("/api/monitor", headers=[(b"cookie", header)])
    assert answer.status_code == 401


def test_forged_cookies_are_counted(closed: Page) -> None:
    for _ in range(3):
        closed.client.get("/api/monitor", headers={"cookie": f"ecgwatch-{PORT}=forged"})
    closed.log_in("vi")
    assert closed.refused()["unknown cookie"] == 3


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(closed: Page) -> None:
    answer = closed.client.post(
        "/login",
        data={"name": "vi", "password": "correct horse battery"},
        headers={"origin": ORIGIN},
        follow_redirects=False,
    )
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_guessing_passwords_is_slowed_down_and_counted(closed: Page) -> None:
    statuses = [closed.log_in("vi", "wrong password") for _ in range(FREE_FAILURES + 2)]
    assert statuses == [401] * FREE_FAILURES + [429] * 2
    assert closed.log_in("vi") == 429, "the right password must wait as well"
    closed.clock.now_s += 60
    assert closed.log_in("vi") == 303
    assert closed.refused()["login"] == FREE_FAILURES
    assert closed.refused()["too many logins"] == 3


def test_guesses_that_are_sent_together_are_no_more_than_those_sent_one_by_one(users: Path) -> None:
    settings = PageSettings(
        BrokerUrl("127.0.0.1"), address=PageAddress(port=PORT), users=users, login=True, plain_http=True
    )
    app = make_app(settings, FakeBroker(), Clock())

    async def guess_all() -> Counter[int]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=ORIGIN) as client:
            fields = [{"name": "vi", "password": f"guess {i}"} for i in range(2 * MOST_TRYING)]
            guesses = [client.post("/login", data=one, headers={"origin": ORIGIN}) for one in fields]
            return Counter(answer.status_code for answer in await asyncio.gather(*guesses))

    assert asyncio.run(guess_all()) == {401: FREE_FAILURES, 429: 2 * MOST_TRYING - FREE_FAILURES}


@pytest.mark.parametrize("name", ["", "nobody", "vi\x00", SCRIPT, "a" * 10_000])
def test_strange_names_do_not_log_in(closed: Page, name: str) -> None:
    answer = closed.client.post("/login", data={"name": name, "password": "x"}, headers={"origin": ORIGIN})
    assert answer.status_code == 401
    assert SCRIPT not in answer.text


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://127.0.0.1:9999", "http://localhost:8520"]
)
def test_other_sites_cannot_log_in_ask_or_listen(open_to_me: Page, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    headers["x-csrf-token"] = open_to_me.csrf
    answer = open_to_me.client.post("/api/request/acknowledge", json={"device": "a"}, headers=headers)
    assert answer.status_code == 403
    with pytest.raises(WebSocketDisconnect), open_to_me.connect(headers) as socket:
        socket.receive()
    assert open_to_me.refused()["origin"] == 2
    assert open_to_me.broker.requests == []


@pytest.mark.parametrize("token", ["", "x", "é"])
def test_a_request_without_the_session_s_token_is_refused(open_to_me: Page, token: str) -> None:
    headers = [(b"origin", ORIGIN.encode()), (b"x-csrf-token", token.encode())]
    answer = open_to_me.client.post("/api/request/acknowledge", json={"device": "a"}, headers=headers)
    assert answer.status_code == 403
    assert open_to_me.refused()["token"] == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1:8520"]
)
def test_a_foreign_name_that_points_here_sees_nothing(open_to_me: Page, host: str) -> None:
    assert open_to_me.client.get("/api/session", headers={"host": host}).status_code == 421
    assert open_to_me.refused()["host"] == 1


def test_a_proxy_does_not_open_a_page_without_a_login_to_the_world(open_to_me: Page) -> None:
    assert open_to_me.client.get("/", headers={"x-forwarded-for": "8.8.8.8"}).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/....//app.py",
        "/static/%5c..%5capp.py",
        "/api/card/..%2f..%2fwire",
        "/api/device/..%2f..%2fx",
    ],
)
def test_path_tricks_lead_nowhere(open_to_me: Page, path: str) -> None:
    answer = open_to_me.client.get(path)
    assert answer.status_code in (404, 400)
    assert "import" not in answer.text


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_of_a_hundred_megabytes_is_cut_off(open_to_me: Page, declared: bool) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield bytes(1024 * 1024)

    headers = {"content-length": str(100 * 1024 * 1024)} if declared else {}
    answer = open_to_me.post("/api/try?model=ptb", content=body(), headers=headers)
    assert answer.status_code == 413
    assert open_to_me.refused()["too large"] == 1


def test_other_bodies_have_a_small_limit(open_to_me: Page) -> None:
    answer = open_to_me.post("/api/request/comment", content=b" " * (MOST_BYTES + 1))
    assert answer.status_code == 413


def test_a_file_that_unpacks_without_end_is_refused(open_to_me: Page) -> None:
    answer = open_to_me.post("/api/try?model=ptb", content=_bomb())
    assert answer.status_code == 422
    assert "too large" in answer.json()["error"]


def _bomb() -> bytes:
    """Return four gigabytes of zeros in four megabytes: members of one gzip file."""
    return gzip.compress(bytes(64 * 1024**2), 9) * 64


@pytest.mark.parametrize(
    "wish", ["", "[]", '{"watch": []}', '{"watch": {"../x": 0}}', '{"watch": {"a": "x"}}', "x" * 100]
)
def test_a_websocket_that_says_nonsense_is_closed(open_to_me: Page, wish: str) -> None:
    with open_to_me.connect() as socket:
        socket.send_text(wish)
        while socket.receive()["type"] != "websocket.close":
            pass
    assert open_to_me.client.get("/healthz").text == "ok"


def test_scripts_in_texts_travel_as_text(open_to_me: Page) -> None:
    messages = [
        heard("a", "state", state(name=SCRIPT[:64], rhythm=SCRIPT)),
        heard("a", "alerts", alert(text=SCRIPT, label=SCRIPT)),
    ]
    open_to_me.broker.bring(messages)
    answer = open_to_me.client.get("/api/alert", params={"episode": "a:asystole"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["alert"]["text"] == SCRIPT
    assert open_to_me.client.get("/").text.count("<script") == 1


def test_a_script_cannot_be_a_device(open_to_me: Page) -> None:
    open_to_me.broker.bring([heard(SCRIPT, "state", b"{}"), heard("a b", "state", b"{}")])
    with open_to_me.connect() as socket:
        news: dict[str, Any] = json.loads(socket.receive_text())
    assert "rows" not in news


def test_every_answer_forbids_what_the_page_does_not_need(open_to_me: Page) -> None:
    for path in ("/", "/login", "/static/app.js", "/api/session", "/nothing", "/api/alert"):
        answer = open_to_me.client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_no_script_writes_markup() -> None:
    for file in STATIC.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert word not in text, f"{word} in {file.name}"
    for file in STATIC.glob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert " onclick" not in text
        assert " style=" not in text
