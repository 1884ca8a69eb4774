"""What the ring remembers beside its rows: series, consumers, and the memory of drivers. Pure.

All of it is one table of items, octets to octets. A change is journaled in the append it came with; before a journal
page is freed, the items whose last change it holds are written again at the end. So the table needs no place of its
own, and the two regions protect it as they protect rows.

    item       key size 2 | key | value                                an empty value: the key is gone
    series     "S" number 2                  ->  decimals 1 (255 = none) | device, property, unit: size 2 | UTF-8 each
    consumer   "C" name                      ->  cursor 8 | first 8, last 8 of each range acknowledged above it
    memory     "M" key                       ->  "i" 8 octets, "s" UTF-8 or "b" octets
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.ring._rows import SERIES_MAX, SeriesKey

MemoryValue = int | str | bytes
"""What may be remembered under a key; see `VALUE_SIZE_MAX`."""

VALUE_SIZE_MAX = 4096  # octets of one remembered value
KEY_SIZE_MAX = 255  # octets of a memory key or a consumer's name
MEMORY_SIZE_MAX = 128 * 1024  # octets of all keys and values of the memory together
TABLE_SIZE_MAX = 256 * 1024  # octets of everything; a quarter of the journal is the tighter bound in small rings
RANGES_MAX = 64  # acknowledged ranges above a cursor; what does not fit is sent again, never lost
CONSUMERS_MAX = 32
ITEM_OVERHEAD = 16  # octets an item takes in a page beside key and value, rounded up

_KEY_SIZE = struct.Struct("<H")
_RANGE = struct.Struct("<QQ")
_CURSOR = struct.Struct("<Q")
_NO_DECIMALS = 255


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer: everything below ``cursor`` is acknowledged, and the ranges (inclusive, ascending) above it."""

    cursor: int
    ranges: tuple[tuple[int, int], ...] = ()

    def acknowledged(self, seq_first: int, seq_last: int) -> "Consumer":
        """Return the consumer after ``seq_first`` to ``seq_last`` (inclusive) were acknowledged."""
        cursor = self.cursor
        ranges = sorted([*self.ranges, (seq_first, seq_last)])
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if first <= cursor:
                cursor = max(cursor, last + 1)
            elif merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        if len(merged) > RANGES_MAX:
            merged.remove(min(merged, key=lambda stretch: stretch[1] - stretch[0]))
        return Consumer(cursor, tuple(merged))

    def encode(self) -> bytes:
        """Return the item's value."""
        return _CURSOR.pack(self.cursor) + b"".join(_RANGE.pack(*stretch) for stretch in self.ranges)

    @classmethod
    def decode(cls, octets: bytes) -> "Consumer":
        """Return the consumer an item's value stands for."""
        return cls(_CURSOR.unpack_from(octets)[0], tuple(_RANGE.iter_unpack(octets[_CURSOR.size :])))


def consumer_key(name: str) -> bytes:
    """Return the item key of a consumer."""
    return b"C" + name.encode()


def memory_key(key: str) -> bytes:
    """Return the item key of a memory key."""
    return b"M" + key.encode("utf-8", "surrogatepass")


def series_item(number: int, series: SeriesKey) -> tuple[bytes, bytes]:
    """Return key and value of a series."""
    *texts, decimals = series
    value = bytes((_NO_DECIMALS if decimals is None else decimals & 0xFF,))
    for text in texts:
        octets = str(text).encode("utf-8", "surrogatepass")
        value += _KEY_SIZE.pack(len(octets)) + octets
    return b"S" + _KEY_SIZE.pack(number), value


def _series_of(value: bytes) -> SeriesKey:
    texts: list[str] = []
    offset = 1
    for _ in range(3):
        (size,) = _KEY_SIZE.unpack_from(value, offset)
        offset += _KEY_SIZE.size
        texts.append(value[offset : offset + size].decode("utf-8", "surrogatepass"))
        offset += size
    return texts[0], texts[1], texts[2], None if value[0] == _NO_DECIMALS else value[0]


def encode_memory_value(key: str, value: MemoryValue) -> bytes:
    """Return the item value of something remembered.

    Raises:
        ValueError: It is too large, or of another type; ``key`` is for the message.
    """
    if isinstance(value, int):
        try:
            return b"i" + int(value).to_bytes(8, "little", signed=True)
        except OverflowError:
            raise ValueError(f"memory {key!r}: {value} needs more than 64 bits") from None
    if isinstance(value, str):
        octets = b"s" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes | bytearray | memoryview):
        octets = b"b" + bytes(value)
    else:
        raise ValueError(f"memory {key!r}: {type(value).__name__}, expected int, str or bytes")
    if len(octets) - 1 > VALUE_SIZE_MAX:
        raise ValueError(f"memory {key!r}: {len(octets) - 1} octets, at most {VALUE_SIZE_MAX}")
    return octets


