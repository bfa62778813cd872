"""``ecgwatch forget``: all that is kept of a device, deleted for good, and the proof that it is.

The monitor must be stopped, since it would save the device again; a recorder may run, and is asked to forget.
Afterwards every file of both is searched for the device's id, letter by letter: what is found is said, and the exit
status is 1.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from monitor import wire
from monitor.broker.connection import BrokerUrl, TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.state.location import locate
from monitor.state.lock import held_at_once
from recorder.archive import Archive
from recorder.keeper import FORGET, Keeper

WAIT_S = 30.0
"""How long a recorder that runs may take to forget."""
RETAINED = ("info", "status", "state")
"""Last words of the topics whose last message a broker keeps."""
PART = 1 << 20


@dataclass(frozen=True, slots=True)
class ForgetSettings:
    """Whom to forget, and where."""

    device: str
    root: Path
    """Of the record."""
    state: Path
    """Of the monitor."""
    name: str = "monitor"
    broker: BrokerUrl | None = None
    """Whose retained messages to clear as well."""
    password: str | None = None
    tls: TlsFiles | None = None
    prefix: str = wire.PREFIX

    def __post_init__(self) -> None:
        wire.check_device_id(self.device)
        wire.check_name(self.name)


def run_forget(settings: ForgetSettings) -> int:
    """Forget, and print what was deleted and what is left; return the exit status, 1 if something is left.

    Raises
    ------
    ValueError
        The monitor runs, or a recorder does not answer.
    OSError
        Something cannot be deleted.
    """
    for what, count in {**_forget_states(settings), **_forget_record(settings)}.items():
        print(f"deleted  {what}: {count}")
    if settings.broker is not None:
        _clear_broker(settings, settings.broker)
        print(f"cleared  retained messages of {settings.device} on {settings.broker}")
    else:
        print("not asked  the broker: --broker clears its retained messages (info, status, state)")
    left = [path for folder in (settings.root, settings.state) for path in holding(folder, settings.device)]
    for path in left:
        print(f"left  {path} still names {settings.device}")
    if not left:
        print(f"proved  no file in {settings.root} or {settings.state} names {settings.device}")
    return 1 if left else 0


def _forget_states(settings: ForgetSettings) -> dict[str, int]:
    location = locate(settings.state)
    if not location.has_kept(settings.name):
        return {}
    with ExitStack() as stack:
        for name in location.names_held(settings.name):
            if not stack.enter_context(location.try_hold(name)):
                raise ValueError(
                    f"The monitor {settings.name} is running: stop it first, or it saves the device again."
                )
        return location.erase(settings.name, settings.device)


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


def _clear_broker(settings: ForgetSettings, broker: BrokerUrl) -> None:
    topics = wire.Topics(settings.prefix)
    source = MqttSource(
        broker, f"ecgwatch-forget-{settings.device}", [], password=settings.password, tls=settings.tls, clean=True
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
