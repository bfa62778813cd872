"""What a measurement stands on: the machine, a broker, and our own commands as processes beside this one.

Knows nothing of what is measured.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple

import paho.mqtt.client as paho

from monitor import wire
from monitor.broker import connection
from monitor.service.settings import ServiceSettings

HOST = "127.0.0.1"
START_S = 100.0
"""How long a process may take to be ready: the first start of a monitor compiles its loops."""
STOP_S = 30.0
MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
max_queued_messages 1000000
max_inflight_messages 0
set_tcp_nodelay true
persistence false
log_dest stderr
log_type error
"""
"""As deploy/mosquitto.conf, but that nothing is written to the disk."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The broker and the model of a measurement."""

    broker: str | None = None
    """URL of a broker; None starts one."""
    tls: connection.TlsFiles = field(default_factory=connection.TlsFiles)
    model: str = "ptb"
    provider: Literal["cpu", "cuda", "auto"] = "auto"

    @property
    def model_words(self) -> list[str]:
        """Words that tell a monitor its model."""
        return ["--model", self.model, "--provider", self.provider]


class Usage(NamedTuple):
    """What a process and its children have taken."""

    cpu_s: float
    """Processor time since they began."""
    rss: int
    """Bytes of memory that they hold now."""


class Process:
    """A command that runs beside this one. What it says on standard error is kept for when it fails.

    Parameters
    ----------
    name
        What to call it where it fails, such as "The monitor".
    words
        The command.
    """

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self._name = name
        # Files, not pipes: whoever fills a pipe that nobody reads stands still.
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(words, stdout=self._written, stderr=self._said)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready.

        Raises
        ------
        ConnectionError
            It has ended, or takes too long.
        """
        until_s = time.monotonic() + START_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise ConnectionError(f"{self._name} did not start: {self._last_words()}")
            time.sleep(0.05)

    def wait(self, at_most_s: float) -> str:
        """Wait until it ends by itself, and return what it wrote.

        Raises
        ------
        ConnectionError
            It failed, or takes too long.
        """
        try:
            status = self._process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            raise ConnectionError(f"{self._name} did not end within {at_most_s:g} s: {self._last_words()}") from None
        if status:
            raise ConnectionError(f"{self._name} failed: {self._last_words()}")
        return _read(self._written)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def stop(self) -> None:
        """End it, if it runs."""
        self.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._written.close()
        self._said.close()

    def _last_words(self) -> str:
        lines = _read(self._said).strip().splitlines()
        return lines[-1] if lines else "it said nothing."


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@contextmanager
def running(name: str, *words: str) -> Iterator[Process]:
    """Run one of our own commands, such as ``monitor run``, and end it at the end."""
    process = Process(name, [sys.executable, "-m", *words])
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def monitor(
    name: str,
    url: connection.BrokerUrl,
    tls: connection.TlsFiles,
    *options: str,
    topics: wire.Topics | None = None,
    workers: int = 1,
    remembers: bool = True,
) -> Iterator[Process]:
    """Run a monitor as in real use, and leave neither files nor a session in the broker behind.

    Parameters
    ----------
    name
        Of the monitor.
    url, tls
        The broker.
    options
        More words of its command.
    topics
        Names of the topics, if not the usual ones.
    workers
        Processes that share the devices.
    remembers
        Whether it saves the devices' states.
    """
    topics = topics or wire.Topics()
    words = ["monitor", "run", "--name", name, "--prefix", topics.prefix, "--workers", str(workers), *options]
    words += broker_words(url, tls)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with running("The monitor", *words, *(["--state", folder] if remembers else ["--no-state"])) as process:
                yield process
        finally:
            if remembers:
                with contextlib.suppress(OSError):
                    _end_sessions(name, url, tls, topics, workers)


def broker_words(url: connection.BrokerUrl, tls: connection.TlsFiles) -> list[str]:
    """Words that tell a command of ours where the broker is."""
    files = {name: file for name, file in asdict(tls).items() if file is not None}
    return ["--broker", str(url), *(f"--{name}={file}" for name, file in files.items())]


def leave(client: paho.Client) -> None:
    """Disconnect a client whose loop runs, so that nothing of it is left."""
    client.disconnect()
    client.loop_stop()
    # What refers to its owner in a circle is not freed in order: paho's sockets would complain.
    client.on_connect = client.on_subscribe = client.on_message = None


def _end_sessions(
    name: str, url: connection.BrokerUrl, tls: connection.TlsFiles, topics: wire.Topics, workers: int
) -> None:
    """Let the broker forget what it keeps for the monitor: its sessions, and its status."""
    for number in range(workers):
        own = ServiceSettings(name=name, shard=(number, workers)).own_name
        client = connection.make_client(url, f"ecgwatch-{own}", password=connection.read_password(url), **asdict(tls))
        connection.connect(client, url)
        client.loop_start()
        client.publish(topics.monitor_status(name), b"", qos=1, retain=True).wait_for_publish(5)
        leave(client)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to measure through."""

    url: connection.BrokerUrl
    name: str
    """What it is, for people."""
    pid: int | None = None
    """Its process, if we have started it."""


