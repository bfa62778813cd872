"""What the tests of the page share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monitor.page.client import make_users


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a viewer, vi, and a responder, rex."""
    return make_users(tmp_path_factory.mktemp("users"))
