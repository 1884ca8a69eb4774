"""Readings for tests, and media that fail."""

import errno
import random
from collections.abc import Sequence

from gateway.clock import TimeStamp
from gateway.reading import Quality, Reading, Value
from gateway.ring import Gap, Record, Ring
from gateway.ring._ring import format_medium

START_MS = 1_780_000_000_000
BOOT_ID = bytes(range(16))


def stamp(wall_ms: int = START_MS, *, known: bool = True) -> TimeStamp:
    return TimeStamp(BOOT_ID, wall_ms - 1_700_000_000_000, wall_ms, known)


def reading(number: int, value: Value = None, *, device: str = "pegel", decimals: int | None = 2) -> Reading:
    time_ms = START_MS + number * 1000
    worth = number / 100 if value is None else value
    return Reading(device, "water_level", worth, "m", time_ms, time_ms, decimals, Quality.PASS)


def many(first: int, count: int) -> list[Reading]:
    return [reading(number) for number in range(first, first + count)]


def noisy(rng: random.Random, first: int, count: int) -> list[Reading]:
    """Readings that fill slots quickly: floats that cannot be made smaller."""
    return [reading(number, rng.random(), device=f"d-{number % 7}") for number in range(first, first + count)]


def fill(ring: Ring, rng: random.Random, count: int, *, first: int = 0) -> list[Reading]:
    """Append and sync so many noisy readings in pieces."""
    readings = noisy(rng, first, count)
    for start in range(0, count, 100):
        ring.append(readings[start : start + 100], stamp())
        ring.sync()
    return readings


def read_all(ring: Ring) -> list[Record | Gap]:
    return ring.read(0, 10**9)


def records(items: Sequence[Record | Gap]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def gaps(items: Sequence[Record | Gap]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def assert_joined(items: Sequence[Record | Gap], end: int) -> None:
    """I3: from 0 to ``end`` without a hole."""
    position = 0
    for item in items:
        first = item.seq if isinstance(item, Record) else item.seq_first
        assert first == position
        position = item.seq + 1 if isinstance(item, Record) else item.seq_last + 1
    assert position == end


class FailingMedium:
    """A medium in memory whose calls can be made to fail."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.octets = bytearray(size)
        self.sync_errors = 0  # so many syncs fail; -1: all
        self.error = errno.EIO
        self.write_fails = False
        self.short_writes = False
        self.lost: list[tuple[int, bytes]] = []  # what the kernel dropped when a sync failed
        self._unsynced: list[tuple[int, bytes]] = []
        self.writes = 0
        self.syncs = 0
        format_medium(self)

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self.octets[offset : offset + size])

    def pwrite(self, octets: bytes, offset: int) -> int:
        if self.write_fails:
            raise OSError(self.error, "injected")
        count = max(1, len(octets) // 2) if self.short_writes else len(octets)
        self._unsynced.append((offset, bytes(self.octets[offset : offset + count])))
        self.octets[offset : offset + count] = octets[:count]
        self.writes += 1
        return count

    def sync(self) -> None:
        self.syncs += 1
        if self.sync_errors:
            self.sync_errors -= self.sync_errors > 0
            for offset, before in reversed(self._unsynced):  # as Linux does: dropped, and called clean
                self.octets[offset : offset + len(before)] = before
            self._unsynced.clear()
            raise OSError(self.error, "injected")
        self._unsynced.clear()

    def size(self) -> int:
        return len(self.octets)

    def close(self) -> None:
        pass
