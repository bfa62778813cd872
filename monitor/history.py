"""Looking back: the alerts that a monitor keeps in its file. Reads, and changes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from monitor import wire
from monitor.store import find_files, read_history
from monitor.watch import tell


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What to look for, and where."""

    state: Path
    """Directory in which the monitor keeps its file."""
    name: str = "monitor"
    """Of the monitor."""
    device: str | None = None
    """Of which to tell the alerts; None for all."""
    since_s: float = 86400.0
    """How far to look back."""
    as_json: bool = False
    """Print each alert as it was published, one a line."""


def run_history(settings: HistorySettings) -> int:
    """Print the alerts, oldest first; if there are none, say on stderr where was looked. Return the exit status.

    Raises
    ------
    ValueError
        The name cannot be that of a monitor, or the device none.
    OSError
        The file cannot be read.
    """
    for name in (settings.name, settings.device):
        if name is not None:
            wire.check_device_id(name)
    paths = find_files(settings.state, settings.name)
    if not paths:
        hint = "no monitor of this name has kept any there. Is it another --name or --state, or was it --no-state?"
        print(f"no alerts in {settings.state}: {hint}", file=sys.stderr)
        return 0
    since_s = max(0.0, time.time() - settings.since_s)
    alerts = sorted(told for path in paths for told in read_history(path, since_s, settings.device))
    for _, payload in alerts:
        print(_line(payload, settings.as_json))
    if not alerts:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since_s))
        of = "" if settings.device is None else f" of {settings.device}"
        print(
            f"no alerts{of} in {settings.state} since {began}: --since 30d looks as far back as they are kept",
            file=sys.stderr,
        )
    return 0


def _line(payload: bytes, as_json: bool) -> str:
    try:
        return tell(payload, as_json, dated=True)
    except ValueError as error:
        return f"not an alert: {error}"
