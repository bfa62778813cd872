"""`cluster init` declares what a fleet needs in RabbitMQ and PostgreSQL; `cluster status` shows who watches what.

Both may be run again at any time, and while monitors run: what is there already is left as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from pika import amqp_object, spec

from monitor import wire
from monitor.broker.amqp_connection import ClusterUrl, Connection, Login, Refused, connect_to_any
from monitor.broker.connection import BrokerUrl, TlsFiles, read_password
from monitor.broker.topology import QueueKind, Topology
from monitor.state.location import locate
from monitor.state.store import Claim
from monitor.summary import Monitors
from monitor.tools.fleet import describe, hear

CHANNEL = 1
MOST_PARTITIONS = 1024
LEAST_VERSION = (3, 10)
KINDS: tuple[QueueKind, ...] = ("quorum", "classic")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster."""

    broker: ClusterUrl
    state: str | None = None
    """URL of the database; None: only the broker."""
    name: str = "monitor"
    """Of the monitor."""
    prefix: str = wire.PREFIX
    password_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    mqtt: BrokerUrl | None = None
    """Where the monitors publish; None: at the first node, on the usual port."""

    @property
    def login(self) -> Login:
        """How to enter the broker."""
        return Login(
            self.broker, read_password(self.broker.mqtt, self.password_file), self.tls, f"ecgwatch cluster {self.name}"
        )

    @property
    def topology(self) -> Topology:
        """What lies there."""
        return Topology.of_fleet(wire.check_name(self.name), self.prefix)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as it is now."""

    number: int
    waiting: int
    """Packets that were not delivered."""
    watched: bool
    """Whether a process consumes it."""
    owner: str | None = None
    """Host and process that last took it over."""
    since_s: float | None = None
    saved_s: float | None = None
    """When that process saved something last, on the database's clock."""


@dataclass(frozen=True, slots=True)
class Status:
    """A cluster as it is now."""

    broker: str
    """What the node that answered says of itself."""
    version: tuple[int, ...]
    store: str | None
    processes: int
    """Those that share the partitions."""
    partitions: list[Partition]


def init(settings: ClusterSettings, partitions: int, kind: QueueKind) -> int:
    """Declare exchanges, queues and bindings, and make the tables; return the exit status.

    Raises
    ------
    ValueError
        It cannot be so many partitions, or there are already others.
    ConnectionError
        Broker or database cannot be reached, or refuse.
    """
    if not 1 <= partitions <= MOST_PARTITIONS:
        raise ValueError(f"A fleet needs 1 to {MOST_PARTITIONS} partitions: got {partitions}.")
    connection = _connect(settings)
    try:
        there = count_partitions(connection, settings.topology)
        if there not in (0, partitions):
            raise ValueError(
                f"There are {there} partitions already, not {partitions}: devices would change theirs. Stop all "
                "monitors, let them finish, and delete the queues first; or name another --name."
            )
        declare(connection, settings.topology, partitions, kind)
    finally:
        connection.close()
    print(f"{settings.broker}: {partitions} {kind} partitions for the monitor {settings.name}")
    if settings.state is not None:
        print(locate(settings.state).examine().found)
    return 0


def status(settings: ClusterSettings, as_json: bool) -> int:
    """Print the partitions, who has them, how much waits, and how all processes are.

    Returns
    -------
    int
        1 if a partition is not watched, else 0.
    """
    found = read_status(settings)
    monitors, why = _hear(settings, found.processes)
    if as_json:
        said = {"fleet": monitors.shown().get(settings.name), "members": monitors.processes(settings.name)}
        print(msgspec.json.encode(asdict(found) | said).decode())
    else:
        print("\n".join([*_lines(found, settings.name), "", why or "\n".join(describe(settings.name, monitors))]))
    return int(not found.partitions or not all(one.watched for one in found.partitions))


def read_status(settings: ClusterSettings) -> Status:
    """Return how the cluster is now."""
    connection, topology = _connect(settings), settings.topology
    try:
        count = count_partitions(connection, topology)
        answers = [_ask(connection, _passive(topology.queue(k)), spec.Queue.DeclareOk) for k in range(count)]
        members = _ask(connection, _passive(topology.members), spec.Queue.DeclareOk) if count else None
        version = connection.version
    finally:
        connection.close()
    location = None if settings.state is None else locate(settings.state)
    claims = {} if location is None else {one.slot: one for one in location.read_claims(settings.name)}
    return Status(
        broker=f"RabbitMQ {'.'.join(map(str, version))}",
        version=version,
        store=None if location is None else location.examine().found,
        processes=0 if members is None else members.consumer_count or 0,
        partitions=[_partition(number, answer, claims.get(f"p{number}")) for number, answer in enumerate(answers)],
    )


def _hear(settings: ClusterSettings, processes: int) -> tuple[Monitors, str]:
    """Return what the processes say of themselves, and why nothing was heard, if so."""
    broker = settings.mqtt or settings.broker.mqtt
    try:
        password = read_password(broker, settings.password_file)
        topics, tls = wire.Topics(settings.prefix), settings.tls if broker.tls else TlsFiles()
        return hear(broker, topics, settings.name, processes, password, tls), ""
    except ConnectionError as error:
        return Monitors(), f"{error} How the monitors are is not known: --mqtt says where they publish."


