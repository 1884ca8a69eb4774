"""One advert as the radio heard it: frozen, uninterpreted. Also how an advert in hex is read.

An advert is a row of structures (Bluetooth Core 5.4, volume 3, part C, 11):

    02 01 06        1b ff 99 04 05 12 fc …        0a 16 d2 fc 40 02 c4 09 …
    │  │  └ data    │  │  └──┴ company 0x0499     │  │  └──┴ service 0xfcd2
    │  └ type       │  └ manufacturer data        │  └ service data
    └ length        └ length                      └ length
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.driver import FrameError, FrameReason

TYPE_SHORT_NAME, TYPE_NAME = 0x08, 0x09
TYPE_SERVICE_DATA_16 = 0x16
TYPE_MANUFACTURER_DATA = 0xFF
_BASE_UUID = "0000{:04x}-0000-1000-8000-00805f9b34fb"  # how BlueZ and bleak write a 16-bit UUID


@dataclass(frozen=True, slots=True)
class Advert:
    """What one reception says.

    Attributes:
        address: ``A4:C1:38:12:34:56``, upper case.
        rssi_dbm: Received signal strength.
        manufacturer_data: Octets by company number.
        service_data: Octets by UUID in full length, lower case.
        local_name: Name it gives itself, empty if none.
    """

    address: str
    rssi_dbm: int = -60
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    service_data: Mapping[str, bytes] = field(default_factory=dict)
    local_name: str = ""


def uuid_16(number: int) -> str:
    """Return the full UUID of a 16-bit one: ``0xFCD2`` is ``0000fcd2-0000-1000-8000-00805f9b34fb``."""
    return _BASE_UUID.format(number)


def read_advert(octets: bytes, address: str) -> Advert:
    """Return the advert whose structures are ``octets``, as profile examples and bench tools show them.

    Raises:
        FrameError: A structure is longer than what is left.
    """
    manufacturer_data: dict[int, bytes] = {}
    service_data: dict[str, bytes] = {}
    name = ""
    offset = 0
    while offset < len(octets) and octets[offset]:  # a length of zero ends the advert early
        end = offset + 1 + octets[offset]
        if end > len(octets):
            raise FrameError(
                "",
                FrameReason.MALFORMED,
                f"advert of {len(octets)} octets, its structure at {offset} ends at {end}",
                frame=octets,
                offset=offset,
            )
        kind, data = octets[offset + 1], octets[offset + 2 : end]
        if kind == TYPE_MANUFACTURER_DATA and len(data) >= 2:
            manufacturer_data[int.from_bytes(data[:2], "little")] = data[2:]
        elif kind == TYPE_SERVICE_DATA_16 and len(data) >= 2:
            service_data[uuid_16(int.from_bytes(data[:2], "little"))] = data[2:]
        elif kind in (TYPE_SHORT_NAME, TYPE_NAME):
            name = data.decode("utf-8", "replace")
        offset = end
    return Advert(address, manufacturer_data=manufacturer_data, service_data=service_data, local_name=name)


def read_hex(digits: str) -> bytes:
    """Return the octets of an advert in hexadecimal, blanks and a leading ``0x`` allowed.

    Raises:
        FrameError: There is something else in it.
    """
    try:
        return bytes.fromhex(digits.strip().removeprefix("0x"))
    except ValueError:
        raise FrameError("", FrameReason.MALFORMED, f'"{digits[:40]}" is no advert in hexadecimal') from None


def same_address(address: str) -> str:
    """Return an address in the one form used here: ``a4-c1-38-12-34-56`` is ``A4:C1:38:12:34:56``."""
    return address.upper().replace("-", ":")
