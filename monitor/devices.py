"""One record per device: all that anybody remembers of it. Forgetting drops the record, and leaves a tombstone.

Rules
-----
* A message makes a record, if there is room. One device too many evicts the oldest of those heard once, or is refused:
  a client that sends under ever new names must not keep out the devices that come to stay.
* A device that is forgotten or evicted starts over when it comes back. Until its tombstone is buried, a saved state of
  it is out of date.
* What a client may send is remembered before it is a device, and after: a flood must not pay by being evicted.

Never reads a clock, and does no I/O.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from monitor import counters, wire
from monitor.alerts.detector import Detector, Tracker
from monitor.alerts.finding import GONE
from monitor.ecg.batch import Batch, Event
from monitor.rate_limit import Allowance
from monitor.stream import Notice, Stream

MAX_DEVICES = 20_000
"""Most devices that are remembered at a time."""
MAX_UNKNOWN = 20_000
"""Most clients that are no devices whose allowance is remembered."""


MOST_LEFT = 8
"""So many former records of one device leave beats to be counted."""
MAX_TOMBSTONES = 100_000
"""Most devices of which is remembered, while nothing can be saved, that they were forgotten."""

Hourly = dict[tuple[int, str], tuple[int, int]]
"""Beats of a device by the hour since 1970 and by what they were (a class of the model, or "withheld"): how many, and
the sum of the median RR intervals in ms of those that were judged."""


@dataclass(slots=True, eq=False)
class Device:
    """What is remembered of a device."""

    id: str
    arrived_s: float
    """When it was last heard, on the clock of `Engine.feed`."""
    allowance: Allowance
    """How much it may send."""
    taken_s: float = field(init=False)
    """When a packet of it was last found taken, or it was first heard, on the same clock."""
    sent_s: float = field(init=False)
    """When it last sent samples, whether they could be used or not, or was first heard, on the same clock."""
    taken: tuple[int, float] | None = None
    """That packet; see `Stream.latest`."""
    refused_s: float | None = None
    """When something that could not be read came from it first, in seconds since 1970."""
    stream: Stream = field(init=False)
    trackers: dict[wire.Kind, Tracker] = field(default_factory=dict)
    """What detectors remember, by kind of alert."""
    detectors: Mapping[wire.Kind, Detector] = field(default_factory=dict)
    """Those that have other limits for it."""
    active: dict[wire.Kind, wire.ActiveAlert] = field(default_factory=dict)
    """Alerts that have begun and are not over."""
    tape: int = -1
    """Where `monitor.ecg.tape` keeps its latest signal; -1 if it does not."""
    resolution_uv: float | None = None
    lead: str | None = None
    """As it names it."""
    shape_speaks: bool = False
    """Whether the shape model has a say on that lead."""
    first_seen_s: tuple[float, ...] = ()
    """The latest times at which it said that it had begun to stream, the last one last."""
    heard_once: bool = True
    """Whether it has sent a single message so far."""
    is_away: bool = False
    """Whether it was found silent or offline, and no packet came since."""
    has_left: bool = False
    """Whether it was itself, or its last will, that said so."""
    hourly: Hourly = field(default_factory=dict)
    """Beats that no store counts yet."""
    saved: int = 0
    """For `monitor.state.checkpoint`: number of the last packet that was there when the device was saved; 0: never."""
    partition: int | None = None
    """Where its packets come from, if the fleet is dealt out to several processes."""
    acked: int | None = None
    """For `monitor.service.publisher`: sequence number in the last acknowledgement to the device."""

    def __post_init__(self) -> None:
        self.taken_s = self.sent_s = self.arrived_s

    @property
    def latest(self) -> tuple[int, float] | None:
        """Number and end of the packet that was taken last; 0 and `refused_s` if none was, but others were refused."""
        if self.refused_s is not None and self.stream.latest is None:
            return 0, self.refused_s
        return self.stream.latest


class Devices:
    """All records.

    Parameters
    ----------
    batch
        Where the streams' samples go.
    counts
        Where evictions, refusals and what streams find are counted.
    """

    def __init__(self, batch: Batch, counts: Counter[str]) -> None:
        self.tombstones: dict[str, list[Hourly]] = {}
        """Devices that were forgotten or evicted, and that no store was asked to forget; and their beats that no store
        counts yet."""
        self.detectors: dict[str, Mapping[wire.Kind, Detector]] = {}
        """Those that have other limits for a device, by its id, whether it is known or not."""
        self.notices: list[Notice] = []
        """What is wrong with what devices send, since the engine was asked last."""
        self._being_buried: Counter[str] = Counter()  # devices that a store was asked to forget, and how often
        self._batch = batch
        self._counts = counts
        self._devices: dict[str, Device] = {}
        self._heard_once: OrderedDict[str, Device] = OrderedDict()
        self._unknown: OrderedDict[str, Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __contains__(self, device: str) -> bool:
        return device in self._devices

    def __getitem__(self, device: str) -> Device:
        return self._devices[device]

    def get(self, device: str) -> Device | None:
        """Return the record of a device, if there is one."""
        return self._devices.get(device)

    def obtain(self, device: str, arrived_s: float) -> Device | None:
        """Return the record of a device that is heard now, a new one if there is none; None if there is no room."""
        known = self._devices.get(device)
        if known is None:
            if not self._has_room():
                self._counts[counters.TOO_MANY_DEVICES] += 1
                return None
            known = Device(device, arrived_s, self.allowance(device))
            self._unknown.pop(device)
            known.detectors = self.detectors.get(device, known.detectors)
            known.stream = Stream(known, self._batch, self._counts, self.notices)
            self._devices[device] = self._heard_once[device] = known
        elif known.heard_once:
            known.heard_once = False
            del self._heard_once[device]
        known.arrived_s = arrived_s
        return known

    def allowance(self, device: str) -> Allowance:
        """Return how much a client may send, whether it is a device or not."""
        known = self._devices.get(device)
        if known is not None:
            return known.allowance
        allowance = self._unknown.get(device)
        if allowance is None:
            allowance = Allowance()
            self._remember(device, allowance)
        return allowance

    def forget_allowances(self, now_s: float) -> None:
        """Forget the allowances of clients that are no devices, and owe nothing; on the clock of `Allowance`."""
        for device in [device for device, allowance in self._unknown.items() if allowance.is_full(now_s)]:
            del self._unknown[device]

    def forget(self, before_s: float) -> None:
        """Forget devices from which nothing has come since `before_s`."""
        for known in [known for known in self if known.arrived_s < before_s]:
            self._drop(known)

    def discard(self, partitions: Container[int | None]) -> list[Device]:
        """Drop the records of devices that another process goes on with, and leave no tombstones; return them."""
        gone = [known for known in self if known.partition in partitions]
        for known in gone:
            self.remove(known)
        return gone

    def remove(self, known: Device) -> None:
        """Drop a record, and leave no tombstone."""
        known.stream.discard()
        del self._devices[known.id]
        self._heard_once.pop(known.id, None)
        self._remember(known.id, known.allowance)

    def erase(self, device: str) -> Device | None:
        """Drop all that is remembered of a device, and find nothing more of it; return its record, if it had one.

        It counts as forgotten until that is saved, since a saved state of it is out of date.
        """
        known = self._devices.pop(device, None)
        if known is not None:
            known.stream.discard()
        self._heard_once.pop(device, None)
        self._unknown.pop(device, None)
        self.detectors.pop(device, None)
        self.notices[:] = [notice for notice in self.notices if notice.owner.id != device]
        self.tombstones[device] = []
        return known

    def has_forgotten(self, device: str) -> bool:
        """Whether a device was forgotten and is not buried: a saved state of it is out of date."""
        return device in self.tombstones or device in self._being_buried

    def take_tombstones(self) -> dict[str, list[Hourly]]:
        """Take the tombstones, to bury them, or to put them back; until then the devices count as forgotten."""
        taken, self.tombstones = self.tombstones, {}
        self._being_buried.update(taken.keys())
        return taken

    def bury(self, devices: Iterable[str]) -> None:
        """Forget that these were forgotten before `take_tombstones`: nothing holds a state of that time any more."""
        for device in devices:
            self._being_buried[device] -= 1
            if not self._being_buried[device]:
                del self._being_buried[device]

    def put_back(self, tombstones: Mapping[str, list[Hourly]]) -> None:
        """Have tombstones again that could not be buried."""
        self.bury(tombstones)
        self.tombstones = {
            device: [*tombstones.get(device, []), *self.tombstones.get(device, [])][-MOST_LEFT:]
            for device in [*tombstones, *self.tombstones]
        }

    def _drop(self, known: Device) -> None:
        known.stream.finish()
        if (latest := known.latest) is not None:
            seq, end_s = latest
            self._batch.add(Event(known, GONE, end_s, seq, end_s))
        del self._devices[known.id]
        self._heard_once.pop(known.id, None)
        self._remember(known.id, known.allowance)
        if len(self.tombstones) < MAX_TOMBSTONES:
            self.tombstones.setdefault(known.id, []).append(known.hourly)
            if len(left := self.tombstones[known.id]) > MOST_LEFT:  # while nothing can be saved
                del left[0]

    def _remember(self, device: str, allowance: Allowance) -> None:
        self._unknown[device] = allowance
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    def _has_room(self) -> bool:
        if len(self._devices) < MAX_DEVICES:
            return True
        if not self._heard_once:
            return False
        self._drop(next(iter(self._heard_once.values())))
        self._counts[counters.DEVICES_EVICTED] += 1
        return True
