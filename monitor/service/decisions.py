"""What people have decided about devices: names, limits, silences, acknowledgements.

It is kept apart from the devices' own states, since it outlives a device that is forgotten, and may come before it is
first heard. Knows nothing of how it was asked for or where it is saved.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from monitor import wire
from monitor.configuration import DeviceDefaults

log = logging.getLogger(__name__)


class Acknowledgement(NamedTuple):
    """That somebody has seen an alert."""

    by: str
    at_s: float


class DeviceDecisions(msgspec.Struct, omit_defaults=True):
    """What people have decided about a device."""

    name: str | None = None
    limits: wire.Limits = {}
    silences: list[wire.Silence] = []
    acknowledged: dict[str, Acknowledgement] = {}
    """By episode."""

    def is_silenced(self, kind: wire.Kind, now_s: float) -> bool:
        """Whether alerts of a kind should make no noise now, by the monitor's clock."""
        return any(one.until_s > now_s and one.kind in (None, kind) for one in self.silences)

    def drop_expired(self, now_s: float) -> bool:
        """Drop silences that are over; return whether there were any."""
        lasting = [one for one in self.silences if one.until_s > now_s]
        has_dropped = len(lasting) < len(self.silences)
        self.silences = lasting
        return has_dropped


NOTHING = DeviceDecisions()


class Decisions:
    """What people have decided about all devices, and what holds of names and limits where they have not."""

    def __init__(self) -> None:
        self._of: dict[str, DeviceDecisions] = {}
        self._defaults: dict[str, DeviceDefaults] = {}

    def set_defaults(self, defaults: Mapping[str, DeviceDefaults]) -> set[str]:
        """Take what the configuration file says of devices; return those of which it said something else before."""
        before, self._defaults = self._defaults, dict(defaults)
        return {device for device in {*before, *defaults} if before.get(device) != defaults.get(device)}

    def name_of(self, device: str) -> str | None:
        """Return what people call a device."""
        decided = self.of(device).name
        return self._defaults.get(device, _UNKNOWN).name if decided is None else decided

    def limits_of(self, device: str, decided: wire.Limits | None = None) -> wire.Limits:
        """Return the limits of a device that differ from those of all; `decided` in place of those decided so far."""
        limits = {kind: dict(values) for kind, values in self._defaults.get(device, _UNKNOWN).limits.items()}
        for kind, values in (self.of(device).limits if decided is None else decided).items():
            limits[kind] = limits.get(kind, {}) | values
        return limits

    def adopt(self, saved: Mapping[str, bytes]) -> list[str]:
        """Take what was saved about devices, whatever was known of them; return those of which that differed."""
        changed = []
        for device, content in saved.items():
            try:
                decided = _decoder.decode(content)
            except msgspec.MsgspecError as error:
                log.error("what was decided about device %s cannot be read: %s", device, error)
                continue
            changed += [device] if decided != self.of(device) else []
            self._of[device] = decided
        return changed

    def forget(self, device: str) -> None:
        """Know nothing any more of what was decided about a device."""
        self._of.pop(device, None)

    def save(self, device: str) -> bytes:
        """What there is about a device."""
        return _encoder.encode(self.of(device))

    def of(self, device: str) -> DeviceDecisions:
        """Return what was decided about a device; not to be changed."""
        return self._of.get(device, NOTHING)

    def change(self, device: str) -> DeviceDecisions:
        """Return the same, to be changed."""
        return self._of.setdefault(device, DeviceDecisions())

    def erase(self, device: str) -> None:
        """Drop what was decided about a device; what the configuration file says of it stays."""
        self._of.pop(device, None)

    def knows(self, device: str) -> bool:
        """Whether anything was decided about a device."""
        return device in self._of

    def devices(self) -> list[str]:
        """Return the devices about which something was decided."""
        return list(self._of)

    def expire(self, now_s: float) -> list[str]:
        """Drop silences that are over; return the devices that had some."""
        return [device for device, one in self._of.items() if one.silences and one.drop_expired(now_s)]


_UNKNOWN = DeviceDefaults()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeviceDecisions)
