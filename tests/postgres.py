"""A PostgreSQL server of the tests' own: in a temporary directory, on a free port, without a durable disk."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from simulator.broker import HOST, free_port
from tests.brokers import WAIT_S, Server

USER = "ecgwatch"


class Postgres(Server):
    """A server that can be stopped, killed, frozen and started again.

    Parameters
    ----------
    folder
        For its files; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        programs = find_postgres()
        data, port = folder / "data", free_port()
        folder.mkdir(parents=True, exist_ok=True)
        as_user = _become_harmless(folder)
        initdb = [f"{programs}/initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd="/")
        settings = {
            "port": port, "listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off",
            "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": 60,
        }  # fmt: skip
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.url = f"postgresql://{USER}@{HOST}:{port}/postgres"
        super().__init__([*as_user, f"{programs}/postgres", "-D", str(data), *options], port)

    def start(self) -> None:
        """Start it, and wait until it lets clients in."""
        super().start()
        until_s = time.monotonic() + WAIT_S
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until_s, "PostgreSQL did not start"
                time.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: by default a fast shutdown, which ends the sessions."""
        super().end(how)


def find_postgres() -> str:
    """Return the directory of PostgreSQL's programs; without one skip the test, or fail it on CI."""
    path = f"{os.environ.get('PATH', '')}:{':'.join(sorted(glob.glob('/usr/lib/postgresql/*/bin'), reverse=True))}"
    found = shutil.which("initdb", path=path)
    if found is None:
        reason = "PostgreSQL is not installed: apt-get install postgresql (or brew install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(Path(found).resolve().parent)


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Run a server, with its files where another user can reach them: pytest's own directories are root's only."""
    with tempfile.TemporaryDirectory(prefix="ecgwatch-postgres-") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.end()


@contextmanager
def make_database(server: Postgres) -> Iterator[str]:
    """Make an empty database; return its URL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield server.url.replace("/postgres", f"/{name}")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _become_harmless(folder: Path) -> list[str]:
    """Let the server's files belong to a user who is not root; return the words that run a command as that user."""
    if os.geteuid() != 0:
        return []
    user = "nobody"
    shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
