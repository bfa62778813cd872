"""Command line of the recorder. Only flags are declared here; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.command import Program, Verb, run_program
from monitor.flags import place

if TYPE_CHECKING:
    from recorder.hand_out import Wanted

BROKER = "mqtt://127.0.0.1:1883"
PREFIX = "ecg/v1"
"""As in `monitor.wire` and `monitor.broker.connection`, without importing them for the help."""
MODEL = "nsv"
"""As in `monitor.panel`."""
FORMATS = ("wfdb", "edf", "parquet", "csv", "fhir", "fhir-r4")
"""As in `recordings.export`."""
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
UNITS_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}


def record(options: argparse.Namespace) -> None:
    """Keep the raw ECG until interrupted."""
    from monitor import wire
    from monitor.broker import connection
    from monitor.broker.mqtt import MqttSource
    from monitor.service.logs import set_up
    from recorder.codec import require
    from recorder.record import RecordSettings, run_record, subscriptions

    set_up("text", "record")
    require()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = RecordSettings(
        root=_root(options), devices=tuple(options.device), for_s=options.seconds, keep_s=options.keep,
        most_bytes=options.most,
    )  # fmt: skip
    url = connection.BrokerUrl.parse(options.broker)
    topics = wire.Topics(options.prefix)
    source = MqttSource(
        url,
        f"ecgwatch-record-{wire.check_name(options.name)}",
        subscriptions(settings, topics),
        password=connection.read_password(url, options.password_file),
        tls=connection.TlsFiles(options.cafile, options.certfile, options.keyfile),
    )
    log = logging.getLogger(__name__)
    log.info("what comes is kept in %s", settings.root)
    keeper = run_record(settings, source, topics, stop.is_set)
    counts = ", ".join(f"{number} {what}" for what, number in keeper.counts.items())
    log.info("kept in %s: %s", settings.root, counts or "nothing")


def export_ecg(options: argparse.Namespace) -> None:
    """Write what is kept of a device into a file."""
    from recorder.hand_out import run_export

    print(run_export(_wanted(options), options.format, options.output))


def strip(options: argparse.Namespace) -> None:
    """Draw the strip of an alert."""
    from monitor.state.location import default_directory
    from recorder.strips import StripSettings, run_strip

    output = options.output or Path(f"{Path(options.alert).stem}.svg")
    state = options.state or default_directory()
    print(run_strip(StripSettings(options.alert, output, _root(options), state, options.name)))


def report(options: argparse.Namespace) -> None:
    """Write a report of what is kept of a device."""
    from recorder.reporting import run_report

    outputs = options.output or [Path(f"{options.device}.html"), Path(f"{options.device}.pdf")]
    print(*run_report(_wanted(options), outputs), sep="\n")


def rerun(options: argparse.Namespace) -> None:
    """Run what is kept through another model or other limits."""
    from monitor.alerts.episode import AlertSettings
    from monitor.alerts.limits import parse_limits
    from recorder.rerun import RerunSettings, run_rerun

    alerts = AlertSettings(limits=parse_limits(options.limit))
    run_rerun(
        RerunSettings(
            _wanted(options), alerts, options.usual, options.json, options.strips, options.output, tuple(options.limit)
        )
    )


def forget(options: argparse.Namespace) -> int:
    """Delete all that is kept of a device."""
    from monitor.broker import connection
    from monitor.state.location import default_directory
    from recorder.forget import ForgetSettings, run_forget, user

    broker = None if options.broker is None else connection.BrokerUrl.parse(options.broker)
    return run_forget(
        ForgetSettings(
            options.device,
            _root(options),
            options.state or default_directory(),
            options.name,
            broker,
            None if broker is None else connection.read_password(broker, options.password_file),
            connection.TlsFiles(options.cafile, options.certfile, options.keyfile),
            options.prefix,
            options.by or user(),
        )
    )


def _wanted(options: argparse.Namespace) -> Wanted:
    from recorder.hand_out import Wanted, moment

    return Wanted(
        _root(options),
        options.device,
        since_s=moment(options.since),
        until_s=float("inf") if options.until is None else moment(options.until),
        model=options.model,
    )


def _root(options: argparse.Namespace) -> Path:
    from monitor.state.location import directory

    root: Path = options.record or directory(options.state) / "record"
    return root


def add_record(parser: argparse.ArgumentParser) -> None:
    """Add where the record lies."""
    parser.add_argument("--record", type=Path, metavar="DIR", help="of the record; if not given, beside the states")
    parser.add_argument("--state", type=place, metavar="PLACE", help="where the monitor keeps its states and history")


def _add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-file", type=Path, help="file with the user's password; or set ECGWATCH_PASSWORD")
    parser.add_argument("--cafile", type=Path, help="certificate authorities to trust")
    parser.add_argument("--certfile", type=Path, help="client certificate")
    parser.add_argument("--keyfile", type=Path, help="its private key")
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--broker", default=BROKER, metavar="URL", help="mqtt://[user@]host[:port], or mqtts:// for TLS"
    )
    _add_login(parser)
    parser.add_argument("--name", default="record", help="of this recorder: the broker keeps its session by it")
    parser.add_argument(
        "--device", action="append", default=[], metavar="ID", help="only this one; can be repeated; all if not given"
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=duration,
        default="inf",
        metavar="TIME",
        help="how long, such as 24h; then it ends",
    )
    parser.add_argument("--keep", type=duration, default="30d", metavar="TIME", help="what is older is deleted")
    parser.add_argument("--most", type=size, default="50GB", metavar="SIZE", help="beyond it, the oldest is deleted")
    add_record(parser)


def duration(text: str) -> float:
    """Seconds in a time such as 24h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if text == "inf":
        return float("inf")
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number with s, m, h or d, such as 24h")
    return float(found.group(1)) * UNITS_S[found.group(2)]


