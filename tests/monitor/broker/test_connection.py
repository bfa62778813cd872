"""The broker's URL, its password, and the client made from them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST, free_port
from tests.certificates import Authority, Certificate
from tests.conftest import find_mosquitto, serve_mosquitto


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://localhost", BrokerUrl("localhost", 1883)),
        ("mqtt://anna@example.org:1884", BrokerUrl("example.org", 1884, "anna")),
        ("mqtts://example.org", BrokerUrl("example.org", 8883, tls=True)),
        ("mqtts://a%40b@[::1]:9/", BrokerUrl("::1", 9, "a@b", tls=True)),
        ("mqtt://vhost%3Auser@h", BrokerUrl("h", 1883, "vhost:user")),
        ("mqtts://a%3ab%3Ac%40d@h:1", BrokerUrl("h", 1, "a:b:c@d", tls=True)),
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


@pytest.mark.parametrize("user", ["vhost:user", "tenant:device:sesame", "anna:", ":anna"])
def test_refusal_of_a_colon_says_how_to_write_one_in_a_name(user: str) -> None:
    with pytest.raises(ValueError, match="%3A"):
        BrokerUrl.parse(f"mqtt://{user}@localhost")


@pytest.mark.parametrize(
    "content",
    [
        b"sesame", b"sesame\n", b"sesame\r\n", b"sesame\r\n\r\n", b"sesame ", b"sesame \t\n", b"\xef\xbb\xbfsesame",
        b"\xef\xbb\xbfsesame \r\n", "sesame\r\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_an_editor_adds_to_a_password_file_is_no_part_of_the_password(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    assert connection.read_password(BrokerUrl("h", user="anna"), file) == "sesame"


def test_blanks_within_a_password_stay(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" open sesame\n")
    assert connection.read_password(BrokerUrl("h", user="anna"), file) == " open sesame"


def test_password_file_of_several_lines_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("anna:hash\nben:hash\n")
    with pytest.raises(ValueError, match="got 2 lines"):
        connection.read_password(BrokerUrl("h", user="anna"), file)


def test_password_comes_from_the_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connection.PASSWORD_VARIABLE, "from-environment")
    file = tmp_path / "password"
    file.write_text("from-file\n")
    assert connection.read_password(BrokerUrl("h", user="anna"), file) == "from-file"


def test_password_comes_from_the_environment_if_there_is_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connection.PASSWORD_VARIABLE, "sesame")
    assert connection.read_password(BrokerUrl("h", user="anna")) == "sesame"
    assert connection.read_password(BrokerUrl("h")) is None


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_password_file_that_is_missing_empty_or_no_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="password file"):
        connection.read_password(BrokerUrl("h", user="anna"), file)


def test_password_file_without_a_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a user"):
        connection.read_password(BrokerUrl("h"), tmp_path / "password")


def test_ca_file_must_exist_and_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CA file .* cannot be used"):
        connection.make_client(BrokerUrl("h", tls=True), "c", cafile=tmp_path / "none.pem")
    with pytest.raises(ValueError, match="only used with TLS"):
        connection.make_client(BrokerUrl("h"), "c", cafile=tmp_path / "none.pem")


def test_broker_that_is_not_there_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take the port
        url = BrokerUrl("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConnectionError, match=f"No broker reached at {url}"):
            connection.connect(connection.make_client(url, "c"), url)


def test_client_sends_small_packets_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = BrokerUrl("127.0.0.1", server.getsockname()[1])
        client = connection.make_client(url, "c")
        connection.connect(client, url)
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A client certificate of an authority that the broker does not trust."""
    return Authority(tmp_path_factory.mktemp("stranger")).issue("monitor")


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_client_certificate_and_key_must_be_there(authority: Authority, missing: str) -> None:
    mine = authority.issue("mine")
    none = mine.certfile.with_name("none.pem")
    certfile, keyfile = (none, mine.keyfile) if missing == "certificate" else (mine.certfile, none)
    with pytest.raises(ValueError, match=rf"client {missing} .*none\.pem cannot be read: No such file"):
        connection.make_client(BrokerUrl("h", tls=True), "c", certfile=certfile, keyfile=keyfile)


def test_key_of_another_certificate_is_refused(authority: Authority) -> None:
    mine, other = authority.issue("mine"), authority.issue("other")
    with pytest.raises(ValueError, match="is not that of the certificate"):
        connection.make_client(BrokerUrl("h", tls=True), "c", certfile=mine.certfile, keyfile=other.keyfile)


