"""The page's answers: what its scripts ask for, the WebSocket, and what becomes of a request."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from monitor import wire
from monitor.page import api, app
from monitor.page.sessions import LASTS_S
from monitor.page.signal import HEADER
from tests.monitor.page.client import make_users, open_page
from tests.monitor.page.messages import NOW_S, STRIP, alert, beat, heard, packet, state, status

ROW = ",".join(["0.5"] * 40 + ["1.0"] + ["0.2"] * 146)


def _read_until(socket: WebSocketTestSession, key: str) -> Any:
    """Return what the WebSocket says under a key."""
    while True:
        message = socket.receive()
        socket._raise_on_close(message)
        if message.get("text") and key in (news := json.loads(message["text"])):
            return news[key]


def test_the_page_and_its_files_are_served() -> None:
    with open_page() as page:
        index = page.client.get("/")
        assert index.status_code == 200
        assert 'src="/static/app.js"' in index.text
        for name in ("app.js", "style.css", "icon.svg"):
            assert page.client.get(f"/static/{name}").status_code == 200


def test_every_page_says_that_it_is_no_medical_device() -> None:
    with open_page() as page:
        for path in ("/", "/login"):
            text = " ".join(page.client.get(path).text.split())
            assert "not a medical device. No alert does not mean no disease." in text


def test_a_browser_gets_rows_alerts_and_the_signal_it_watches() -> None:
    with open_page() as page, page.connect() as socket:
        page.broker.bring([status(), heard("a", "state", state(name="Bed 3")), heard("a", "alerts", alert())])
        assert _read_until(socket, "alerts")[0]["episode"] == "a:asystole"
        socket.send_text('{"watch": {"a": 0}}')
        numbers = _read_until(socket, "numbers")
        page.broker.bring([heard("a", "samples", packet())])
        while not (frame := socket.receive().get("bytes")):
            pass
        assert HEADER.unpack(frame[: HEADER.size])[2] == numbers["a"]


@pytest.mark.parametrize("is_retained", [True, False])
def test_what_a_broker_does_not_hand_out_is_asked_of_the_monitor(
    monkeypatch: pytest.MonkeyPatch, is_retained: bool
) -> None:
    monkeypatch.setattr(app, "TICK_S", 0.01)
    with open_page() as page:
        page.broker.bring([heard("a", "state", state())._replace(retained=is_retained)])
        page.clock.now_s += app.RETAINED_S + 1.0
        for _ in range(20):
            page.broker.bring([])
            time.sleep(0.02)
    assert page.broker.refreshes == (not is_retained)


def test_a_browser_sees_that_the_broker_is_there_and_how_the_monitor_is() -> None:
    with open_page() as page:
        page.broker.bring([status(state="overloaded")])
        with page.connect() as socket:
            assert _read_until(socket, "monitors")["monitor"]["state"] == "overloaded"


def test_limits_are_told_with_their_range_and_as_they_are_now() -> None:
    with open_page() as page:
        told = status(limits={"bradycardia": {"below_bpm": 50.0}})
        known = state(monitor="monitor", limits={"pause": {"limit_s": 4.0}})
        page.broker.bring([told, heard("a", "state", known)])
        limits = {(one["kind"], one["name"]): one for one in page.client.get("/api/limits/a").json()}
        assert page.client.get("/api/limits/b").status_code == 404
    low, pause = limits["bradycardia", "below_bpm"], limits["pause", "limit_s"]
    assert (low["usual"], low["low"], low["high"], low["own"]) == (50.0, 15, 300, None)
    assert (pause["usual"], pause["low"], pause["high"], pause["own"]) == (3.0, 0.3, 30.0, 4.0)


def test_an_alert_can_be_opened_with_its_strip() -> None:
    with open_page() as page:
        page.broker.bring([heard("a", "alerts", alert(strip=STRIP))])
        detail = page.client.get("/api/alert", params={"episode": "a:asystole"}).json()
        assert detail["strips"]["new"]["beats"][1]["label"] == "V"
        assert detail["alert"]["text"] == "No heartbeat for 6 s."
        assert page.client.get("/api/alert", params={"episode": "b:asystole"}).status_code == 404


def test_a_device_has_its_trend() -> None:
    with open_page() as page:
        page.broker.bring([heard("a", "beats", beat(time_s=NOW_S + i)) for i in range(4)])
        detail = page.client.get("/api/device/a").json()
        assert detail["trend"]["classes"] == {"N": 4}
        assert len(detail["trend"]["beats"]) == 4
        assert page.client.get("/api/device/b").status_code == 404


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("acknowledge", {"episode": "a:asystole"}),
        ("silence", {"kind": "asystole", "for_s": 600, "reason": "being washed"}),
        ("comment", {"episode": "a:asystole", "text": "looked at"}),
        ("judge", {"episode": "a:asystole", "right": False}),
        ("rename", {"name": "Bed 3"}),
        ("limits", {"limits": {"bradycardia": {"below_bpm": 45}}}),
    ],
)
def test_a_person_can_answer(verb: str, fields: dict[str, Any]) -> None:
    with open_page() as page:
        page.begin()
        answer = page.post(f"/api/request/{verb}", json={"device": "a", "by": "Ada", **fields})
        assert (answer.status_code, answer.json()["text"]) == (200, f"{verb}: done")
        [(asked, request)] = page.broker.requests
        assert (asked, request.by, request.device) == (verb, "Ada", "a")
        assert all(getattr(request, name) == value for name, value in fields.items())


def test_what_the_monitor_refuses_is_told_in_its_words() -> None:
    def refuse(_verb: str, request: wire.Request) -> wire.Answer:
        return wire.Answer(id=request.id, ok=False, text="There is no such alert.")

    with open_page(answer=refuse) as page:
        page.begin()
        answer = page.post("/api/request/acknowledge", json={"device": "a", "by": "Ada"})
        assert (answer.status_code, answer.json()["text"]) == (409, "There is no such alert.")


def test_without_a_broker_a_request_fails_with_the_reason() -> None:
    with open_page() as page:
        page.begin()
        page.broker.is_connected = False
        answer = page.post("/api/request/acknowledge", json={"device": "a", "by": "Ada"})
        assert answer.status_code == 503
        assert "no connection" in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"device": "../x"}', b'{"device": "a", "for_s": -1}', b'{"device": "a", "right": 3}']
)
def test_a_request_that_makes_no_sense_is_refused(body: bytes) -> None:
    with open_page() as page:
        page.begin()
        answer = page.post("/api/request/silence", content=body)
        assert answer.status_code == 422
        assert page.broker.requests == []


@pytest.mark.parametrize("by", [None, "", "   "])
def test_who_does_not_say_who_they_are_is_refused(by: str | None) -> None:
    with open_page() as page:
        page.begin()
        answer = page.post("/api/request/acknowledge", json={"device": "a", "by": by})
        assert answer.status_code == 422
        assert "Say who you are" in answer.text
        assert page.broker.requests == []


def test_a_logged_in_person_answers_in_their_own_name(users: Path) -> None:
    with open_page(users) as page:
        assert page.log_in("rex") == 303
        page.begin()
        page.post("/api/request/acknowledge", json={"device": "a", "by": "somebody else"})
        assert page.broker.requests[0][1].by == "rex"


def test_a_viewer_looks_and_changes_nothing(users: Path) -> None:
    with open_page(users) as page:
        assert page.log_in("vi") == 303
        page.begin()
        assert page.client.get("/").status_code == 200
        assert page.post("/api/request/acknowledge", json={"device": "a", "by": "Ada"}).status_code == 403
        assert page.broker.requests == []
        assert page.refused()["role"] == 1


def test_logging_out_ends_the_session(users: Path) -> None:
    with open_page(users) as page:
        page.log_in("vi")
        page.begin()
        [(name, token)] = page.client.cookies.items()
        assert page.post("/api/logout").status_code == 200
        assert page.client.get("/api/session", headers={"cookie": f"{name}={token}"}).status_code == 401


@pytest.mark.parametrize("how", ["logged out", "over", "removed"])
def test_an_open_page_ends_with_its_session(tmp_path: Path, how: str) -> None:
    users = make_users(tmp_path)
    with open_page(users) as page:
        page.log_in("vi")
        page.begin()
        page.broker.bring([heard("a", "state", state("a"))])
        with page.connect() as socket:
            assert [row["id"] for row in _read_until(socket, "rows")] == ["a"]
            if how == "logged out":
                page.post("/api/logout")
            elif how == "over":
                page.clock.now_s += LASTS_S + 1
            else:
                users.write_bytes(b"[]")
            page.broker.bring([heard("a", "alerts", alert())])
            with pytest.raises(WebSocketDisconnect) as closed:
                _read_until(socket, "rows")
            assert closed.value.code == 4401


def test_a_file_of_beats_is_judged_with_where_the_model_looked() -> None:
    with open_page() as page:
        page.begin()
        result = page.post("/api/try?model=ptb", content=f"{ROW},0\n{ROW},1\n".encode()).json()
        assert len(result["names"]) == len(result["probabilities"]) == 2
        assert result["labels"] == [0, 1]
        assert any(result["attention"][0])
        assert len(result["attention"][0]) == (187 - 15) // result["step"] + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"1,2,3\n", "187"),
        (b"\x00\xff\x00", "cannot be read"),
        (b"PK\x03\x04", "ZIP"),
        (gzip.compress(b"x" * 100, mtime=0), "187"),
    ],
)
def test_a_file_that_holds_no_beats_is_an_error_and_never_a_verdict(content: bytes, message: str) -> None:
    with open_page() as page:
        page.begin()
        answer = page.post("/api/try?model=ptb", content=content)
        assert answer.status_code == 422
        assert message in answer.json()["error"]
        assert "/tmp" not in answer.json()["error"]


ANALYSIS = """
import json, sys
file, model = sys.argv[2], sys.argv[5]
text = open(file).read()
if text == "bad":
    sys.exit(print(f"analysis: {file} is no recording", file=sys.stderr) or 2)
