"""Where a page may be served, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.broker.connection import BrokerUrl
from monitor.page.settings import PORT, PageAddress, PageSettings

BROKER = BrokerUrl("127.0.0.1")


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("8520", "127.0.0.1", 8520, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::1]:9", "::1", 9, True),
        ("[::]:9", "::", 9, False),
        ("localhost:0", "localhost", 0, True),
        ("monitor.example:443", "monitor.example", 443, False),
    ],
)
def test_addresses_are_understood(text: str, host: str, port: int, is_loopback: bool) -> None:
    address = PageAddress.parse(text)
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)


@pytest.mark.parametrize("text", ["", "host", "host:", "65536", "-1", "::1:9", "٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\[HOST:\]PORT"):
        PageAddress.parse(text)


def test_other_machines_need_a_login_and_tls_or_the_word_that_neither_matters() -> None:
    open_to_all = PageAddress("0.0.0.0", PORT)
    with pytest.raises(ValueError, match="--page-certificate"):
        PageSettings(BROKER, address=open_to_all)
    assert PageSettings(BROKER, address=open_to_all, plain_http=True).needs_login
    assert PageSettings(BROKER, address=open_to_all, certificate=Path("c.pem")).needs_login
    assert not PageSettings(BROKER).needs_login
    assert PageSettings(BROKER, login=True).needs_login


def test_a_key_without_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate"):
        PageSettings(BROKER, key=Path("k.pem"))
