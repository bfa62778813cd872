"""Malformed packets, fed directly to the service, in a separate process that may crash."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import random
import struct
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.broker.memory import MemoryBroker, MemorySource, Published
from monitor.broker.source import Subscription
from monitor.service.loop import Loop
from monitor.service.run import Service
from monitor.service.settings import ServiceSettings
from tests.soak.fleet import ALERTS, Fleet
from tests.soak.harness import TOPICS, rss_mb

FLUSH_EVERY = 128
"""Packets per turn of the loop."""
HEALTHY_EVERY = 50
"""Number of packets between two of the healthy device."""
IDS = 200
"""Number of devices that send malformed packets."""
NUMBERS = (
    0, 1, -1, 2, 49.9, 50, 50.0, 250, 250.0, 3999.9, 4000, 4000.1, 2**31, 2**33, 2**33 + 1, 2**53, 2**53 + 1, 2**63,
    2**64 - 1, 1e-308, 1e300, math.inf, -math.inf, math.nan, 1_700_000_000.0, True, None, "1",
)  # fmt: skip
TOPIC_PARTS = ("", "a" * 64, "a" * 65, "b" * 60_000, "ü", "..", "monitor", "a/b", "\x01", "%s", "a b", "samples")


@dataclass(frozen=True)
class FuzzResult:
    """The result of a fuzz run."""

    rejected: int
    internal_errors: int
    before_mb: float
    after_mb: float
    beats: int
    missing: int
    wrong: int


class Fuzzer:
    """Generates messages: noise, damaged messages, valid ones with hostile numbers, and invalid topics."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        fleet = Fleet(1, 20.0, 1.0, seed)
        self._valid = [fleet.payload(0, seq) for seq in range(fleet.rounds)]
        self._valid += [self._as_json(payload) for payload in self._valid]

    @staticmethod
    def _as_json(payload: bytes) -> bytes:
        packet = wire.decode_packet(payload)
        return msgspec.json.encode(
            {
                "seq": packet.seq,
                "start_s": packet.start_s,
                "rate_hz": packet.rate_hz,
                "samples": packet.samples.tolist(),
            }
        )

    def message(self) -> tuple[bytes, bytes]:
        """Return a topic and a payload."""
        return self._topic(), self.payload()

    def payload(self) -> bytes:
        """Return a payload only."""
        makers = (self._noise, self._damaged, self._hostile, self._extreme)
        return self._rng.choices(makers, (1, 3, 3, 1))[0]()

    def _topic(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.9:
            return TOPICS.of(
                f"bad-{rng.randrange(IDS)}", rng.choice(("samples", "samples", "samples", "info"))
            ).encode()
        if rng.random() < 0.1:
            return b"ecg/v1/" + rng.randbytes(rng.randrange(200)) + b"/samples"
        part = rng.choice(TOPIC_PARTS)
        return TOPICS.of(f"{part}{rng.randrange(10**9)}" if len(part) > 100 else part, "samples").encode()

    def _noise(self) -> bytes:
        head = self._rng.choice((b"", b"{", b'{"seq":', b"\x84\xa3seq", b"[[[["))
        return head + self._rng.randbytes(self._rng.randrange(600))

    def _damaged(self) -> bytes:
        rng, payload = self._rng, bytearray(self._rng.choice(self._valid))
        for _ in range(rng.randrange(1, 6)):
            payload[rng.randrange(min(len(payload), rng.choice((60, 10**6))))] = rng.randrange(256)
        return bytes(payload[: rng.randrange(len(payload))] if rng.random() < 0.2 else payload)

    def _hostile(self) -> bytes:
        """Return a packet with valid types and hostile numbers, or invalid types."""
        rng = self._rng
        samples: Any = rng.randbytes(2 * rng.choice((0, 1, 2, 3, 125, 250, 1000)))
        fields = {
            "seq": rng.choice((rng.randrange(20), rng.choice(NUMBERS))),
            "start_s": rng.choice((1.7e9 + rng.uniform(-20, 20), rng.uniform(0, 2**33), rng.choice(NUMBERS))),
            "rate_hz": rng.choice((250.0, rng.uniform(50, 4000), rng.choice(NUMBERS))),
            "samples": rng.choice((samples, samples, samples, rng.choice(NUMBERS))),
        }
        if rng.random() < 0.1:
            fields = {"lead": "II", "resolution_uv": rng.choice(NUMBERS), "first_seen_s": rng.choice(NUMBERS)} | fields
        if rng.random() < 0.05:
            del fields[rng.choice(list(fields))]
        return msgspec.msgpack.encode(fields) if rng.random() < 0.9 else _lenient_json(fields)

    def _extreme(self) -> bytes:
        """Return a valid packet of extreme ADC counts or missing samples."""
        rng = self._rng
        counts = [rng.choice((-32768, 32767, -32767, 0)) for _ in range(2)]
        size = rng.choice((1, 125, 250, 4000, 65_536 if rng.random() < 0.02 else 500))
        samples = struct.pack("<hh", *counts) * (size // 2 + 1)
        fields = {
            "seq": rng.randrange(30),
            "start_s": 1.7e9 + rng.randrange(30),
            "rate_hz": rng.choice((50.0, 250.0, 4000.0)),
        }
        return msgspec.msgpack.encode(fields | {"samples": samples[: 2 * size]})


def _lenient_json(fields: dict[str, Any]) -> bytes:
    return repr({k: list(v) if isinstance(v, bytes) else v for k, v in fields.items()}).replace("'", '"').encode()


class Target:
    """A service on an in-memory broker, to which messages are delivered by hand."""

    def __init__(self, folder: Path | None) -> None:
        settings = ServiceSettings(
            BrokerUrl("127.0.0.1"), provider="cpu", publish_beats=True, alerts=ALERTS, state=folder
        )
        self.broker = MemoryBroker()
        wanted = [Subscription(f"{wire.PREFIX}/#", 1)]
        self.service = Service(settings, source=MemorySource(self.broker, "fuzzed", wanted))
        self.service.source.open()
        self.beats: dict[str, bytes] = {}

    def deliver(self, topic: bytes, payload: bytes) -> None:
        """Deliver a message."""
        message = Published(topic.decode("utf-8", "backslashreplace"), payload, 1)
        self.broker.sessions["fuzzed"].queue.append(message)

    def turn(self, loop: Loop) -> None:
        """Let the service process the delivered messages."""
        loop.turn(0.0)
        for message in self.broker.published:
            if message.topic == TOPICS.of("soak-0000", "beats"):
                self.beats[msgspec.json.decode(message.payload)["id"]] = message.payload
        self.broker.published.clear()


def fuzz(packets: int, folder: Path, seed: int = 0) -> FuzzResult:
    """Send messages to a service, interleaved with the packets of a healthy device."""
    fuzzer, fleet, target = (
        Fuzzer(seed),
        Fleet(1, 0.5 * packets / HEALTHY_EVERY if packets < 20_000 else 200.0, 0.5),
        Target(folder),
    )
    service, before_mb, sent = target.service, 0.0, 0
    with service.assembled() as loop:
        for number in range(packets):
            target.deliver(*fuzzer.message())
            if number % max(HEALTHY_EVERY, packets // fleet.rounds) == 0 and sent < fleet.rounds:
                target.deliver(TOPICS.of("soak-0000", "samples").encode(), fleet.payload(0, sent))
                sent += 1
            if number % FLUSH_EVERY == 0:
                target.turn(loop)
            if number == packets // 4:
                before_mb = rss_mb(os.getpid())
        while service.source.has_more:
            target.turn(loop)
    expected = {id_: payload for id_, payload in fleet.beats.items() if msgspec.json.decode(payload)["seq"] < sent}
    published, counts = target.beats, service.engine.counts
    return FuzzResult(
        rejected=counts["rejected"],
        internal_errors=counts["internal errors"],
        before_mb=before_mb,
        after_mb=rss_mb(os.getpid()),
        beats=len(expected),
        missing=len(expected.keys() - published.keys()),
        wrong=sum(expected.get(id_) != payload for id_, payload in published.items()),
    )


def fuzz_in_process(packets: int, folder: Path) -> FuzzResult | None:
    """Fuzz in a separate process; return None if it died."""
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_fuzz_and_send, args=(packets, folder, sender))
    process.start()
    sender.close()
    try:
        result: FuzzResult = receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return result


def _fuzz_and_send(packets: int, folder: Path, sender: Connection) -> None:
    logging.getLogger("monitor").setLevel(logging.ERROR)
    sender.send(fuzz(packets, folder))
