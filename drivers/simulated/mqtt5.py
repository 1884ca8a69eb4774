"""MQTT 5 packets as a broker sees them: octets <-> fields. Pure; OASIS MQTT Version 5.0, clauses in brackets.

    | type 4, flags 4 | remaining length, 1 to 4 octets | variable header | payload |        [2.1]

Only what a broker of quality 0 and 1 needs. The properties of a PUBLISH are handed on as they came: no property a
client may put there concerns a broker that offers neither topic aliases nor message expiry.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

PACKET_SIZE_MAX = 1 << 20  # octets, announced in CONNACK; a gateway's pack stays below 64 KiB
QOS_MAX = 1
_LENGTH_OCTETS_MAX = 4


class PacketType(enum.IntEnum):
    """MQTT control packet types [2.1.2]."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ReasonCode(enum.IntEnum):
    """The reason codes this broker uses [2.4]."""

    SUCCESS = 0x00
    DISCONNECT_WITH_WILL = 0x04
    NO_SUBSCRIPTION_EXISTED = 0x11
    MALFORMED_PACKET = 0x81
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    SERVER_SHUTTING_DOWN = 0x8B
    SESSION_TAKEN_OVER = 0x8E
    PACKET_TOO_LARGE = 0x95


class ProtocolError(Exception):
    """The peer broke the standard; ``code`` says how."""

    def __init__(self, code: ReasonCode, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Message:
    """An application message: what is published, kept, or left as a will.

    Attributes:
        topic: Without wildcards.
        payload: Any octets.
        qos: 0 or 1.
        is_retained: To be kept for later subscribers.
        properties: The PUBLISH properties, as on the wire, without their length.
    """

    topic: str
    payload: bytes
    qos: int
    is_retained: bool = False
    properties: bytes = b""


@dataclass(frozen=True, slots=True)
class Connect:
    """A client introduces itself [3.1]."""

    client_id: str
    is_clean_start: bool
    keepalive_s: int
    session_expiry_s: int
    receive_maximum: int
    will: Message | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Topic filters a client asks for, each with the highest quality it takes [3.8]."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


# ---- properties [2.2.2.2] --------------------------------------------------------------------------------------------

_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _WILL_DELAY, _TOPIC_ALIAS = 0x11, 0x21, 0x18, 0x23
_MAXIMUM_QOS, _MAXIMUM_PACKET_SIZE, _ASSIGNED_CLIENT_ID = 0x24, 0x27, 0x12


@dataclass
class Reader:
    """Reads fields from one packet's body [1.5].

    Raises:
        ProtocolError: A field goes beyond the end.
    """

    octets: bytes
    offset: int = 0

    @property
    def has_more(self) -> bool:
        """Tell whether anything is left."""
        return self.offset < len(self.octets)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` octets."""
        end = self.offset + size
        if end > len(self.octets):
            raise ProtocolError(ReasonCode.MALFORMED_PACKET, f"field ends at {end} of {len(self.octets)} octets")
        taken = self.octets[self.offset : end]
        self.offset = end
        return taken

    def number(self, size: int) -> int:
        """Return a big-endian integer."""
        return int.from_bytes(self.take(size), "big")

    def binary(self) -> bytes:
        """Return octets with their length in front."""
        return self.take(self.number(2))

    def text(self) -> str:
        """Return a UTF-8 string with its length in front."""
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(ReasonCode.MALFORMED_PACKET, str(error)) from error

    def variable_number(self) -> int:
        """Return a variable byte integer [1.5.5]."""
        result = 0
        for place in range(_LENGTH_OCTETS_MAX):
            octet = self.number(1)
            result |= (octet & 0x7F) << 7 * place
            if not octet & 0x80:
                return result
        raise ProtocolError(ReasonCode.MALFORMED_PACKET, "a variable byte integer of more than four octets")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self.octets) - self.offset)

    def properties(self, without: int = -1) -> tuple[bytes, dict[int, int]]:
        """Return a property block as it is, save one kind, and those of its properties that are numbers."""
        block = Reader(self.take(self.variable_number()))
        numbers: dict[int, int] = {}
        kept = bytearray()
        while block.has_more:
            start = block.offset
            kind = block.variable_number()
            if kind not in _PROPERTY_FIELDS:
                raise ProtocolError(ReasonCode.MALFORMED_PACKET, f"unknown property 0x{kind:02x}")
            value = _PROPERTY_FIELDS[kind](block)
            if isinstance(value, int):
                numbers[kind] = value
            if kind != without:
                kept += block.octets[start : block.offset]
        return bytes(kept), numbers


def _sized(size: int) -> Callable[[Reader], object]:
    return lambda reader: reader.number(size)


def _pair(reader: Reader) -> object:
    return reader.text(), reader.text()


_PROPERTY_FIELDS: dict[int, Callable[[Reader], object]] = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _sized(1)),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), _sized(2)),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), _sized(4)),
    **dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), Reader.text),
    **dict.fromkeys((0x09, 0x16), Reader.binary),
    0x0B: Reader.variable_number,
    0x26: _pair,
}


# ---- what clients send -----------------------------------------------------------------------------------------------


def read_connect(body: bytes) -> Connect:
    """Return a CONNECT.

    Raises:
        ProtocolError: It is malformed, or of another version.
    """
    reader = Reader(body)
    name, version, flags = reader.text(), reader.number(1), reader.number(1)
    if (name, version) != ("MQTT", 5):
        raise ProtocolError(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, f"{name!r} {version}: expected MQTT 5")
    keepalive_s = reader.number(2)
    _, numbers = reader.properties()
    client_id = reader.text()
    will = None
    if flags & 0x04:
        properties, _ = reader.properties(without=_WILL_DELAY)  # that one concerns the broker alone [3.1.3.2.2]
        topic, payload = reader.text(), reader.binary()
        will = Message(topic, payload, min(flags >> 3 & 3, QOS_MAX), bool(flags & 0x20), properties)
    return Connect(
        client_id,
        bool(flags & 0x02),
        keepalive_s,
        numbers.get(_SESSION_EXPIRY, 0),
        numbers.get(_RECEIVE_MAXIMUM, 0xFFFF),
        will,
    )


def read_publish(flags: int, body: bytes) -> tuple[int, Message]:
    """Return a PUBLISH as packet id (0 at quality 0) and message.

    Raises:
        ProtocolError: It is malformed, of quality 2, or uses a topic alias: this broker offers neither.
    """
    reader = Reader(body)
    topic, qos = reader.text(), flags >> 1 & 3
    if qos > QOS_MAX or not topic or "+" in topic or "#" in topic:
        raise ProtocolError(ReasonCode.MALFORMED_PACKET, f"PUBLISH to {topic!r} with quality {qos}")
    packet_id = reader.number(2) if qos else 0
    properties, numbers = reader.properties()
    if _TOPIC_ALIAS in numbers:
        raise ProtocolError(ReasonCode.MALFORMED_PACKET, "a topic alias, though none was offered")
    return packet_id, Message(topic, reader.rest(), qos, bool(flags & 1), properties)


def read_subscribe(body: bytes) -> Subscribe:
    """Return a SUBSCRIBE.

    Raises:
        ProtocolError: It is malformed or asks for nothing.
    """
    reader = Reader(body)
    packet_id = reader.number(2)
    reader.properties()
    filters = []
    while reader.has_more:
        filters.append((reader.text(), min(reader.number(1) & 3, QOS_MAX)))
    if not filters:
        raise ProtocolError(ReasonCode.MALFORMED_PACKET, "SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, tuple(filters))


def read_unsubscribe(body: bytes) -> tuple[int, tuple[str, ...]]:
    """Return packet id and filters of an UNSUBSCRIBE."""
    reader = Reader(body)
    packet_id = reader.number(2)
    reader.properties()
    filters = []
    while reader.has_more:
        filters.append(reader.text())
    return packet_id, tuple(filters)


def read_puback(body: bytes) -> int:
    """Return the packet id of a PUBACK; this broker sends nothing again for a refusal."""
    return Reader(body).number(2)


def read_disconnect(body: bytes) -> int:
    """Return the reason code of a DISCONNECT; an empty body means success."""
    return body[0] if body else int(ReasonCode.SUCCESS)


# ---- what the broker sends -------------------------------------------------------------------------------------------


@dataclass
class _Body:
    octets: bytearray = field(default_factory=bytearray)

    def number(self, value: int, size: int) -> "_Body":
        self.octets += value.to_bytes(size, "big")
        return self

    def text(self, value: str) -> "_Body":
        encoded = value.encode()
        return self.number(len(encoded), 2).raw(encoded)

    def raw(self, octets: bytes) -> "_Body":
        self.octets += octets
        return self

    def packet(self, kind: PacketType, flags: int = 0) -> bytes:
        return bytes([kind << 4 | flags]) + variable_number(len(self.octets)) + bytes(self.octets)


def variable_number(value: int) -> bytes:
    """Return a variable byte integer [1.5.5]."""
    octets = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        octets.append(low | 0x80 if value else low)
        if not value:
            return bytes(octets)


def connack(code: ReasonCode, *, is_session_present: bool = False, assigned_id: str = "") -> bytes:
    """Return a CONNACK that announces this broker's limits [3.2]."""
    properties = _Body().number(_MAXIMUM_QOS, 1).number(QOS_MAX, 1)
    properties.number(_MAXIMUM_PACKET_SIZE, 1).number(PACKET_SIZE_MAX, 4)
    if assigned_id:
        properties.number(_ASSIGNED_CLIENT_ID, 1).text(assigned_id)
    block = bytes(properties.octets)
    body = _Body().number(is_session_present, 1).number(code, 1)
    return body.raw(variable_number(len(block))).raw(block).packet(PacketType.CONNACK)


def publish(message: Message, packet_id: int, *, is_repeat: bool = False) -> bytes:
    """Return a PUBLISH [3.3]."""
    body = _Body().text(message.topic)
    if message.qos:
        body.number(packet_id, 2)
    body.raw(variable_number(len(message.properties))).raw(message.properties).raw(message.payload)
    return body.packet(PacketType.PUBLISH, is_repeat << 3 | message.qos << 1 | message.is_retained)


def acknowledgement(kind: PacketType, packet_id: int, codes: tuple[int, ...] = ()) -> bytes:
    """Return a PUBACK (no codes: success), SUBACK or UNSUBACK [3.4, 3.9, 3.11]."""
    body = _Body().number(packet_id, 2)
    return body.raw(b"\0" + bytes(codes) if codes else b"").packet(kind)


def pingresp() -> bytes:
    """Return a PINGRESP [3.13]."""
    return _Body().packet(PacketType.PINGRESP)


def disconnect(code: ReasonCode) -> bytes:
    """Return a DISCONNECT [3.14]."""
    return _Body().number(code, 1).packet(PacketType.DISCONNECT)


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic falls under a filter with ``+`` and ``#`` [4.7]."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for level, name in enumerate(wanted):
        if name == "#":
            return True
        if level >= len(found) or name not in ("+", found[level]):
            return False
    return len(wanted) == len(found)