def find_wrong_queues(settings: ClusterSettings) -> list[str]:
    """Return in the broker's words which queues are there, but are not as `init` declares them.

    A queue that is declared as it is stays as it is.

    Raises
    ------
    ConnectionError
        The broker cannot be reached, or refuses.
    """
    connection, topology = _connect(settings), settings.topology
    try:
        count = count_partitions(connection, topology)
        wrong = {kind: _declare_again(connection, topology.queues(count, kind, connection.version)) for kind in KINDS}
    finally:
        connection.close()
    return min(wrong.values(), key=len)


def _declare_again(connection: Connection, queues: Iterable[spec.Queue.Declare]) -> list[str]:
    wrong = []
    for queue in queues:
        answer = connection.call(CHANNEL, _passive(str(queue.queue)), spec.Queue.DeclareOk)
        if not isinstance(answer, spec.Channel.Close):
            answer = connection.call(CHANNEL, queue, spec.Queue.DeclareOk)
        if isinstance(answer, spec.Channel.Close):
            wrong.append(str(answer.reply_text))
            _reopen(connection)
    return wrong


def find_silent_nodes(login: Login) -> list[str]:
    """Return which nodes of a cluster's URL do not answer, and why."""
    silent = []
    for number in range(len(login.url.nodes)):
        try:
            Connection(login, number).close()
        except ConnectionError as error:
            silent.append(str(error))
    return silent


def count_partitions(connection: Connection, topology: Topology) -> int:
    """Return how many partitions there are."""
    number = 0
    while True:
        answer = connection.call(CHANNEL, _passive(topology.queue(number)), spec.Queue.DeclareOk)
        if isinstance(answer, spec.Channel.Close):
            _reopen(connection)
            if answer.reply_code != 404:
                raise Refused(f"The broker refuses: {answer.reply_text}.")
            return number
        number += 1


def declare(connection: Connection, topology: Topology, partitions: int, kind: QueueKind) -> None:
    """Declare exchanges, queues and bindings."""
    if connection.version < LEAST_VERSION:
        raise ConnectionError(f"RabbitMQ 3.10 or later is needed, better 4: got {connection.version}.")
    for exchange in topology.exchanges():
        _ask(connection, exchange, spec.Exchange.DeclareOk)
    for queue in topology.queues(partitions, kind, connection.version):
        _ask(connection, queue, spec.Queue.DeclareOk)
    for binding in topology.bindings(partitions):
        _ask(connection, binding, spec.Queue.BindOk, spec.Exchange.BindOk)


def _connect(settings: ClusterSettings) -> Connection:
    connection = connect_to_any(settings.login)
    connection.call(CHANNEL, spec.Channel.Open(), spec.Channel.OpenOk)
    return connection


def _passive(queue: str) -> spec.Queue.Declare:
    return spec.Queue.Declare(0, queue, passive=True, arguments={})


def _ask(connection: Connection, method: amqp_object.Method, *expected: type[amqp_object.Method]) -> Any:
    answer = connection.call(CHANNEL, method, *expected)
    if isinstance(answer, spec.Channel.Close):
        hint = (
            " Enable the plug-in rabbitmq_consistent_hash_exchange."
            if "exchange type" in str(answer.reply_text)
            else ""
        )
        raise ConnectionError(f"The broker refuses: {answer.reply_text}.{hint}")
    return answer


def _reopen(connection: Connection) -> None:
    connection.acknowledge_close(CHANNEL)
    connection.call(CHANNEL, spec.Channel.Open(), spec.Channel.OpenOk)


def _partition(number: int, answer: spec.Queue.DeclareOk, claim: Claim | None) -> Partition:
    waiting, watched = answer.message_count or 0, bool(answer.consumer_count)
    if claim is None:
        return Partition(number, waiting, watched)
    return Partition(number, waiting, watched, claim.about, claim.since_s, claim.saved_s)


def _lines(found: Status, name: str) -> list[str]:
    partitions = found.partitions
    if not partitions:
        return [f"no partitions for a monitor named {name}: run ecgwatch cluster init, or say which with --name"]
    lines = [f"{'waiting':>9}  {'last taken over by':40} partitions"]
    for (owner, watched), ones in _by_owner(partitions).items():
        latest_s = max((one.since_s for one in ones if one.since_s is not None), default=None)
        saved_s = max((one.saved_s for one in ones if one.saved_s is not None), default=None)
        who = "nobody yet" if owner is None else f"{owner}, {_ago(latest_s)}, saved {_ago(saved_s)}"
        which = _ranges([one.number for one in ones])
        lines.append(f"{sum(one.waiting for one in ones):9}  {who:40} {which}{'' if watched else '  NOT WATCHED'}")
    waiting, unwatched = sum(one.waiting for one in partitions), sum(not one.watched for one in partitions)
    summary = (
        f"{len(partitions)} partitions, {found.processes} processes, {waiting} packets wait, {unwatched} unwatched"
    )
    if not found.processes:
        summary += "\nnobody watches: start ecgwatch run with this --source and --store, as often as you like"
    return [*lines, summary, found.broker, *([found.store] if found.store else [])]


def _by_owner(partitions: Iterable[Partition]) -> dict[tuple[str | None, bool], list[Partition]]:
    """Group partitions by who took them over last, and by whether anybody watches them."""
    found: dict[tuple[str | None, bool], list[Partition]] = {}
    for one in partitions:
        found.setdefault((one.owner, one.watched), []).append(one)
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers that rise: 0-3 5 7-9."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return " ".join(str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in ranges)


def _ago(time_s: float | None) -> str:
    return "never" if time_s is None else f"{max(0.0, time.time() - time_s):.0f} s ago"
