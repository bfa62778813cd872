"""What RabbitMQ spends on a packet, and on an `info`, by how they are dealt out: `python -m tests.soak.topology`.

Prints the processor time of all nodes for each published message, consumed and acknowledged, and how many passed in a
second while they were sent as fast as they are taken: packets dealt out by the
hash of their topic; packets bound straight to a partition's queue by a level of the topic, which devices would have to
write; an `info` that every partition gets a copy of; and one that each of so many processes hears.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
from pika import spec

from monitor.broker import connection
from monitor.broker.amqp_connection import ClusterUrl, Connection, Login, connect_to_any
from monitor.broker.amqp_frames import Delivery, encode, encode_acks
from monitor.broker.topology import TOPIC_EXCHANGE, QueueKind, Topology
from monitor.tools.bench.harness import cpu_name
from monitor.tools.cluster import declare
from tests.rabbitmq import Node, address, run_rabbitmq

PAYLOADS = {"samples": bytes(540), "info": bytes(120)}
DEVICES = 500
QUIET_S = 2.0


@dataclass(frozen=True)
class Case:
    """A way to deal out."""

    name: str
    leaf: str
    partitions: int
    by_level: bool = False

    @property
    def prefix(self) -> str:
        """Of its topics."""
        return f"t{abs(hash(self)) % 10**6}/v1"

    def topic(self, device: int) -> str:
        """Topic of a device."""
        level = f"{device % self.partitions}/" if self.by_level else ""
        return f"{self.prefix}/{level}d{device}/{self.leaf}"


CASES = [
    Case("packets by hash, 16 partitions", "samples", 16),
    Case("packets by a level of the topic, 16 partitions", "samples", 16, by_level=True),
    Case("packets by hash, 64 partitions", "samples", 64),
    Case("info copied to 16 partitions", "info", 16),
    Case("info copied to 64 partitions", "info", 64),
    Case("info heard by 4 processes", "info", 4),
]


def main(words: Sequence[str] | None = None) -> None:
    """Measure each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--only", type=int, help="of the cases, the first so many")
    parser.add_argument("--queues", choices=("quorum", "classic"), default="quorum")
    options = parser.parse_args(words)
    with run_rabbitmq(options.nodes) as nodes:
        login = Login(ClusterUrl.parse(address(nodes)))
        version = ".".join(map(str, connect_to_any(login).version))
        print(f"{cpu_name()}, load {os.getloadavg()[0]:.1f}")
        print(f"{options.nodes} nodes of RabbitMQ {version}, {options.queues} queues, {options.messages} messages")
        print(f"{'':48} us each  messages/s")
        for case in CASES[: options.only]:
            spent_us, rate = _measure(nodes, login, case, options.messages, options.queues)
            print(f"{case.name:48} {spent_us:7.0f} {rate:11.0f}", flush=True)


def _measure(nodes: Sequence[Node], login: Login, case: Case, messages: int, kind: QueueKind) -> tuple[float, float]:
    """Return the processor time for each message, in us, and how many passed in a second."""
    made = connect_to_any(login)
    made.call(1, spec.Channel.Open(), spec.Channel.OpenOk)
    topology = Topology.of_fleet(case.prefix.split("/")[0], case.prefix)
    declare(made, topology, case.partitions, kind)
    if case.by_level:
        _bind_levels(made, topology, case)
    stop, got = threading.Event(), [0]
    consumer = threading.Thread(target=_consume, args=(made, topology, case.partitions, stop, got))
    consumer.start()
    expected = messages * (case.partitions if case.leaf == "info" else 1)
    before_s, began_s = _cpu_s(nodes), time.monotonic()
    _publish(nodes[0], case, messages)
    _wait(lambda: got[0] >= expected)
    passed_s = time.monotonic() - began_s
    time.sleep(QUIET_S)
    spent_s = _cpu_s(nodes) - before_s
    stop.set()
    consumer.join()
    return spent_s / messages * 1e6, messages / passed_s


def _bind_levels(made: Connection, topology: Topology, case: Case) -> None:
    """Bind each partition's queue by a level of the topic, in place of the hash."""
    for partition in range(case.partitions):
        queue = topology.queue(partition)
        made.call(1, spec.Queue.Unbind(0, queue, f"{topology.base}.samples", "1", arguments={}), spec.Queue.UnbindOk)
        key = f"{case.prefix.replace('/', '.')}.{partition}.*.samples"
        made.call(1, spec.Queue.Bind(0, queue, TOPIC_EXCHANGE, key, arguments={}), spec.Queue.BindOk)


def _consume(made: Connection, topology: Topology, partitions: int, stop: threading.Event, got: list[int]) -> None:
    for partition in range(partitions):
        consume = spec.Basic.Consume(0, topology.queue(partition), str(partition), arguments={})
        channel = partition + 2
        made.write(encode(channel, spec.Channel.Open(), spec.Basic.Qos(0, 5000, global_qos=False), consume))
    made.start()
    while not stop.is_set():
        last: dict[int, int] = {}
        for found in made.read():
            if isinstance(found, Delivery):
                got[0] += 1
                last[found.channel] = found.tag
        made.write(encode_acks(last.items()))
        made.flush()
        time.sleep(0.005)
    made.close()


def _publish(node: Node, case: Case, messages: int) -> None:
    client = connection.make_client(node.url, f"devices-{case.prefix}".replace("/", "-"))
    client.max_inflight_messages_set(200)
    connection.connect(client, node.url)
    client.loop_start()
    sent = [client.publish(case.topic(n % DEVICES), PAYLOADS[case.leaf], qos=1) for n in range(messages)]
    for one in sent:
        one.wait_for_publish(300)
    client.disconnect()
    client.loop_stop()


def _cpu_s(nodes: Sequence[Node]) -> float:
    """Processor time of the nodes, their helpers included."""
    parents = [psutil.Process(node._process.pid) for node in nodes]
    times = [one.cpu_times() for parent in parents for one in [parent, *parent.children(recursive=True)]]
    return sum(time.user + time.system for time in times)


def _wait(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until_s, "not all messages came"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
