"""``ecgwatch report``: a Holter-style report of what is kept of a device.

Beats and alerts are those that the monitor published at the time, where the record has them; else those that the model
named now finds in the packets as they came. The report says which.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from analysis.examine import Findings
from analysis.report import Report, check_installed, make_report, write_report
from analysis.summary import summarise
from monitor import wire
from monitor.panel import load_panel
from recorder.assemble import Assembled, assemble
from recorder.hand_out import Wanted, examine_kept


def run_report(wanted: Wanted, outputs: list[Path]) -> list[Path]:
    """Write the report of a device, in one file or several; return them.

    Raises
    ------
    ValueError
        Nothing is kept of that time, or a file's name has another ending; see `analysis.report.write_report`.
    """
    check_installed()
    report = make(wanted)
    for path in outputs:
        write_report(path, report)
    return outputs


def make(wanted: Wanted) -> Report:
    """Put together the report of a device."""
    kept = wanted.read()
    assembled = assemble(kept)
    computed = None
    if not assembled.beats or not assembled.alerts:
        computed = examine_kept(kept, assembled.start_s, load_panel(wanted.model))
    findings = _published(assembled, computed)
    comments = [
        "Beats: as the monitor published them." if assembled.beats
        else f"Beats: found by the model {wanted.model} when this report was made; the monitor published none.",
        "Alerts: as the monitor published them." if assembled.alerts
        else f"Alerts: found with the model {wanted.model} when this report was made; the record has none.",
    ]  # fmt: skip
    summary = summarise(assembled.recording, findings)
    return make_report(assembled.recording, findings, summary, f"Device {wanted.device}", comments)


def _published(assembled: Assembled, computed: Findings | None) -> Findings:
    """Findings as they were published; what was not published is computed."""
    beats = [msgspec.convert(beat, wire.Beat) for beat in assembled.beats]
    alerts = [_alert(alert) for alert in assembled.alerts]
    labels = dict.fromkeys(beat.label for beat in beats if beat.label)
    classes = tuple(sorted(labels, key=lambda name: (name not in ("normal", "N"), name)))
    said = Findings("as published", classes, tuple(beats), tuple(alerts), 0.0).since(assembled.start_s)
    if computed is None:
        return said
    return Findings(
        "as published" if beats else computed.model,
        said.classes if beats else computed.classes,
        said.beats if beats else computed.beats,
        said.alerts if alerts else computed.alerts,
        computed.computing_s,
    )


def _alert(said: dict[str, object]) -> wire.Alert:
    """Make an alert of one that may be of an older or newer version of the wire: of its severity and state."""
    known = {field.name for field in msgspec.structs.fields(wire.Alert)}
    usual = {"seq": 0, "completed_s": said["time_s"]}
    fields = usual | {name: value for name, value in said.items() if name in known - {"strip", "recent", "waveform"}}
    return wire.Alert(**fields)  # type: ignore[arg-type]
