"""Command line of the gateways. Only flags are declared here; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.command import Program, Verb, run_program

if TYPE_CHECKING:
    from gateway.stream import Stream

BROKER = "mqtt://127.0.0.1:1883"
PREFIX = "ecg/v1"
"""As in `monitor.wire` and `monitor.broker.connection`, without importing them for the help."""


def lsl(options: argparse.Namespace) -> None:
    """Publish a stream of LabStreamingLayer."""
    from gateway.lsl import LslStream

    _run(options, LslStream(options.stream, options.channel, options.unit), follow=0.05)


def serial(options: argparse.Namespace) -> None:
    """Publish the lines of a serial port."""
    from gateway.serial_port import SerialStream

    stream = SerialStream(
        options.port, options.rate, options.resolution, baud=options.baud, column=options.column, lead=options.lead
    )
    _run(options, stream, follow=0.02)


def polar(options: argparse.Namespace) -> None:
    """Publish the ECG of a chest strap."""
    from gateway.polar import PolarStream

    _run(options, PolarStream(options.strap), follow=0.05)


def brainflow(options: argparse.Namespace) -> None:
    """Publish an ECG channel of a board."""
    from gateway.brainflow_board import BrainFlowStream

    parameters = dict(name.split("=", 1) for name in options.set)
    _run(options, BrainFlowStream(options.board, parameters, options.channel), follow=0.02)


def _run(options: argparse.Namespace, stream: Stream, follow: float) -> None:
    from gateway.run import GatewaySettings, run_gateway
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.service.logs import set_up

    set_up("text", "gateway")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = GatewaySettings(
        broker=BrokerUrl.parse(options.broker),
        device=options.device,
        prefix=options.prefix,
        packet_s=options.packet,
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
        follow=follow,
    )
    print(f"{run_gateway(settings, stream, stop.is_set)} packets sent")


def _add_common(parser: argparse.ArgumentParser, device: str) -> None:
    parser.add_argument("--device", default=device, metavar="ID", help="id of the device to publish as")
    parser.add_argument(
        "--broker", default=BROKER, metavar="URL", help="mqtt://[user@]host[:port], or mqtts:// for TLS"
    )
    parser.add_argument("--password-file", type=Path, help="file with the user's password; or set ECGWATCH_PASSWORD")
    parser.add_argument("--cafile", type=Path, help="certificate authorities to trust")
    parser.add_argument("--certfile", type=Path, help="client certificate")
    parser.add_argument("--keyfile", type=Path, help="its private key")
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")
    parser.add_argument("--packet", type=float, default=0.5, metavar="SECONDS", help="length of a packet")


def _add_lsl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stream", metavar="NAME", help="of the stream; the first of type ECG if not given")
    parser.add_argument("--channel", metavar="NAME", help="its name, or its number from 0; the first ECG if not given")
    parser.add_argument("--unit", help="of the samples, where the stream does not say: V, mV, uV or nV")
    _add_common(parser, "lsl")


def _add_serial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="such as /dev/ttyUSB0")
    parser.add_argument("--rate", type=float, required=True, metavar="HZ", help="lines a second")
    parser.add_argument(
        "--resolution", type=float, required=True, metavar="UV",
        help="microvolts in one of the numbers; AD8232 (gain 1100) on 10 bits of 3.3 V: 2.93",
    )  # fmt: skip
    parser.add_argument("--baud", type=int, default=115_200, help="speed of the port")
    parser.add_argument("--column", type=int, default=0, metavar="N", help="which number of a line, from 0")
    parser.add_argument("--lead", default="ECG", help="name of the lead")
    _add_common(parser, "serial")


def _add_polar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strap", metavar="NAME", help="its name or address; the first one found if not given")
    _add_common(parser, "polar")


def _add_brainflow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", help="as BrainFlow calls it, such as ganglion, cyton, synthetic")
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="NAME=VALUE",
        help="how it is reached, by BrainFlow's names: serial_port, mac_address, ip_address ...; can be repeated",
    )  # fmt: skip
    parser.add_argument("--channel", type=int, default=0, metavar="N", help="which of its ECG channels, from 0")
    _add_common(parser, "brainflow")


def setting(text: str) -> str:
    """Return a text NAME=VALUE."""
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=VALUE, such as serial_port=/dev/ttyUSB0")
    return text


VERBS = (
    Verb("lsl", "publish an ECG stream of LabStreamingLayer", _add_lsl, lsl, extra="lsl"),
    Verb("serial", "publish lines of numbers from a serial port, as of an AD8232", _add_serial, serial, extra="serial"),
    Verb("polar", "publish the ECG of a Polar H10 by Bluetooth", _add_polar, polar, extra="polar"),
    Verb("brainflow", "publish an ECG channel of a board of BrainFlow", _add_brainflow, brainflow, extra="brainflow"),
)
PROGRAM = Program("gateway", "python -m gateway", "Wearables that do not speak MQTT, brought to the wire.", VERBS)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
