"""Are broker and machine as the monitor needs them? One line for each check, and what to change where they are not.

Looks at this machine (clock, model, provider, disk) and lets `monitor.tools.doctor.probe` ask the broker. Changes
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import wire
from monitor.broker import connection
from monitor.classify import SHAPE_MODEL, Provider
from monitor.panel import DEFAULT_MODEL, load_panel
from monitor.state.location import default_directory, locate
from monitor.tools.doctor.probe import NOT_CHECKED, Check, Probe, Status
from monitor.tools.doctor.visit import Target

if TYPE_CHECKING:
    from monitor.tools.cluster import Status as ClusterStatus

SYNCHRONISED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"), Path("/run/ntpd.pid"))
"""Files that are there if something keeps the clock right."""
PLAUSIBLE_YEARS = range(2025, 2100)
GOOD_RABBITMQ = (4,)
"""Version from which on RabbitMQ has MQTT in one piece with itself."""
STUCK_RABBITMQ = (4, 3, 0), (4, 3, 5)
"""From which to which version a queue may stop for good once its consumers have exceeded `consumer_timeout`."""
FEW_BYTES, LITTLE_BYTES = 100 * 10**6, 10**9
FEW_FILES = 256
COLOURS: dict[Status, str] = {"ok": "\033[32m", "warn": "\033[33m", "FAIL": "\033[31m"}


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """What to look at; the same as for running the monitor."""

    broker: connection.BrokerUrl = field(default_factory=lambda: connection.BrokerUrl.parse(connection.DEFAULT_URL))
    password_file: Path | None = None
    tls: connection.TlsFiles = field(default_factory=connection.TlsFiles)
    prefix: str = wire.PREFIX
    name: str = "monitor"
    """Of the monitor."""
    model: str = DEFAULT_MODEL
    shape: str = SHAPE_MODEL
    provider: Provider = "auto"
    state: Path | str | None = None
    """Where the monitor keeps its state, see `monitor.state.location.locate`; None: where it does by default."""
    source: str | None = None
    """URL of a RabbitMQ cluster, see `monitor.broker.amqp_connection.ClusterUrl`; None: there is none."""
    as_json: bool = False


def run_doctor(settings: DoctorSettings) -> int:
    """Make all checks and print each; return the exit status: 1 if any failed, else 0.

    Raises
    ------
    ValueError
        Settings that cannot work; see `monitor.broker.connection` and `monitor.wire`.
    """
    wire.check_name(settings.name)
    target = Target(settings.broker, connection.read_password(settings.broker, settings.password_file), settings.tls)
    connection.make_client(
        target.url, "", **asdict(target.tls)
    )  # files that cannot be used are an error of the command
    probe = Probe(target, wire.Topics(settings.prefix), settings.name)
    made: list[Check] = []
    for title, checks in (("this machine", examine_machine(settings)), ("the broker", probe.examine())):
        if not settings.as_json:
            print(f"{title}{f' at {settings.broker}' * (title == 'the broker')}")
        made += _show(checks, settings.as_json)
    failed = any(check.status == "FAIL" for check in made)
    if settings.as_json:
        print(json.dumps({"ok": not failed, "broker": str(settings.broker), "checks": [asdict(c) for c in made]}))
    else:
        print(_summary(made))
    return int(failed)


def examine_machine(settings: DoctorSettings) -> Iterator[Check]:
    """Check what the monitor needs of this machine."""
    yield check_clock(time.time(), any(file.exists() for file in SYNCHRONISED))
    yield from check_models(settings.model, settings.shape, settings.provider)
    where = settings.state or default_directory()
    yield check_state(where) if isinstance(where, Path) else check_database(where)
    if settings.source is not None:
        yield from check_cluster(settings, settings.source)
    yield check_open_files()


def check_clock(now_s: float, synchronised: bool) -> Check:
    """Check that the time is plausible, and whether a time service keeps it."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if time.gmtime(now_s).tm_year not in PLAUSIBLE_YEARS:
        return Check("clock", "FAIL", shown, "Set the clock: certificates are judged by it, and latencies measured.")
    kept = "synchronised" if synchronised else "unknown whether a time service keeps it"
    return Check("clock", "ok", f"{shown}, {kept}")


def check_models(model: str, shape: str, provider: Provider) -> Iterator[Check]:
    """Check that the models load, and that the provider is available."""
    try:
        panel = load_panel(model, shape, "cpu")
    except (OSError, ValueError) as error:
        yield Check("model", "FAIL", str(error), "ecgwatch models lists those that are bundled.")
        return
    for name, one in (("model", panel.main), ("shape", panel.shape)):
        if one is not None:
            yield Check(name, "ok", f"{one.info.name}, {one.info.precision}, sha256 {one.sha256[:12]}")
    try:
        yield Check("provider", "ok", f"{provider}: {load_panel(model, shape, provider).main.provider}")
    except ValueError as error:
        yield Check("provider", "FAIL", str(error), "--provider auto takes what is available.")