def size(text: str) -> float:
    """Bytes in a size such as 50GB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MGT]B)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number with MB, GB or TB, such as 50GB")
    return float(found.group(1)) * UNITS_BYTES[found.group(2)]


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add which part of which device's record is meant."""
    parser.add_argument("device", metavar="DEVICE", help="id of the device")
    parser.add_argument(
        "--since", default="24h", metavar="TIME", help="so long ago, such as 24h, or a date and time (UTC)"
    )
    parser.add_argument("--until", metavar="TIME", help="as --since; up to the end if not given")
    parser.add_argument(
        "--model", default=MODEL, help="names the beats where the monitor published none (run --beats publishes them)"
    )
    add_record(parser)


def _add_export_ecg(parser: argparse.ArgumentParser) -> None:
    add_part(parser)
    parser.add_argument("--format", choices=FORMATS, default="wfdb", help="of the file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="named for the device and the begin if not given"
    )


def _add_strip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alert", metavar="ALERT", help="id of the alert or of its episode, or a file with it in JSON")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".svg, .png or .pdf; named for the alert if not given"
    )
    parser.add_argument("--name", default="monitor", help="of the monitor")
    add_record(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    add_part(parser)
    parser.add_argument(
        "-o", "--output", type=Path, action="append", metavar="FILE",
        help=".html or .pdf; can be repeated; both, named for the device, if not given",
    )  # fmt: skip


def _add_rerun(parser: argparse.ArgumentParser) -> None:
    add_part(parser)
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="of an alert, as of run; can be repeated"
    )
    parser.add_argument(
        "--usual", default=MODEL, metavar="MODEL", help="to compare with, where the record has no alerts"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".html: a page with strips of both, side by side"
    )
    parser.add_argument("--strips", type=Path, metavar="DIR", help="draw each alert that is in one of the two only")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="id of the device")
    parser.add_argument("--name", default="monitor", help="of the monitor")
    parser.add_argument(
        "--broker", metavar="URL", help="where the monitor listens, if it runs; its retained messages are cleared"
    )
    parser.add_argument("--by", metavar="NAME", help="who asks, for the audit trail; if not given, who is logged in")
    _add_login(parser)
    add_record(parser)


VERBS = (
    Verb("record", "keep the raw ECG of devices, as they send it", _add_record, record, extra="record"),
    Verb(
        "export-ecg",
        "write what is kept of a device as WFDB, EDF, Parquet, CSV or FHIR, annotated",
        _add_export_ecg,
        export_ecg,
        extra="record",
    ),
    Verb("strip", "draw the strip of an alert on an ECG grid", _add_strip, strip, extra="report"),
    Verb(
        "report",
        "write a Holter-style report of a device, as one page and for printing",
        _add_report,
        report,
        extra="report",
    ),
    Verb(
        "rerun", "run what is kept through another model or limits: what would be alerted", _add_rerun, rerun, "record"
    ),
    Verb("forget", "delete all that is kept of a device, and prove it", _add_forget, forget, "record"),
)
PROGRAM = Program("recorder", "python -m recorder", "The raw ECG of devices, kept and handed out again.", VERBS)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
