"""``ecgwatch forget``: all that is kept of a device, deleted for good, and the proof that it is.

A monitor that runs is asked over MQTT: it drops what it remembers, deletes what it has saved, and says what is left. A
recorder that runs is asked through a file. Afterwards every file of both is searched for the device's id, letter by
letter, and the broker for messages that it retains: what is found is said, and the exit status is 1.
"""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from monitor import wire
from monitor.broker.connection import BrokerUrl, TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.nearest import nearest
from monitor.notify.queue import erase
from monitor.state.location import directory, locate
from monitor.state.lock import held_at_once
from monitor.tools.ask import Asker, NoAnswer, fetch, read_retained
from recorder.archive import Archive
from recorder.keeper import FORGET, Keeper

WAIT_S = 30.0
"""How long a recorder or a monitor that runs may take to forget."""
RETAINED = ("info", "status", "state")
"""Last words of the topics whose last message a broker keeps."""
PART = 1 << 20


@dataclass(frozen=True, slots=True)
class ForgetSettings:
    """Whom to forget, and where."""

    device: str
    root: Path
    """Of the record."""
    state: Path | str
    """Of the monitor."""
    name: str = "monitor"
    broker: BrokerUrl | None = None
    """Where the monitor listens, if it runs, and whose retained messages to clear."""
    password: str | None = None
    tls: TlsFiles | None = None
    prefix: str = wire.PREFIX
    by: str = "unknown"
    """Who asks, for the audit trail."""

    def __post_init__(self) -> None:
        wire.check_device_id(self.device)
        wire.check_name(self.name)

    @property
    def folders(self) -> list[Path]:
        """Those that are searched in the end: of the record, and of the states or what lies beside their database."""
        is_folder = isinstance(self.state, Path) or "://" not in self.state
        return [self.root, directory(Path(self.state) if is_folder else None)]


def run_forget(settings: ForgetSettings) -> int:
    """Forget, and print what was deleted and what is left; return the exit status, 1 if something is left.

    Raises
    ------
    ValueError
        The monitor refuses, or runs and cannot be asked; or a recorder does not answer.
    ConnectionError
        The broker cannot be reached.
    OSError
        Something cannot be deleted.
    """
    doubt = _doubt(settings)
    is_sure = _forget_states(settings)
    for what, count in {**_forget_record(settings), **_forget_queues(settings)}.items():
        print(f"deleted  {what}: {count}")
    left = _clear_broker(settings, settings.broker) if settings.broker is not None else []
    if settings.broker is None:
        print("not asked  the broker: --broker clears its retained messages (info, status, state)")
    left += [str(path) for folder in settings.folders for path in holding(folder, settings.device)]
    for one in left:
        print(f"left  {one} still names {settings.device}")
    if not left:
        print(f"proved  no file in {' or '.join(map(str, settings.folders))} names {settings.device}")
    if doubt:
        print(doubt)
    return 0 if is_sure and not left else 1


def _doubt(settings: ForgetSettings) -> str:
    """Return that nothing names the device even before it is forgotten, as where its id is misspelt; else nothing."""
    if any(any(holding(folder, settings.device)) for folder in settings.folders):
        return ""
    known = set(Archive(settings.root).devices())
    if settings.broker is not None:
        asker = Asker(
            settings.broker, wire.Topics(settings.prefix), settings.name, settings.password, settings.tls or TlsFiles()
        )
        known |= _retained(asker, "+", "state")
        if settings.device not in known:
            known |= _retained(asker, settings.device, "+")
    if settings.device in known:
        return ""
    return f"unknown  nothing named {settings.device} before, either{nearest(settings.device, known) or '.'}"


def _retained(asker: Asker, device: str, leaf: str) -> set[str]:
    """Return the devices of which a broker retains a message."""
    reader = asker.connect(asker.topics.of(device, leaf))
    try:
        kept = [message.topic for message in read_retained(reader) if message.payload and message.retained]
    finally:
        reader.close()
    return {topic.split("/")[-2] for topic in kept}


