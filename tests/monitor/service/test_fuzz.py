"""Whatever is sent: the service stays well, and who behaves is judged as ever; for longer, see `tests.soak`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.soak.fuzz import Target, fuzz


def test_hostile_messages_neither_break_the_service_nor_change_the_beats_of_a_device_that_is_well(
    tmp_path: Path,
) -> None:
    outcome = fuzz(3000, tmp_path)
    assert outcome.rejected > 1000
    assert outcome.beats > 20
    assert (outcome.internal_errors, outcome.missing, outcome.wrong) == (0, 0, 0)


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(None)


NUMBER = st.one_of(st.integers(-1, 2**54), st.floats(), st.floats(0, 2**33), st.none())
PACKET = st.fixed_dictionaries(
    {
        "seq": st.integers(0, 20) | NUMBER,
        "start_s": st.floats(0, 20) | NUMBER,
        "rate_hz": st.sampled_from([50.0, 250.0, 4000.0]) | NUMBER,
        "samples": st.binary(max_size=400),
    }
)


@settings(deadline=None, max_examples=300)
@given(messages=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), PACKET), max_size=20))
def test_no_sequence_of_packets_breaks_the_engine(
    target: Target, messages: list[tuple[str, dict[str, object]]]
) -> None:
    for device, packet in messages:
        target.deliver(f"ecg/v1/{device}/samples".encode(), msgspec.msgpack.encode(packet))
    with target.service.assembled() as loop:
        target.turn(loop)
    assert target.service.engine.counts["internal errors"] == 0


@given(topic=st.binary(max_size=100), payload=st.binary(max_size=100))
def test_no_topic_and_no_payload_breaks_the_service(target: Target, topic: bytes, payload: bytes) -> None:
    for name in (topic, b"ecg/v1/" + topic + b"/samples", b"ecg/v1/a/info"):
        target.deliver(name, payload)
    with target.service.assembled() as loop:
        target.turn(loop)
    assert target.service.engine.counts["internal errors"] == 0
