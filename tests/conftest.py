"""Real brokers and real ECG for all tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST, EmbeddedBroker, free_port

DEPLOYED = Path(__file__).parents[1] / "deploy" / "mosquitto.conf"


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what monitors remember out of the home directory, and each test's from the others'."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session", params=["iotcore", "mosquitto"])
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerUrl]:
    """Where a real broker listens: every test that asks for it runs with each kind."""
    if request.param == "iotcore":
        with EmbeddedBroker(port=0) as broker:
            yield broker.url
    else:
        with run_mosquitto(find_mosquitto(), tmp_path_factory.mktemp("mosquitto")) as url:
            yield url


def find_mosquitto() -> str:
    """Return the path of mosquitto; without one skip the test, or fail it on CI."""
    path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        told = "mosquitto is not installed: apt-get install mosquitto (or brew install mosquitto)"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return path


@contextmanager
def run_mosquitto(path: str, folder: Path) -> Iterator[BrokerUrl]:
    """Run mosquitto with the settings of deploy/mosquitto.conf, on a free port and with its files in `folder`."""
    port = free_port()
    config = folder / "mosquitto.conf"
    settings = DEPLOYED.read_text().replace("listener 1883", f"listener {port}")
    folder.chmod(0o777)  # mosquitto gives up root's rights
    config.write_text(settings.replace("/var/lib/mosquitto/", f"{folder}/"))
    with serve_mosquitto(path, config, port):
        yield BrokerUrl(HOST, port)


@contextmanager
def serve_mosquitto(path: str, config: Path, port: int) -> Iterator[None]:
    """Run mosquitto with a configuration that has it listen on that port."""
    process = subprocess.Popen([path, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not listens(port):
            assert process.poll() is None, f"mosquitto ended with status {process.returncode}"
            assert time.monotonic() < deadline, "mosquitto did not start within 10 s"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.fixture(scope="session")
def ecg_data() -> Path:
    """Directory with the real ECG data: ECGWATCH_DATA, or ../shared/data beside the project."""
    named = os.environ.get("ECGWATCH_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no ECG data in {folder}: set ECGWATCH_DATA to the folder that holds ptbdb/")
    return folder
