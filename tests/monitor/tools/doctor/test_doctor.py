"""The doctor: what it finds on real brokers that are well and not well, and that nobody notices it."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor import wire
from monitor.__main__ import main
from monitor.broker import connection
from monitor.state.location import default_directory, directory
from monitor.tools.doctor import examine, probe
from monitor.tools.doctor.visit import Target, Visit, may_publish
from simulator.broker import HOST, EmbeddedBroker, free_port
from tests.certificates import Authority
from tests.conftest import find_mosquitto, run_mosquitto, serve_mosquitto
from tests.deploy.secured import Client, Secured, run_secured
from tests.simulator.recorder import Recorder

TOPICS = wire.Topics()

# paho leaves the socket of a handshake that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Findings:
    """What the doctor found, as JSON."""

    def __init__(self, status: int, out: str) -> None:
        self.exit_status, self.out = status, out
        self.told: dict[str, Any] = json.loads(out)
        self.checks: dict[str, dict[str, str]] = {check["name"]: check for check in self.told["checks"]}

    def of(self, status: str) -> set[str]:
        """Names of the checks that came out so."""
        return {name for name, check in self.checks.items() if check["status"] == status}


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run the doctor, with the options of the command line."""

    def asked(url: object, *options: object) -> Findings:
        arguments = ["doctor", "--json", "--provider", "cpu", "--state", str(tmp_path), "--broker", str(url)]
        status = main([*arguments, *map(str, options)])
        return Findings(status, capsys.readouterr().out)

    return asked


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with run_secured(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[connection.BrokerUrl]:
    with run_mosquitto(find_mosquitto(), tmp_path_factory.mktemp("simple")) as url:
        yield url


def _options(secured: Secured, user: str) -> list[object]:
    tls = secured.tls(user)
    certificate = [] if tls.certfile is None else ["--certfile", tls.certfile, "--keyfile", tls.keyfile]
    return ["--cafile", tls.cafile, *certificate, "--password-file", secured.folder / f"{user}.password"]


def test_mosquitto_as_deployed_on_one_machine_is_well(ask: Any, simple: connection.BrokerUrl) -> None:
    told = ask(simple)
    assert told.of("warn") == told.of("FAIL") == set()
    assert (told.exit_status, told.told["ok"]) == (0, True)
    assert {"model", "login", "alerts", "round trip", "session", "waiting", "in flight"} <= told.of("ok")


def test_mosquitto_as_deployed_on_a_network_is_well_for_the_monitor(ask: Any, secured: Secured) -> None:
    told = ask(secured.url("monitor"), *_options(secured, "monitor"))
    assert told.of("warn") == told.of("FAIL") == set()
    assert "accepted as user monitor" in told.checks["login"]["found"]
    assert "364 more days" in told.checks["encryption"]["found"]
    assert "alerts, beats, states and status may be published" in told.checks["alerts"]["found"]


def test_mosquitto_with_its_defaults_is_advised_what_to_keep(ask: Any, tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\n")
    with serve_mosquitto(find_mosquitto(), config, port):
        told = ask(f"mqtt://{HOST}:{port}")
    assert told.exit_status == 0
    assert told.of("warn") == {"round trip", "waiting", "in flight"}
    assert "max_queued_messages 1000000" in told.checks["waiting"]["advice"]
    assert "of 2000 messages for a client that was away 1000 were kept" in told.checks["waiting"]["found"]
    assert "only 20 messages" in told.checks["in flight"]["found"]
    assert "max_inflight_messages 0" in told.checks["in flight"]["advice"]
    assert "set_tcp_nodelay true" in told.checks["round trip"]["advice"]


def test_embedded_broker_keeps_all_but_hands_over_little_at_once(ask: Any) -> None:
    with EmbeddedBroker(port=0) as broker:
        told = ask(broker.url)
    assert told.exit_status == 0
    assert {"session", "waiting"} <= told.of("ok")
    assert "only 100 messages" in told.checks["in flight"]["found"]
    assert "only a broker that speaks MQTT 5" in told.checks["alerts"]["found"]


def test_no_broker_is_one_failure_and_the_rest_is_not_checked(ask: Any) -> None:
    told = ask(f"mqtt://{HOST}:{free_port()}")
    assert told.exit_status == 1
    assert told.of("FAIL") == {"port"}
    assert "Connection refused" in told.checks["port"]["found"]
    assert told.checks["unchecked"]["found"].startswith("encryption, login, qos, own topic")


def test_unknown_host_name_is_a_failure(ask: Any) -> None:
    assert ask("mqtt://broker.invalid").of("FAIL") == {"address"}


@pytest.mark.parametrize(
    ("password", "advice"), [("sesame", "mosquitto_passwd PASSWORDS patch-1"), (None, "No password was given")]
)
def test_wrong_password_is_reported_and_not_repeated(
    ask: Any, secured: Secured, monkeypatch: pytest.MonkeyPatch, password: str | None, advice: str
) -> None:
    monkeypatch.delenv(connection.PASSWORD_VARIABLE, raising=False)
    if password is not None:
        monkeypatch.setenv(connection.PASSWORD_VARIABLE, password)
    told = ask(secured.url("patch-1"), "--cafile", secured.device_tls.cafile)
    assert (told.exit_status, told.of("FAIL")) == (1, {"login"})
    assert advice in told.checks["login"]["advice"]
    assert "sesame" not in told.out


def test_client_without_a_user_is_advised_to_name_one(ask: Any, secured: Secured) -> None:
    told = ask(secured.url(None), "--cafile", secured.device_tls.cafile)
    assert told.of("FAIL") == {"login"}
    assert "Name a user" in told.checks["login"]["advice"]


def test_broker_that_cannot_be_trusted_is_reported_with_what_to_trust(ask: Any, secured: Secured) -> None:
    told = ask(secured.url("patch-1"), "--password-file", secured.folder / "patch-1.password")
    assert told.of("FAIL") == {"encryption"}
    assert "--cafile" in told.checks["encryption"]["advice"]


def test_broker_under_a_name_that_its_certificate_lacks_is_reported(ask: Any, secured: Secured) -> None:
    told = ask(f"mqtts://localhost:{secured.devices_port}", "--cafile", secured.device_tls.cafile)
    assert told.of("FAIL") == {"encryption"}
    assert "Write the name that stands in the certificate" in told.checks["encryption"]["advice"]


def test_missing_client_certificate_is_reported(ask: Any, secured: Secured) -> None:
    password = secured.folder / "monitor.password"
    told = ask(secured.url("monitor"), "--cafile", secured.device_tls.cafile, "--password-file", password)
    assert told.of("FAIL") == {"login"}
    assert told.checks["login"]["found"].startswith("ended the TLS connection: ")
    assert "client certificate" in told.checks["login"]["advice"]


def test_certificate_that_ends_soon_is_to_be_renewed(ask: Any, tmp_path: Path) -> None:
    authority, port, config = Authority(tmp_path), free_port(), tmp_path / "mosquitto.conf"
    server = authority.issue("broker", days=2)
    tls = f"certfile {server.certfile}\nkeyfile {server.keyfile}\n"
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n{tls}")
    with serve_mosquitto(find_mosquitto(), config, port):
        told = ask(f"mqtts://{HOST}:{port}", "--cafile", authority.certfile)
    assert told.checks["encryption"]["status"] == "warn"
    assert "1 more day" in told.checks["encryption"]["found"]
    assert "Renew" in told.checks["encryption"]["advice"]
    assert told.checks["round trip"]["status"] == "ok"


@pytest.mark.parametrize("user", ["viewer", "patch-1"])
def test_user_without_the_monitor_s_rights_is_shown_the_rule_that_is_missing(
    ask: Any, secured: Secured, user: str
) -> None:
    told = ask(secured.url(user), *_options(secured, user))
    assert (told.exit_status, told.of("FAIL")) == (1, {"own topic"})
    assert "topic readwrite ecg/v1/monitor/monitor/#" in told.checks["own topic"]["advice"]


def test_monitor_that_may_not_publish_alerts_is_shown_the_rule_that_is_missing(ask: Any, tmp_path: Path) -> None:
    port, config, acl = free_port(), tmp_path / "mosquitto.conf", tmp_path / "acl"
    acl.write_text("topic readwrite ecg/v1/monitor/#\ntopic read ecg/v1/+/samples\ntopic write ecg/v1/+/beats\n")
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\nacl_file {acl}\nuser root\n")
    with serve_mosquitto(find_mosquitto(), config, port):
        told = ask(f"mqtt://{HOST}:{port}")
    assert told.of("FAIL") == {"alerts"}
    assert told.checks["alerts"]["advice"].endswith(": topic write ecg/v1/+/alerts, topic write ecg/v1/+/state")


def test_finding_out_a_right_delivers_nothing(simple: connection.BrokerUrl) -> None:
    with Recorder(simple, "#") as everyone:
        assert may_publish(Target(simple), "asks", ["ecg/v1/a/alerts", "x" * 200]) == {
            "ecg/v1/a/alerts": True, "x" * 200: True,
        }  # fmt: skip
        everyone.client.publish("last", b"", qos=1)
        _wait_for_last(everyone)
        assert [message.topic for message in everyone.messages] == ["last"]


def test_nobody_notices_the_doctor_and_nothing_of_it_stays(ask: Any, simple: connection.BrokerUrl) -> None:
    with Recorder(simple, f"{wire.PREFIX}/+/+", f"{wire.PREFIX}/monitor/+/status", "last") as everyone:
        ask(simple)
        everyone.client.publish("last", b"", qos=1)
        _wait_for_last(everyone)
        assert [message.topic for message in everyone.messages] == ["last"]
    with Visit(Target(simple), "ecgwatch-monitor-doctor-waiting", clean_session=False) as left:
        assert not left.session_present
    with Visit(Target(simple), "ecgwatch-monitor-doctor-waiting"):
        pass


def _wait_for_last(recorder: Recorder) -> None:
    deadline = time.monotonic() + 10
    while not recorder.payloads("last"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_devices_that_send_are_counted_and_not_those_that_were_there_once(ask: Any, secured: Secured) -> None:
    over = threading.Event()

    def send(device: Client) -> None:
        while not over.wait(0.1):
            device.publish(TOPICS.of("patch-1", "samples"), b"{}")

    with Client(secured, "patch-1") as device:
        device.publish(TOPICS.of("patch-1", "info"), b"{}", retain=True)
        told = ask(secured.url("monitor"), *_options(secured, "monitor"))
        assert "no device sent samples in 1 s" in told.checks["samples"]["found"]
        sender = threading.Thread(target=send, args=(device,))
        sender.start()
        try:
            told = ask(secured.url("monitor"), *_options(secured, "monitor"))
        finally:
            over.set()
            sender.join()
        device.publish(TOPICS.of("patch-1", "info"), b"", retain=True)
    assert told.checks["samples"]["found"] == "heard 1 device in 1 s"


@pytest.mark.parametrize("says", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_server_that_speaks_something_else_is_reported(ask: Any, says: bytes | None) -> None:
    kept: list[socket.socket] = []
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    sock = server.accept()[0]
                except OSError:
                    return
                if says is None:
                    kept.append(sock)
                    continue
                with sock:
                    sock.recv(100)
                    sock.sendall(says)

        threading.Thread(target=serve, daemon=True).start()
        told = ask(f"mqtt://{HOST}:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
    for sock in kept:
        sock.close()
    assert told.of("FAIL") == {"login"}


def test_port_for_tls_asked_in_the_clear_is_reported(ask: Any, secured: Secured) -> None:
    told = ask(f"mqtt://{HOST}:{secured.devices_port}")
    assert told.of("FAIL") == {"login"}
    assert "mqtts://" in told.checks["login"]["advice"]


def test_way_in_the_clear_beyond_this_machine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    abroad = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 1883))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: abroad)
    check = probe.Probe(Target(connection.BrokerUrl("broker.example.org")), TOPICS, "m").encryption()
    assert check.status == "warn"
    assert "mqtts://" in check.advice


def test_model_that_is_none_is_reported(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    url = f"mqtt://{HOST}:{free_port()}"
    told = ask(url, "--model", tmp_path / "broken.onnx")
    assert {"model", "port"} == told.of("FAIL")
    assert "provider" not in told.checks
    assert "No model 'none'" in ask(url, "--model", "none").checks["model"]["found"]


def test_cuda_where_there_is_none_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.classify._why_no_cuda", lambda: "there is none")
    model, shape, provider = examine.check_models("nsv", "ptb", "cuda")
    assert (model.status, shape.status, provider.status) == ("ok", "ok", "FAIL")
    assert len(model.found.split("sha256 ")[1]) == 12
    assert [check.found for check in examine.check_models("nsv", "none", "auto")][1:] == ["auto: cpu"]


def test_state_that_cannot_be_kept_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert examine.check_state(file / "state").status == "FAIL"
    assert "can be made" in examine.check_state(tmp_path / "a" / "b").found
    assert not (tmp_path / "a").exists()
    usage = namedtuple("usage", ("total", "used", "free"))
    for free, status in ((10**12, "ok"), (5 * 10**8, "warn"), (10**6, "FAIL")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(0, 0, free))
        assert examine.check_state(tmp_path).status == status


def test_a_database_that_is_not_there_is_reported() -> None:
    check = examine.check_database(f"postgresql://127.0.0.1:{free_port()}/nowhere")
    assert (check.name, check.status) == ("state", "FAIL")
    assert check.found.startswith("No database reached at postgresql://")


def test_a_database_is_reported_with_its_version(database_url: str) -> None:
    check = examine.check_database(database_url)
    assert (check.name, check.status) == ("state", "ok")
    assert "PostgreSQL" in check.found


def test_clock_of_another_age_is_reported() -> None:
    assert examine.check_clock(0.0, synchronised=True).status == "FAIL"
    assert examine.check_clock(1.8e9, synchronised=True).found == "2027-01-15 08:00:00 UTC, synchronised"
    assert "unknown" in examine.check_clock(1.8e9, synchronised=False).found


def test_few_open_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, status in ((64, "warn"), (1024, "ok"), (resource.RLIM_INFINITY, "ok")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert examine.check_open_files().status == status


def test_state_is_kept_where_systemd_says_else_where_the_user_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/anna")
    assert default_directory() == Path("/home/anna/.local/state/ecgwatch")
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert default_directory() == Path("/home/anna/.local/state/ecgwatch")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_directory() == Path("/state/ecgwatch")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/ecgwatch:/var/lib/other")
    assert default_directory() == Path("/var/lib/ecgwatch")


def test_what_belongs_beside_a_database_lies_in_the_usual_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/ecgwatch")
    assert directory("postgresql://db.example.org/ecgwatch") == directory(None) == Path("/var/lib/ecgwatch")
    assert directory(Path("/elsewhere")) == Path("/elsewhere")


def test_each_check_is_one_line_and_what_to_do_is_one_below(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"mqtt://{HOST}:{free_port()}"
    assert main(["doctor", "--broker", url]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "this machine"
    assert f"the broker at {url}" in lines
    assert lines[-1] == "1 to mend; then run the doctor again."
    failed = next(number for number, line in enumerate(lines) if line.startswith("  FAIL  port "))
    assert lines[failed + 1].strip().startswith("-> Is the broker running")
    assert all(len(line) <= 125 and line.isascii() and "\033" not in line for line in lines)


def test_colours_are_for_terminals_that_want_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    main(["doctor", "--broker", f"mqtt://{HOST}:{free_port()}"])
    assert "\033[31mFAIL\033[0m" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "no spaces"], "A monitor's name must match"),
        (["--prefix", "a/#"], "A topic prefix must be words"),
        (["--cafile", "none.pem"], "only used with TLS"),
        (["--broker", "mqtt://a:b@h"], "must not hold a password"),
    ],
)
def test_options_that_cannot_work_are_one_line_and_exit_status_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *options]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def _ask_mosquitto(ask: Any, folder: Path, *settings: str) -> Findings:
    port, config = free_port(), folder / "mosquitto.conf"
    usual = ["set_tcp_nodelay true", "max_queued_messages 100000", "max_inflight_messages 0"]
    config.write_text("\n".join([f"listener {port} {HOST}", "allow_anonymous true", *usual, *settings, ""]))
    with serve_mosquitto(find_mosquitto(), config, port):
        told: Findings = ask(f"mqtt://{HOST}:{port}")
    return told


def test_a_broker_without_qos_1_is_a_failure_with_the_setting_to_change(ask: Any, tmp_path: Path) -> None:
    told = _ask_mosquitto(ask, tmp_path, "max_qos 0")
    assert told.of("FAIL") == {"qos"}
    assert "max_qos 2" in told.checks["qos"]["advice"]


def test_a_broker_without_retained_messages_is_warned_of(ask: Any, tmp_path: Path) -> None:
    told = _ask_mosquitto(ask, tmp_path, "retain_available false")
    assert "will" in told.of("warn")
    assert "retain_available true" in told.checks["will"]["advice"]


@pytest.mark.parametrize(
    ("setting", "status"),
    [("max_packet_size 2000", "FAIL"), ("message_size_limit 2000", "FAIL"), ("max_packet_size 100000", "warn")],
)
def test_a_broker_for_small_messages_only_is_found_out(ask: Any, tmp_path: Path, setting: str, status: str) -> None:
    told = _ask_mosquitto(ask, tmp_path, setting)
    assert "size" in told.of(status)
    assert "max_packet_size 0" in told.checks["size"]["advice"]


def test_a_port_of_another_protocol_is_named(ask: Any, secured: Secured) -> None:
    tls = ask(f"mqtt://{HOST}:{secured.url('monitor').port}")
    assert "speaks TLS: write mqtts://" in tls.checks["login"]["advice"]
    with HTTPServer((HOST, 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        http = ask(f"mqtt://{HOST}:{server.server_address[1]}")
        server.shutdown()
    assert "speaks HTTP" in http.checks["login"]["advice"]
