"""What limits can be set for one device: how far, and how they are now. The monitor has the last word."""

from __future__ import annotations

from typing import Any

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.override import ranges
from monitor.alerts.registry import make_detectors


def settable(of_all: wire.Limits, own: wire.Limits) -> list[dict[str, Any]]:
    """Return each limit with its range and its present value.

    Parameters
    ----------
    of_all
        Those of all devices that the monitor has set otherwise than they come.
    own
        Those that were set for the device.

    Returns
    -------
    list of dict
        With ``kind``, ``name``, ``usual`` (that of all devices), ``low``, ``high``, ``is_whole``, and ``own``, None if
        there is none.
    """
    return [
        {"kind": detector.kind, "name": name, "own": own.get(detector.kind, {}).get(name)} | found._asdict()
        for detector in make_detectors(AlertSettings())
        for name, found in ranges(detector, of_all.get(detector.kind)).items()
    ]
