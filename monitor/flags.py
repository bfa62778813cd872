"""Flags that several commands share: the broker, and times such as 24h. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PREFIX = "ecg/v1"
BROKER = "mqtt://127.0.0.1:1883"
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_broker(parser: argparse.ArgumentParser) -> None:
    """Declare where the broker is and how to reach it."""
    parser.add_argument(
        "--broker", default=BROKER, metavar="URL", help="mqtt://[user@]host[:port], or mqtts:// for TLS"
    )
    parser.add_argument("--password-file", type=Path, help="file with the user's password; or set ECGWATCH_PASSWORD")
    add_tls(parser)
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")


def add_tls(parser: argparse._ActionsContainer) -> None:
    """Declare the files of TLS."""
    parser.add_argument(
        "--cafile", type=Path, help="certificate authorities to trust; those of the system if not given"
    )
    parser.add_argument("--certfile", type=Path, help="client certificate to show to a broker that asks for one")
    parser.add_argument("--keyfile", type=Path, help="its private key, unless the certificate's file holds it as well")


def duration(text: str) -> float:
    """Return the seconds in a time such as 24h."""
    number, unit = text[:-1], text[-1:]
    if not (number.isdecimal() and number.isascii()) or unit not in UNITS_S:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number with s, m, h or d, such as 24h")
    return float(number) * UNITS_S[unit]


def place(text: str) -> Path | str:
    """Return where a monitor keeps its state: a directory, or the URL of a database."""
    return text if "://" in text else Path(text)
