"""What lies in RabbitMQ between the devices' topics and the monitors' processes: exchanges, partitions, bindings.

``amq.topic`` (MQTT) ── <prefix>.*.samples ──▶ NAME.samples (hash of the key) ──▶ one of the queues NAME.0, NAME.1, ...
                     ├─ <prefix>.*.info, .status ──▶ NAME.all ──────────────────▶ each of them
                     └─ <prefix>.monitor.NAME.request.* ──▶ NAME.requests

* The hash of the topic deals the devices out to the partitions; a device's samples always meet the same one.
* `info` and `status` have topics, and so hashes, of their own. Every partition gets them, and whoever owns the device's
  knows: so they stand in the same queue as the device's samples, in the order in which it sent them.
* Each queue has a single active consumer: all processes ask for all partitions, and the first in line gets one.
* Requests of people come by NAME.requests to any one process, which puts each into NAME.samples with the key of the
  device that it is about: so it meets the process that has the device, after what the device has sent, and nobody else.
  Devices cannot do that: what they publish comes by amq.topic.
* NAME.members never holds a message: how many consume from it is how many processes there are. The server does not tell
  how many stand in line for a queue with a single active consumer.

Knows nothing of connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pika import spec

QueueKind = Literal["quorum", "classic"]
TOPIC_EXCHANGE = "amq.topic"
SWAP = str.maketrans("./", "/.")
"""RabbitMQ writes topics as keys with dots for slashes, and slashes for dots."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names that belong to one monitor.

    Parameters
    ----------
    name
        Of the monitor.
    hashed
        Topics of what is dealt out, with wildcards.
    copied
        Topics of what every partition gets.
    asked
        Topics of requests.
    """

    name: str
    hashed: tuple[str, ...]
    copied: tuple[str, ...]
    asked: tuple[str, ...]

    @classmethod
    def of_fleet(cls, name: str, prefix: str) -> Topology:
        """Return that of a monitor for the devices whose topics begin with a prefix."""
        copied = (f"{prefix}/+/info", f"{prefix}/+/status")
        return cls(name, (f"{prefix}/+/samples",), copied, (f"{prefix}/monitor/{name}/request/+",))

    @property
    def base(self) -> str:
        """What all names begin with."""
        return f"ecgwatch.{self.name}"

    def queue(self, partition: int) -> str:
        """Name of the queue of a partition."""
        return f"{self.base}.{partition}"

    @property
    def hash(self) -> str:
        """Name of the exchange that deals out."""
        return f"{self.base}.samples"

    @property
    def requests(self) -> str:
        """Name of the queue of requests."""
        return f"{self.base}.requests"

    def key(self, device: str) -> str:
        """Key of a device's samples."""
        return self.hashed[0].replace("+", device).translate(SWAP)

    @property
    def members(self) -> str:
        """Name of the queue that counts the processes."""
        return f"{self.base}.members"

    def exchanges(self) -> list[spec.Exchange.Declare]:
        """Declarations of the exchanges."""
        kinds: dict[str, Any] = {"samples": "x-consistent-hash", "all": "fanout"}
        return [
            spec.Exchange.Declare(0, f"{self.base}.{name}", kind, durable=True, arguments={})
            for name, kind in kinds.items()
        ]

    def queues(self, partitions: int, kind: QueueKind, version: tuple[int, ...]) -> list[spec.Queue.Declare]:
        """Declarations of the queues."""
        arguments: dict[str, Any] = {"x-queue-type": kind, "x-single-active-consumer": True}
        if kind == "quorum" and version >= (4,):
            arguments["x-delivery-limit"] = -1  # each process that ends counts as a failed delivery
        made = [
            spec.Queue.Declare(0, self.queue(partition), durable=True, arguments=arguments)
            for partition in range(partitions)
        ]
        plain: dict[str, Any] = {key: value for key, value in arguments.items() if key != "x-single-active-consumer"}
        others = {self.members: {"x-queue-type": kind}, self.requests: plain}
        return [*[spec.Queue.Declare(0, name, durable=True, arguments=how) for name, how in others.items()], *made]

    def bindings(self, partitions: int) -> list[spec.Exchange.Bind | spec.Queue.Bind]:
        """All bindings, those of the queues first, so that nothing comes to an exchange without queues."""
        made: list[spec.Exchange.Bind | spec.Queue.Bind] = []
        for partition in range(partitions):
            queue = self.queue(partition)
            made.append(spec.Queue.Bind(0, queue, self.hash, "1", arguments={}))  # its weight
            made.append(spec.Queue.Bind(0, queue, f"{self.base}.all", "", arguments={}))
        for exchange, topics in ((self.hash, self.hashed), (f"{self.base}.all", self.copied)):
            keys = [topic.translate(SWAP).replace("+", "*") for topic in topics]
            made += [spec.Exchange.Bind(0, exchange, TOPIC_EXCHANGE, key, arguments={}) for key in keys]
        keys = [topic.translate(SWAP).replace("+", "*") for topic in self.asked]
        return [*made, *[spec.Queue.Bind(0, self.requests, TOPIC_EXCHANGE, key, arguments={}) for key in keys]]
