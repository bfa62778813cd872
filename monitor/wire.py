"""Contract 2, for devices and subscribers: the topics, the messages, and how they are encoded.

Rules
-----
* A device id matches ``[A-Za-z0-9_-]{1,64}``. Topics are ``<prefix>/<device>/<leaf>``; the prefix is ``ecg/v1``
  unless configured otherwise.
* Devices send JSON or MessagePack, told apart by the first byte (``{`` is JSON; white space or a byte order mark
  may precede it). Everything the monitor publishes is JSON, so any MQTT client can read it.
* Samples are int16 steps of `Info.resolution_uv` microvolts; `NO_SAMPLE` stands where there was no valid sample. They
  travel as little-endian bytes in MessagePack and as a list of integers in JSON; both decode to the same `Packet`.
* Whatever a device sends either decodes or raises `PacketError`, never anything else. Fields nobody knows are ignored,
  so that newer devices can talk to an older monitor.
* Times are seconds since 1970 (UTC) on the device's own clock. What the monitor makes of them may lie a little before
  the first stamp or behind the last: of a device that begins at 0, before 1970.

This module does no I/O and knows nothing else of the monitor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar, get_args

import msgspec
import numpy as np
import numpy.typing as npt

SCHEMA = 2
"""Version of the messages the monitor publishes; grows when a field changes its meaning."""
PREFIX = "ecg/v1"
NO_SAMPLE = -32768
"""The int16 that means "no valid sample here"."""
MIN_RATE_HZ, MAX_RATE_HZ = 50.0, 4000.0
MAX_SAMPLES = 65_536
"""Most samples in one packet."""
MAX_PAYLOAD = 512 * 1024
"""Most bytes in one message."""
MAX_TIME_S = 2.0**33
"""Latest time a message may name (the year 2242)."""
BOM = b"\xef\xbb\xbf"
BEFORE_JSON = (b" ", b"\t", b"\r", b"\n", BOM[:1])
"""First bytes of JSON that does not begin with its brace."""
MAPS = (*(bytes([first]) for first in range(0x80, 0x90)), b"\xde", b"\xdf")
"""First bytes of the maps of MessagePack."""

DEVICE_ID = r"[A-Za-z0-9_-]{1,64}"
_device_id = re.compile(DEVICE_ID)


class PacketError(ValueError):
    """A device sent something that is not of this contract: to be counted and dropped, never fatal."""


Time = Annotated[float, msgspec.Meta(ge=0, le=MAX_TIME_S, description="seconds since 1970, UTC")]
FoundTime = Annotated[
    float,
    msgspec.Meta(
        ge=-86400,
        le=MAX_TIME_S + 86400,
        description="seconds since 1970, UTC, as the monitor made it of a device's stamps: up to a day beyond them",
    ),
]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=int(MAX_TIME_S) * 1000, description="milliseconds since 1970, UTC")]
Rate = Annotated[float, msgspec.Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ, description="Hz")]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Text = Annotated[str, msgspec.Meta(max_length=64)]


Kind = Annotated[
    str,
    msgspec.Meta(
        pattern="^[a-z]+(-[a-z]+)*$",
        description="such as asystole, bradycardia, abnormal-beats, lead-off, gap; expect kinds that are not known yet",
    ),
]
MONITOR_OFFLINE: Kind = "monitor-offline"
"""What a notifier tells of a monitor itself; no monitor publishes it."""
Severity = Literal["high", "medium", "low", "technical"]
Verdict = Literal["normal", "abnormal", "withheld"]
AlertState = Literal["new", "update", "end", "acknowledged", "silenced", "commented"]
Connection = Literal["streaming", "lead-off", "silent", "offline"]
Verb = Literal["acknowledge", "silence", "unsilence", "comment", "judge", "rename", "limits", "forget"]
VERBS: tuple[Verb, ...] = get_args(Verb)
"""What can be asked of a monitor about a device."""
RELOAD = "reload"
"""The last word of the topic of a `Reload`."""
REFRESH = "refresh"
"""Last word of a request without contents or answer: all monitors of the name publish their states and status again.

