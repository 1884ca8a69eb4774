"""Columns of whole numbers to octets and back: as narrow as the widest value, split into byte planes. Pure.

A plane holds the first octets of all values, the next one the second octets, and so on: what is alike lies together,
and deflate finds it.

    column  width 1 | planes
    width   0  all values equal 0, no planes
            1, 2, 4, 8  octets a value, two's complement
            + 16  one value follows, for all of them
"""

import array
import itertools
from collections.abc import Sequence

from gateway.errors import LitfassError

TYPECODES = {1: "b", 2: "h", 4: "i", 8: "q"}
CONSTANT = 16


class ColumnError(LitfassError):
    """Octets that are no column; their checksum held, so it is a bug or a newer writer."""


def width_of(low: int, high: int) -> int:
    """Return the octets that hold every value from ``low`` to ``high``."""
    if low >= -128 and high <= 127:
        return 1
    if low >= -32_768 and high <= 32_767:
        return 2
    if low >= -(1 << 31) and high < 1 << 31:
        return 4
    return 8


def to_planes(values: Sequence[int], width: int) -> bytes:
    """Return the byte planes of values that fit ``width`` octets."""
    octets = array.array(TYPECODES[width], values).tobytes()
    if width == 1:
        return octets
    return b"".join([octets[plane::width] for plane in range(width)])


def from_planes(octets: bytes, offset: int, count: int, width: int) -> "array.array[int]":
    """Return ``count`` values whose planes start at ``offset``."""
    values = array.array(TYPECODES[width])
    if offset + count * width > len(octets):
        raise ColumnError("a column ends early")
    if width == 1:
        values.frombytes(octets[offset : offset + count])
        return values
    woven = bytearray(count * width)
    for plane in range(width):
        woven[plane::width] = octets[offset + plane * count : offset + (plane + 1) * count]
    values.frombytes(woven)
    return values


def encode_column(values: Sequence[int]) -> bytes:
    """Return a column that says itself how wide it is."""
    low, high = min(values, default=0), max(values, default=0)
    if low == high:
        return b"\0" if low == 0 else bytes((CONSTANT + 8,)) + low.to_bytes(8, "little", signed=True)
    width = width_of(low, high)
    return bytes((width,)) + to_planes(values, width)


class ColumnReader:
    """Takes columns off the front of a block's octets, one after the other."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.offset = 0

    def column(self, count: int) -> Sequence[int]:
        """Return the next column, which has ``count`` values."""
        head = self.take(1)[0]
        if head == 0:
            return [0] * count
        if head == CONSTANT + 8:
            return [int.from_bytes(self.take(8), "little", signed=True)] * count
        if head not in TYPECODES:
            raise ColumnError(f"a column of width {head}")
        return self.planes(count, head)

    def planes(self, count: int, width: int) -> "array.array[int]":
        """Return the next ``count`` values of known width."""
        values = from_planes(self.octets, self.offset, count, width)
        self.offset += count * width
        return values

    def take(self, size: int) -> bytes:
        """Return the next octets as they are."""
        octets = self.octets[self.offset : self.offset + size]
        if len(octets) != size:
            raise ColumnError("a block ends early")
        self.offset += size
        return octets


def running_sum(first: int, deltas: Sequence[int]) -> "itertools.accumulate[int]":
    """Return ``first`` and the values that follow it by ``deltas``."""
    return itertools.accumulate(deltas, initial=first)
