"""Real brokers and real ECG for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from monitor.broker.connection import BrokerUrl
from simulator.broker import EmbeddedBroker
from tests.brokers import DEPLOYED, find_mosquitto, listens, run_mosquitto, serve_mosquitto
from tests.postgres import Postgres, make_database, run_postgres

__all__ = ["DEPLOYED", "find_mosquitto", "listens", "run_mosquitto", "serve_mosquitto"]


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what monitors remember out of the home directory, and each test's from the others'."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


LEFT_BYTES = 300_000_000
"""What tests may leave for the garbage collector."""
_collected_at = [0]


@pytest.fixture(autouse=True)
def _is_collected() -> Iterator[None]:
    """Free what cycles hold on to: an engine with one device is 12 MB, and a service makes full collections rare."""
    yield
    used = psutil.Process().memory_info().rss
    if used > _collected_at[0] + LEFT_BYTES:
        gc.collect()
        _collected_at[0] = psutil.Process().memory_info().rss


@pytest.fixture(scope="session", params=["iotcore", "mosquitto"])
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerUrl]:
    """Where a real broker listens: every test that asks for it runs with each kind."""
    if request.param == "iotcore":
        with EmbeddedBroker(port=0) as broker:
            yield broker.url
    else:
        with run_mosquitto(find_mosquitto(), tmp_path_factory.mktemp("mosquitto")) as url:
            yield url


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    """A PostgreSQL server, for tests that leave it running."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def database_url(database_server: Postgres) -> Iterator[str]:
    """An empty database on it."""
    with make_database(database_server) as url:
        yield url


@pytest.fixture(scope="session")
def ecg_data() -> Path:
    """Directory with the real ECG data: ECGWATCH_DATA, or ../shared/data beside the project."""
    named = os.environ.get("ECGWATCH_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no ECG data in {folder}: set ECGWATCH_DATA to the folder that holds ptbdb/")
    return folder
