"""The monitor as a service: what it holds while it runs (model, source, store, name, metrics), and for how long.

Several services can share the devices: each hears all packets, and takes those of its shard; see
`monitor.service.supervisor`.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import SCHEMES
from monitor.broker.source import Source, Subscription
from monitor.engine import Engine, warm_up
from monitor.panel import Panel, load_panel
from monitor.service.configured import Configured
from monitor.service.decisions import Decisions
from monitor.service.health import Health, Parts
from monitor.service.intake import Intake
from monitor.service.loop import Loop
from monitor.service.metrics import HealthBoard, serve
from monitor.service.partitions import Partitions
from monitor.service.publisher import Publisher
from monitor.service.requests import Requests, Tools
from monitor.service.settings import VERSION, ServiceSettings
from monitor.service.stale_sessions import end_stale_sessions
from monitor.service.states import States
from monitor.state.checkpoint import Checkpoint
from monitor.state.location import locate
from monitor.state.store import SharedStore, StateStore

log = logging.getLogger(__name__)

GC_THRESHOLD = (2000, 20, 5000)
"""A full garbage collection stops the loop for 0.2 s with ten thousand devices: every ten minutes will do, since only a
device that is forgotten leaves a cycle."""
HEARD_BY_ALL = (wire.RELOAD, wire.REFRESH, "forget")
"""Requests that every process of a fleet hears."""
LEAVES = ("info", "samples", "status")
"""What is asked for of every device."""


def subscriptions(topics: wire.Topics, name: str) -> list[Subscription]:
    """Return what a monitor asks the broker for."""
    leaves = [Subscription(topics.of("+", leaf), 1, required=leaf == "samples") for leaf in LEAVES]
    return [*leaves, Subscription(topics.request(name, "+"), 1, required=False)]


class Service:
    """A monitor between a broker and an engine.

    Parameters
    ----------
    settings
        How it runs.
    report
        Gets the status, instead of the broker and the metrics; see `monitor.service.supervisor`.
    source
        Where packets come from, instead of the broker of the settings.

    Raises
    ------
    ValueError
        Settings that cannot work; see `wire.Topics`, `wire.check_name`, `connection.make_client`, `load_panel`.
    FileNotFoundError, ModelMismatch
        The model cannot be used.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        report: Callable[[wire.MonitorStatus], None] | None = None,
        source: Source | None = None,
    ) -> None:
        wire.check_name(settings.name)
        wire.Topics(settings.prefix)
        self.settings = settings
        self.panel = load_panel(settings.model, settings.shape, settings.provider)
        self.engine = Engine(self.panel, settings.alerts)
        self.source = source or make_source(settings, None if report else _offline(settings, self.panel))
        self.board = HealthBoard(states={} if settings.metrics_devices else None)
        self._report = report
        self._waited = 0  # turns for which another monitor of this name was waited for
        self._stopping = False
        self._configured: Configured | None = None
        warm_up()

    def stop(self) -> None:
        """Ask the loop to finish what it holds and return; may be called from a signal handler."""
        self._stopping = True

    def reload(self) -> None:
        """Ask the loop to read the configuration file again; may be called from a signal handler."""
        if self._configured is not None:  # else it is yet to be read
            self._configured.ask()

    def run(self) -> None:
        """Serve until `stop` is called.

        Raises
        ------
        ConnectionError
            The broker cannot be reached at the start, or refuses the connection. Later losses are waited out.
        OSError
            Metrics cannot be served where they should be.
        """
        gc.set_threshold(*GC_THRESHOLD)
        with ExitStack() as stack:
            is_served = self._serve_metrics(stack)
            stack.enter_context(self._alone())
            if self._stopping:
                return  # while waiting for another monitor of this name, which the broker would take us for
            if not is_served:
                self._serve_metrics(stack, is_last_try=True)
            if self._report is None and self.settings.source is None:
                end_stale_sessions(self.settings, {self.settings.own_name})
            loop = stack.enter_context(self.assembled())
            self._open()
            loop.run(lambda: self._stopping)

    @contextmanager
    def assembled(self) -> Iterator[Loop]:
        """Open the store, and put the loop together; the source is not opened."""
        settings, engine, source = self.settings, self.engine, self.source
        store = _open_store(settings)
        try:
            topics, checkpoint, decisions = wire.Topics(settings.prefix), Checkpoint(engine, store), Decisions()
            publisher = Publisher(source, engine, checkpoint.outbox, topics, settings.publish_beats, decisions)
            states = States(engine, source, decisions, topics, settings.name, self.board.states)
            configured = self._configured = Configured(settings, engine, decisions, states)
            tools = Tools(
                engine, checkpoint, store, source, publisher, states, decisions, configured.read_again
            )  # fmt: skip
            shard = settings.shard if settings.source is None else (0, 1)
            requests = Requests(tools, topics, settings.name, shard, is_shared=settings.source is not None)
            requests.load()
            configured.load()
            intake = Intake(engine, checkpoint, store, publisher, topics, shard, requests)
            parts = Parts(
                self.panel, engine, source, store, checkpoint, publisher, intake, states, requests, configured
            )
            if settings.source is not None and isinstance(store, SharedStore):
                partitions = Partitions(source, store, engine, checkpoint, publisher, intake, states, requests)
                parts = replace(parts, partitions=partitions)
            yield Loop(settings, parts, Health(settings, parts, self.board, self._report))
        finally:
            if store is not None:
                store.close()

    def _serve_metrics(self, stack: ExitStack, is_last_try: bool = False) -> bool:
        """Serve metrics, if anybody wants them; another monitor of this name may have the port until it stops."""
        try:
            stack.enter_context(serve(None if self._report else self.settings.metrics, self.board))
        except OSError:
            if is_last_try or self.settings.state is None:
                raise
            return False
        return True

    def _alone(self) -> AbstractContextManager[None]:
        """Wait for another monitor of this name, unless there is nothing to share, or all share it."""
        if self.settings.state is None or self.settings.source is not None:
            return nullcontext()
        return locate(self.settings.state).hold(self.settings.own_name, self._is_told_to_stop)

    def _is_told_to_stop(self) -> bool:
        """Whether to stop, asked while another monitor is waited for."""
        self._waited += 1
        self.board.turned_s = time.monotonic()
        return self._stopping

    def _open(self) -> None:
        """Reach the broker; a monitor that has taken over from another waits for it as that one would have."""
        try:
            self.source.open()
        except ConnectionError as error:
            if self._waited <= 1:
                raise
            log.warning("%s Trying again.", error)