@contextmanager
def broker(url: str | None, *, prefer_mosquitto: bool = False) -> Iterator[Broker]:
    """Yield a broker: that of the URL, or one that is started for the time being.

    Parameters
    ----------
    url
        Of a broker that runs; None starts one.
    prefer_mosquitto
        Start mosquitto, if it is installed, and not the embedded broker.

    Raises
    ------
    ConnectionError
        It does not start.
    ValueError
        The URL is none.
    """
    if url is not None:
        yield Broker(connection.BrokerUrl.parse(url), url)
        return
    port, mosquitto = free_port(), find_mosquitto() if prefer_mosquitto else None
    name = name_broker(url, prefer_mosquitto=prefer_mosquitto)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(MOSQUITTO.format(port=port, host=HOST))
        words = [sys.executable, "-m", "simulator", "broker", "--port", str(port)]
        process = Process("The broker", words if mosquitto is None else [mosquitto, "-c", str(config)])
        try:
            process.wait_until(lambda: listens(port))
            yield Broker(connection.BrokerUrl(HOST, port), name, process.pid)
        finally:
            process.stop()


def name_broker(url: str | None, *, prefer_mosquitto: bool = False) -> str:
    """Name, for people, of what `broker` yields."""
    if url is not None:
        return url
    if not prefer_mosquitto:
        return "the embedded broker"
    return "mosquitto" if find_mosquitto() else "the embedded broker (mosquitto is not installed)"


def say(text: str) -> None:
    """Tell how far a measurement has come: on standard error, out of the way of its result."""
    print(text, file=sys.stderr, flush=True)


def find_mosquitto() -> str | None:
    """Path of mosquitto, also where only administrators look for it."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def cpu_name() -> str:
    """The processor, and how many of it there are."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"


def usage(pid: int | None) -> Usage | None:
    """What a process and all its children have taken; None where that is not known (no /proc, or no such process)."""
    if pid is None:
        return None
    family = [pid]
    children: dict[int, list[int]] = defaultdict(list)
    try:
        for child, parent in _parents():
            children[parent].append(child)
        for one in family:
            family += children[one]
        taken = [_read_usage(one) for one in family]
    except (OSError, ValueError, IndexError):
        return None
    return Usage(sum(one.cpu_s for one in taken), sum(one.rss for one in taken))


def busy_s() -> float | None:
    """Processor time that all processes of this machine have taken so far; None where that is not known."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, _idle, _waiting, *interrupts = map(int, first.split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _parents() -> Iterator[tuple[int, int]]:
    """Every process and its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                yield int(entry.name), int(_read_stat(int(entry.name))[1])
            except OSError:  # it has just ended
                continue


def _read_usage(pid: int) -> Usage:
    stat = _read_stat(pid)
    ticks = int(stat[11]) + int(stat[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(stat[21]) * os.sysconf("SC_PAGE_SIZE"))


def _read_stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (proc_pid_stat(5)): the second may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
