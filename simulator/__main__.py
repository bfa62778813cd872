"""Command line of the simulator: demo, replay, load, score, tradeoff, broker, fit-beats."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.command import Program, Verb, run_program

BROKER = "mqtt://127.0.0.1:1883"
PORT = 1883
PASSWORD_VARIABLE = "ECGWATCH_PASSWORD"
PREFIX = "ecg/v1"
"""As in `monitor.wire` and `monitor.broker.connection`, without importing them for the help."""
FORMATS = ("ishne", "kardia", "edf", "opensignals", "polar", "polar-frames", "apple", "wfdb", "csv")
"""As in `recordings.formats`."""


def demo(options: argparse.Namespace) -> None:
    """Run broker, monitor and devices together, and compare what was played with what was found."""
    from simulator.beats import find_data
    from simulator.demo import run_demo

    print(run_demo(find_data(options.data), options.devices, options.seconds, options.seed, _stop_on_signals()))


def replay(options: argparse.Namespace) -> None:
    """Play a fleet or records to a broker."""
    from monitor import wire
    from monitor.broker import connection
    from recordings import formats
    from recordings.recording import Choices
    from simulator.beats import find_data
    from simulator.devices import Library, make_fleet, open_feed, record_feed
    from simulator.faults import Fault
    from simulator.records import from_recording
    from simulator.replay import Replay

    stop = _stop_on_signals()
    url = connection.BrokerUrl.parse(options.broker)
    faults = tuple(Fault.parse(text) for text in options.fault)
    if options.record:
        choices = Choices(
            lead=options.lead,
            annotator=options.annotator,
            rate_hz=options.record_rate,
            unit=options.unit,
            time=options.time_column,
        )
        records = [from_recording(formats.read(path, choices, options.format)) for path in options.record]
        print("playing", ", ".join(record.name for record in records), flush=True)
        for note in (note for record in records for note in record.notes):
            print(f"note: {note}", flush=True)
        packet_s = 1.0 if options.packet is None else options.packet
        feeds = [record_feed(record, number + 1, packet_s, faults) for number, record in enumerate(records)]
    else:
        library = Library(find_data(options.data))
        print(library, flush=True)
        devices = make_fleet(
            options.devices,
            options.profile or ["patch"],
            abnormal=options.abnormal,
            packet_s=options.packet,
            rate_hz=options.rate,
            faults=faults,
            seed=options.seed,
        )
        feeds = [open_feed(device, library) for device in devices]
    password = connection.read_password(url, options.password_file)
    topics = wire.Topics(options.prefix)
    player = Replay(
        feeds,
        url,
        speed=options.speed,
        topics=topics,
        password=password,
        cafile=options.cafile,
        certfile=options.certfile,
        keyfile=options.keyfile,
    )
    print(f"{len(feeds)} devices to {url}, below {options.prefix}", flush=True)
    print(player.run(stop, options.duration))


def load(options: argparse.Namespace) -> None:
    """Play a large fleet to a broker at next to no cost, to load a monitor with, and report how punctually."""
    from monitor import wire
    from monitor.broker import connection
    from simulator.load import Load, LoadSettings, write_streams

    stop = _stop_on_signals()
    url = connection.BrokerUrl.parse(options.broker)
    settings = LoadSettings(
        devices=options.devices,
        rate_hz=options.rate,
        packet_s=options.packet,
        seconds=options.seconds,
        bpm=options.bpm,
        abnormal=options.abnormal,
        seed=options.seed,
        connections=options.connections,
    )
    if options.write is not None:
        write_streams(settings, options.write)
        return
    player = Load(settings, url, wire.Topics(options.prefix), connection.read_password(url, options.password_file))
    if not options.json:
        print(f"{settings.devices} devices to {url}, below {options.prefix}", flush=True)
    summary = player.run(stop)
    print(summary.to_json() if options.json else summary)


def score(options: argparse.Namespace) -> None:
    """Play annotated records through the monitor's engine, without a broker, and report how well it found their beats.

    For a model of the classes N, S and V, also how well it named them. With --alerts, how well it alerted.
    """
    played: dict[str, Any] = {
        "records": tuple(options.records),
        "as_json": options.json,
        "lead": options.lead,
        "annotator": options.annotator,
        "rate_hz": options.rate,
        "model": options.model,
        "shape": options.shape,
    }
    if options.alerts or options.events is not None:
        from simulator.alert_score import AlertScoreSettings, run_alert_score

        if options.annotations is not None:
            raise ValueError("--annotations holds beats: it does not go with --alerts or --events.")
        run_alert_score(AlertScoreSettings(**played, events=options.events))
        return
    from simulator.score import ScoreSettings, run_score

    run_score(ScoreSettings(**played, annotations=options.annotations))


def tradeoff(options: argparse.Namespace) -> None:
    """Play annotated records by fold networks, and print what each limit of the alerts costs and finds."""
    from simulator.tradeoff import TradeoffSettings, run_tradeoff

    run_tradeoff(
        TradeoffSettings(
            records=tuple(options.records),
            as_json=options.json,
            lead=options.lead,
            annotator=options.annotator,
            rate_hz=options.rate,
            shape=options.shape,
            folds=options.folds,
            plot=options.plot,
        )
    )


def broker(options: argparse.Namespace) -> None:
    """Run the embedded broker in the foreground."""
    from simulator.broker import EmbeddedBroker

    stop = _stop_on_signals()
    with EmbeddedBroker(options.port) as embedded:
        print(f"broker at {embedded.url} (MQTT 3.1.1); MQTT 5 on port {embedded.port_v5}; Ctrl-C ends it", flush=True)
        stop.wait()


def fit_beats(options: argparse.Namespace) -> None:
    """Fit the statistical model of beats to PTB files."""
    from simulator.beat_model import fit_model
    from simulator.beats import find_data, load_beats

    directory = find_data(options.data)
    if directory is None:
        raise ValueError("No PTB files to fit to: got none, expected --data DIR.")
    beats = load_beats(directory)
    fit_model(beats).save(options.out)
    print(f"fitted {len(beats)} beats from {directory}: {options.out}, {options.out.stat().st_size} bytes")


def _stop_on_signals() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory with the PTB files (or set ECGWATCH_DATA)")
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="how many")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long to play")
    parser.add_argument("--seed", type=int, default=0, help="the same seed plays the same")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", default=BROKER, metavar="URL", help="mqtt://[user@]host[:port] or mqtts://")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help=f"password (or set {PASSWORD_VARIABLE})")
    parser.add_argument("--cafile", type=Path, metavar="FILE", help="certificate authorities for mqtts://")
    parser.add_argument("--certfile", type=Path, metavar="FILE", help="client certificate of the devices")
    parser.add_argument("--keyfile", type=Path, metavar="FILE", help="its key, if not in the same file")
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory with the PTB files (or set ECGWATCH_DATA)")
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="how many")
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help="patch (the default), polar-h10, fast, ptb-1000; repeat for a mix",
    )
    parser.add_argument("--abnormal", type=float, default=0.5, metavar="SHARE", help="of devices with abnormal beats")
    parser.add_argument("--packet", type=float, metavar="SECONDS", help="length of a packet, if not the profile's")
    parser.add_argument("--rate", type=float, metavar="HZ", help="sampling rate, if not the profile's")
    parser.add_argument("--speed", type=float, default=1.0, metavar="N", help="times faster than real time")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="stop after so long; forever if not given")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:SHARE]",
        help="gap, jitter, duplicate, reorder, wrong-rate, garbage, noise, wander, lead-off, clipping; can be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed plays the same")
    parser.add_argument(
        "--record",
        action="append",
        type=Path,
        metavar="PATH",
        help="play this recording instead, once: WFDB, EDF, CSV ... as analyse reads them; can be repeated",
    )
    _add_choices_of_record(parser)
    parser.add_argument("--format", choices=FORMATS, help="of the recordings; if not given, what is in them tells")
    parser.add_argument("--record-rate", type=float, metavar="HZ", help="of a recording in text without times")
    parser.add_argument("--unit", metavar="UNIT", help="of a recording in text that names none: V, mV, uV or nV")
    parser.add_argument("--time-column", metavar="NAME", help="of a recording in text: its name or number")


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", default=BROKER, metavar="URL", help="mqtt://[user@]host[:port]")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help=f"password (or set {PASSWORD_VARIABLE})")
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")
    parser.add_argument("--devices", type=int, default=10_000, metavar="N", help="how many")
    parser.add_argument("--rate", type=float, default=250.0, metavar="HZ", help="sampling rate")
    parser.add_argument("--packet", type=float, default=1.0, metavar="SECONDS", help="length of a packet")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long to play")
    parser.add_argument("--bpm", type=float, default=72.0, metavar="N", help="heart rate of all devices")
    parser.add_argument("--abnormal", type=float, default=0.1, metavar="SHARE", help="of beats that are abnormal")
    parser.add_argument("--connections", type=int, default=4, metavar="N", help="that the devices share")
    parser.add_argument("--write", type=Path, metavar="FILE.npz", help="write the streams to a file, and play nothing")
    parser.add_argument("--seed", type=int, default=0, help="the same seed plays the same")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="WFDB record, with or without .hea")
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="DIR",
        help="write the beats that were found to this folder, as WFDB annotations",
    )
    parser.add_argument(
        "--alerts", action="store_true", help="report alerts instead: true events found, false ones an hour, delays"
    )
    parser.add_argument(
        "--events",
        type=Path,
        metavar="DIR",
        help="write beats and alerts as they are published to this folder, a .jsonl a record; reports alerts too",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _add_choices_of_record(parser)
    parser.add_argument("--rate", type=float, metavar="HZ", help="resample to this rate first, if not the record's own")
    parser.add_argument("--model", default="nsv", metavar="NAME", help="a bundled model, or an ONNX file")
    parser.add_argument("--shape", default="ptb", metavar="NAME", help="shape model beside a class model, or none")


def _add_tradeoff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="WFDB record, with or without .hea")
    parser.add_argument(
        "--folds",
        type=Path,
        required=True,
        metavar="DIR",
        help="fold networks of a class model: each record is judged by one that has not met its person",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the curves: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    _add_choices_of_record(parser)
    parser.add_argument("--rate", type=float, metavar="HZ", help="resample to this rate first, if not the record's own")
    parser.add_argument("--shape", default="ptb", metavar="NAME", help="shape model beside the networks, or none")


def _add_choices_of_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lead", metavar="LEAD", help="of a record: its name, or its number counted from 0; the first ECG if not given"
    )
    parser.add_argument(
        "--annotator",
        metavar="NAME",
        help="of a record: end of the name of its annotation file; if not given atr, ecg, qrs, or the only one",
    )


def _add_broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=PORT, help="for MQTT 3.1.1; MQTT 5 is one above")


def _add_fit_beats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory with the PTB files (or set ECGWATCH_DATA)")
    parser.add_argument("--out", type=Path, default=Path("beat_model.npz"), metavar="FILE", help="the model file")


VERBS = (
    Verb(
        "demo", "see it at work: devices, broker, monitor and web page on this machine, for a minute", _add_demo, demo
    ),
    Verb("replay", "be devices: play heartbeats to a broker", _add_replay, replay, extra="records"),
    Verb("load", "play ten thousand devices at next to no cost, to load a monitor with", _add_load, load),
    Verb(
        "score",
        "play annotated records through the engine, and report how well it found and named beats",
        _add_score,
        score,
        extra="records",
    ),
    Verb(
        "tradeoff",
        "print for each limit of the alerts how many are false an hour, and which share of true events is found",
        _add_tradeoff,
        tradeoff,
        extra="records",
    ),
    Verb("broker", "run the embedded broker on 127.0.0.1", _add_broker, broker),
    Verb(
        "fit-beats", "fit the model that beats are drawn from where there are no PTB files", _add_fit_beats, fit_beats
    ),
)
PROGRAM = Program(
    "simulator",
    "python -m simulator",
    "Devices that stream known heartbeats over MQTT, and a broker for them.",
    VERBS,
)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
