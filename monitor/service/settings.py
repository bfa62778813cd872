"""How a monitor runs. Imports nothing heavy, so a parent that only forwards settings starts fast."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.broker import connection
from monitor.classify import SHAPE_MODEL
from monitor.panel import DEFAULT_MODEL
from monitor.service.logs import Kind
from monitor.service.metrics import Address

VERSION = version("ecgwatch")
STATUS_S = 10.0
"""How often the status is published."""
NOTE_S = 1.0
"""How old the figures of metrics may be."""
ALIVE_S = 5.0
"""How often systemd is notified that the loop turns."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a monitor runs."""

    broker: connection.BrokerUrl = field(default_factory=lambda: connection.BrokerUrl.parse(connection.DEFAULT_URL))
    source: str | None = None
    """URL of a RabbitMQ cluster that deals the devices out to any number of processes, see
    `monitor.broker.amqp_connection.ClusterUrl`; None: packets come from `broker`."""
    password_file: Path | None = None
    tls: connection.TlsFiles = field(default_factory=connection.TlsFiles)
    prefix: str = wire.PREFIX
    name: str = "monitor"
    """Of this monitor, in its status topic, its client id and the name of its file."""
    model: str = DEFAULT_MODEL
    """Name of a bundled model, or path of an ONNX file."""
    shape: str = SHAPE_MODEL
    """The same of the shape model beside a class model, or "none"; see `monitor.panel.load_panel`."""
    provider: Literal["cpu", "cuda", "auto"] = "auto"
    """Where they run; see `monitor.classify.Classifier`."""
    publish_beats: bool = False
    """Publish every beat's verdict, not only alerts."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    forget_s: float = 600.0
    """A device that sends nothing for so long is forgotten."""
    state: Path | str | None = None
    """Where to keep what must outlive the process, see `monitor.state.location.locate`; None keeps nothing."""
    shard: tuple[int, int] = (0, 1)
    """Which shard of the devices this one watches, and how many shards there are."""
    metrics: Address | None = None
    """Where to serve metrics and health; None serves nothing."""
    metrics_devices: bool = False
    """Whether metrics name devices."""
    log: Kind = "text"
    """How worker processes log; the caller sets up logging for its own process."""
    configuration: Path | None = None
    """File whose limits and devices hold while it runs, see `monitor.service.configured`; what else it says stands in
    these settings already."""
    limits_given: tuple[str, ...] = ()
    """Limits of all devices that go before those of the file, as `monitor.alerts.limits.parse_limits` takes them."""

    def __post_init__(self) -> None:
        number, workers = self.shard
        if not 0 <= number < workers:
            raise ValueError(f"A worker's number must lie below how many there are: got {number} of {workers}.")

    @property
    def status_name(self) -> str:
        """In the topic of the status: each process has one where the fleet is dealt out to any number of them."""
        if self.source is None:
            return self.name
        host = re.sub("[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])
        return f"{self.name[:24]}-{host[:24]}-{os.getpid()}"

    @property
    def own_name(self) -> str:
        """Of this service among the shards; of this process, where the fleet is dealt out to any number of them."""
        if self.source is not None:
            return self.status_name
        return self.name if self.shard[1] == 1 else f"{self.name}.{self.shard[0]}"
