"""The strip of an alert: the signal before it in microvolts, and the beats that were found in it.

It ends with the last sample that had to be known to find what is alerted, so that it does not depend on how the stream
was cut. Knows tapes and findings; nothing of detectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor import wire
from monitor.alerts.finding import Finding, SeenBeat
from monitor.beat import RATE_HZ
from monitor.devices import Device
from monitor.ecg.tape import Tapes

VERDICTS: dict[str, wire.Verdict] = {"N": "normal", "withheld": "withheld"}
"""Of labels of `wire.RecentBeat`; all others are abnormal."""


def make_strip(tapes: Tapes, device: Device, finding: Finding, recent: Sequence[wire.RecentBeat]) -> wire.Strip | None:
    """Return the strip of an alert; None if there is no signal.

    Parameters
    ----------
    tapes
        Where the signal is.
    device
        Whose.
    finding
        What is alerted.
    recent
        The beats before it.
    """
    cut = tapes.cut(device, _find_end(tapes, device, finding))
    if cut is None:
        return None
    resolution_uv = device.resolution_uv
    values = np.rint(cut.steps * (1.0 if resolution_uv is None else resolution_uv)).astype(int).tolist()
    samples: list[int | None] = values
    for k in np.flatnonzero(cut.steps == wire.NO_SAMPLE).tolist():
        samples[k] = None
    start_s = round(cut.start_s, 4)  # what lies on it is in it, whatever the last digit of the sum it comes from
    return wire.Strip(
        start_s=start_s,
        rate_hz=RATE_HZ if cut.pace == 1.0 else round(RATE_HZ / cut.pace, 3),
        unit="step" if resolution_uv is None else "uV",
        samples=samples,
        beats=[_mark(beat) for beat in recent if beat.qrs_s >= start_s],
    )


def _find_end(tapes: Tapes, device: Device, finding: Finding) -> int | None:
    """Return the number of the sample before which the strip ends; None: all that there is."""
    if isinstance(finding, SeenBeat):
        return int(finding.beats.known[finding.i])
    if finding.what in ("vf", "no-vf", "no-beats"):
        return tapes.place(device, finding.time_s)
    return tapes.number(device, finding.time_s) if finding.what == "lead-off" else None


def _mark(beat: wire.RecentBeat) -> wire.StripBeat:
    if beat.label is None:
        return wire.StripBeat(time_s=beat.qrs_s)
    verdict = VERDICTS.get(beat.label, "abnormal")
    return wire.StripBeat(time_s=beat.qrs_s, label=None if verdict == "withheld" else beat.label, verdict=verdict)
