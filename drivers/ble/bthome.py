"""BTHome v2 (bthome.io/format, bthome.io/encryption): service data in, measurements out.

    plain       40  00 09     02 ca 09     03 bf 13
                │   └ packet  └ 25.06 °C   └ 50.55 %        objects: an id, then octets whose number the id tells
                └ device information: bit 0 encrypted, bits 5-7 version

    encrypted   41  e4 45 f3 c9 96 2b  33 22 11 00  6c 7c 45 19
                    └ objects, AES-CCM └ counter,   └ MIC
                                         little-endian

A parser of bthome-ble is made for each advert and thrown away. It would keep the values of earlier adverts and give
them out again as new, and it lets an encryption counter below 100 start over; `drivers.ble.counter` does not.
"""

import struct
from datetime import datetime

from drivers.ble._parsers import ServiceInfo, bthome_object_sizes, bthome_parser
from drivers.ble.advert import Advert, uuid_16
from drivers.ble.decoded import Decoded, split_channel
from gateway.driver import FrameError, FrameReason
from gateway.profile import Measurement
from gateway.reading import Reason, Value

SERVICE_UUID = uuid_16(0xFCD2)
VERSION = 2
COUNTER_SIZE = MIC_SIZE = 4
ENCRYPTED_SIZE_MIN = 1 + 2 + COUNTER_SIZE + MIC_SIZE  # device information and one object of an octet

# BTHome gives these in two units under one name: the unit becomes part of ours, or millimetres would pass for metres.
TWO_UNITS = frozenset({"distance", "mass", "volume"})
BINARY = "binary:"  # a battery's level and its "low" are both called battery
NOT_MEASURED = "signal_strength"  # the parser adds it; a reading carries its own

# What a parser may trip over in octets from the air. Anything else is a bug of ours and shows.
PARSER_ERRORS = (ValueError, LookupError, TypeError, ArithmeticError, struct.error)


def decode_bthome(advert: Advert, bindkey: bytes | None = None) -> Decoded | None:
    """Return what a BTHome v2 advert says, None where it carries no BTHome at all.

    Args:
        advert: As heard.
        bindkey: The 16 octets the device encrypts with. With it only encrypted adverts are taken, without it only
            plain ones, and then each measurement says that anybody could have sent it.

    Raises:
        FrameError: TYPE: another version. KEY: plain though there is a bindkey, encrypted though there is none, or
            encrypted with another. MALFORMED: too short, or an object is cut off.
    """
    data = advert.service_data.get(SERVICE_UUID)
    if data is None:
        return None
    if not data:
        raise FrameError("", FrameReason.MALFORMED, "BTHome: no octets, expected device information")
    version, encrypted = data[0] >> 5, bool(data[0] & 1)
    if version != VERSION:
        raise FrameError("", FrameReason.TYPE, f"BTHome: version {version}, expected {VERSION}", frame=data, offset=0)
    if bindkey and not encrypted:
        raise FrameError("", FrameReason.KEY, "BTHome downgrade: plain advert of a device with a bindkey", frame=data)
    if encrypted and not bindkey:
        raise FrameError("", FrameReason.KEY, "BTHome: encrypted, and the device has no bindkey set", frame=data)
    if encrypted and len(data) < ENCRYPTED_SIZE_MIN:
        raise FrameError(
            "",
            FrameReason.MALFORMED,
            f"BTHome: {len(data)} octets, encrypted at least {ENCRYPTED_SIZE_MIN}",
            frame=data,
        )
    if not encrypted:
        _check_objects(data)
    measurements = _parse(advert, data, bindkey)
    counter = int.from_bytes(data[-COUNTER_SIZE - MIC_SIZE : -MIC_SIZE], "little") if encrypted else None
    return Decoded(measurements, identity=data, counter=counter)


def _check_objects(data: bytes) -> None:
    """Walk the objects of a plain advert: the parser passes over one that is cut off, and with it over garbage.

    An id it does not know ends the walk; what stands before is good (bthome.io/format: such ids come last).
    """
    sizes = bthome_object_sizes()
    offset = 7 if data[0] & 2 else 1  # bit 1, reserved today: old senders put their address first
    while offset < len(data):
        start, object_id = offset, data[offset]
        if object_id not in sizes:
            return
        size = sizes[object_id]
        offset += 1
        if size is None:
            size = data[offset] + 1 if offset < len(data) else 1
            if object_id == 0x3B:  # command: the low five bits count its arguments, an opcode stands before them
                size = (size - 1 & 0x1F) + 2
        offset += size
        if offset > len(data):
            raise FrameError(
                "",
                FrameReason.MALFORMED,
                f"BTHome: object 0x{object_id:02x} needs {offset - start} octets, {len(data) - start} are left",
                frame=data,
                offset=start,
            )


def _parse(advert: Advert, data: bytes, bindkey: bytes | None) -> list[Measurement]:
    parser = bthome_parser()(bindkey=bindkey)
    try:
        update = parser.update(
            ServiceInfo(  # type: ignore[arg-type]  # it has all the parser reads, see _parsers
                name=advert.local_name or advert.address,
                address=advert.address,
                rssi=advert.rssi_dbm,
                manufacturer_data={},
                service_data={SERVICE_UUID: data},
            )
        )
    except PARSER_ERRORS as error:
        raise FrameError(
            "", FrameReason.MALFORMED, f"BTHome: the parser gave up: {type(error).__name__}", frame=data
        ) from error
    if bindkey and parser.decryption_failed:
        raise FrameError("", FrameReason.KEY, "BTHome: the MIC does not hold under this bindkey", frame=data)
    reasons = Reason.NONE if bindkey else Reason.UNAUTHENTICATED
    measurements = []
    for key, sensor in update.entity_values.items():
        name, channel = split_channel(key.key)
        if name == NOT_MEASURED:
            continue
        if name in TWO_UNITS:
            name += f":{update.entity_descriptions[key].native_unit_of_measurement}"
        measurements.append(Measurement(name, _value(sensor.native_value), channel, reasons))
    for key, state in update.binary_entity_values.items():
        name, channel = split_channel(key.key)
        measurements.append(Measurement(BINARY + name, state.native_value, channel, reasons))
    return measurements


def _value(native: object) -> Value:
    """Return a parser's value as one of ours: a time becomes seconds since 1970."""
    if isinstance(native, datetime):
        return int(native.timestamp())
    return native if isinstance(native, float | int | str) else None
