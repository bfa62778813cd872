"""What measurements need: figures of the machine, a broker, and our own commands as processes beside this one.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple

import paho.mqtt.client as paho
import psutil

from monitor import wire
from monitor.broker import connection
from monitor.classify import SHAPE_MODEL
from monitor.panel import DEFAULT_MODEL
from monitor.service.settings import ServiceSettings

HOST = "127.0.0.1"
NOT_BUSY = {"idle", "iowait", "guest", "guest_nice"}
"""Kinds of time in which a processor does nothing, or that another kind counts as well."""
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
    """The broker and the models of a measurement."""

    broker: str | None = None
    """URL of a broker; None starts one."""
    tls: connection.TlsFiles = field(default_factory=connection.TlsFiles)
    model: str = DEFAULT_MODEL
    shape: str = SHAPE_MODEL
    provider: Literal["cpu", "cuda", "auto"] = "auto"

    @property
    def model_words(self) -> list[str]:
        """Arguments that select the models of a monitor."""
        return ["--model", self.model, "--shape", self.shape, "--provider", self.provider]


class Usage(NamedTuple):
    """What a process and its children have used."""

    cpu_s: float
    """Processor time since they started."""
    rss: int
    """Bytes of memory that they hold now."""


class Process:
    """A command that runs beside this one. Its standard error is kept for when it fails.

    Parameters
    ----------
    name
        Its name in error messages, such as "The monitor".
    words
        The command.
    """

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self._name = name
        # Files, not pipes: a process that fills a pipe that nobody reads blocks.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(words, stdout=self._output, stderr=self._errors)

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
        return _read(self._output)

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
        self._output.close()
        self._errors.close()

    def _last_words(self) -> str:
        lines = _read(self._errors).strip().splitlines()
        return lines[-1] if lines else "it printed nothing."


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
        words += ["--state", folder] if remembers else ["--no-state"]
        try:
            with running("The monitor", *words) as process:
                yield process
        finally:
            with contextlib.suppress(OSError):
                _end_sessions(name, url, tls, topics, workers if remembers else 0)


def broker_words(url: connection.BrokerUrl, tls: connection.TlsFiles) -> list[str]:
    """Arguments that give a command of ours the broker."""
    files = {name: file for name, file in asdict(tls).items() if file is not None}
    return ["--broker", str(url), *(f"--{name}={file}" for name, file in files.items())]


def leave(client: paho.Client) -> None:
    """Disconnect a client whose loop runs, so that nothing of it is left."""
    client.disconnect()
    client.loop_stop()
    # Callbacks that refer to their owner form a cycle, which is not freed in order: paho's sockets would warn.
    client.on_connect = client.on_subscribe = client.on_message = None


def _end_sessions(
    name: str, url: connection.BrokerUrl, tls: connection.TlsFiles, topics: wire.Topics, workers: int
) -> None:
    """Remove what the broker keeps for the monitor: its sessions, and its status."""
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
    """Yield a broker: that of the URL, or one that is started and ended.

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


def report_progress(text: str) -> None:
    """Print how far a measurement is: to standard error, apart from its result."""
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
    """Processor time and memory of a process and all its children; None where there is no such process."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        each = [_usage_of(one) for one in (process, *process.children(recursive=True))]
    except psutil.Error:
        return None
    return Usage(sum(one.cpu_s for one in each), sum(one.rss for one in each))


def busy_s() -> float:
    """Processor time that all processes of this machine have used so far."""
    times = psutil.cpu_times()._asdict()
    return float(sum(seconds for kind, seconds in times.items() if kind not in NOT_BUSY))


def _usage_of(process: psutil.Process) -> Usage:
    with process.oneshot():
        times = process.cpu_times()
        return Usage(times.user + times.system, process.memory_info().rss)
