"""A phone that streams a strap: what it sends is checked, published, acknowledged, and kept until then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from monitor import wire
from monitor.page.sessions import LOGGED_OUT
from tests.monitor.page.client import Page, make_users, open_page
from tests.monitor.page.messages import NOW_S, TOPICS, heard

HELLO: dict[str, Any] = {"device": "phone-anna", "rate_hz": 130, "first_seen_s": NOW_S}


def _packet(seq: int) -> str:
    return json.dumps({"seq": seq, "start_s": NOW_S + seq, "rate_hz": 130, "samples": [seq, 2, -3]})


def _open(page: Page) -> WebSocketTestSession:
    return page.connect(path="/phone/ws")


def _begin(socket: WebSocketTestSession, **hello: Any) -> None:
    socket.send_text(json.dumps(HELLO | hello))
    assert socket.receive_json() == {"ready": True}


def _closed(socket: WebSocketTestSession) -> tuple[int, str]:
    while True:
        message = socket.receive()
        if message["type"] == "websocket.close":
            return message["code"], message.get("reason") or ""


def _published(page: Page, leaf: str) -> list[bytes]:
    return [payload for topic, payload, _ in page.broker.published if topic == TOPICS.of("phone-anna", leaf)]


def test_a_phone_is_a_device_and_hears_what_devices_hear() -> None:
    with open_page(phones=True) as page, _open(page) as socket:
        _begin(socket)
        assert {TOPICS.of("phone-anna", leaf) for leaf in ("ack", "error")} <= page.broker.topics.keys()
        for seq in range(3):
            socket.send_text(_packet(seq))
        page.broker.bring([heard("phone-anna", "ack", wire.Ack(seq=2)), heard("other", "ack", wire.Ack(seq=9))])
        assert socket.receive_json() == {"ack": {"seq": 2}}
        error = wire.DeviceError(reason="clock", text="Your clock is wrong.")
        page.broker.bring([heard("phone-anna", "error", error)])
        assert socket.receive_json()["error"]["text"] == "Your clock is wrong."
        socket.close()
        packets = [wire.decode_packet(payload) for payload in _published(page, "samples")]
        assert [packet.seq for packet in packets] == [0, 1, 2]
        assert packets[1].samples.tolist() == [1, 2, -3]
        [info] = _published(page, "info")
        assert wire.decode(info, wire.Info) == wire.Info(rate_hz=130, lead="ECG", resolution_uv=1.0, first_seen_s=NOW_S)
    states = [wire.decode(payload, wire.DeviceStatus).state for payload in _published(page, "status")]
    assert states == ["online", "offline"]
    assert TOPICS.of("phone-anna", "ack") not in page.broker.topics
    retained = {topic.rpartition("/")[2] for topic, _, retain in page.broker.published if retain}
    assert retained == {"info", "status"}


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ({"device": "bed-4"}, "device"),
        ({"device": "phone-a/b"}, "device"),
        ({"device": "phone-"}, "device"),
        ({"rate_hz": 0}, "rate_hz"),
        ({"rate_hz": 0.001}, "rate_hz"),
        ({"first_seen_s": "now"}, "first_seen_s"),
        ({"first_seen_s": -1e300}, "first_seen_s"),
        ({"prefix": "x"}, "unknown field"),
    ],
)
def test_what_is_no_phone_is_refused(first: dict[str, Any], why: str) -> None:
    with open_page(phones=True) as page:
        with _open(page) as socket:
            socket.send_text(json.dumps(HELLO | first))
            code, reason = _closed(socket)
        assert (code, why in reason) == (1007, True)
        assert page.broker.published == []
        assert page.refused()["phone"] == 1


@pytest.mark.parametrize("packet", ["x", "{}", '{"seq": 0, "start_s": 1, "rate_hz": 130, "samples": []}', "[" * 5000])
def test_what_is_no_packet_ends_the_stream_and_is_not_published(packet: str) -> None:
    with open_page(phones=True) as page, _open(page) as socket:
        _begin(socket)
        socket.send_text(packet)
        assert _closed(socket)[0] == 1007
        assert _published(page, "samples") == []


def test_without_a_broker_a_phone_keeps_its_packets_and_tries_again() -> None:
    with open_page(phones=True) as page:
        with _open(page) as socket:
            _begin(socket)
            page.broker.is_connected = False
            socket.send_text(_packet(0))
            assert _closed(socket)[0] == 1013
        page.broker.is_connected = True
        with _open(page) as socket:
            _begin(socket)


def test_a_second_page_of_the_same_person_takes_a_device_over() -> None:
    with open_page(phones=True) as page, _open(page) as first, _open(page) as second:
        _begin(first)
        _begin(second)
        assert _closed(first)[0] == 4403
        second.send_text(_packet(0))
        page.broker.bring([heard("phone-anna", "ack", wire.Ack(seq=1))])
        assert second.receive_json() == {"ack": {"seq": 1}}
        assert [wire.decode(one, wire.DeviceStatus).state for one in _published(page, "status")] == ["online"] * 2


def test_who_only_looks_may_not_stream_and_nobody_without_a_login(users: Path) -> None:
    with open_page(users, phones=True) as page:
        with pytest.raises(WebSocketDisconnect), _open(page):
            pass
        assert page.client.get("/phone", follow_redirects=False).headers["location"] == "/login"
        page.log_in("vi")
        with pytest.raises(WebSocketDisconnect) as closed, _open(page):
            pass
        assert closed.value.code == 4403
        page.log_in("rex")
        assert "Connect a strap" in page.client.get("/phone").text
        with _open(page) as socket:
            _begin(socket)


def test_a_device_of_one_person_is_not_taken_over_by_another(users: Path) -> None:
    from monitor.page.users import add_user
    from tests.monitor.page.client import PASSWORD

    add_user(users, "eve", "responder", PASSWORD)
    with open_page(users, phones=True) as page:
        page.log_in("rex")
        with _open(page) as first:
            _begin(first)
            page.log_in("eve")
            with _open(page) as second:
                second.send_text(json.dumps(HELLO))
                code, reason = _closed(second)
            assert (code, "somebody else's page" in reason) == (4403, True)
            first.send_text(_packet(0))
            page.broker.bring([heard("phone-anna", "ack", wire.Ack(seq=1))])
            assert first.receive_json() == {"ack": {"seq": 1}}


def test_no_phone_may_stream_where_the_page_was_not_told_so() -> None:
    with open_page() as page:
        assert page.client.get("/phone").status_code == 404
        with pytest.raises(WebSocketDisconnect), _open(page):
            pass


@pytest.mark.parametrize("goes_on_sending", [True, False])
def test_a_phone_whose_session_is_over_publishes_nothing_more(tmp_path: Path, goes_on_sending: bool) -> None:
    with open_page(make_users(tmp_path), phones=True) as page:
        page.log_in("rex")
        page.begin()
        with _open(page) as socket:
            _begin(socket)
            socket.send_text(_packet(0))
            page.post("/api/logout")
            if goes_on_sending:
                socket.send_text(_packet(1))
            assert _closed(socket)[0] == LOGGED_OUT
        assert len(_published(page, "samples")) == 1