For whoever comes late to a broker that hands out nothing that it retains to subscriptions with a wildcard (RabbitMQ).
"""
Limits = dict[Kind, dict[Annotated[str, msgspec.Meta(max_length=64)], float]]
"""Kind of alert -> name of a parameter -> its value."""
Remark = Annotated[str, msgspec.Meta(max_length=500)]
RequestId = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,64}$(?!\n)", description="printable ASCII, no spaces")]
MonitorState = Literal["online", "overloaded", "offline"]


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself, once, retained."""

    rate_hz: Rate
    """Nominal sampling rate."""
    lead: Text
    """Lead name, such as "II"."""
    unit: Literal["uV"] = "uV"
    """Unit of the signal."""
    resolution_uv: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    """Microvolts per step of a sample."""
    first_seen_s: Time | None = None
    """When the device began to stream, if it knows: the same in every info until it restarts and counts its packets
    from 0 again. With it a restart is seen at once, even if the clock was set back; without it, by the packets."""


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a device is there; its "offline" is its last will."""

    state: Literal["online", "offline"]


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """One beat a simulated device played: what the monitor ought to find."""

    r_peak_s: Time
    """Time of the R peak, on the device's clock."""
    label: Text
    """Class of the beat: "normal", "abnormal", or an annotation symbol."""
    source: Text
    """Where the beat was taken from, such as "ptbdb_abnormal.csv:17"."""
    duration_s: Annotated[float, msgspec.Meta(ge=0)]
    """How long the beat lasts in the stream."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The monitor's word on one beat it found."""

    id: str
    """The same for the same beat, however often it is computed."""
    device: str
    r_peak_s: FoundTime
    """Time of the R peak, where the beat's window begins, on the device's clock."""
    qrs_s: FoundTime
    """Time of the main deflection of the QRS complex, up or down."""
    delay_s: float
    """How much signal after that deflection was needed to find the QRS complex."""
    verdict: Verdict
    """"withheld": the signal was not fit to be judged, see `reason`."""
    label: str | None = None
    """Class of the beat: if the verdict is normal, the model's first; if abnormal, the most probable of the others."""
    probability: Probability | None = None
    """Probability that the beat is abnormal: of any class but the model's first."""
    shape_probability: Probability | None = None
    """Probability that the shape of a beat of normal class is abnormal, by the shape model beside the class model; none
    where it has no say."""
    reason: str | None = None
    """Why a beat was withheld."""
    rr_s: float | None = None
    """Time since the R peak before, if that was seen."""
    heart_rate_bpm: float | None = None
    """Mean over the last twelve RR intervals, as monitors show it; over four where the last three are longer than
    1.2 s."""
    seq: Sequence
    """Sequence number of the packet that completed what the model had to know of the beat."""
    completed_s: FoundTime
    """End of that packet on the device's clock; with clocks in step, arrival minus this is the latency."""


class RecentBeat(msgspec.Struct, frozen=True, kw_only=True):
    """A beat before an alert."""

    qrs_s: FoundTime
    """Time of the main deflection of its QRS complex."""
    label: Text | None
    """N, S or V of ANSI/AAMI EC57; "abnormal" for what else is not normal; "withheld" if it was not judged."""


