"""The only module that asks the system what time it is."""

import ctypes
import os
import pathlib
import time
from dataclasses import dataclass
from typing import Protocol

TIME_ERROR = 5  # adjtimex(2): the kernel clock is not synchronised
_TIMEX_SIZE = 512  # octets; struct timex is 208 on 64-bit Linux, less on 32-bit
_BOOT_ID_PATH = pathlib.Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """One instant as the gateway knew it.

    Attributes:
        boot_id: 16 octets naming this boot of the machine (Linux ``boot_id``).
        boottime_ms: CLOCK_BOOTTIME, ms since that boot, suspend included.
        wall_ms: UTC estimate, ms since 1970.
        is_known: The wall clock was synchronised then.
    """

    boot_id: bytes
    boottime_ms: int
    wall_ms: int
    is_known: bool


class Clock(Protocol):
    """Where every part gets its time from; tests hand in one they can move."""

    def wall_ms(self) -> int:
        """Return UTC in ms since 1970, right or wrong (see `is_known`)."""
        ...

    def elapsed_s(self) -> float:
        """Return seconds of CLOCK_BOOTTIME: for durations and deadlines, never steps."""
        ...

    def is_known(self) -> bool:
        """Tell whether the wall clock is synchronised."""
        ...

    def stamp(self) -> TimeStamp:
        """Return this instant with boot id and clock state."""
        ...


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        try:
            self._boot_id = bytes.fromhex(_BOOT_ID_PATH.read_text().strip().replace("-", ""))
        except (OSError, ValueError):  # no /proc (ProtectProc, another system): a boot of our own
            self._boot_id = os.urandom(16)
        self._adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
        self._known = False
        self._known_checked_s = -1.0

    def wall_ms(self) -> int:
        """Return UTC in ms since 1970."""
        return time.time_ns() // 1_000_000

    def elapsed_s(self) -> float:
        """Return seconds of CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def is_known(self) -> bool:
        """Tell whether the kernel counts its clock as synchronised; asked of the kernel at most once a second."""
        now_s = self.elapsed_s()
        if now_s - self._known_checked_s >= 1.0:
            self._known_checked_s = now_s
            self._known = self._ask_kernel()
        return self._known

    def stamp(self) -> TimeStamp:
        """Return this instant with boot id and clock state."""
        return TimeStamp(self._boot_id, round(self.elapsed_s() * 1000), self.wall_ms(), self.is_known())

    def _ask_kernel(self) -> bool:
        if self._adjtimex is None:
            return False
        state = self._adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))  # modes = 0: read only
        return bool(0 <= state < TIME_ERROR)


def utc_text(wall_ms: int) -> str:
    """Return ``2026-11-23T08:34:19.123Z`` for a UTC time in ms since 1970."""
    seconds, ms = divmod(wall_ms, 1000)
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}Z"
    except (OverflowError, ValueError, OSError):  # a year no calendar knows; still show the number
        return f"{wall_ms} ms"
