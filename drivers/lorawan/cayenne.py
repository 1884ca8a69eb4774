"""Cayenne Low Power Payload: channel, type, value, and so on to the end of the payload. Pure functions.

    octet   0        1      2 ...
            channel  type   value, big endian, as long as the type says     (then the next channel)

The types are those of myDevices' Cayenne LPP 2.0 and the further IPSO objects that the common Arduino library
(ElectronicCats CayenneLPP) adds under the same scheme. Nothing in a payload tells how long an unknown type is, so one
unknown octet spoils the rest; then the whole payload is refused and nothing of it guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.driver import FrameError, FrameReason, integer, setting, text
from gateway.profile import Decoder, Measurement, Profile
from gateway.reading import Value


@dataclass(frozen=True, slots=True)
class _Part:
    """One number inside a value: ``digits`` decimal places are shifted out, then it is multiplied by ``factor``."""

    name: str
    size: int
    signed: bool = False
    digits: int = 0
    factor: Decimal = Decimal(1)
    is_truth: bool = False


def _one(name: str, size: int, digits: int = 0, *, signed: bool = False) -> tuple[_Part, ...]:
    return (_Part(name, size, signed, digits),)


def _axes(name: str, digits: int) -> tuple[_Part, ...]:
    return tuple(_Part(f"{name}_{axis}", 2, True, digits) for axis in "xyz")


_TYPES: dict[int, tuple[_Part, ...]] = {
    0: _one("digital_input", 1),
    1: _one("digital_output", 1),
    2: _one("analog_input", 2, 2, signed=True),
    3: _one("analog_output", 2, 2, signed=True),
    100: _one("generic", 4),
    101: _one("illuminance", 2),  # lx
    102: (_Part("presence", 1, is_truth=True),),
    103: _one("temperature", 2, 1, signed=True),  # °C
    104: (_Part("humidity", 1, factor=Decimal("0.5")),),  # %
    113: _axes("accelerometer", 3),  # g
    115: _one("barometer", 2, 1),  # hPa
    116: _one("voltage", 2, 2),  # V
    117: _one("current", 2, 3),  # A
    118: _one("frequency", 4),  # Hz
    120: _one("percentage", 1),
    121: _one("altitude", 2, signed=True),  # m
    125: _one("concentration", 2),  # ppm of whatever the device measures
    128: _one("power", 2),  # W
    130: _one("distance", 4, 3),  # m
    131: _one("energy", 4, 3),  # kWh
    132: _one("direction", 2),  # °
    133: _one("unix_time", 4),  # s
    134: _axes("gyrometer", 2),  # °/s
    135: (_Part("colour_red", 1), _Part("colour_green", 1), _Part("colour_blue", 1)),
    136: (_Part("latitude", 3, True, 4), _Part("longitude", 3, True, 4), _Part("gps_altitude", 3, True, 2)),  # °, °, m
    142: (_Part("switch", 1, is_truth=True),),
}

NAMES = tuple(part.name for parts in _TYPES.values() for part in parts)
"""Everything a profile's ``[[field]] from`` may say."""


def decode(payload: bytes) -> list[Measurement]:
    """Return the measurements of one payload, in its order.

    Raises:
        FrameError: An unknown type, a value cut short, a truth value that is none, or the same value twice.
    """
    measurements: list[Measurement] = []
    seen: set[tuple[int, int]] = set()
    offset = 0
    while offset < len(payload):
        if len(payload) - offset < 2:
            raise _malformed(payload, offset, f"octet {offset}: a channel without a type")
        channel, kind = payload[offset : offset + 2]
        parts = _TYPES.get(kind)
        if parts is None:
            raise _malformed(payload, offset + 1, f"octet {offset + 1}: unknown Cayenne LPP type {kind}")
        if (channel, kind) in seen:
            raise _malformed(payload, offset, f"octet {offset}: channel {channel} type {kind} a second time")
        seen.add((channel, kind))
        offset += 2
        for part in parts:
            octets = payload[offset : offset + part.size]
            if len(octets) < part.size:
                message = f"octet {offset}: {part.name} of {len(octets)} octets, expected {part.size}"
                raise _malformed(payload, offset, message)
            measurements.append(Measurement(part.name, _value(part, octets, payload, offset), channel))
            offset += part.size
    return measurements


def _value(part: _Part, octets: bytes, payload: bytes, offset: int) -> Value:
    raw = int.from_bytes(octets, "big", signed=part.signed)
    if part.is_truth:
        if raw > 1:
            raise _malformed(payload, offset, f"octet {offset}: {part.name} {raw}, expected 0 or 1")
        return bool(raw)
    if part.digits == 0 and part.factor == 1:
        return raw
    return float(Decimal(raw).scaleb(-part.digits) * part.factor)  # exact: 27.2, not 27.200000000000003


def _malformed(payload: bytes, offset: int, message: str) -> FrameError:
    return FrameError("", FrameReason.MALFORMED, message, frame=payload, offset=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSettings:
    """A Cayenne field needs nothing beyond the common keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSettings:
    """What an ``[[example]]`` gives the decoder."""

    f_port: int = setting(integer(1, 223), default=1, key="fport", help="LoRaWAN port; Cayenne LPP does not mind which")
    payload: str = setting(
        text(r"([0-9A-Fa-f]{2}\s*){0,242}", "a payload of up to 242 octets in hexadecimal"),
        key="hex",
        help="the decrypted payload",
    )


def decode_uplink(profile: Profile, f_port: int, payload: bytes) -> Sequence[Measurement]:
    """Return the measurements of an uplink; whatever the port and profile, the payload explains itself."""
    del profile, f_port
    return decode(payload)


def _run_example(profile: Profile, example: ExampleSettings) -> Sequence[Measurement]:
    return decode_uplink(profile, example.f_port, bytes.fromhex(example.payload))


CAYENNE_LPP = Decoder("cayenne-lpp", FieldSettings, ExampleSettings, _run_example)
