"""A gateway at work: reads a stream, publishes its packets, and keeps each until the monitor's `ack` covers it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.stream import Packetizer, Stream
from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import BrokerUrl, TlsFiles
from simulator.devices import Device, Profile
from simulator.link import ConnectionLoop, DeviceConnection

log = logging.getLogger(__name__)

READ_S = 0.05
TURN_S = 0.01
DRAIN_S = 15.0
"""How long to wait at the end for the monitor's acknowledgement."""
BATTERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where to publish, and as whom."""

    broker: BrokerUrl
    device: str
    prefix: str = wire.PREFIX
    packet_s: float = 0.5
    """Length of a packet."""
    password_file: Path | None = None
    tls: TlsFiles = TlsFiles()  # noqa: RUF009 - frozen
    follow: float = 0.05
    """See `gateway.stream.FOLLOW`."""

    def __post_init__(self) -> None:
        wire.check_device_id(self.device)
        if not 0 < self.packet_s <= 10:
            raise ValueError(f"A packet lasts more than 0 and at most 10 s: got {self.packet_s:g}.")


def run_gateway(settings: GatewaySettings, stream: Stream, is_stopping: Callable[[], bool]) -> int:
    """Read and publish until told to stop; return how many packets were sent.

    Raises
    ------
    ConnectionError
        The wearable or the broker cannot be reached at the start.
    ValueError
        See `Stream.open`.
    """
    stream.open()
    try:
        link = _connect(settings, stream)
        loop = ConnectionLoop([link], settings.broker)
        loop.connect()
        try:
            return _publish(settings, stream, link, loop, is_stopping)
        finally:
            loop.close()
    finally:
        stream.close()


def _connect(settings: GatewaySettings, stream: Stream) -> DeviceConnection:
    size = max(1, round(settings.packet_s * stream.rate_hz))
    device = Device(settings.device, Profile(stream.rate_hz, size, stream.resolution_uv, stream.lead))
    client = connection.make_client(
        settings.broker,
        f"ecgwatch-gateway-{settings.device}",
        password=connection.read_password(settings.broker, settings.password_file),
        cafile=settings.tls.cafile, certfile=settings.tls.certfile, keyfile=settings.tls.keyfile,
    )  # fmt: skip
    link = DeviceConnection(device, client, wire.Topics(settings.prefix))
    link.announce(time.time())
    return link


def _publish(
    settings: GatewaySettings,
    stream: Stream,
    link: DeviceConnection,
    loop: ConnectionLoop,
    is_stopping: Callable[[], bool],
) -> int:
    profile = link.device.profile
    packets = Packetizer(stream.rate_hz, profile.packet_samples, stream.resolution_uv, settings.follow)
    sent, told_s = 0, 0.0
    while not is_stopping():
        for chunk in stream.read(READ_S):
            for packet in packets.add(chunk):
                link.send("samples", wire.encode_packet(packet), packet.seq, packet.start_s)
                sent += 1
        _turn(link, loop)
        if stream.battery_percent is not None and time.monotonic() - told_s > BATTERY_S:
            told_s = time.monotonic()
            log.info("%s: battery %d %%", settings.device, stream.battery_percent)
    for packet in packets.flush():
        link.send("samples", wire.encode_packet(packet), packet.seq, packet.start_s)
        sent += 1
    link.close()
    until_s = time.monotonic() + DRAIN_S
    while not link.closed and time.monotonic() < until_s:
        _turn(link, loop)
    return sent


def _turn(link: DeviceConnection, loop: ConnectionLoop) -> None:
    link.pump()
    loop.update(link)
    loop.turn(TURN_S)
    loop.housekeep(time.monotonic())
