"""What the recorder does with what comes, as an object without a clock or a broker: take, commit, fold.

Rules
-----
* A message may be acknowledged once `commit` has returned: then it is in the journal, on the disk.
* `fold` moves what was committed into the archive, and then clears the journal. Killed in between, the next process
  finds packets in both: the archive keeps each once.
* A disk that is full is a fault, no error: nothing is acknowledged until it can be written again.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from monitor import wire
from recorder.archive import Archive, Message
from recorder.journal import Entry, Journal

log = logging.getLogger(__name__)

FORGET = "forget"
"""Folder of the requests to forget a device: an empty file for each."""
MOST_WAITING = 50_000
"""Messages that wait to be committed, beyond which no more are read."""
KEPT_LEAVES = ("samples", "info", "alerts", "beats")


class Keeper:
    """Takes messages and keeps them.

    Parameters
    ----------
    root
        Folder of the record.
    keep_s
        How long something is kept.
    most_bytes
        How much is kept at most.
    """

    def __init__(self, root: Path, keep_s: float = float("inf"), most_bytes: float = float("inf")) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.archive = Archive(root)
        self.counts: Counter[str] = Counter()
        """Messages, samples, bytes, and what was dropped."""
        self.fault: str | None = None
        """Why nothing can be written."""
        self._root, self._keep_s, self._most_bytes = root, keep_s, most_bytes
        self._journal = Journal(root)
        self._waiting: list[Entry] = []
        self._committed: dict[str, list[Entry]] = {}
        self._asked: set[str] = set()  # devices to be forgotten of which nothing older waits any more
        for entry in self._journal.recover():
            self._committed.setdefault(entry.device, []).append(entry)

    @property
    def is_full(self) -> bool:
        """Whether no more can be taken until something was committed."""
        return len(self._waiting) >= MOST_WAITING

    @property
    def waiting(self) -> int:
        """Messages that are not committed yet."""
        return len(self._waiting)

    def take(self, device: str, leaf: str, payload: bytes, arrived_s: float) -> None:
        """Take a message."""
        self.counts["messages"] += 1
        if leaf in KEPT_LEAVES:
            self._waiting.append(Entry(device, leaf, arrived_s, payload))

    def ask_to_forget(self, device: str) -> None:
        """Have a device forgotten with the next `fold`, also after a crash; what is taken of it from now on is kept."""
        request = self._root / FORGET / device
        request.parent.mkdir(exist_ok=True)
        request.touch()
        self._drop(device)
        self._asked.add(device)

    def commit(self) -> bool:
        """Write what waits to the journal; return whether it is safe."""
        if not self._waiting:
            return True
        if not self._try("the journal", lambda: self._journal.write(self._waiting)):
            return False
        for entry in self._waiting:
            self._committed.setdefault(entry.device, []).append(entry)
        self._waiting = []
        return True

    def fold(self, now_s: float) -> bool:
        """Move what was committed into the archive; return whether that worked."""
        if not self._obey():
            return False
        for device in list(self._committed):
            if not self._try("the record", lambda device=device: self._add(device, now_s)):
                return False
            del self._committed[device]
        self._journal.clear()
        if deleted := self.archive.bound(now_s - self._keep_s, self._most_bytes):
            self.counts["files deleted"] += deleted
        return True

    def _add(self, device: str, now_s: float) -> None:
        packets, messages = [], []
        for entry in self._committed[device]:
            if entry.leaf != "samples":
                messages.append(Message(entry.leaf, entry.arrived_s, entry.payload))
                continue
            try:
                packets.append(wire.decode_packet(entry.payload))
            except wire.PacketError:
                self.counts["rejected"] += 1
        self.counts["bytes"] += self.archive.add(device, packets, messages, now_s)
        self.counts["samples"] += sum(packet.samples.size for packet in packets)

    def _obey(self) -> bool:
        """Forget the devices that a person has asked to forget; return whether that worked."""
        requests = list((self._root / FORGET).glob("*"))
        return all(self._try("the record", lambda request=request: self._forget(request)) for request in requests)

    def _forget(self, request: Path) -> None:
        device = request.name
        if device not in self._asked:
            self._drop(device)
        self.archive.forget(device)
        self._journal.replace([entry for entries in self._committed.values() for entry in entries])
        request.unlink()
        self._asked.discard(device)
        log.info("forgot the record of %s", device)

    def _drop(self, device: str) -> None:
        """Forget what was taken of a device and is not in the archive yet."""
        self._waiting = [entry for entry in self._waiting if entry.device != device]
        self._committed.pop(device, None)

    def _try(self, what: str, write: object) -> bool:
        try:
            write()  # type: ignore[operator]
        except OSError as error:
            fault = f"{what} cannot be written: {error.strerror or error}"
            if fault != self.fault:
                log.error("%s; nothing is acknowledged until it can", fault)
            self.fault = fault
            return False
        if self.fault is not None:
            log.info("%s can be written again", what)
        self.fault = None
        return True
