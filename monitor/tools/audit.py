"""Looking back at what people asked of a monitor: the audit trail, and their judgements as labels for training."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from monitor import wire
from monitor.state.location import locate
from monitor.state.store import RequestRow
from monitor.tools.watch import plain


def print_audit(state: Path | str, monitor: str, device: str | None, since_s: float, as_json: bool) -> int:
    """Print who asked what and when, oldest first; return the exit status.

    Raises
    ------
    ValueError
        The name cannot be a monitor's, or the device id a device's.
    OSError
        The store cannot be read.
    """
    wire.check_name(monitor)
    if device is not None:
        wire.check_device_id(device)
    rows = locate(state).read_requests(monitor, time.time() - since_s, device)
    if not rows:
        print(f"no requests in {locate(state)}: is it another --monitor, --state or --since?", file=sys.stderr)
    for row in rows:
        print(plain(json.dumps(_as_dict(row)) if as_json else _describe(row)))
    return 0


def print_labels(state: Path | str, monitor: str) -> int:
    """Print each alert that was judged, with the judgement, one JSON object a line; return the exit status.

    An alert that was judged again has a line for each judgement, in order.

    Raises
    ------
    ValueError
        The name cannot be a monitor's.
    OSError
        The store cannot be read.
    """
    location = locate(state)
    judged = [row for row in location.read_requests(wire.check_name(monitor), 0.0) if row.verb == "judge"]
    if not judged:
        print(f"no judgements in {location}: ecgwatch judge, or the page, makes them", file=sys.stderr)
        return 0
    wanted = {row.episode for row in judged}
    first: dict[str, Any] = {}
    for alert in location.read_history(monitor, 0.0):
        payload = json.loads(alert.payload)
        if payload.get("episode") in wanted:
            first.setdefault(payload["episode"], payload)
    for row in judged:
        request = json.loads(row.payload)
        label = {
            "episode": row.episode,
            "device": row.device,
            "right": request.get("right"),
            "by": row.by,
            "time_s": row.made_s,
            "text": request.get("text"),
            "alert": first.get(row.episode),
        }
        print(json.dumps(label))
    return 0


def _as_dict(row: RequestRow) -> dict[str, object]:
    return {
        "time_s": row.made_s, "by": row.by, "verb": row.verb, "device": row.device,
        "request": json.loads(row.payload), "answer": row.answer,
    }  # fmt: skip


def _describe(row: RequestRow) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.made_s))
    return f"{at}  {row.by:<12}  {row.verb:<11}  {row.answer}"
