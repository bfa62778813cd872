"""Contract 2: topics and messages. Garbage decodes or raises `PacketError`, never anything else."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import wire

PACKET = wire.Packet(7, 1_700_000_000.25, 130.061, np.array([1, -2, 32767, wire.NO_SAMPLE], np.int16))


def _json(**fields: object) -> bytes:
    message = {"seq": 7, "start_s": 1.5, "rate_hz": 250.0, "samples": [1, 2, 3]}
    return json.dumps(message | fields).encode()


def _binary(**fields: object) -> bytes:
    message = {"seq": 7, "start_s": 1.5, "rate_hz": 250.0, "samples": b"\x01\x00\x02\x00"}
    return msgspec.msgpack.encode(message | fields)


def test_packet_survives_messagepack() -> None:
    decoded = wire.decode_packet(wire.encode_packet(PACKET))
    assert (decoded.seq, decoded.start_s, decoded.rate_hz) == (PACKET.seq, PACKET.start_s, PACKET.rate_hz)
    np.testing.assert_array_equal(decoded.samples, PACKET.samples)


def test_json_and_messagepack_decode_to_the_same_packet() -> None:
    by_hand = _json(samples=[258, -1])
    compact = _binary(samples=b"\x02\x01\xff\xff")
    one, other = wire.decode_packet(by_hand), wire.decode_packet(compact)
    assert (one.seq, one.start_s, one.rate_hz) == (other.seq, other.start_s, other.rate_hz)
    np.testing.assert_array_equal(one.samples, other.samples)


def test_unknown_fields_are_ignored() -> None:
    assert wire.decode_packet(_json(battery=0.5)).seq == 7


@pytest.mark.parametrize("make", [_json, _binary])
def test_the_last_sequence_number_can_be_acknowledged(make: Callable[..., bytes]) -> None:
    last = wire.decode_packet(make(seq=2**53 - 1)).seq
    assert wire.decode(wire.encode(wire.Ack(seq=last + 1)), wire.Ack).seq == 2**53
    with pytest.raises(wire.PacketError):
        wire.decode_packet(make(seq=2**53))


@pytest.mark.parametrize("make", [_json, _binary])
@pytest.mark.parametrize(
    "fields",
    [
        {"seq": -1},
        {"seq": "7"},
        {"start_s": -1.0},
        {"start_s": 1e300},
        {"rate_hz": 0.0},
        {"rate_hz": 1e9},
        {"rate_hz": None},
        {"samples": None},
    ],
)
def test_field_of_wrong_type_or_range_is_refused(make: object, fields: dict[str, object]) -> None:
    with pytest.raises(wire.PacketError, match="Not a packet of samples"):
        wire.decode_packet(make(**fields))  # type: ignore[operator]


@pytest.mark.parametrize("make", [_json, _binary])
def test_a_time_may_be_an_integer_in_milliseconds(make: Callable[..., bytes]) -> None:
    payload = _decoded(make(start_ms=1_700_000_000_250))
    del payload["start_s"]
    assert wire.decode_packet(_encoded(make, payload)).start_s == 1_700_000_000.25
    assert wire.decode_packet(make(start_ms=1)).start_s == 1.5  # of both, the seconds count
    del payload["start_ms"]
    with pytest.raises(wire.PacketError, match="neither start_s nor start_ms"):
        wire.decode_packet(_encoded(make, payload))


@pytest.mark.parametrize("make", [_json, _binary])
@pytest.mark.parametrize("start_ms", [-1, 1.5, "1", 2**33 * 1000 + 1])
def test_milliseconds_are_an_integer_in_range(make: Callable[..., bytes], start_ms: object) -> None:
    with pytest.raises(wire.PacketError, match="start_ms"):
        wire.decode_packet(make(start_ms=start_ms))


def test_a_device_need_not_say_when_it_began() -> None:
    info = wire.decode(b'{"rate_hz": 250, "lead": "II", "resolution_uv": 1}', wire.Info)
    assert info.first_seen_s is None


def _decoded(payload: bytes) -> dict[str, object]:
    fields = json.loads(payload) if payload[:1] == b"{" else msgspec.msgpack.decode(payload)
    return dict(fields)


def _encoded(make: Callable[..., bytes], fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode() if make is _json else msgspec.msgpack.encode(fields)


@pytest.mark.parametrize("samples", [[40000], [-40000], [1.5], ["1"], [None], [math.nan], [True]])
def test_json_samples_must_be_int16(samples: list[object]) -> None:
    with pytest.raises(wire.PacketError):
        wire.decode_packet(_json(samples=samples))


@pytest.mark.parametrize("field", ["start_s", "rate_hz"])
def test_nan_is_refused(field: str) -> None:
    with pytest.raises(wire.PacketError, match=field):
        wire.decode_packet(_binary(**{field: math.nan}))


@pytest.mark.parametrize(("samples", "message"), [(b"", "1 to 65536 samples: got 0"), (b"\x01", "got 1 bytes")])
def test_binary_samples_must_be_whole(samples: bytes, message: str) -> None:
    with pytest.raises(wire.PacketError, match=message):
        wire.decode_packet(_binary(samples=samples))


def test_too_many_samples_and_too_large_payloads_are_refused() -> None:
    with pytest.raises(wire.PacketError, match="got 65537"):
        wire.decode_packet(_binary(samples=b"\x00\x00" * 65537))
    with pytest.raises(wire.PacketError, match="at most 524288 bytes"):
        wire.decode_packet(b"{" + b" " * wire.MAX_PAYLOAD)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xc1", b"null", b"[" * 100_000, b"{" * 100_000, b'{"seq":', b"\x91" * 9999]
)
def test_truncated_and_nested_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(wire.PacketError):
        wire.decode_packet(payload)


BEFORE = [b"\n", b"\r\n", b"  ", b"\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n\t"]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", [b"", b"\n", b" \r\n\t"])
def test_white_space_and_a_byte_order_mark_are_no_part_of_json(before: bytes, after: bytes) -> None:
    assert wire.decode_packet(before + _json() + after).seq == wire.decode_packet(_json()).seq
    info = wire.Info(rate_hz=250, lead="II", resolution_uv=1.0, first_seen_s=1.0)
    assert wire.decode(before + wire.encode(info) + after, wire.Info) == info


@pytest.mark.parametrize(
    "payload", [b"seq=7", b"7", b" 7", b"[1, 2]", b"\n[{}]", "{}".encode("utf-16"), b"\x01\x02", b""]
)
def test_payload_of_no_known_form_is_refused_in_words_of_what_was_sent(payload: bytes) -> None:
    for decode in (wire.decode_packet, lambda p: wire.decode(p, wire.Info)):
        with pytest.raises(wire.PacketError, match=r"it (begins with b.*|is empty), expected JSON.*'\{'"):
            decode(payload)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda tail: b"{" + tail)
    | st.tuples(st.sampled_from(BEFORE), st.binary(max_size=300)).map(b"".join)
)
def test_garbage_decodes_or_raises_packet_error(payload: bytes) -> None:
    for decode in (
        wire.decode_packet,
        lambda p: wire.decode(p, wire.Info),
        lambda p: wire.decode(p, wire.Alert),
    ):
        with contextlib.suppress(wire.PacketError):
            decode(payload)


@given(st.data())
def test_damaged_packet_decodes_or_raises_packet_error(data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from([_json(), _binary()])))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        packet = wire.decode_packet(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    except wire.PacketError:
        return
    assert packet.samples.dtype == np.int16
    assert wire.MIN_RATE_HZ <= packet.rate_hz <= wire.MAX_RATE_HZ


def test_topics_name_device_and_leaf() -> None:
    topics = wire.Topics()
    assert topics.of("h10-17", "samples") == "ecg/v1/h10-17/samples"
    assert topics.parse("ecg/v1/h10-17/samples") == ("h10-17", "samples")
    assert topics.monitor_status("ward") == "ecg/v1/monitor/ward/status"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "ecg/v1",
        "ecg/v1/a",
        "ecg/v1/a/other",
        "ecg/v2/a/samples",
        "x/ecg/v1/a/samples",
        "ecg/v1/a/b/samples",
        "ecg/v1/../samples",
        "ecg/v1//samples",
        "ecg/v1/a b/samples",
        "ecg/v1/" + "a" * 65 + "/samples",
        "ecg/v1/a\n/samples",
        "ecg/v1/monitor/ward/status",
    ],
)
def test_other_topics_and_device_ids_are_refused(topic: str) -> None:
    with pytest.raises(wire.PacketError, match=r"Unknown topic|device id"):
        wire.Topics().parse(topic)


@pytest.mark.parametrize("prefix", ["", "/ecg", "ecg/", "ecg/#", "+/v1", "a//b"])
def test_prefix_must_be_words(prefix: str) -> None:
    with pytest.raises(ValueError, match="topic prefix"):
        wire.Topics(prefix)


@given(st.text(max_size=80))
def test_any_topic_parses_or_raises_packet_error(topic: str) -> None:
    try:
        device, leaf = wire.Topics().parse(topic)
    except wire.PacketError:
        return
    assert wire.Topics().of(device, leaf) == topic


def test_alert_is_json_that_any_client_reads() -> None:
    alert = wire.Alert(
        id="a-1-abnormal-beats-new",
        episode="a-1-abnormal-beats",
        device="a",
        kind="abnormal-beats",
        severity="low",
        state="new",
        time_s=1.0,
        since_s=1.0,
        probability=0.5,
        waveform=wire.Waveform(start_s=1.0, rate_hz=125.0, unit="uV", samples=[1, 2]),
        seq=1,
        completed_s=2.0,
    )
    told = json.loads(wire.encode(alert))
    assert told["schema"] == wire.SCHEMA
    assert told["waveform"]["samples"] == [1, 2]
    assert wire.decode(wire.encode(alert), wire.Alert) == alert
