"""What a page can be told, and what it refuses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from monitor import wire
from monitor.broker.connection import BrokerUrl, TlsFiles

PORT = 8520
"""Unless another is given."""
HOST = "127.0.0.1"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Names under which a browser on this machine may ask for a page without a login."""


@dataclass(frozen=True, slots=True)
class PageAddress:
    """Where a page is served."""

    host: str = HOST
    port: int = PORT
    """0: any that is free."""

    @classmethod
    def parse(cls, text: str) -> PageAddress:
        """Parse ``[HOST:]PORT``; an IPv6 host stands in brackets.

        Raises
        ------
        ValueError
            It is no such address.
        """
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdecimal() and int(port) <= 65535) or (":" in host and host[0] != "["):
            raise ValueError(f"The page's address must be [HOST:]PORT: got {text!r}, such as {PORT} or 0.0.0.0:{PORT}.")
        return cls(host.strip("[]") or HOST, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class PageSettings:
    """How a page runs.

    Raises
    ------
    ValueError
        The page could be reached from other machines without a login, or passwords would cross a network in the clear.
    """

    broker: BrokerUrl
    password_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    """For the broker."""
    prefix: str = wire.PREFIX
    name: str = "monitor"
    """Of the monitor that is asked when a person answers an alert, and whose history is read."""
    address: PageAddress = PageAddress()
    certificate: Path | None = None
    """PEM file; with it the page is served over HTTPS."""
    key: Path | None = None
    """PEM file of its private key, unless the certificate's file holds it as well."""
    users: Path | None = None
    """File of the people who may log in; see `monitor.page.users`."""
    login: bool = False
    """Ask for a login on loopback too: for a page behind a proxy."""
    plain_http: bool = False
    """Serve other machines without TLS."""
    state: Path | str | None = None
    """Where the monitor keeps its history; None: it is not read."""
    phones: bool = False
    """Let phones stream as devices; see `monitor.page.phones`."""

    def __post_init__(self) -> None:
        wire.check_name(self.name)
        if self.key is not None and self.certificate is None:
            raise ValueError(f"A key needs its certificate: got {self.key}, expected --page-certificate as well.")
        if not self.address.is_loopback and self.certificate is None and not self.plain_http:
            raise ValueError(
                f"A page on {self.address.host} is reached from other machines: expected --page-certificate FILE, or "
                "--page-plain-http if passwords and ECGs may cross that network readable by others."
            )

    @property
    def needs_login(self) -> bool:
        """Whether people must log in."""
        return self.login or not self.address.is_loopback