def _offline(settings: ServiceSettings, panel: Panel) -> bytes:
    """Return the last will."""
    status = wire.MonitorStatus(
        state="offline",
        version=VERSION,
        **panel.names(),
        since_s=time.time(),
        fleet=None if settings.source is None else settings.name,
    )
    return wire.encode(status)


def _open_store(settings: ServiceSettings) -> StateStore | None:
    if settings.state is None:
        if settings.source is not None:
            raise ValueError(f"The partitions of {settings.source} need a store that all processes share: --state.")
        return None
    location, (number, workers) = locate(settings.state), settings.shard
    if settings.source is not None:
        return location.open_shared(settings.name)
    return location.open(settings.name, number if workers > 1 else None)


def make_source(settings: ServiceSettings, will: bytes | None) -> Source:
    """Return a source on the broker of the settings.

    Parameters
    ----------
    settings
        How the monitor runs.
    will
        Its last status, published if it dies; None publishes none.
    """
    topics = wire.Topics(settings.prefix)
    if settings.source is not None:
        return _make_partitioned(settings, settings.source, will)
    module: Any = import_module(SCHEMES[settings.broker.scheme].module)
    source: Source = module.make_source(
        settings.broker,
        f"ecgwatch-{settings.own_name}",
        subscriptions(topics, settings.name),
        password=connection.read_password(settings.broker, settings.password_file),
        tls=settings.tls,
        clean=settings.state is None,
        will=None if will is None else (topics.monitor_status(settings.name), will),
    )
    return source


def _make_partitioned(settings: ServiceSettings, url: str, will: bytes | None) -> Source:
    """Return a source on the partitions of a cluster, which publishes through the broker of the settings."""
    from monitor.broker.amqp import AmqpSource  # an extra
    from monitor.broker.amqp_connection import ClusterUrl, Login
    from monitor.broker.mqtt import MqttSource
    from monitor.broker.topology import Topology

    cluster, broker, name = ClusterUrl.parse(url), settings.broker, settings.own_name
    password = connection.read_password(broker, settings.password_file)
    topics = wire.Topics(settings.prefix)
    topic = topics.monitor_status(name)
    asked = [Subscription(topics.request(settings.name, verb), 1, required=False) for verb in HEARD_BY_ALL]
    out = MqttSource(
        broker, f"ecgwatch-{name}", asked, password=password, tls=settings.tls, clean=True,
        will=None if will is None else (topic, will),
    )  # fmt: skip
    out.name_hosts([(host, broker.port) for host, _ in cluster.nodes])
    login_password = connection.read_password(cluster.mqtt, settings.password_file)
    tls = settings.tls if cluster.tls else connection.TlsFiles()
    return AmqpSource(
        Login(cluster, login_password, tls, f"ecgwatch-{name}"), Topology.of_fleet(settings.name, settings.prefix), out
    )
