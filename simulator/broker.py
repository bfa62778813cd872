"""The embedded broker: iotcore, a rumqttd in a child process, for the demo, the tests and a first look.

Measured of iotcore 0.4 (rumqttd 0.20): retained messages, last wills, QoS 1 and persistent sessions work, with
redelivery in order; a subscriber that stood still while 100 MB came in got all of it afterwards (the log that messages
wait in is bounded at 1 GB; what happens beyond was not tried). One port serves one version of MQTT: here
3.1.1 on the given port, since every client speaks it unasked, and MQTT 5 on a second one; clients of both see the same
topics. A subscriber gets at most 100 messages that it has not acknowledged, whatever is configured, and is thrown out
if it acknowledges out of order. Everything is forgotten when the broker stops.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from iotcore import Broker as IotCore

from monitor.broker.connection import PORT, BrokerUrl
from monitor.wire import MAX_PAYLOAD

HOST = "127.0.0.1"
"""The only address it listens on: it knows no passwords."""

CONFIG = """
id = 0

[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 10000
max_segment_size = 104857600
max_segment_count = 10

[v4.1]
name = "mqtt-3.1.1"
listen = "{host}:{port}"
next_connection_delay_ms = 0

[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload}
max_inflight_count = 65535
dynamic_filters = true

[v5.1]
name = "mqtt-5"
listen = "{host}:{port_v5}"
next_connection_delay_ms = 0

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload}
max_inflight_count = 65535
dynamic_filters = true
"""


class EmbeddedBroker:
    """A broker on this machine that lives as long as the context it is entered as.

    Parameters
    ----------
    port
        Port for MQTT 3.1.1; 0 takes free ones.
    port_v5
        Port for MQTT 5; one above `port` if None.

    Raises
    ------
    ValueError
        A port is out of range.
    OSError
        On entering: a port is taken.
    """

    def __init__(self, port: int = PORT, port_v5: int | None = None) -> None:
        if not 0 <= port < 65535:
            raise ValueError(f"A broker's port must be 0 to 65534: got {port}.")
        self.port = port or free_port()
        self.port_v5 = port_v5 or (free_port() if port == 0 else port + 1)
        self._broker: IotCore | None = None

    @property
    def url(self) -> BrokerUrl:
        """Where MQTT 3.1.1 is served."""
        return BrokerUrl(HOST, self.port)

    def __enter__(self) -> EmbeddedBroker:
        for port in (self.port, self.port_v5):
            _check_free(port)
        config = CONFIG.format(host=HOST, port=self.port, port_v5=self.port_v5, max_payload=MAX_PAYLOAD + 1024)
        descriptor, path = tempfile.mkstemp(suffix=".toml", prefix="ecgwatch-broker-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(config)
            # A child inherits ignored signals: so Ctrl-C at a terminal ends the parent, which then ends the broker.
            with _ignored_in_child():
                self._broker = IotCore(config_path=path).start()
        finally:
            Path(path).unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the broker; all it holds is forgotten."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"The broker cannot listen on {HOST}:{port}: {error.strerror}.") from None


@contextlib.contextmanager
def _ignored_in_child() -> Iterator[None]:
    """Ignore Ctrl-C while a child is started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