print(json.dumps({"files": [{"counts": {"N": len(text)}, "model": model, "file": file.rpartition("/")[2]}]}))
"""


def test_a_recording_is_given_to_the_command_that_reads_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader_of_tests.py").write_text(ANALYSIS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(api, "ANALYSIS", "reader_of_tests")
    with open_page() as page:
        page.begin()
        found = page.post("/api/analyse?model=ptb&name=../../my ride.edf", content=b"12345").json()
        assert found == {"files": [{"counts": {"N": 5}, "model": "ptb", "file": "recording.edf"}]}
        refused = page.post("/api/analyse?model=ptb&name=a.csv", content=b"bad")
        assert (refused.status_code, refused.json()["error"]) == (422, "analysis: is no recording")
        assert page.post("/api/analyse?model=ptb&name=a./x", content=b"1").status_code == 404


@pytest.mark.parametrize(
    ("content", "asks", "error"),
    [
        ("1\n2\n3\n" * 2000, "rate", "got no column of times. Say how many samples a second there are."),
        ("a,b\n" + "1,2\n3,4\n" * 2000, "lead", " Say which column or signal is the ECG, by its name or its number."),
    ],
)
def test_what_a_recording_does_not_say_is_asked_for(content: str, asks: str, error: str) -> None:
    with open_page() as page:
        page.begin()
        query = "" if asks == "rate" else "&rate=125"
        answer = page.post(f"/api/analyse?name=a.csv{query}", content=content.encode())
        assert (answer.status_code, answer.json()["asks"]) == (422, asks)
        assert answer.json()["error"].endswith(error)
        assert answer.json()["error"].startswith("cannot be read as a table: "), "without a name that nobody gave it"


@pytest.mark.parametrize("rate", ["abc", "5", "9999", "1e3", "-250", "--help"])
def test_a_rate_that_cannot_be_is_refused_by_its_name(rate: str) -> None:
    with open_page() as page:
        page.begin()
        answer = page.post(f"/api/analyse?name=a.csv&rate={rate}", content=b"1\n2\n")
        assert answer.status_code == 422
        assert answer.json()["error"] == f"The rate must lie between 50 and 4000 samples a second: got {rate!r}."


def test_without_that_command_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ANALYSIS", "a_package_that_is_not_there")
    with open_page() as page:
        page.begin()
        assert page.post("/api/analyse?model=ptb&name=a.edf", content=b"1").status_code == 501


def test_a_model_that_needs_more_than_a_beat_says_so() -> None:
    with open_page() as page:
        page.begin()
        assert "Choose another" in page.post("/api/try?model=mitbih", content=ROW.encode()).json()["error"]
        assert page.post("/api/try?model=../../x", content=ROW.encode()).status_code == 404


def test_the_bundled_models_and_their_cards_are_shown() -> None:
    with open_page() as page:
        names = [model["name"] for model in page.client.get("/api/monitor").json()["models"]]
        assert "ptb" in names
        assert "# " in page.client.get("/api/card/ptb").text
        assert page.client.get("/api/card/none").status_code == 404


def test_occlusion_finds_the_part_that_a_model_goes_by() -> None:
    from monitor.page.trial import OCCLUDED, STEP, occlude

    class Peak:
        """A model that looks at one sample."""

        def probabilities(self, windows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.asarray(windows)

        def abnormal(self, windows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.asarray(windows[:, 100])

    window = np.zeros(187, np.float32)
    window[100] = 1.0
    change = occlude(Peak(), window)  # type: ignore[arg-type]  # as much of a classifier as is asked for
    starts = np.flatnonzero(change > 0.5) * STEP
    assert starts.size
    assert all(start <= 100 < start + OCCLUDED for start in starts)


def test_a_page_has_no_device_forgotten() -> None:
    with open_page() as page:
        page.begin()
        answer = page.post("/api/request/forget", json={"device": "a", "by": "Ada"})
        assert (answer.status_code, page.broker.requests) == (404, [])
