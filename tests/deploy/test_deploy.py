"""The files of deploy/: the rights of unknown clients, devices and viewers on a real mosquitto; the systemd unit."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

import ecgwatch.__main__
from monitor import wire
from monitor.broker.connection import PASSWORD_VARIABLE, TlsFiles
from tests.certificates import Authority
from tests.deploy.secured import DEPLOY, Client, Secured, run_secured
from tests.simulator.recorder import wait_for

TOPICS = wire.Topics()
SAMPLES, ALERTS = TOPICS.of("patch-1", "samples"), TOPICS.of("patch-1", "alerts")
READ_BY_VIEWERS = (ALERTS, TOPICS.of("patch-1", "beats"), TOPICS.of("patch-1", "state"))
ODD_NAMES = ("+", "patch-1/samples", "patch-1/+")
"""User names that should never be assigned."""

# paho leaves the socket of a handshake that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with run_secured(tmp_path_factory.mktemp("secured"), ("sim-0001", *ODD_NAMES)) as running:
        yield running


def _received_before(reader: Client, writer: Client, topic: str) -> list[tuple[str, bytes]]:
    """Send a permitted message, and return all that arrived before it."""
    writer.publish(topic, b"last")
    wait_for(lambda: (topic, b"last") in reader.received)
    return reader.received[:-1]


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), ("patch-1", "wrong"), ("nobody", "nobody"), ("patch-1", "")]
)
def test_stranger_without_user_and_password_is_refused(broker: Secured, user: str | None, password: str | None) -> None:
    with Client(broker, user, password=password) as client:
        assert client.reason in ("Not authorized", "Bad user name or password")


def test_broker_with_another_certificate_is_refused_by_its_clients(broker: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with pytest.raises(ConnectionError, match="certificate verify failed"):
        Client(broker, "patch-1", tls=TlsFiles(other.certfile))


@pytest.mark.parametrize("shown", ["none", "another authority's"])
def test_nobody_gets_to_the_monitor_s_listener_without_its_certificate(
    broker: Secured, tmp_path: Path, shown: str
) -> None:
    files = broker.device_tls
    if shown != "none":
        other = Authority(tmp_path, "other").issue("monitor")
        files = TlsFiles(files.cafile, other.certfile, other.keyfile)
    with pytest.raises(ConnectionError, match="Does it want a client certificate"):
        Client(broker, "monitor", tls=files)


def test_device_reaches_the_monitor_and_receives_its_acknowledgements(broker: Secured) -> None:
    leaves = ("info", "samples", "status")
    with (
        Client(broker, "monitor", *(TOPICS.of("+", leaf) for leaf in leaves)) as monitor,
        Client(broker, "patch-1", TOPICS.of("patch-1", "ack")) as device,
    ):
        for leaf in leaves:
            device.publish(TOPICS.of("patch-1", leaf), b"x")
        wait_for(lambda: len(monitor.received) == 3)
        monitor.publish(TOPICS.of("patch-1", "ack"), b"7")
        wait_for(lambda: device.received == [(TOPICS.of("patch-1", "ack"), b"7")])


def test_device_cannot_write_as_another_nor_what_only_the_monitor_writes(broker: Secured) -> None:
    wanted = ("samples", "info", "status", "truth", "alerts", "beats", "ack", "error")
    forbidden = [TOPICS.of("patch-2", leaf) for leaf in wanted]
    forbidden += [TOPICS.of("patch-1", leaf) for leaf in ("alerts", "beats", "ack", "error", "truth")]
    forbidden += [TOPICS.of("patch-1", "state"), TOPICS.request("monitor", "silence")]
    forbidden += [TOPICS.monitor_status("monitor"), "elsewhere"]
    with (
        Client(broker, "monitor", *(TOPICS.of("+", leaf) for leaf in ("info", "samples", "status"))) as monitor,
        Client(broker, "viewer", TOPICS.of("+", "alerts"), TOPICS.of("+", "beats"), "ecg/v1/monitor/#") as viewer,
        Client(broker, "patch-1") as device,
    ):
        for topic in forbidden:
            device.publish(topic, b"forged")
        assert _received_before(monitor, device, SAMPLES) == []
        assert _received_before(viewer, monitor, ALERTS) == []


def test_device_hears_nothing_of_others_nor_its_own_alerts(broker: Secured) -> None:
    with Client(broker, "monitor") as monitor, Client(broker, "patch-2", "#") as device, Client(broker, "patch-1") as p:
        p.publish(SAMPLES, b"x")
        for leaf in ("alerts", "beats", "ack", "error"):
            monitor.publish(TOPICS.of("patch-1", leaf), b"x")
        monitor.publish(TOPICS.of("patch-2", "alerts"), b"x")
        monitor.publish(TOPICS.monitor_status("monitor"), b"x")
        assert _received_before(device, monitor, TOPICS.of("patch-2", "ack")) == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_user_name_that_is_a_wildcard_or_a_path_gets_nothing_by_it(broker: Secured, name: str) -> None:
    with (
        Client(broker, "monitor", TOPICS.of("+", "samples")) as monitor,
        Client(broker, "patch-1") as device,
        Client(broker, name, TOPICS.of("+", "ack"), password="sesame") as odd,
    ):
        assert odd.reason == "Success"
        odd.publish(SAMPLES, b"forged")
        monitor.publish(TOPICS.of("patch-1", "ack"), b"x")
        assert _received_before(monitor, device, SAMPLES) == []
        assert odd.received == []


def test_viewer_reads_alerts_beats_and_the_monitor_s_status_and_nothing_else(broker: Secured) -> None:
    with (
        Client(broker, "monitor") as monitor,
        Client(broker, "patch-1") as device,
        Client(broker, "viewer", "#") as viewer,
    ):
        for leaf in ("samples", "info", "status"):
            device.publish(TOPICS.of("patch-1", leaf), b"x")
        for topic in (*READ_BY_VIEWERS, TOPICS.of("patch-1", "ack"), "ecg/v1/monitor/m/other"):
            monitor.publish(topic, b"x")
        received = _received_before(viewer, monitor, TOPICS.monitor_status("monitor"))
        assert {topic for topic, _ in received} == {*READ_BY_VIEWERS}


def test_viewer_writes_nothing_not_even_as_a_device_of_its_name(broker: Secured) -> None:
    with (
        Client(broker, "monitor", TOPICS.of("+", "samples"), "ecg/v1/monitor/#") as monitor,
        Client(broker, "patch-1") as device,
        Client(broker, "viewer", TOPICS.of("+", "alerts")) as viewer,
    ):
        request = TOPICS.request("monitor", "silence")
        for topic in (SAMPLES, TOPICS.of("viewer", "samples"), ALERTS, TOPICS.monitor_status("monitor"), request):
            viewer.publish(topic, b"forged")
        assert _received_before(monitor, device, SAMPLES) == []
        assert _received_before(viewer, monitor, ALERTS) == []


def test_responder_asks_and_writes_nothing_else_and_reads_the_answers_to_its_own_requests(broker: Secured) -> None:
    request, answer = TOPICS.request("monitor", "silence"), TOPICS.answer("monitor", "responder")
    with (
        Client(broker, "monitor", TOPICS.of("+", "samples"), TOPICS.request("monitor", "+")) as monitor,
        Client(broker, "responder", "#") as responder,
    ):
        forbidden = (SAMPLES, TOPICS.of("responder", "samples"), ALERTS, TOPICS.of("patch-1", "state"))
        forget = TOPICS.request("monitor", "forget"), TOPICS.forgotten("monitor")
        for topic in (*forbidden, *forget, TOPICS.monitor_status("monitor"), answer):
            responder.publish(topic, b"forged")
        assert _received_before(monitor, responder, request) == []
        for topic in (*READ_BY_VIEWERS, TOPICS.answer("monitor", "another"), request, TOPICS.of("patch-1", "ack")):
            monitor.publish(topic, b"x")
        received = _received_before(responder, monitor, answer)
        assert {topic for topic, _ in received} == {*READ_BY_VIEWERS}


def test_web_page_reads_what_it_shows_asks_and_writes_nothing_else(broker: Secured) -> None:
    request, answer = TOPICS.request("monitor", "silence"), TOPICS.answer("monitor", "page")
    with (
        Client(broker, "monitor", TOPICS.of("+", "samples"), TOPICS.request("monitor", "+")) as monitor,
        Client(broker, "patch-1") as device,
        Client(broker, "page", "#") as page,
    ):
        forbidden = (SAMPLES, TOPICS.of("page", "samples"), ALERTS, TOPICS.of("patch-1", "state"))
        forget = TOPICS.request("monitor", "forget"), TOPICS.forgotten("monitor")
        for topic in (*forbidden, *forget, TOPICS.monitor_status("monitor"), answer):
            page.publish(topic, b"forged")
        assert _received_before(monitor, page, request) == []
        sent = {TOPICS.of("patch-1", leaf) for leaf in ("samples", "info", "status")}
        for topic in sent:
            device.publish(topic, b"x")
        for topic in (*READ_BY_VIEWERS, TOPICS.answer("monitor", "another"), TOPICS.of("patch-1", "ack")):
            monitor.publish(topic, b"x")
        received = _received_before(page, monitor, answer)
        assert {topic for topic, _ in received} <= {*READ_BY_VIEWERS, *sent}
        assert {topic for topic, _ in received} >= {*READ_BY_VIEWERS}


def test_the_bridge_offers_devices_to_home_assistant_and_neither_reads_or_writes_anything_else(broker: Secured) -> None:
    config, state = "homeassistant/device/ecgwatch-device-patch-1/config", TOPICS.of("patch-1", "state")
    with (
        Client(broker, "monitor", "ecg/v1/monitor/#", TOPICS.of("+", "samples")) as monitor,
        Client(broker, "patch-1") as device,
        Client(broker, "bridge", "#") as bridge,
        Client(broker, "home-assistant", "#") as home,
    ):
        for topic in (TOPICS.request("monitor", "silence"), TOPICS.of("bridge", "samples"), ALERTS, state):
            bridge.publish(topic, b"forged")
            home.publish(topic.replace("bridge", "home-assistant"), b"forged")
        bridge.publish(config, b"{}")
        wait_for(lambda: (config, b"{}") in home.received)
        device.publish(SAMPLES, b"x")
        for topic in (ALERTS, TOPICS.of("patch-1", "beats"), TOPICS.answer("monitor", "page"), state):
            monitor.publish(topic, b"x")
        status = TOPICS.monitor_status("monitor")
        assert {topic for topic, _ in _received_before(bridge, monitor, status)} == {state}
        for client in (home, monitor):
            wait_for(lambda client=client: (status, b"last") in client.received)  # type: ignore[misc]
        assert {topic for topic, _ in home.received} == {config, state, status}
        assert {topic for topic, _ in monitor.received} == {SAMPLES, TOPICS.answer("monitor", "page"), status}


def test_device_that_takes_the_monitor_s_client_id_gets_neither_its_session_nor_its_packets(broker: Secured) -> None:
    Client(broker, "monitor", SAMPLES, client_id="ecgwatch-monitor", clean_session=False).close()
    with Client(broker, "patch-1") as device:
        device.publish(SAMPLES, b"waiting")
    with Client(broker, "patch-2", client_id="ecgwatch-monitor", clean_session=False) as thief:
        assert not thief.session_present
    with Client(broker, "monitor", client_id="ecgwatch-monitor", clean_session=False) as monitor:
        assert monitor.session_present
        wait_for(lambda: monitor.received == [(SAMPLES, b"waiting")])
    Client(broker, "monitor", client_id="ecgwatch-monitor").close()


def test_monitor_and_a_device_work_with_their_rights(broker: Secured) -> None:
    device, status = "sim-0001", TOPICS.monitor_status("monitor")
    with Client(broker, "viewer", TOPICS.of(device, "beats"), status) as viewer:
        with _process(broker, "monitor", "monitor", "run", "--beats", "--provider", "cpu"):
            wait_for(lambda: any(topic == status and b'"online"' in payload for topic, payload in viewer.received), 60)
            with _process(broker, device, "simulator", "replay", "--devices", "1", "--speed", "5"):
                wait_for(lambda: len([topic for topic, _ in viewer.received if topic != status]) > 10, 60)
        wait_for(lambda: b'"offline"' in viewer.received[-1][1])


@contextmanager
def _process(broker: Secured, user: str, *command: str) -> Iterator[None]:
    """Run one of our own commands as a user, and end it cleanly."""
    tls, password = broker.tls(user), broker.password(user) or "sesame"
    options = ["--broker", str(broker.url(user))]
    options += [f"--{name}={file}" for name, file in asdict(tls).items() if file is not None]
    environment = os.environ | {PASSWORD_VARIABLE: password}
    process = subprocess.Popen(
        [sys.executable, "-m", *command, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in errors) == (0, False), errors


def test_certificates_of_the_guide_satisfy_the_strictest_clients(broker: Secured) -> None:
    """Python 3.13 checks certificates more strictly than earlier versions."""
    context = broker.monitor_tls.context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", broker.devices_port)) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_settings_that_both_configurations_have_are_equal() -> None:
    simple, secured = (
        dict(re.findall(r"^(\w+) (.*)$", (DEPLOY / name).read_text(), re.MULTILINE))
        for name in ("mosquitto.conf", "mosquitto-tls.conf")
    )
    for setting in set(simple) - {"listener", "allow_anonymous"}:
        assert secured[setting] == simple[setting]
    assert (simple["allow_anonymous"], secured["allow_anonymous"]) == ("true", "false")
    assert int(simple["message_size_limit"]) == wire.MAX_PAYLOAD


UNITS = ["ecgwatch-monitor.service", "ecgwatch-fleet@.service"]


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_valid_for_systemd(tmp_path: Path, name: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / name
    text = (DEPLOY / unit.name).read_text()
    assert "/opt/ecgwatch/bin/ecgwatch" in text
    unit.write_text(text.replace("/opt/ecgwatch/bin/ecgwatch", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=one", str(unit)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_unit_starts_the_monitor_with_existing_options(capsys: pytest.CaptureFixture[str], name: str) -> None:
    command = (DEPLOY / name).read_text().split("ExecStart=")[1].split("Exec")[0].split("#")[0]
    assert command.startswith("/opt/ecgwatch/bin/ecgwatch run ")
    with pytest.raises(SystemExit):
        ecgwatch.__main__.main(["run", "--help"])
    help_ = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in help_


def test_manifest_starts_the_monitor_with_existing_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = re.findall(r"^ +- (--[a-z-]+)=", (DEPLOY / "kubernetes.yaml").read_text(), re.MULTILINE)
    assert "--source" in options
    with pytest.raises(SystemExit):
        ecgwatch.__main__.main(["run", "--help"])
    help_ = capsys.readouterr().out
    assert [option for option in options if option not in help_] == []


@pytest.mark.parametrize("name", UNITS)
def test_unit_lets_the_monitor_read_its_configuration_again(name: str) -> None:
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in (DEPLOY / name).read_text()


def test_configuration_of_the_unit_has_nothing_wrong_nor_has_what_it_suggests(broker: Secured, tmp_path: Path) -> None:
    for name in ("ca.crt", "monitor.crt"):  # its key is a credential of the unit
        shutil.copy(broker.folder / name, tmp_path)
    text = (DEPLOY / "ecgwatch.toml").read_text()
    suggested = re.sub(r"^# (?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    assert suggested != text
    for one in (text, suggested):
        file = tmp_path / "ecgwatch.toml"
        file.write_text(one)
        assert ecgwatch.__main__.main(["config", "check", str(file)]) == 0


def test_image_has_every_package() -> None:
    root = DEPLOY.parent
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert {f"{package}*" for package in copied} == set(wanted)