def _forget_states(settings: ForgetSettings) -> bool:
    """Have forgotten what a monitor remembers and has saved; return whether that is sure."""
    location = locate(settings.state)
    is_shared = any(claim.slot.startswith("p") for claim in location.read_claims(settings.name))
    has_kept = location.has_kept(settings.name)
    with ExitStack() as stack:
        held = [stack.enter_context(location.try_hold(name)) for name in location.names_held(settings.name)]
        if has_kept and not is_shared and all(held):
            return _erase(settings)
    if settings.broker is None:
        if not has_kept:
            return True
        raise ValueError(
            f"The monitor {settings.name} is running: give its broker (--broker mqtt://...), so that it can be asked "
            "to forget; or stop it first, or it saves the device again."
        )
    try:
        _ask(settings, settings.broker)
    except NoAnswer:
        if is_shared:  # none of its workers remembers the device, so none saves it again
            return _erase(settings)
        if has_kept:
            raise
        print(f"no answer  from a monitor {settings.name} at {settings.broker}: if there is one, it has not forgotten")
        return False
    return True


def _erase(settings: ForgetSettings) -> bool:
    location = locate(settings.state)
    for what, count in location.erase(settings.name, settings.device).items():
        print(f"deleted  {what}: {count}")
    return not any(location.erase(settings.name, settings.device).values())


def _ask(settings: ForgetSettings, broker: BrokerUrl) -> None:
    """Ask the monitor."""
    topics, tls = wire.Topics(settings.prefix), settings.tls or TlsFiles()
    asker = Asker(broker, topics, settings.name, settings.password, tls)
    answer = fetch(asker, "forget", {"device": settings.device, "by": settings.by}, WAIT_S)
    if not answer.ok:
        raise ValueError(answer.text)
    print(f"monitor  {answer.text}")


def user() -> str:
    """Return who is logged in; some containers have no name for that."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return "unknown"


def _forget_queues(settings: ForgetSettings) -> dict[str, int]:
    """Delete what notifiers were to deliver, or have delivered."""
    files = [path for folder in settings.folders[1:] for path in folder.glob("*.notify.sqlite")]
    return {f"notifications in {path.name}": erase(path, settings.device) for path in files}


def _forget_record(settings: ForgetSettings) -> dict[str, int]:
    if not settings.root.is_dir():
        return {}
    before = sum(path.stat().st_size for path in Archive(settings.root).files(settings.device))
    request = settings.root / FORGET / settings.device
    request.parent.mkdir(exist_ok=True)
    request.touch()
    (settings.root / "lock").touch()
    until_s = time.monotonic() + WAIT_S
    while request.exists():
        with held_at_once(settings.root / "lock") as is_held:
            if is_held:
                Keeper(settings.root).fold(time.time())
        if time.monotonic() > until_s:
            request.unlink(missing_ok=True)
            raise ValueError(f"The recorder that writes {settings.root} has not forgotten within {WAIT_S:g} s.")
        time.sleep(0.05)
    return {"bytes of the record": before}


def _clear_broker(settings: ForgetSettings, broker: BrokerUrl) -> list[str]:
    """Clear the messages that a broker retains of a device; return those that it still has."""
    topics, tls = wire.Topics(settings.prefix), settings.tls or TlsFiles()
    source = MqttSource(
        broker, f"ecgwatch-forget-{settings.device}", [], password=settings.password, tls=tls, clean=True
    )
    source.open()
    for leaf in RETAINED:
        source.publish(topics.of(settings.device, leaf), b"", 1, retain=True, key=leaf)
    confirmed: set[str] = set()
    until_s = time.monotonic() + WAIT_S
    while confirmed != set(RETAINED):
        source.flush()
        source.poll(0.1, 10)
        confirmed |= set(source.take_confirmed())
        if time.monotonic() > until_s:
            raise ValueError(f"The broker {broker} has not confirmed within {WAIT_S:g} s.")
    source.close()
    asker = Asker(broker, topics, settings.name, settings.password, tls)
    reader = asker.connect(topics.of(settings.device, "+"))
    try:
        left = [message.topic for message in read_retained(reader) if message.payload and message.retained]
    finally:
        reader.close()
    if not left:
        print(f"cleared  {broker} retains no message of {settings.device}")
    return [f"the message that {broker} retains on {topic}" for topic in left]


def holding(folder: Path, device: str) -> Iterator[Path]:
    """Return the files below a folder that name a device: in their name or contents, also in ids of alerts."""
    wanted = re.compile(rb"(?<![A-Za-z0-9_-])" + re.escape(device.encode()) + rb"(?:(?![A-Za-z0-9_-])|(?=-\d{9,}-))")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and (wanted.search(str(path.relative_to(folder)).encode()) or _contains(path, wanted)):
            yield path


def _contains(path: Path, wanted: re.Pattern[bytes]) -> bool:
    before = b""
    with path.open("rb") as file:
        while part := file.read(PART):
            if wanted.search(before + part):
                return True
            before = part[-200:]
    return False
