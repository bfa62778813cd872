"""The broker's URL, its password, and the client made from them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from monitor import mqtt
from monitor.mqtt import BrokerUrl


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://localhost", BrokerUrl("localhost", 1883)),
        ("mqtt://anna@example.org:1884", BrokerUrl("example.org", 1884, "anna")),
        ("mqtts://example.org", BrokerUrl("example.org", 8883, tls=True)),
        ("mqtts://a%40b@[::1]:9/", BrokerUrl("::1", 9, "a@b", tls=True)),
    ],
)
def test_url_gives_host_port_user_and_tls(text: str, url: BrokerUrl) -> None:
    assert BrokerUrl.parse(text) == url


def test_url_is_shown_with_its_port() -> None:
    assert str(BrokerUrl.parse("mqtts://anna@[::1]")) == "mqtts://anna@[::1]:8883"


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "localhost:1883", "http://x", "mqtt://", "mqtt://h:0", "mqtt://h:99999", "mqtt://h:x", "mqtt://h/a",
     "mqtt://h?x=1", "mqtt://[::1"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="broker"):
        BrokerUrl.parse(text)


def test_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold a password") as caught:
        BrokerUrl.parse("mqtt://anna:sesame@localhost")
    assert "sesame" not in str(caught.value)


def test_password_comes_from_the_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mqtt.PASSWORD_VARIABLE, "from-environment")
    file = tmp_path / "password"
    file.write_text("from-file\n")
    assert mqtt.read_password(BrokerUrl("h", user="anna"), file) == "from-file"


def test_password_comes_from_the_environment_if_there_is_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mqtt.PASSWORD_VARIABLE, "sesame")
    assert mqtt.read_password(BrokerUrl("h", user="anna")) == "sesame"
    assert mqtt.read_password(BrokerUrl("h")) is None


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_password_file_that_is_missing_empty_or_no_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="password file"):
        mqtt.read_password(BrokerUrl("h", user="anna"), file)


def test_password_file_without_a_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a user"):
        mqtt.read_password(BrokerUrl("h"), tmp_path / "password")


def test_ca_file_must_exist_and_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CA file .* cannot be used"):
        mqtt.make_client(BrokerUrl("h", tls=True), "c", cafile=tmp_path / "none.pem")
    with pytest.raises(ValueError, match="only used with TLS"):
        mqtt.make_client(BrokerUrl("h"), "c", cafile=tmp_path / "none.pem")


def test_broker_that_is_not_there_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take the port
        url = BrokerUrl("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConnectionError, match=f"No broker reached at {url}"):
            mqtt.connect(mqtt.make_client(url, "c"), url)


def test_client_sends_small_packets_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("127.0.0.1", server.getsockname()[1])
        client = mqtt.make_client(url, "c")
        mqtt.connect(client, url)
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.close()