def decode_memory_value(octets: bytes) -> MemoryValue:
    """Return what was remembered."""
    if octets[:1] == b"i":
        return int.from_bytes(octets[1:], "little", signed=True)
    if octets[:1] == b"s":
        return octets[1:].decode("utf-8", "surrogatepass")
    return octets[1:]


def encode_item(key: bytes, value: bytes) -> bytes:
    """Return a journal item."""
    return _KEY_SIZE.pack(len(key)) + key + value


def decode_item(octets: bytes) -> tuple[bytes, bytes]:
    """Return key and value of a journal item."""
    (size,) = _KEY_SIZE.unpack_from(octets)
    return octets[2 : 2 + size], octets[2 + size :]


class Table:
    """The items, and in which journal page the last change of each lies.

    Attributes:
        series: Names of each series by its number.
        consumers: Consumers by name.
        size: Octets of all items.
        memory_size: Octets of the memory among them.
    """

    def __init__(self) -> None:
        self.series: dict[int, SeriesKey] = {}
        self.numbers: dict[SeriesKey, int] = {}
        self.consumers: dict[str, Consumer] = {}
        self.size = 0
        self.memory_size = 0
        self.series_next = 1
        self._values: dict[bytes, bytes] = {}
        self._page_of: dict[bytes, int] = {}
        self._keys_in: dict[int, dict[bytes, None]] = {}

    def put(self, key: bytes, value: bytes, page_no: int) -> None:
        """Take over a change that lies in journal page ``page_no``."""
        before = self._values.get(key)
        if before is not None:
            self._count(key, before, -1)
        if value:
            self._values[key] = value
            self._count(key, value, +1)
        else:
            self._values.pop(key, None)
        self.move(key, page_no)
        kind = key[:1]
        if kind == b"S":
            (number,) = _KEY_SIZE.unpack(key[1:])
            names = _series_of(value)
            self.series[number] = names
            self.numbers[names] = number
            self.series_next = max(self.series_next, number + 1)
        elif kind == b"C":
            name = key[1:].decode()
            if value:
                self.consumers[name] = Consumer.decode(value)
            else:
                self.consumers.pop(name, None)

    def _count(self, key: bytes, value: bytes, sign: int) -> None:
        size = sign * (len(key) + len(value) + ITEM_OVERHEAD)
        self.size += size
        if key[:1] == b"M":
            self.memory_size += size

    def move(self, key: bytes, page_no: int) -> None:
        """Note that an item's last change now lies in another page; the removal of an item is a change too."""
        self.forget(key)
        self._page_of[key] = page_no
        self._keys_in.setdefault(page_no, {})[key] = None

    def forget(self, key: bytes) -> None:
        """Note that the last change of an item lies in no page any more."""
        page_no = self._page_of.pop(key, None)
        if page_no is not None:
            keys = self._keys_in[page_no]
            del keys[key]
            if not keys:
                del self._keys_in[page_no]

    def keys_in(self, page_no: int) -> list[bytes]:
        """Return the items whose last change lies in a page."""
        return list(self._keys_in.get(page_no, ()))

    def keys_from(self, page_no: int) -> list[bytes]:
        """Return the items whose last change lies in this page or a later one."""
        return [key for number, keys in self._keys_in.items() if number >= page_no for key in keys]

    def value(self, key: bytes) -> bytes:
        """Return an item's value, empty where there is none."""
        return self._values.get(key, b"")

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all items."""
        return list(self._values.items())

    def memory(self) -> dict[str, MemoryValue]:
        """Return all that drivers and others remember."""
        return {
            key[1:].decode("utf-8", "surrogatepass"): decode_memory_value(value)
            for key, value in self._values.items()
            if key[:1] == b"M"
        }

    def growth(self, changes: Mapping[bytes, bytes]) -> int:
        """Return by how many octets the table would grow."""
        grown = 0
        for key, value in changes.items():
            if value:
                grown += len(key) + len(value) + ITEM_OVERHEAD
            if key in self._values:
                grown -= len(key) + len(self._values[key]) + ITEM_OVERHEAD
        return grown

    @property
    def has_room_for_series(self) -> bool:
        """Tell whether another series can get a number."""
        return self.series_next <= SERIES_MAX