def check_state(folder: Path) -> Check:
    """Check that the monitor can keep its state there."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        advice = "Name another with --state DIR, or let the monitor's user write there."
        return Check("state", "FAIL", f"{folder} cannot be written: {error.strerror}", advice)
    found = f"{folder} {'can be written' if there == folder else 'can be made'}, {free / 1e9:.1f} GB free"
    if free < LITTLE_BYTES:
        return Check("state", "FAIL" if free < FEW_BYTES else "warn", found, "Make room, or name another: --state DIR")
    return Check("state", "ok", found)


def check_database(where: str) -> Check:
    """Check that the monitor can keep its state in a database."""
    try:
        found, advice = locate(where).examine()
    except (OSError, ValueError) as error:
        return Check("state", "FAIL", str(error), "Name another with --state, or mend it.")
    return Check("state", "warn" if advice else "ok", found, advice)


def check_cluster(settings: DoctorSettings, url: str) -> Iterator[Check]:
    """Check that a RabbitMQ cluster deals the devices out as the monitor needs it, and that somebody takes them."""
    from monitor.broker.amqp_connection import ClusterUrl  # an extra
    from monitor.tools.cluster import ClusterSettings, find_silent_nodes, find_wrong_queues, read_status

    cluster = ClusterSettings(
        ClusterUrl.parse(url), None, settings.name, settings.prefix, settings.password_file, settings.tls
    )
    try:
        status = read_status(cluster)
        wrong, silent = find_wrong_queues(cluster), find_silent_nodes(cluster.login)
    except OSError as error:
        yield Check("cluster", "FAIL", str(error), "Start it, or name another: --source amqp://...")
        return
    yield _check_partitions(status, f"ecgwatch cluster init --broker {url} --name {settings.name}")
    if status.partitions:
        yield _check_queues(wrong)
    if silent:
        yield Check("nodes", "warn", "; ".join(silent), "Monitors use the others: start it, or name it no more.")


def _check_partitions(status: ClusterStatus, init: str) -> Check:
    waiting = sum(one.waiting for one in status.partitions)
    found = (
        f"{status.broker}, {len(status.partitions)} partitions, {status.processes} processes, {waiting} packets wait"
    )
    if not status.partitions:
        return Check("cluster", "FAIL", found, f"Run {init}")
    if STUCK_RABBITMQ[0] <= status.version <= STUCK_RABBITMQ[1]:
        advice = "Upgrade it, or leave consumer_timeout long: a queue whose consumers exceed it stops (#17317)."
        return Check("cluster", "warn", found, advice)
    if status.processes > len(status.partitions):
        return Check("cluster", "warn", found, "There are more processes than partitions: some have nothing to do.")
    if status.version < GOOD_RABBITMQ:
        advice = "Use RabbitMQ 4: before, packets with QoS 0 may overtake others, and MQTT costs it more."
        return Check("cluster", "warn", found, advice)
    return Check("cluster", "ok", found)


def _check_queues(wrong: Sequence[str]) -> Check:
    if not wrong:
        return Check("queues", "ok", "as ecgwatch cluster init declares them; AMQP tells nothing of policies")
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    advice = "Stop all monitors, let them finish, delete the queue, and run ecgwatch cluster init (docs/SCALING.md)."
    return Check("queues", "FAIL", f"{wrong[0]}{more}", advice)


def check_open_files() -> Check:
    """Check that there are enough file descriptors for a monitor."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Check("open files", "ok", "no limit known")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Check("open files", "ok", f"{'any number' if soft == resource.RLIM_INFINITY else soft} for this user")
    return Check("open files", "warn", f"{soft} for this user", f"ulimit -n {FEW_FILES}, or more")


def _show(checks: Iterable[Check], silent: bool) -> list[Check]:
    """Print each check as it is made; the broker takes some seconds."""
    made = []
    for check in checks:
        made.append(check)
        if not silent:
            print("\n".join(_lines(check)), flush=True)
    return made


def _lines(check: Check) -> Iterator[str]:
    status = f"{check.status:<4}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        status = f"{COLOURS[check.status]}{status}\033[0m"
    yield f"  {status}  {check.name:<10}  {check.found}"
    if check.advice:
        yield f"{'':<20}-> {check.advice}"


def _summary(made: list[Check]) -> str:
    failed = sum(check.status == "FAIL" for check in made)
    warned = sum(check.status == "warn" and check.name != NOT_CHECKED for check in made)
    if failed:
        return f"{failed} to mend{f', {warned} to look at' * bool(warned)}; then run the doctor again."
    return f"The monitor can run; {warned} to look at." if warned else "All is well."
