"""Command line of the monitor: ``python -m monitor COMMAND``; ``--help`` lists the commands.

Only flags are declared here; what a command needs is imported when it runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import answering
from monitor.command import Group, Program, Verb, run_program
from monitor.flags import BROKER, PREFIX, add_broker, add_tls, duration, place
from monitor.notify import command as notify
from monitor.page import command as page

if TYPE_CHECKING:
    from monitor.service.run import Service
    from monitor.service.settings import ServiceSettings
    from monitor.service.supervisor import Workers
    from monitor.tools.cluster import ClusterSettings

DESCRIPTION = "Watch ECG feeds: packets in over MQTT, alerts out. Research software, not a medical device."
MODEL = "nsv"
SHAPE = "ptb"


def run(options: argparse.Namespace) -> int:
    """Watch until interrupted."""
    from monitor.service.companion import run_beside
    from monitor.service.logs import set_up

    set_up(options.log, options.name)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration file is about to be read
    try:
        settings = _settings(options)
        with run_beside(page.command_of(options)):
            service = _service(settings, options.workers)
            signal.signal(signal.SIGTERM, lambda *_: service.stop())
            signal.signal(signal.SIGINT, lambda *_: service.stop())
            signal.signal(signal.SIGHUP, lambda *_: service.reload())
            service.run()
    except (ValueError, OSError) as error:
        if options.log == "text":
            raise
        logging.getLogger(__name__).error("%s", error)  # a reader of JSON lines expects nothing else
        return 2
    except Exception:
        if options.log == "text":
            raise
        logging.getLogger(__name__).exception("internal error; the monitor ends")
        return 1
    return 0


def _settings(options: argparse.Namespace) -> ServiceSettings:
    from monitor import wire
    from monitor.alerts.episode import AlertSettings
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.service.configured import check_devices, read_limits
    from monitor.service.metrics import Address
    from monitor.service.settings import ServiceSettings
    from monitor.state.location import default_directory

    if isinstance(options.state, Path) and options.state.exists() and not options.state.is_dir():
        raise ValueError(f"--state must be a directory: got the file {options.state}.")
    if options.workers < 1:
        raise ValueError(f"A monitor needs at least one worker: got {options.workers}.")
    if options.metrics_devices and (options.metrics is None or options.workers > 1):
        raise ValueError("--metrics-devices needs --metrics, and one worker: several do not tell of single devices.")
    n, m = options.alert
    settled = getattr(options, "settled", None)
    document = None if settled is None else settled.document
    given = (*(() if settled is None else settled.limits), *options.limit)
    broker = BrokerUrl.parse(options.broker)
    if options.source is not None:
        from monitor.broker.amqp_connection import ClusterUrl  # an extra

        cluster = ClusterUrl.parse(options.source)
        broker = cluster.mqtt if options.broker == BROKER else broker
    settings = ServiceSettings(
        broker=broker,
        source=options.source,
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
        prefix=options.prefix,
        name=wire.check_name(options.name),
        model=options.model,
        shape=options.shape,
        provider=options.provider,
        publish_beats=options.beats or options.page is not None,
        alerts=AlertSettings(n=n, m=m, silent_s=options.silent, limits=read_limits(document, given)),
        state=None if options.no_state else options.state or default_directory(),
        log=options.log,
        metrics=None if options.metrics is None else Address.parse(options.metrics),
        metrics_devices=options.metrics_devices,
        configuration=None if document is None else document.path.absolute(),
        limits_given=given,
    )
    if document is not None:
        check_devices(document, settings)
    return settings


def _service(settings: ServiceSettings, workers: int) -> Service | Workers:
    if workers > 1:
        from monitor.service.supervisor import Workers

        return Workers(settings, workers)
    from monitor.service.run import Service

    return Service(settings)


def doctor(options: argparse.Namespace) -> int:
    """Check broker, machine and state."""
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.tools.doctor.examine import DoctorSettings, run_doctor

    return run_doctor(
        DoctorSettings(
            broker=BrokerUrl.parse(options.broker),
            password_file=options.password_file,
            tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
            prefix=options.prefix,
            name=options.name,
            model=options.model,
            shape=options.shape,
            provider=options.provider,
            state=options.state,
            source=options.source,
            as_json=options.json,
        )
    )


def cluster_init(options: argparse.Namespace) -> int:
    """Declare what a fleet needs."""
    from monitor.tools.cluster import init

    return init(_cluster_settings(options), options.partitions, options.queues)


def cluster_status(options: argparse.Namespace) -> int:
    """Show who watches what."""
    from monitor.tools.cluster import status

    return status(_cluster_settings(options), options.json)


def _cluster_settings(options: argparse.Namespace) -> ClusterSettings:
    from monitor.broker.amqp_connection import ClusterUrl
    from monitor.broker.connection import BrokerUrl, TlsFiles
    from monitor.tools.cluster import ClusterSettings

    return ClusterSettings(
        broker=ClusterUrl.parse(options.broker),
        state=options.store,
        mqtt=BrokerUrl.parse(options.mqtt) if getattr(options, "mqtt", None) else None,
        name=options.name,
        prefix=options.prefix,
        password_file=options.password_file,
        tls=TlsFiles(options.cafile, options.certfile, options.keyfile),
    )


def watch(options: argparse.Namespace) -> None:
    """Print alerts as they are published, or show the fleet on a terminal."""
    from monitor import wire
    from monitor.broker import connection
    from monitor.service.logs import set_up
    from monitor.tools.watch import Watcher, watch

    url = connection.BrokerUrl.parse(options.broker)
    password = connection.read_password(url, options.password_file)
    tls = connection.TlsFiles(options.cafile, options.certfile, options.keyfile)
    watcher = Watcher(url, wire.Topics(options.prefix), password, tls)
    if _wants_view(options):
        from monitor.tools.terminal import show

        show(watcher, options.device)
        return
    set_up("text", "watch")
    watch(watcher.subscribe("alerts"), options.json, options.device)


def _wants_view(options: argparse.Namespace) -> bool:
    """Whether there is a terminal that can show more than lines."""
    if options.json or options.lines or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if importlib.util.find_spec("rich") is None:
        print("a view of the fleet in place of lines: pip install 'ecgwatch[terminal]'", file=sys.stderr)
        return False
    return True


def history(options: argparse.Namespace) -> int:
    """Print recent alerts, or counts of beats."""
    from monitor.state.location import default_directory
    from monitor.tools.history import HistorySettings, run_history

    return run_history(
        HistorySettings(
            state=options.state or default_directory(),
            name=options.name,
            device=options.device,
            since_s=options.since,
            beats=options.beats,
            as_json=options.json,
        )
    )


def classify(options: argparse.Namespace) -> int:
    """Classify the beats of a CSV file."""
    from monitor.beat import read_windows
    from monitor.classify import Classifier, answered

    classifier = Classifier(options.model, options.provider)
    info = classifier.info
    if classifier.needs_rr:
        raise ValueError(
            f"Model {info.name!r} needs the RR context of each beat ({', '.join(info.context)}), and the rows of a CSV "
            f"file carry none: --model {SHAPE} judges single windows."
        )
    windows, labels = read_windows(options.file)
    probabilities = classifier.probabilities(windows)
    abnormal = classifier.abnormal(probabilities)
    sure = answered(probabilities).tolist()
    rows = []
    for i, (p, name) in enumerate(zip(abnormal.tolist(), classifier.labels(probabilities), strict=True)):
        verdict = name != info.classes[0]
        row: dict[str, object] = {
            "row": i + 1,
            "verdict": "abnormal" if verdict else "normal",
            "class": name,
            "confidence": p if verdict else 1 - p,
            "probability": p,
        }
        if not sure[i]:
            row |= {"verdict": "withheld", "class": None, "confidence": None, "probability": None}
        if labels is not None:
            row |= {"label": int(labels[i]), "agrees": sure[i] and verdict == bool(labels[i])}
        rows.append(row)
    agree = None if labels is None else sum(bool(row["agrees"]) for row in rows)
    if options.json:
        about = {"model": info.name, "threshold": info.threshold, "agree": agree}
        print(json.dumps(about | {"beats": rows}))
        return 0
    print(f"{len(rows)} beats, model {info.name}, threshold {info.threshold:.3f}")
    width = max(map(len, info.classes))
    for row in rows:
        if row["verdict"] == "withheld":
            print(f"{row['row']:>6}  withheld  the model gave no answer")
            continue
        named = f"  {row['class']:<{width}}" if len(info.classes) > 2 else ""  # of two, the verdict says which
        known = "" if labels is None else f"   label {row['label']}{'' if row['agrees'] else '   differs'}"
        print(f"{row['row']:>6}  {row['verdict']:<8}{named}  confidence {row['confidence']:.3f}{known}")
    if agree is not None:
        print(f"{agree} of {len(rows)} agree with their label ({100 * agree / len(rows):.1f} %)")
    return 0


def models(options: argparse.Namespace) -> int:
    """List the bundled models, print the card of one, or adopt a model file."""
    if options.name == "adopt":
        return _adopt(options)
    from monitor.tools.bundled import format_list, list_models, look_up, read_card

    if options.json:
        found = (
            [model.as_json() for model in list_models()] if options.name is None else look_up(options.name).as_json()
        )
        print(json.dumps(found))
    elif options.name is None:
        print(format_list(list_models()))
    else:
        print(read_card(options.name), end="")
    return 0


def _adopt(options: argparse.Namespace) -> int:
    from monitor.tools.adopt import AdoptSettings, adopt

    if options.file is None or options.classes is None:
        raise ValueError("models adopt: expected FILE --classes normal,abnormal [--threshold 0.5] [--output PATH].")
    classes = tuple(name.strip() for name in options.classes.split(","))
    print(adopt(AdoptSettings(options.file, classes, options.threshold, options.output)))
    return 0


def bench(options: argparse.Namespace) -> int:
    """Measure latency, cost and capacity on this machine."""
    from monitor.broker.connection import TlsFiles
    from monitor.tools.bench.capacity import CapacitySettings
    from monitor.tools.bench.harness import Setup
    from monitor.tools.bench.latency import LatencySettings
    from monitor.tools.bench.run import BenchSettings, run_bench
    from monitor.tools.bench.versus import VersusSettings

    given = vars(options)
    names = {"devices": "devices", "packet": "packet_s", "seconds": "seconds"}
    numbers = {name: given[option] for option, name in names.items() if option in given}
    capacity = {"most": given.get("most"), "workers": options.workers, "remembers": not options.no_state}
    latency = options.latency or not (options.versus or options.capacity)
    tls = TlsFiles(options.cafile, options.certfile, options.keyfile)
    return run_bench(
        BenchSettings(
            latency=LatencySettings(**numbers) if latency else None,
            versus=VersusSettings(rounds=options.rounds) if options.versus else None,
            capacity=CapacitySettings(**numbers, **capacity) if options.capacity else None,
            setup=Setup(options.broker, tls, options.model, options.shape, options.provider),
            as_json=options.json,
            html=options.html,
            baseline=options.baseline,
            worse_than=options.worse_than,
        )
    )


def asyncapi(_options: argparse.Namespace) -> int:
    """Print the description of the wire."""
    from monitor.tools.asyncapi import document

    print(json.dumps(document(), indent=2))
    return 0


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_broker(parser)
    _add_models_that_judge(parser)
    parser.add_argument(
        "--source",
        metavar="URL",
        help="amqp://[user@]host[:port][,...]: a RabbitMQ cluster that deals the devices out to any number of "
        "processes; it is published to at --broker, or at the same host",
    )
    parser.add_argument("--name", default="monitor", help="of this monitor, in its status topic and client id")
    parser.add_argument("--beats", action="store_true", help="also publish every beat's verdict")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the devices")
    parser.add_argument(
        "--state",
        "--store",
        type=place,
        metavar="PLACE",
        help="where to save what a crash must not lose: a directory, or postgresql://...",
    )
    parser.add_argument(
        "--no-state", action="store_true", help="save nothing: packets that arrive during a restart are lost"
    )
    parser.add_argument(
        "--metrics", metavar="[HOST:]PORT", help="serve /metrics, /healthz and /readyz; HOST is 127.0.0.1 if not given"
    )
    parser.add_argument("--metrics-devices", action="store_true", help="metrics of each device too, by its id")
    parser.add_argument("--log", choices=("text", "json"), default="text", help="format of the log lines on stderr")
    page.add_run_flags(parser)
    parser.add_argument(
        "--alert", type=_n_of_m, default="3/5", metavar="N/M", help="alert when N of the last M beats are abnormal"
    )
    parser.add_argument(
        "--silent",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="of a device, until that is alerted",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of an alert, such as bradycardia-bpm=45; can be repeated. A name that does not exist lists all",
    )


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    add_broker(parser)
    _add_models_that_judge(parser)
    parser.add_argument("--name", default="monitor", help="of the monitor to look for")
    parser.add_argument("--source", metavar="URL", help="amqp://...: the cluster that deals the devices out")
    parser.add_argument("--state", type=place, metavar="PLACE", help="where the monitor keeps its state")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", required=True, metavar="URL", help="amqp://[user@]host[:port][,host[:port]...]")
    parser.add_argument("--store", "--state", metavar="URL", help="postgresql://...")
    parser.add_argument("--password-file", type=Path, help="file with the user's password; or set ECGWATCH_PASSWORD")
    add_tls(parser)
    parser.add_argument("--prefix", default=PREFIX, help="of all topics")
    parser.add_argument("--name", default="monitor", help="of the monitor")


def _add_cluster_init(parser: argparse.ArgumentParser) -> None:
    _add_cluster(parser)
    parser.add_argument("--partitions", type=int, default=64, metavar="N", help="into which the fleet is dealt out")
    parser.add_argument("--queues", choices=("quorum", "classic"), default="quorum", help="quorum: kept by most nodes")


def _add_cluster_status(parser: argparse.ArgumentParser) -> None:
    _add_cluster(parser)
    parser.add_argument("--mqtt", metavar="URL", help="where the monitors publish, if not at mqtt://HOST:1883")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    add_broker(parser)
    parser.add_argument("--json", action="store_true", help="print each alert as it was published")
    parser.add_argument("--lines", action="store_true", help="print alerts as lines on a terminal, too")
    parser.add_argument("--device", metavar="ID", help="only its alerts; on a terminal its signal is shown")


def _add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beats", action="store_true", help="print hourly counts of beats instead of alerts")
    parser.add_argument("--device", metavar="ID", help="only those of this device")
    parser.add_argument(
        "--since", type=duration, default="24h", metavar="TIME", help="how far back, in s, m, h or d, such as 7d"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line: alerts as published, or hours")
    parser.add_argument("--name", default="monitor", help="of the monitor that published them")
    parser.add_argument("--state", type=place, metavar="PLACE", help="where the monitor keeps its state")


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.csv", help="plain or gzip, as a spreadsheet writes it")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    _add_model(parser, SHAPE)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the model whose card to print; or adopt")
    adopting = parser.add_argument_group("adopt FILE: make a model file from elsewhere a model of the monitor")
    adopting.add_argument("file", nargs="?", type=Path, metavar="FILE", help="ONNX file, of any framework")
    adopting.add_argument("--classes", metavar="A,B", help="names of its classes, in its order, the normal one first")
    adopting.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="from which probability a beat counts as abnormal"
    )
    adopting.add_argument("--output", type=Path, metavar="PATH", help="of the model; if not given FILE-adopted.onnx")
    parser.add_argument("--json", action="store_true", help="the description stored in each model, as JSON")


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    """No flags."""


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_argument_group("what to measure; latency if nothing is given")
    parts.add_argument("--latency", action="store_true", help="of a beat, stage by stage and through a broker")
    parts.add_argument(
        "--versus",
        action="store_true",
        help="processor time of a device, beside sleepecg and NeuroKit2 with a CNN in PyTorch; needs ecgwatch[versus]",
    )
    parts.add_argument(
        "--capacity", action="store_true", help="how many devices this machine carries in real time; takes minutes"
    )
    fleet = parser.add_argument_group("devices and broker, for latency (L) and capacity (C)")
    fleet.add_argument(
        "--devices",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="L: how many, 8 if not given; C: tried first, 1000",
    )
    fleet.add_argument(
        "--packet",
        type=float,
        metavar="SECONDS",
        default=argparse.SUPPRESS,
        help="length of a packet; L: 0.2, C: 1 if not given",
    )
    fleet.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        default=argparse.SUPPRESS,
        help="how long to measure; L: 30, C: 15 each if not given",
    )
    fleet.add_argument(
        "--broker", metavar="URL", help="a running broker; else L starts the embedded one, C mosquitto if installed"
    )
    fleet.add_argument("--workers", type=int, default=1, metavar="N", help="C: processes of the monitor")
    fleet.add_argument(
        "--most",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="C: most devices to try; 20000 a worker if not given",
    )
    fleet.add_argument("--no-state", action="store_true", help="C: run the monitor without saved state")
    add_tls(fleet)
    versus = parser.add_argument_group("for the comparison")
    versus.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds, taken in turns")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a self-contained page with charts")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="JSON of an earlier run to compare with; exit status 1 if worse"
    )
    parser.add_argument(
        "--worse-than",
        type=float,
        default=1.25,
        metavar="RATIO",
        help="ratio to the baseline from which a figure counts as worse",
    )
    _add_models_that_judge(parser)


def _add_models_that_judge(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, MODEL)
    parser.add_argument(
        "--shape",
        default=SHAPE,
        metavar="MODEL",
        help="shape model beside a class model, for leads that it was trained on; none for none",
    )


def _add_model(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--model", default=default, help="name of a bundled model, or an ONNX file")
    parser.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is one, else CPU"
    )


def _n_of_m(text: str) -> tuple[int, int]:
    n, _, m = text.partition("/")
    try:
        return int(n), int(m)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected N/M such as 3/5") from None


VERBS = (
    Verb("run", "watch all devices and publish alerts", _add_run, run, extra="cluster"),
    Verb("watch", "show the fleet and its alerts on a terminal; in a pipe, a line for each alert", _add_watch, watch),
    Verb(
        "doctor",
        "check that broker and machine meet the monitor's needs; changes nothing",
        _add_doctor,
        doctor,
        extra="cluster",
    ),
    Verb(
        "history", "print the alerts that a monitor has stored, or counts of beats, oldest first", _add_history, history
    ),
    Verb(
        "classify",
        "classify the beats of a CSV file: 187 samples a row, optionally followed by a label, 0 if normal",
        _add_classify,
        classify,
    ),
    Verb("models", "list the bundled models, print the card of one, or adopt a model file", _add_models, models),
    Verb(
        "bench",
        "measure on this machine: latency per beat, cost beside other software, how many devices it carries",
        _add_bench,
        bench,
    ),
    *answering.VERBS,
    page.VERB,
    notify.GROUP,
    Group(
        "cluster",
        "a fleet on several machines: RabbitMQ, PostgreSQL, and any number of monitors",
        (
            Verb("init", "declare partitions, make tables", _add_cluster_init, cluster_init, extra="cluster"),
            Verb("status", "who watches which partition", _add_cluster_status, cluster_status, extra="cluster"),
        ),
    ),
    Verb("asyncapi", "print the AsyncAPI 3 description of the wire", _add_nothing, asyncapi),
)
PROGRAM = Program("monitor", "python -m monitor", DESCRIPTION, VERBS)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 after an error, which is one line on stderr."""
    return run_program(PROGRAM, words)


if __name__ == "__main__":
    sys.exit(main())
