"""RabbitMQ nodes of the tests' own: in temporary directories, on free ports, alone or as a cluster on one machine.

By default the RabbitMQ that is installed. RABBITMQ_ROOT names the root of another Debian in which one is installed,
such as `tests/fetch_rabbitmq.sh` makes: its nodes run in a chroot.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.broker.connection import BrokerUrl
from simulator.broker import HOST, free_port
from tests.brokers import WAIT_S, Server, listens

SERVER, CONTROL = "usr/lib/rabbitmq/bin/rabbitmq-server", "usr/lib/rabbitmq/bin/rabbitmqctl"
PLUGINS = "[rabbitmq_mqtt,rabbitmq_consistent_hash_exchange]."
START_S = 180.0
"""How long a node may take to start on a busy machine."""
CONFIG = """
listeners.tcp.1 = {host}:{amqp}
mqtt.listeners.tcp.1 = {host}:{mqtt}
mqtt.allow_anonymous = true
mqtt.prefetch = 1000
heartbeat = 5
log.console = false
log.file.level = warning
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
cluster_partition_handling = pause_minority
"""


class Node(Server):
    """A node that can be stopped, killed, frozen and started again.

    Parameters
    ----------
    root
        Of the system in which RabbitMQ is installed.
    folder
        For its files and those of its fellows, below the root.
    number
        Of the node, among those of the folder.
    epmd
        Port of the name server that they share.
    fellows
        How many nodes make a cluster.
    """

    def __init__(self, root: Path, folder: Path, number: int, epmd: int, fellows: int) -> None:
        self.amqp, self.mqtt = free_port(), free_port()
        self.url = BrokerUrl(HOST, self.mqtt)
        own = folder / f"node{number}"
        own.mkdir()
        config = CONFIG.format(host=HOST, amqp=self.amqp, mqtt=self.mqtt)
        if fellows > 1:
            nodes = [f"cluster_formation.classic_config.nodes.{i} = n{i}@localhost" for i in range(1, fellows + 1)]
            config += "\n".join(["cluster_formation.peer_discovery_backend = classic_config", *nodes, ""])
        (own / "rabbitmq.conf").write_text(config)
        (own / "plugins").write_text(PLUGINS)
        inside = Path("/") / own.relative_to(root)
        environment = {
            "HOME": str(inside.parent), "RABBITMQ_NODENAME": f"n{number}@localhost",
            "RABBITMQ_MNESIA_BASE": f"{inside}/db",
            "RABBITMQ_LOG_BASE": f"{inside}/log", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{inside}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{inside}/rabbitmq.conf", "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_PID_FILE": f"{inside}/pid", "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
        }  # fmt: skip
        words = ["env", "-i", *[f"{key}={value}" for key, value in environment.items()]]
        self._words = words if root == Path("/") else ["chroot", str(root), *words]
        super().__init__([*self._words, f"/{SERVER}"], self.mqtt)

    def control(self, *words: str) -> None:
        """Run `rabbitmqctl`."""
        subprocess.run([*self._words, f"/{CONTROL}", *words], check=True, capture_output=True, timeout=WAIT_S)

    def _wait_until_it_listens(self, listening: bool) -> None:
        until_s = time.monotonic() + (START_S if listening else WAIT_S)
        while listens(self.mqtt) != listening or listens(self.amqp) != listening:
            status = self._process.poll()
            assert status is None or not listening, f"RabbitMQ ended with status {status}"
            assert time.monotonic() < until_s, f"RabbitMQ did not {'start' if listening else 'end'}"
            time.sleep(0.1)


@contextmanager
def run_rabbitmq(nodes: int = 1) -> Iterator[list[Node]]:
    """Run a cluster of that many nodes."""
    root = find_rabbitmq()
    with tempfile.TemporaryDirectory(prefix="ecgwatch-rabbitmq-", dir=root / "tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / ".erlang.cookie").write_text("ECGWATCH")
        (folder / ".erlang.cookie").chmod(0o400)
        with _name_server(root) as epmd:
            made: list[Node] = []
            try:
                with ThreadPoolExecutor(nodes) as pool:  # together: the first waits for the others
                    numbers = range(1, nodes + 1)
                    made += pool.map(lambda number: Node(root, folder, number, epmd, nodes), numbers)
                yield made
            finally:
                for node in made:
                    _kill(node)


@contextmanager
def _name_server(root: Path) -> Iterator[int]:
    """Run Erlang's name server, by which nodes find each other; return its port."""
    port = free_port()
    words = ["epmd", "-address", HOST, "-port", str(port)]
    process = subprocess.Popen(words if root == Path("/") else ["chroot", str(root), *words])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _kill(node: Node) -> None:
    if node._process.poll() is None:
        node.end(signal.SIGKILL)


def find_rabbitmq() -> Path:
    """Return the root of the system with RabbitMQ; without one skip the test, or fail it on CI."""
    root = Path(os.environ.get("RABBITMQ_ROOT", "/"))
    if not (root / SERVER).exists() or shutil.which("env") is None:
        reason = "RabbitMQ is not installed: apt-get install rabbitmq-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return root


def address(nodes: Sequence[Node]) -> str:
    """URL of a cluster."""
    return "amqp://" + ",".join(f"{HOST}:{node.amqp}" for node in nodes)
