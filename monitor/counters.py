"""Every running total of the monitor: its name, its one meaning, and where it shows.

The names are those in the monitor's status (`monitor.wire.MonitorStatus.counts`). The metrics
(`monitor.service.metrics`) and the list of what must not happen while capacity is measured
(`monitor.tools.bench.capacity`) are made from them. A total that is not defined here does not exist.

Knows nothing else of the monitor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_defined: list[Definition] = []


@dataclass(frozen=True, slots=True)
class Definition:
    """What one total counts."""

    name: str
    """In the status."""
    help: str
    metric: str
    """Name of the Prometheus counter."""
    label: str | None = None
    """Its label, if it has one."""
    value: str | None = None
    """Value of that label."""
    is_trouble: bool = False
    """Whether it must stay 0 on a machine that keeps up with well-behaved devices."""


@dataclass(frozen=True, slots=True)
class Family:
    """Totals that differ in one word, and share a metric."""

    prefix: str
    metric: str
    label: str
    help: str

    def of(self, value: str | None) -> str:
        """Name of the total of one value."""
        return f"{self.prefix}{value}"


def _define(name: str, help: str, metric: str | None = None, *, is_trouble: bool = False) -> str:
    """Define a total with a metric of its own, or else one of the events."""
    if metric is not None:
        _defined.append(Definition(name, help, metric, is_trouble=is_trouble))
    else:
        _defined.append(Definition(name, help, EVENTS.metric, EVENTS.label, name, is_trouble))
    return name


def _refusal(value: str, help: str) -> str:
    _defined.append(Definition(REFUSED.of(value), help, REFUSED.metric, REFUSED.label, value, is_trouble=True))
    return REFUSED.of(value)


BEATS: Final = Family("beats ", "ecgwatch_beats", "verdict", "Beats by verdict.")
WITHHELD: Final = Family("withheld: ", "ecgwatch_withheld", "reason", "Beats withheld, by reason.")
REFUSED: Final = Family("refused: ", "ecgwatch_refused", "reason", "Packets refused, by reason.")
EVENTS: Final = Family("", "ecgwatch_events", "event", "Everything else that the monitor counts.")
FAMILIES: Final = (BEATS, WITHHELD, REFUSED, EVENTS)

PACKETS: Final = _define("packets", "Packets of samples received.", "ecgwatch_packets")
ALERTS: Final = _define("alerts", "Alert messages published.", "ecgwatch_alerts")
REJECTED: Final = _define(
    "rejected", "Messages that violate the contract, dropped.", "ecgwatch_rejected", is_trouble=True
)
WORKER_RESTARTS: Final = _define(
    "worker restarts", "Workers that died and were restarted.", "ecgwatch_restarts", is_trouble=True
)

RETAINED_SAMPLES: Final = _define("retained samples", "Samples kept by the broker from before, ignored.")
TOO_MANY_DEVICES: Final = _refusal("too many devices", "Messages of devices for which there is no room.")
TOO_MANY_PACKETS: Final = _refusal("too many packets", "Messages above a device's rate limit.")
RATE_CHANGES_REFUSED: Final = _refusal("rate changes", "Packets of a device that changes its sampling rate too often.")

GAPS: Final = _define("gaps", "Streams broken because packets are missing.", is_trouble=True)
DUPLICATES: Final = _define("duplicates", "Packets received before, dropped.", is_trouble=True)
DEVICE_RESTARTS: Final = _define("device restarts", "Streams restarted because the device restarted.", is_trouble=True)
RATE_CHANGES: Final = _define("rate changes", "Streams broken by a new sampling rate.", is_trouble=True)
CLOCK_JUMPS: Final = _define("clock jumps", "Streams broken by a jump of the device's clock.", is_trouble=True)
DEVICES_EVICTED: Final = _define("devices evicted", "Devices dropped to make room for others.", is_trouble=True)
WINDOWS_TRUNCATED: Final = _define("windows truncated at 187 samples", "Beats too slow to fit the window.")
STATES_NOT_RESTORED: Final = _define("states not restored", "Saved device states that could not be used.")
TOO_LARGE: Final = _define("messages too large for the broker", "Messages that the broker refuses for their size.")
UNCONFIRMED_BEATS: Final = _define("unconfirmed beats published", "Beats sent unconfirmed because the broker lags.")
INTERNAL_ERRORS: Final = _define("internal errors", "Messages that raised an unexpected exception.", is_trouble=True)
RESUBSCRIBED: Final = _define("resubscribed after silence", "Times the subscriptions were renewed in silence.")
REQUESTS: Final = _define("requests granted", "Requests of people that were granted.")
REQUESTS_REFUSED: Final = _define("requests refused", "Requests of people that were refused.")
ANSWERS_NOWHERE: Final = _define(
    "answers without a topic", "Answers that were asked for on a topic that is not for them."
)
STORE_FAULTS: Final = _define("store faults", "Times the store failed, or a damaged file was set aside.")
PARTITIONS_LEFT: Final = _define("partitions left to others", "Partitions that another process has gone on with.")
WORKERS_KILLED: Final = _define("workers killed as unresponsive", "Workers that hung and were killed.")

DEFINED: Final = tuple(_defined)
"""All totals but those of `BEATS` and `WITHHELD`, whose values are the verdicts and the reasons of the quality gate."""
TROUBLE: Final = tuple(one.name for one in DEFINED if one.is_trouble)