class Waveform(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of signal around an alert."""

    start_s: FoundTime
    """Time of the first sample."""
    rate_hz: float
    unit: Literal["uV", "step"]
    """"step": the resolution of the device is not known yet."""
    samples: list[int]


class StripBeat(msgspec.Struct, frozen=True, kw_only=True):
    """A beat in a strip."""

    time_s: FoundTime
    """Time of the main deflection of its QRS complex."""
    label: str | None = None
    """N, S or V of ANSI/AAMI EC57; "abnormal" for what else is not normal; null if it was withheld."""
    verdict: Verdict | None = None


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """The signal around an alert: the last 10 s of what had to be known to find it, most of it before the event.

    It is as the monitor saw it, without the hum of the mains and spikes of pacemakers, and shorter where the device's
    signal was broken less than 10 s before.
    """

    start_s: FoundTime
    """Time of the first sample, on the device's clock."""
    rate_hz: float
    """125, by the device's clock: another number where that does not agree with its sampling rate."""
    unit: Literal["uV", "step"]
    """"step": the resolution of the device is not known yet."""
    samples: list[int | None]
    """Null where there was no valid sample."""
    beats: list[StripBeat] = []
    """Those that were found before what is alerted; none where an electrode came off."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should look at: it begins ("new"), goes on ("update"), and ends ("end").

    In between or after it, persons may answer it: it is "acknowledged", "silenced" or "commented". Such a message
    repeats the fields of the one that began the episode up to `since_s`, and says who did what and when.
    """

    id: str
    """The same for the same alert, however often it is computed."""
    episode: str
    """Shared by the new, the updates and the end of one episode."""
    device: str
    kind: Kind
    severity: Severity
    """How soon a person should look: "high" at once, "medium" promptly, "low" when there is time. "technical": about
    the recording, not about the heart."""
    state: AlertState
    time_s: FoundTime
    """R-peak time of the beat (or time of the event) that caused this message, on the device's clock; of an answer,
    when it was given, on the monitor's clock."""
    since_s: FoundTime
    """When the episode began."""
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """Why the episode ends, if not by what was observed: "gone", the device was forgotten; "lead-off", nothing is known
    any more; or the kind of a graver alert, in which this one is contained."""
    beats: int = 0
    """Abnormal beats in the episode so far."""
    label: str | None = None
    """Class of this beat, such as "V"; see `Beat`."""
    probability: Probability | None = None
    """Probability that this beat is abnormal."""
    threshold: Probability | None = None
    """Probability from which a beat counts as abnormal."""
    model: str | None = None
    """Name of the model that judged."""
    model_sha256: str | None = None
    heart_rate_bpm: float | None = None
    """See `Beat`."""
    text: str = ""
    """What happened, in plain words."""
    recent: list[RecentBeat] = []
    """The beats of the last 10 s, as far as the stream was unbroken."""
    waveform: Waveform | None = None
    """The beat, as the model saw it but unscaled."""
    strip: Strip | None = None
    """The signal around the event; of "new" and "end"."""
    silenced: bool = False
    """Whether somebody has silenced alerts of this kind of the device: it is kept, and should make no noise."""
    by: str | None = None
    """Who acknowledged, silenced, or commented."""
    comment: str | None = None
    """What they said."""
    right: bool | None = None
    """Whether they judged the alert to be right."""
    seq: Sequence
    """Sequence number of the packet that completed what was needed to know; of an answer, 0."""
    completed_s: FoundTime
    """End of that packet on the device's clock; with clocks in step, arrival minus this is the latency. Of an answer,
    as `time_s`."""
    schema: int = SCHEMA


class ActiveAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that has begun and is not over."""

    episode: str
    kind: Kind
    severity: Severity
    since_s: FoundTime
    text: str = ""
    """What happened, in plain words."""
    acknowledged_by: str | None = None
    acknowledged_s: Time | None = None


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts of a device that should make no noise: they are published and kept, marked as silenced."""

    kind: Kind | None
    """Null: of every kind."""
    until_s: Time
    by: str
    reason: str


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """How a device and its wearer are now, retained: for whoever comes late.

    Published when it changes, at most every two seconds for each device but when an alert begins or ends; cleared
    (an empty message) when the device is forgotten.
    """

    device: str
    name: str | None = None
    """What people call it."""
    connection: Connection
    """"lead-off": it sends, but its electrode is off; "silent": nothing came for 10 s; "offline": it said so, or its
    last will did."""
    heart_rate_bpm: float | None = None
    """Null where it is not known now."""
    rhythm: str | None = None
    """In words, such as "atrial fibrillation"; null where it is not known now."""
    judged: Probability | None = None
    """Share of the beats of the last minute that could be judged; null without beats."""
    alerts: list[ActiveAlert] = []
    silenced: list[Silence] = []
    limits: Limits = {}
    """Those that were set for this device."""
    lead: str | None = None
    """As in `Info`, like the next: not every broker hands that to who comes late."""
    resolution_uv: float | None = None
    monitor: str | None = None
    """Name of the monitor, or of the fleet of processes, that watches it."""
    heard_s: Time | None = None
    """When its last message came, on the monitor's clock; time in which no device could be heard does not count."""
    time_s: Time
    """When this was so, on the monitor's clock."""
    schema: int = SCHEMA


MOST_SILENCE_S = 7 * 86400
"""How long a silence may last at most."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks of a monitor; the last word of the topic says what: see `Verb`.

    acknowledge: the alert `episode`, or all active ones of `device` (of `kind`, if given).
    silence: alerts of `device` (of `kind`, if given) for `for_s` seconds, with a `reason`.
    unsilence: takes that back for `device` (of `kind`, if given).
    comment: `text` on the alert `episode`.
    judge: whether the alert `episode` was `right`, with `text` if there is more to say.
    rename: `device` is called `name`; null: by its id again.
    limits: sets those of `limits` for `device`; a kind with an empty map gets those of all devices again.
    forget: all that is kept of `device` is deleted; it must not be sending.
    """

    by: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Who asks."""
    device: Annotated[str, msgspec.Meta(pattern=f"^{DEVICE_ID}$")]
    episode: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    kind: Kind | None = None
    for_s: Annotated[float, msgspec.Meta(gt=0, le=MOST_SILENCE_S)] | None = None
    reason: Remark | None = None
    name: Text | None = None
    limits: Limits | None = None
    right: bool | None = None
    text: Remark | None = None
    id: RequestId | None = None
    """Comes back in the answer. Each request needs one of its own, such as a UUID: what comes with one that was
    answered before is answered again, and not done again."""
    response_topic: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Where the answer shall go: below `Topics.answer`, and nowhere else; in MQTT 5 the property of this name says so,
    if there is one."""


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """Asks a monitor to read its configuration file again: limits, names, and what else holds without a restart."""

    by: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Who asks."""
    id: RequestId | None = None
    """Comes back in the answer; see `Request`."""
    response_topic: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Where the answer shall go; see `Request`."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request."""

    id: str | None = None
    """That of the request."""
    ok: bool
    text: str
    """What was done, or why it was not, for a person."""
    schema: int = SCHEMA


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """A person had a device forgotten: whoever keeps something of it is to delete that, too."""

    device: Annotated[str, msgspec.Meta(pattern=f"^{DEVICE_ID}$")]
    time_s: Time
    """When, on the monitor's clock."""
    schema: int = SCHEMA


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor does not need any more: a device may keep its packets until then, and send them again."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """All packets below this sequence number are settled: it may lie one above the last."""


ErrorReason = Literal[
    "rejected", "rate-limit", "retained", "no-room", "seq", "clock", "rate", "broken", "polarity", "identity"
]


class DeviceError(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor cannot use of a device's messages, for the device: at most one a minute for each reason."""

    reason: ErrorReason
    """"rejected": not a message of the contract; "rate-limit": more than a device may send; "retained": samples with
    the retain flag; "no-room": too many devices; "seq", "clock", "rate": numbers, times or rates without sense;
    "broken": the signal is interrupted so often that nothing can be judged; "polarity": it is upside down; "identity":
    another device seems to use the same id."""
    text: str
    """What was wrong and what was expected, for a person."""
    seq: Sequence | None = None
    """Number of the packet, if it was one that could be read."""
    schema: int = SCHEMA


class MonitorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor says of itself, retained; its "offline" is its last will."""

    state: MonitorState
    """"overloaded": packets come faster than they are taken, and wait in the broker."""
    version: str
    model: str
    """Name of the model whose classes are the labels of beats."""
    model_sha256: str
    shape_model: str | None = None
    """Name of the shape model beside a class model, if there is one."""
    shape_model_sha256: str | None = None
    """And of its file."""
    since_s: Time
    """When it started."""
    time_s: Time | None = None
    """When it said so, on its own clock: who is handed what the broker retains knows by that how old it is. Null in a
    last will."""
    limits: Limits = {}
    """Those of all devices that are set to other values than they come with."""
    counts: dict[str, int] = {}
    """Running totals: packets, beats, alerts, and what was dropped and why."""
    devices: int = 0
    """Devices that are watched now: all of the next three together."""
    streaming: int = 0
    """Those that send, and whose electrode is on."""
    lead_off: int = 0
    """Those that send, but whose electrode is off."""
    silent: int = 0
    """Those from which nothing came for 10 s; after 10 minutes they are forgotten."""
    unsettled: int = 0
    """Packets that the broker would send again if the monitor were killed now."""
    unsaved_s: float = 0.0
    """For how long the oldest of them that the store has not been given has waited: 10 s when all is well."""
    heard_s: Time | None = None
    """When the last message of a device came, if one did."""
    lateness_s: float | None = None
    """Median time from the end of a packet, on its device's clock, to its arrival, since the status before."""
    behind_s: float = 0.0
    """For how long the monitor has been at it without a pause: from 5 s on it is overloaded."""
    overloaded_since_s: Time | None = None
    """When the last pause was, while overloaded."""
    fault: str | None = None
    """Why nothing is remembered, if so: beats and alerts go on, but a crash would lose some."""
    broker_fault: str | None = None
    """What a person must mend at the broker, if anything: such as a subscription that it refuses."""
    fleet: str | None = None
    """Name of the fleet that this process shares with others: the statuses of all that name it are to be added up, and
    one that is offline counts only if all are."""
    processes: Annotated[int, msgspec.Meta(ge=0)] = 1
    """How many processes of a fleet these figures are of."""
    partitions: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Parts of the fleet that are watched by them."""
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Packet:
    """Samples of one device, decoded."""

    seq: int
    """Counts the device's packets, from 0."""
    start_s: float
    """Time of the first sample, on the device's clock."""
    rate_hz: float
    samples: npt.NDArray[np.int16]
    """(n,) steps; `NO_SAMPLE` where there was none."""


class _BinarySamples(msgspec.Struct, frozen=True, kw_only=True):
    """A packet of samples as MessagePack."""

    seq: Sequence
    start_s: Time | msgspec.UnsetType = msgspec.UNSET
    start_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    rate_hz: Rate
    samples: bytes


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """A packet of samples. In MessagePack `samples` is a byte string of int16, little-endian."""

    seq: Sequence
    """Counts the device's packets, from 0."""
    start_s: Time | msgspec.UnsetType = msgspec.UNSET
    """Time of the first sample, on the device's clock. A packet needs this or `start_ms`; of both, this one counts.
    Write at least milliseconds, and no 32-bit float: those are 128 s apart today."""
    start_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    """The same as an integer, in milliseconds since 1970."""
    rate_hz: Rate
    """Nominal sampling rate; any number, such as 130.06. The same in every packet."""
    samples: list[Annotated[int, msgspec.Meta(ge=-32768, le=32767)]]
    """Steps of `Info.resolution_uv` microvolts; -32768 = no valid sample."""


_binary = msgspec.msgpack.Decoder(_BinarySamples)
_json = msgspec.json.Decoder(Samples)
_to_msgpack = msgspec.msgpack.Encoder()
_to_json = msgspec.json.Encoder()
# What msgspec raises on arbitrary bytes: its own errors, text that is not UTF-8, nesting without end.
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_packet(payload: bytes) -> Packet:
    """Decode what a device published on its samples topic.

    Raises
    ------
    PacketError
        It is too large, no valid JSON or MessagePack, a field is missing, of the wrong type or out of range, or the
        samples are empty, too many, or an odd number of bytes.
    """
    _check_size(payload)
    message: _BinarySamples | Samples
    try:
        if payload[:1] == b"{" or (payload := _skip_space(payload))[:1] == b"{":
            message = _json.decode(payload)
            samples = np.array(message.samples, dtype="<i2")
        else:
            message = _binary.decode(payload)
            if len(message.samples) % 2:
                raise PacketError(f"Samples must be int16, two bytes each: got {len(message.samples)} bytes.")
            samples = np.frombuffer(message.samples, dtype="<i2")
    except _DECODE_ERRORS as error:
        raise PacketError(f"Not a packet of samples: {_explain(payload, error)}") from None
    if not 0 < samples.size <= MAX_SAMPLES:
        raise PacketError(f"A packet must hold 1 to {MAX_SAMPLES} samples: got {samples.size}.")
    start_s = message.start_s
    if start_s is msgspec.UNSET:
        if message.start_ms is msgspec.UNSET:
            raise PacketError("A packet must say when its first sample was taken: got neither start_s nor start_ms.")
        start_s = message.start_ms / 1000
    return Packet(message.seq, start_s, message.rate_hz, samples)


def encode_packet(packet: Packet) -> bytes:
    """Encode a packet as MessagePack, the compact way."""
    return _to_msgpack.encode(
        {
            "seq": packet.seq,
            "start_s": packet.start_s,
            "rate_hz": packet.rate_hz,
            "samples": packet.samples.astype("<i2", copy=False).tobytes(),
        }
    )


Message = TypeVar("Message", bound=msgspec.Struct)


def encode(message: msgspec.Struct) -> bytes:
    """Encode any message but samples, as JSON."""
    return _to_json.encode(message)


def decode(payload: bytes, kind: type[Message]) -> Message:
    """Decode a message of the given kind from JSON or MessagePack.

    Raises
    ------
    PacketError
        It is too large, or not such a message.
    """
    _check_size(payload)
    try:
        if payload[:1] == b"{" or (payload := _skip_space(payload))[:1] == b"{":
            return msgspec.json.decode(payload, type=kind)
        return msgspec.msgpack.decode(payload, type=kind)
    except _DECODE_ERRORS as error:
        raise PacketError(f"Not a message of kind {kind.__name__}: {_explain(payload, error)}") from None


def _skip_space(payload: bytes) -> bytes:
    """Return the payload without what may precede JSON: white space (RFC 8259), or UTF-8's byte order mark.

    None of these bytes begins a map of MessagePack.
    """
    return payload.removeprefix(BOM).lstrip(b" \t\r\n") if payload[:1] in BEFORE_JSON else payload


def _explain(payload: bytes, error: Exception) -> str:
    """Say what is wrong with a payload, in words of what was sent."""
    if payload[:1] == b"{" or payload[:1] in MAPS:
        return str(error)
    begins = f"it begins with {payload[:16]!r}" if payload else "it is empty"
    return f"{begins}, expected JSON, which begins with '{{', in UTF-8, or a map of MessagePack"


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise PacketError(f"A message must have at most {MAX_PAYLOAD} bytes: got {len(payload)}.")


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of all topics below one prefix.

    Raises
    ------
    ValueError
        The prefix is empty, has a wildcard, or starts or ends with a slash.
    """

    prefix: str = PREFIX

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^+#/\x00]+(/[^+#/\x00]+)*", self.prefix):
            raise ValueError(f"A topic prefix must be words joined by '/', without '+' or '#': got {self.prefix!r}.")

    def of(self, device: str, leaf: str) -> str:
        """Topic of one device; `device` may be "+" for all of them."""
        return f"{self.prefix}/{device}/{leaf}"

    def monitor_status(self, name: str) -> str:
        """Topic on which the monitor of that name says how it is."""
        return f"{self.prefix}/monitor/{name}/status"

    def forgotten(self, name: str) -> str:
        """Topic on which the monitor of that name says which devices were forgotten."""
        return f"{self.prefix}/monitor/{name}/forgotten"

    def parse_forgotten(self, topic: str) -> str | None:
        """Return which monitor says on a topic that a device was forgotten; None if it is none of these topics."""
        before, after = self.forgotten("\n").split("\n")
        is_one = topic.startswith(before) and topic.endswith(after) and len(topic) > len(before) + len(after)
        return topic[len(before) : -len(after)] if is_one else None

    def request(self, name: str, verb: str) -> str:
        """Topic of requests to the monitor of that name; `verb` may be "+" for all of them."""
        return f"{self.prefix}/monitor/{name}/request/{verb}"

    def answer(self, name: str, client: str) -> str:
        """Topic on which a client of that name may have the monitor's answers; see `Request.response_topic`."""
        return f"{self.prefix}/monitor/{name}/answer/{client}"

    def parse_request(self, topic: str, name: str) -> str | None:
        """Return what is asked of the monitor of that name on a topic; None if it is none of its requests."""
        before = self.request(name, "")
        return topic[len(before) :] if topic.startswith(before) else None

    def parse(self, topic: str) -> tuple[str, str]:
        """Return (device, leaf) of a device's topic.

        Raises
        ------
        PacketError
            It is none of ours, or the device id is not allowed.
        """
        head, _, rest = topic[len(self.prefix) :].partition("/")
        device, _, leaf = rest.partition("/")
        if head or not topic.startswith(self.prefix) or leaf not in LEAVES:
            raise PacketError(f"Unknown topic: got {topic[:200]!r}, expected {self.of('<device>', '<leaf>')}.")
        return check_device_id(device), leaf


LEAVES = ("info", "status", "samples", "truth", "beats", "alerts", "ack", "error", "state")
"""Last words of a device's topics."""


def check_device_id(device: str) -> str:
    """Return the id, or raise `PacketError` if it is not allowed."""
    if not _device_id.fullmatch(device):
        raise PacketError(f"A device id must match {DEVICE_ID}: got {device[:80]!r}.")
    return device


def check_name(name: str) -> str:
    """Return the name of a monitor, which must be like a device id, or raise `ValueError` if it is not."""
    if not _device_id.fullmatch(name):
        raise ValueError(f"A monitor's name must match {DEVICE_ID}: got {name[:80]!r}.")
    return name
