"""What happens to the packets of devices whose saved states are still being looked up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from monitor import counters, wire
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.source import Message, Subscription
from monitor.classify import Classifier
from monitor.engine import Engine
from monitor.service import intake
from monitor.service.intake import Intake
from monitor.service.publisher import Publisher
from monitor.state.checkpoint import Checkpoint
from monitor.state.store import Transaction
from tests.monitor.state.slow import HeldStore

TOPICS = wire.Topics()
RATE_HZ = 250.0


class _Bench(NamedTuple):
    """An intake with all that it needs, and a store that answers when it is told to."""

    store: HeldStore
    engine: Engine
    checkpoint: Checkpoint
    intake: Intake
    source: MemorySource

    def take(self, *messages: Message) -> None:
        self.intake.take(messages, 0.0, 0.0)

    def answer(self) -> None:
        self.store.answer()
        self.intake.resume(0.0)
        self.engine.flush()

    def acks(self) -> list[int]:
        self.source.flush()
        acks = [message for message in self.source._broker.published if message.topic == TOPICS.of("a", "ack")]
        return [wire.decode(message.payload, wire.Ack).seq for message in acks]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("ptb", "cpu")


@pytest.fixture
def bench(classifier: Classifier) -> _Bench:
    return _bench(classifier, HeldStore())


def _bench(classifier: Classifier, store: HeldStore) -> _Bench:
    source = MemorySource(MemoryBroker(), "m", [Subscription(TOPICS.of("+", "samples"), 1)])
    source.open()
    engine = Engine(classifier)
    checkpoint = Checkpoint(engine, store)
    publisher = Publisher(source, engine, checkpoint.outbox, TOPICS, publish_beats=False)
    return _Bench(store, engine, checkpoint, Intake(engine, checkpoint, store, publisher, TOPICS), source)


def _packet(seq: int, device: str = "a", partition: int | None = None) -> Message:
    packet = wire.Packet(seq, 1e9 + seq, RATE_HZ, np.ones(250, np.int16))
    return Message(TOPICS.of(device, "samples"), wire.encode_packet(packet), seq + 1, False, partition)


def _info(first_seen_s: float, partition: int | None = None, device: str = "a") -> Message:
    info = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=first_seen_s, first_seen_s=first_seen_s)
    return Message(TOPICS.of(device, "info"), wire.encode(info), 100, False, partition)


def _saved(classifier: Classifier, packets: int, first_seen_s: float) -> HeldStore:
    """A store that holds the state of device a after some packets."""
    bench = _bench(classifier, HeldStore())
    bench.take(_info(first_seen_s), *[_packet(seq) for seq in range(packets)])
    bench.answer()
    bench.store.submit(Transaction({"a": bench.engine.save("a")}))
    bench.store.let()
    bench.store.done()
    return bench.store


def test_all_new_devices_of_a_batch_are_looked_up_at_once_and_once_only(bench: _Bench) -> None:
    bench.take(_packet(0, "a"), _packet(0, "b"), _packet(1, "a"))
    bench.take(_packet(2, "a"), _packet(0, "c"))
    assert bench.store.asked == [["a", "b"], ["c"]]
    assert bench.engine.devices == 0
    bench.answer()
    bench.take(_packet(3, "a"))
    assert bench.store.asked == []
    assert [bench.engine.next_seq(device) for device in "abc"] == [4, 1, 1]


def test_nothing_is_committed_of_a_device_before_it_was_looked_up(bench: _Bench) -> None:
    bench.take(_packet(0))
    assert bench.checkpoint.commit(0.0, idle=True) == ([], [])
    bench.answer()
    bench.checkpoint.commit(1.0, idle=True)
    bench.store.let()
    assert bench.checkpoint.wait(0.0) == ([1], [("a", 1)])


def test_a_saved_device_hears_from_where_on_it_is_needed_and_goes_on(classifier: Classifier) -> None:
    bench = _bench(classifier, _saved(classifier, packets=5, first_seen_s=1.0))
    bench.take(_packet(5), _packet(6))
    bench.answer()
    assert bench.acks() == [5]
    assert bench.engine.next_seq("a") == 7


def test_a_saved_device_that_has_restarted_hears_nothing_of_the_time_before(classifier: Classifier) -> None:
    bench = _bench(classifier, _saved(classifier, packets=5, first_seen_s=1.0))
    bench.take(_info(2.0), _packet(0))
    bench.answer()
    assert bench.acks() == []


def test_a_saved_device_that_only_says_again_who_it_is_hears_from_where_on_it_is_needed(classifier: Classifier) -> None:
    bench = _bench(classifier, _saved(classifier, packets=5, first_seen_s=1.0))
    bench.take(_info(1.0), _packet(5))
    bench.answer()
    assert bench.acks() == [5]


def test_a_damaged_state_holds_nothing_up(bench: _Bench) -> None:
    bench.store.submit(Transaction({"a": b"damaged"}))
    bench.store.let()
    bench.take(_packet(0))
    bench.answer()
    assert bench.engine.next_seq("a") == 1
    assert bench.engine.counts["states not restored"] == 1


def _resolution(bench: _Bench) -> float | None:
    known = bench.engine.record("a")
    assert known is not None
    return known.resolution_uv


def test_what_a_device_says_of_itself_waits_for_its_first_samples_of_the_same_partition(bench: _Bench) -> None:
    bench.take(_info(1.0, partition=1), _info(2.0, partition=2))
    assert (bench.engine.devices, bench.store.asked) == (0, [])
    bench.take(_packet(0, partition=1))
    bench.answer()
    assert _resolution(bench) == 1.0
    bench.take(_info(3.0, partition=1), _info(4.0, partition=2))
    assert _resolution(bench) == 3.0


def test_what_is_said_by_a_foreign_partition_while_a_device_is_looked_up_is_ignored(bench: _Bench) -> None:
    bench.take(_packet(0, partition=1), _info(1.0, partition=1), _info(2.0, partition=2))
    bench.answer()
    assert _resolution(bench) == 1.0


def test_what_another_process_has_taken_is_known_from_the_other_partitions(bench: _Bench) -> None:
    bench.take(_info(1.0, partition=1), _info(2.0, partition=2))
    bench.take(_packet(0, partition=3))
    bench.answer()
    assert _resolution(bench) in (1.0, 2.0)


def test_what_is_said_before_the_first_samples_is_acknowledged_with_the_device_or_after_a_while(bench: _Bench) -> None:
    bench.take(_info(1.0, 1)._replace(token=7), _info(1.0, 2)._replace(token=8))
    bench.take(_packet(0, partition=1))
    bench.answer()
    bench.checkpoint.commit(1.0, idle=True)
    bench.store.let()
    assert bench.checkpoint.wait(0.0).tokens == [7, 1]
    bench.intake.take([], 100.0, 100.0)
    assert bench.checkpoint.commit(100.0, idle=True).tokens == [8]


def test_what_few_devices_say_of_themselves_is_remembered_and_not_for_long(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_EARLY", 2)
    for device in "abc":
        bench.take(_info(1.0, 1, device))
    assert list(bench.intake._early) == ["b", "c"]
    bench.intake.take([_info(1.0, 1, "d")], 100.0, 100.0)
    assert list(bench.intake._early) == ["d"]


def test_of_a_partition_that_is_left_nothing_remains(bench: _Bench) -> None:
    bench.take(_packet(0, "a", 1), _packet(0, "b", 2))
    bench.answer()
    bench.take(_packet(0, "c", 1), _packet(0, "d", 2))
    gone = [*bench.engine.discard({1}), *bench.intake.drop({1})]
    bench.checkpoint.drop({1}, gone)
    assert gone == ["a", "c"]
    bench.answer()
    assert [bench.engine.knows(device) for device in "abcd"] == [False, True, False, True]
    assert not bench.engine.tombstones
    bench.checkpoint.commit(0.0, idle=True)
    [transaction] = bench.store.submitted
    assert set(transaction.states) == {"b", "d"}


def test_an_answer_to_what_was_asked_before_a_partition_was_left_is_not_used(classifier: Classifier) -> None:
    bench = _bench(classifier, _saved(classifier, packets=5, first_seen_s=1.0))
    bench.take(_packet(5, partition=1))
    bench.checkpoint.drop({1}, bench.intake.drop({1}))
    stale, bench.store.asked[:] = list(bench.store.asked), []
    bench.take(_packet(9, partition=1))
    later, bench.store.asked[:] = list(bench.store.asked), stale
    bench.answer()
    assert bench.engine.devices == 0  # the state may be older than what another process has saved meanwhile
    bench.store.asked[:] = later
    bench.answer()
    assert bench.engine.devices == 1


def test_a_device_whose_packets_cannot_be_read_is_known_and_its_saved_state_is_gone_on_with(bench: _Bench) -> None:
    garbage = Message(TOPICS.of("a", "samples"), b"garbage", 1, False)
    bench.take(garbage, garbage)
    assert bench.store.asked == [["a"]]
    assert not bench.engine.knows("a")  # it may have been saved
    bench.answer()
    known = bench.engine.record("a")
    assert known is not None
    assert known.refused_s is not None
    bench.take(garbage)
    assert bench.engine.counts[counters.REJECTED] == 3
    assert bench.store.asked == []
