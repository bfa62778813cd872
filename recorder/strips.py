"""``ecgwatch strip``: the strip of an alert, from the alert itself if it brings one, else from the record.

An alert is looked for by its id or its episode's, or read from a file of alerts as they were published (one in JSON a
line).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from analysis.report import check_installed
from analysis.strip import Strip, cut_strip, make_figure, save
from monitor.state.location import locate
from recorder.archive import Archive
from recorder.assemble import assemble, published_beats
from recorder.kept import read_kept

AROUND_S = 30.0
"""So much of the record is read before and after an alert."""


@dataclass(frozen=True, slots=True)
class StripSettings:
    """Which alert, and where it may be."""

    alert: str
    """Id of an alert or of its episode, or a file with one."""
    output: Path
    root: Path
    """Of the record."""
    state: str | Path
    """Of the monitor."""
    name: str = "monitor"


def run_strip(settings: StripSettings) -> Path:
    """Draw the strip of an alert; return the picture.

    Raises
    ------
    ValueError
        There is no such alert, or no ECG of that time is kept.
    """
    check_installed()
    alert = find_alert(settings)
    save(make_figure(make_strip(alert, settings.root)), settings.output)
    return settings.output


def find_alert(settings: StripSettings) -> dict[str, Any]:
    """Return an alert as it was published; of an episode, the one that began it."""
    path = Path(settings.alert)
    if path.is_file():
        found = next(_alerts(path.read_bytes().splitlines()), None)
        if found is None:
            raise ValueError(f"{path}: got no alert in JSON, expected one a line, as they are published.")
        return found
    for alert in _candidates(settings):
        if settings.alert in (alert["id"], alert["episode"]):
            return alert
    where = f"the record in {settings.root} or the history in {settings.state}"
    raise ValueError(f"No alert {settings.alert!r} in {where}: 'ecgwatch history --json' prints them.")


def make_strip(alert: dict[str, Any], root: Path) -> Strip:
    """Make the strip of an alert."""
    time_s = float(alert["time_s"])
    title = f"{alert['device']}: {alert['kind']} ({alert['severity']})"
    said = f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC. {alert.get('text') or ''}".strip()
    own = alert.get("strip")
    if own:
        return _own_strip(own, time_s, title, said)
    try:
        kept = read_kept(root, str(alert["device"]), time_s - AROUND_S, time_s + AROUND_S)
        assembled = assemble(kept)
    except ValueError:
        if not alert.get("waveform"):
            raise
        return _own_strip({**alert["waveform"], "beats": []}, time_s, title, said)
    beats = [(note.time_s, note.text or note.symbol) for note in published_beats(assembled)]
    return cut_strip(assembled.recording, beats, time_s - assembled.start_s, title, said)


def _own_strip(own: dict[str, Any], time_s: float, title: str, said: str) -> Strip:
    start_s = float(own["start_s"])
    beats = [
        (float(beat["time_s"]) - start_s, str(beat.get("label") or beat.get("verdict") or ""))
        for beat in own.get("beats", [])
    ]
    samples = np.array([np.nan if one is None else float(one) for one in own["samples"]])
    is_scaled = own.get("unit") == "uV"
    return Strip(title, said, float(own["rate_hz"]), samples, is_scaled, tuple(beats), time_s - start_s)


def _candidates(settings: StripSettings) -> Iterator[dict[str, Any]]:
    """All alerts of the devices whose id an alert's begins with."""
    archive = Archive(settings.root)
    for device in archive.devices() if settings.root.is_dir() else []:
        if settings.alert.startswith(f"{device}-"):
            yield from _alerts(one.payload for one in read_kept(settings.root, device).messages if one.leaf == "alerts")
    location = locate(settings.state)
    if location.has_kept(settings.name):
        yield from _alerts(alert.payload for alert in location.read_history(settings.name, 0.0, None))


def _alerts(payloads: Any) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        with contextlib.suppress(ValueError, TypeError):
            found = json.loads(payload)
            if {"id", "episode", "device", "kind", "severity", "time_s"} <= set(found):
                yield found
