"""What a bench has measured, as it is written to JSON, and whether it became worse since an earlier time.

Knows nothing of how it was measured, nor of how it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

Row = dict[str, float]
"""Quantiles of a latency in milliseconds, and how many were measured."""
WATCHED = ("p50", "p99")
"""Quantiles that are compared; the highest of all is a matter of luck."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long a beat takes, stage by stage and through a broker."""

    devices: int
    packet_s: float
    seconds: float
    broker: str
    milliseconds: dict[str, Row]


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """How many times as much, over the rounds."""

    median: float
    lowest: float
    highest: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs somebody to watch one device on one core."""

    name: str
    us_per_device_second: float
    """Processor time per second of a device's signal, in microseconds: median over the rounds."""
    lowest: float
    highest: float
    rival: bool
    ahead: Ratio | None = None
    """So many times as many devices the engine carries: with the model if this has one, else without."""

    @property
    def devices_per_core(self) -> float:
        """Devices in real time on one core that does nothing else; likewise device-seconds per second."""
        return 1e6 / self.us_per_device_second


class Versus(msgspec.Struct, frozen=True, kw_only=True):
    """What a device costs here and elsewhere."""

    devices: int
    seconds: float
    rival_devices: int
    rate_hz: float
    rounds: int
    costs: list[Cost]
    versions: dict[str, str]
    """Of the baselines."""
    missing: list[str]
    """Why a baseline is left out."""
    models_us: dict[str, float] = {}
    """What each model takes for a beat, in microseconds: one thread, batches of 64, median."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One load, played to a monitor for a while."""

    devices: int
    why_not: str | None
    """Why the machine does not carry this load; None if it does."""
    sent: int
    """Packets of the devices."""
    taken: int
    """Packets that the monitor has taken."""
    alert_ms: Row
    """From the end of a packet to the alert that follows from it."""
    load_late_ms: float
    """How late the load generator itself was (p99)."""
    monitor_cpu: float | None
    """Cores that the monitor kept busy; None where that cannot be seen."""
    broker_cpu: float | None
    load_cpu: float
    other_cpu: float | None = None
    """Cores that all else on this machine kept busy, the subscriber and what is not ours."""
    rss_per_device: float | None = None
    """Memory of the monitor per device, in bytes, after what it takes without devices."""

    @property
    def us_per_device_second(self) -> float | None:
        """Processor time of the monitor per second of a device's signal, in microseconds."""
        return None if self.monitor_cpu is None else 1e6 * self.monitor_cpu / self.devices


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices the machine carries, and what they cost."""

    devices: int
    """The most that it was seen to carry; 0 if not even the fewest."""
    at_least: bool
    """No more were tried: it may carry more."""
    limit: str | None
    """Why it does not carry the next higher load that was tried."""
    broker: str
    workers: int
    packet_s: float
    seconds: float
    remembers: bool
    """Whether the monitor saved the devices' states, as it usually does."""
    trials: list[Trial]
    """All loads that were played, in the order of devices; of those tried twice, the better."""
    shares: dict[str, Trial]
    """"half", "80 %" and "full" load."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was measured in one run."""

    machine: dict[str, str]
    date: str
    latency: Latency | None = None
    versus: Versus | None = None
    capacity: Capacity | None = None


class Figure(NamedTuple):
    """A number that may become worse."""

    name: str
    value: float
    unit: str
    more_is_better: bool = False


class Change(NamedTuple):
    """What became of a figure."""

    name: str
    unit: str
    old: float
    new: float
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """New over old."""
        return self.new / self.old

    @property
    def worse(self) -> float:
        """How many times as bad it is now; below 1 it is better."""
        if not self.more_is_better:
            return self.ratio
        return 1 / self.ratio if self.ratio else math.inf


def read_report(path: Path) -> Report:
    """Read what an earlier run has written.

    Raises
    ------
    ValueError
        It is no such file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no report of a bench, written with --json: {error}.") from None


def figures(report: Report) -> Iterator[Figure]:
    """All that is compared: what it costs here, and how far ahead of others it is."""
    if report.latency is not None:
        for stage, row in report.latency.milliseconds.items():
            yield from (Figure(f"{stage}, {quantile}", row[quantile], "ms") for quantile in WATCHED if quantile in row)
    if report.versus is not None:
        for cost in report.versus.costs:
            if not cost.rival:
                yield Figure(cost.name, cost.us_per_device_second, "us/device-s")
            elif cost.ahead is not None:
                yield Figure(f"ahead of {cost.name}", cost.ahead.median, "x", more_is_better=True)
    if report.capacity is not None:
        yield from _capacity_figures(report.capacity)


def _capacity_figures(capacity: Capacity) -> Iterator[Figure]:
    yield Figure("capacity", capacity.devices, "devices", more_is_better=True)
    for trial in capacity.trials:
        if trial.us_per_device_second is not None and trial.why_not is None:
            yield Figure(f"monitor with {trial.devices} devices", trial.us_per_device_second, "us/device-s")
    for share, trial in capacity.shares.items():
        if "p99" in trial.alert_ms:
            yield Figure(f"alert at {share} load, p99", trial.alert_ms["p99"], "ms")
    if "full" in capacity.shares and (rss := capacity.shares["full"].rss_per_device) is not None:
        yield Figure("memory of a device", rss / 1000, "kB")


def compare(old: Report, new: Report) -> list[Change]:
    """All figures that both have, but those without a ratio: what was 0."""
    before = {figure.name: figure.value for figure in figures(old)}
    return [
        Change(figure.name, figure.unit, before[figure.name], figure.value, figure.more_is_better)
        for figure in figures(new)
        if before.get(figure.name, 0) > 0
    ]


def unlike(old: Report, new: Report) -> list[str]:
    """What was not the same in both, so that the figures may differ for that reason."""
    names = [*old.machine, *(name for name in new.machine if name not in old.machine)]
    pairs = [(name, old.machine.get(name, "?"), new.machine.get(name, "?")) for name in names]
    pairs += [(f"{part}, {name}", was, now) for part, name, was, now in _methods(old, new)]
    return [f"{name}: {was} then, {now} now" for name, was, now in pairs if was != now]


def _methods(old: Report, new: Report) -> Iterator[tuple[str, str, str, str]]:
    """How the parts were measured that both have."""
    methods = {
        "latency": ("devices", "packet_s", "seconds", "broker"),
        "versus": ("devices", "seconds", "rate_hz", "versions"),
        "capacity": ("broker", "workers", "packet_s", "seconds", "remembers"),
    }
    for part, names in methods.items():
        was, now = getattr(old, part), getattr(new, part)
        if was is not None and now is not None:
            yield from ((part, name, str(getattr(was, name)), str(getattr(now, name))) for name in names)


def format_changes(changes: Sequence[Change], worse_than: float) -> str:
    """One line a figure, those marked that became too bad."""
    width = max((len(change.name) for change in changes), default=0)
    lines = [f"{'':<{width}}{'then':>12}{'now':>12}{'now/then':>10}"]
    for change in changes:
        mark = "  WORSE" if change.worse > worse_than else ""
        lines.append(
            f"{change.name:<{width}}{change.old:>12.4g}{change.new:>12.4g}{change.ratio:>10.2f}  {change.unit}{mark}"
        )
    return "\n".join(lines)
