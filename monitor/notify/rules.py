"""Who is told of which alert, and when: rules, and quiet hours.

Rules
-----
* An alert is told of where any rule says so; without a rule, what begins of high and medium priority.
* Alerts that somebody has silenced are not told of, unless a rule says so.
* In quiet hours what is not graver than they allow waits until they end; it is not dropped.

Knows alerts and the clock of this machine; nothing of how anything is delivered.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import get_args

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.registry import make_detectors
from monitor.nearest import nearest

SEVERITIES: tuple[wire.Severity, ...] = get_args(wire.Severity)
STATES: tuple[wire.AlertState, ...] = get_args(wire.AlertState)
KEYS = ("severity", "device", "kind", "state", "to", "silenced")
_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which alerts are told of, and where."""

    severity: tuple[str, ...] = ("high", "medium")
    device: tuple[str, ...] = ("*",)
    """Ids, with * and ? as wildcards."""
    kind: tuple[str, ...] = ("*",)
    state: tuple[str, ...] = ("new",)
    to: tuple[str, ...] = ("*",)
    """Names of targets."""
    silenced: bool = False
    """Whether also those that somebody has silenced."""

    def applies(self, alert: wire.Alert) -> bool:
        """Whether it is about an alert."""
        return (
            alert.severity in self.severity
            and alert.state in self.state
            and (self.silenced or not alert.silenced)
            and _matches(alert.device, self.device)
            and _matches(alert.kind, self.kind)
        )


def parse_rule(text: str) -> Rule:
    """Return a rule from words such as ``severity=high,low device=bed-* kind=pause state=new,end to=nurses``."""
    values: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if key not in KEYS or not equals or not value:
            close = nearest(key, KEYS) or f", expected one of {', '.join(KEYS)}"
            raise argparse.ArgumentTypeError(f"got {word!r} in a rule{close}, as in severity=high,medium")
        values[key] = tuple(value.split(","))
    _check("severity", values, SEVERITIES)
    _check("state", values, STATES)
    _check_kinds(values.get("kind", ()))
    _check("silenced", values, ("true", "false"))
    silenced = values.pop("silenced", ("false",)) == ("true",)
    return Rule(**values, silenced=silenced)


def _check(key: str, values: dict[str, tuple[str, ...]], known: Sequence[str]) -> None:
    for value in values.get(key, ()):
        if value not in known:
            raise argparse.ArgumentTypeError(f"got {key}={value!r} in a rule, expected {', '.join(known)}")


def _check_kinds(patterns: Iterable[str]) -> None:
    """Refuse a kind that no alert has; one with a wildcard may be of a later version."""
    known = {detector.kind for detector in make_detectors(AlertSettings())} | {wire.MONITOR_OFFLINE}
    for one in patterns:
        if one not in known and not set(one) & set("*?["):
            close = nearest(one, known) or f", expected one of {', '.join(sorted(known))}"
            raise argparse.ArgumentTypeError(f"got kind={one!r} in a rule, which no alert has{close}")


def _matches(word: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which only the graver alerts are told of at once; by the clock of this machine, in minutes of a day."""

    begin: int
    end: int

    def ends_s(self, now_s: float) -> float | None:
        """Return when the quiet hours end in which a moment lies, in seconds since 1970; None if it lies in none."""
        now = datetime.fromtimestamp(now_s)
        minute = now.hour * 60 + now.minute
        within = self.begin <= minute < self.end if self.begin < self.end else not self.end <= minute < self.begin
        if not within:
            return None
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=minute >= self.end)
        return midnight.replace(hour=self.end // 60, minute=self.end % 60).timestamp()


def parse_quiet(text: str) -> Quiet:
    """Return quiet hours from a text such as 22:00-07:00."""
    found = _QUIET.fullmatch(text)
    if found is None or found.group(1, 2) == found.group(3, 4):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected two times of the day such as 22:00-07:00")
    a, b, c, d = map(int, found.groups())
    return Quiet(a * 60 + b, c * 60 + d)


def parse_severities(text: str) -> tuple[str, ...]:
    """Return priorities from a text such as high,medium; "none" is none."""
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in SEVERITIES:
            raise argparse.ArgumentTypeError(f"got {name!r}, expected none, or of {', '.join(SEVERITIES)}")
    return names


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, and the quiet hours."""

    rules: tuple[Rule, ...] = (Rule(),)
    quiet: Quiet | None = None
    passes: tuple[str, ...] = ("high",)
    """What is told of in quiet hours as well."""

    def targets(self, alert: wire.Alert, names: Iterable[str]) -> list[str]:
        """Return where an alert is told of, of all targets there are."""
        patterns = [pattern for rule in self.rules if rule.applies(alert) for pattern in rule.to]
        return [name for name in names if _matches(name, patterns)]

    def due_s(self, alert: wire.Alert, now_s: float) -> float:
        """Return when to tell of an alert that comes now, in seconds since 1970."""
        if self.quiet is None or alert.severity in self.passes:
            return now_s
        return self.quiet.ends_s(now_s) or now_s
