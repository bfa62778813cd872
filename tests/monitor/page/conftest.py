"""What the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from monitor.broker.connection import BrokerUrl
from tests.brokers import Broker, find_mosquitto
from tests.monitor.page.browser import launch
from tests.monitor.page.client import make_users

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a viewer, vi, and a responder, rex."""
    return make_users(tmp_path_factory.mktemp("users"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of a file."""
    with launch() as started:
        yield started


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerUrl]:
    """Where mosquitto listens, one for each test that asks for it."""
    find_mosquitto()
    started = Broker("mosquitto", tmp_path / "broker")
    yield started.url
    started.end()