def test_certificate_that_is_none_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ValueError, match="cannot be used"):
        connection.make_client(BrokerUrl("h", tls=True), "c", certfile=tmp_path / "text.pem")


def test_certificate_and_key_may_be_one_file(authority: Authority, tmp_path: Path) -> None:
    mine = authority.issue("mine")
    (tmp_path / "both.pem").write_bytes(mine.certfile.read_bytes() + mine.keyfile.read_bytes())
    connection.make_client(BrokerUrl("h", tls=True), "c", certfile=tmp_path / "both.pem")


def test_encrypted_key_is_refused_and_nobody_is_asked(authority: Authority, tmp_path: Path) -> None:
    mine, locked = authority.issue("mine"), tmp_path / "locked.key"
    encrypt = ["openssl", "pkey", "-in", str(mine.keyfile), "-aes256", "-passout", "pass:sesame", "-out", str(locked)]
    subprocess.run(encrypt, check=True, capture_output=True)
    with pytest.raises(ValueError, match="must not be encrypted"):
        connection.make_client(BrokerUrl("h", tls=True), "c", certfile=mine.certfile, keyfile=locked)


def test_client_key_needs_its_certificate_and_both_need_tls(tmp_path: Path) -> None:
    file = tmp_path / "any.pem"
    with pytest.raises(ValueError, match="client key needs its certificate"):
        connection.make_client(BrokerUrl("h", tls=True), "c", keyfile=file)
    with pytest.raises(ValueError, match="client certificate is only used with TLS"):
        connection.make_client(BrokerUrl("h"), "c", certfile=file, keyfile=file)


@pytest.fixture(scope="module", params=["tlsv1.2", "tlsv1.3"])
def demanding_broker(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerUrl]:
    """A mosquitto that wants a client certificate of the authority."""
    port, server = free_port(), authority.issue("broker")
    config = tmp_path_factory.mktemp("demanding") / "mosquitto.conf"
    lines = [f"listener {port} {HOST}", "allow_anonymous true", "require_certificate true", "user root"]
    lines += [f"cafile {authority.certfile}", f"certfile {server.certfile}", f"keyfile {server.keyfile}"]
    config.write_text("\n".join([*lines, f"tls_version {request.param}\n"]))
    with serve_mosquitto(find_mosquitto(), config, port):
        yield BrokerUrl(HOST, port, tls=True)


def test_client_with_a_certificate_of_the_right_authority_gets_in(
    demanding_broker: BrokerUrl, authority: Authority
) -> None:
    mine = authority.issue("mine")
    client = connection.make_client(
        demanding_broker, "c", cafile=authority.certfile, certfile=mine.certfile, keyfile=mine.keyfile
    )
    connection.connect(client, demanding_broker)
    assert client.is_connected()
    client.disconnect()


@pytest.mark.parametrize("shown", ["none", "another authority's"])
def test_client_without_such_a_certificate_is_refused_in_one_clear_error(
    demanding_broker: BrokerUrl, authority: Authority, stranger: Certificate, shown: str
) -> None:
    certfile, keyfile = (None, None) if shown == "none" else (stranger.certfile, stranger.keyfile)
    client = connection.make_client(
        demanding_broker, "c", cafile=authority.certfile, certfile=certfile, keyfile=keyfile
    )
    with pytest.raises(ConnectionError, match="Does it want a client certificate, or one of another authority"):
        connection.connect(client, demanding_broker)


def test_broker_behind_tls_that_never_answers_is_not_waited_for_for_ever(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.3)
    server, port = authority.issue("broker"), free_port()
    silent = ["openssl", "s_server", "-quiet", "-accept", f"{HOST}:{port}", "-cert", str(server.certfile)]
    process = subprocess.Popen([*silent, "-key", str(server.keyfile)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    url = BrokerUrl(HOST, port, tls=True)
    try:
        client = connection.make_client(url, "c", cafile=authority.certfile)
        deadline = time.monotonic() + 10
        while True:
            try:
                connection.connect(client, url)
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert not client.is_connected()
        sock = client.socket()
        assert sock is not None
        sock.close()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", [["monitor", "watch"], ["monitor", "run"], ["simulator", "replay"]])
def test_every_command_shows_its_certificate_and_says_what_is_wrong_with_it(
    demanding_broker: BrokerUrl, authority: Authority, command: list[str]
) -> None:
    refused = [sys.executable, "-m", *command, "--broker", str(demanding_broker), "--cafile", str(authority.certfile)]
    done = subprocess.run(refused, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Does it want a client certificate" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*refused, "--certfile", "none.pem"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "none.pem cannot be read" in done.stderr
