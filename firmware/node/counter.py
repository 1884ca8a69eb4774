"""The frame counter: survives power loss and never goes back, because a counter used twice gives the keys' work away.

The file holds the first counter that is *not* yet reserved. `next` reserves a stretch by writing its end before it
hands out the stretch's first counter. Power loss then skips what was left of the stretch, and flash is written once
in `STRETCH` frames only.

    | next free, 4 octets big endian | the same, every bit turned |
"""

import os

from micropython import const

STRETCH = const(64)  # frames a write; skipped ones look like lost frames to the network, which bears 16384

_F_CNT_MAX = const(0xFFFFFFFF)
_SIZE = const(8)
_ENOENT = const(2)


class CounterError(Exception):
    """The counter cannot be trusted or is used up: the node must not send under these keys."""


class FrameCounter:
    """The counter kept in one file (and ``<file>.new`` while it is written)."""

    def __init__(self, path: str) -> None:
        """Read the file; without one, this is a node's first start.

        Raises:
            CounterError: The file is damaged.
        """
        self._path = path
        self._next = self._read()
        self._reserved = self._next

    def next(self) -> int:
        """Return a counter never returned before, also not before a power loss.

        Raises:
            CounterError: All are used up.
        """
        f_cnt = self._next
        if f_cnt >= _F_CNT_MAX:  # the last one stays unused: the file then says "none left"
            raise CounterError("all frame counters are used up: give the node new keys")
        if f_cnt >= self._reserved:
            reserved = min(f_cnt + STRETCH, _F_CNT_MAX)
            self._write(reserved)
            self._reserved = reserved
        self._next = f_cnt + 1
        return f_cnt

    def _read(self) -> int:
        try:
            with open(self._path, "rb") as file:
                octets = file.read()
        except OSError as error:
            if error.errno == _ENOENT:
                return 0
            raise
        number = int.from_bytes(octets[:4], "big")
        if len(octets) != _SIZE or number ^ int.from_bytes(octets[4:], "big") != _F_CNT_MAX:
            raise CounterError(f"{self._path} is damaged: give the node new keys, or write a higher counter")
        return number

    def _write(self, number: int) -> None:
        """Replace the file; rename is atomic on littlefs and POSIX, so one of both versions is always whole."""
        with open(self._path + ".new", "wb") as file:
            file.write(number.to_bytes(4, "big") + (number ^ _F_CNT_MAX).to_bytes(4, "big"))
        os.rename(self._path + ".new", self._path)
