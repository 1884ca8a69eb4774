"""A Modbus slave that does what a script says, at the far end of a cable; owes nothing to pymodbus or our own code."""

import asyncio
import os
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.serial.cable import Cable

REQUEST_SIZE = 8
Answer = bytes | tuple[float, bytes] | None
"""Octets now, octets after a delay in seconds, or silence."""


def crc16(octets: bytes) -> bytes:
    """CRC as in MODBUS over Serial Line V1.02, 6.2.2: bit by bit, low octet first."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


def framed(*octets: int) -> bytes:
    """A frame of these octets and their CRC."""
    body = bytes(octets)
    return body + crc16(body)


def registers_answer(request: bytes) -> bytes:
    """The right answer of a device each of whose registers holds 1000 x unit + its own address."""
    unit, function, address, count = struct.unpack(">BBHH", request[:6])
    words = [(1000 * unit + address + i) % 65536 for i in range(count)]
    return framed(unit, function, 2 * count, *struct.pack(f">{count}H", *words))


class ScriptedSlave:
    """Answers each request as ``script(request, index)`` says; requests are cut at their fixed length.

    Attributes:
        requests: All requests heard, whole frames.
    """

    def __init__(self, cable: Cable, script: Callable[[bytes, int], Answer]) -> None:
        self.requests: list[bytes] = []
        self._cable = cable
        self._script = script
        self._heard = bytearray()
        self._fd = -1
        self._timers: list[asyncio.TimerHandle] = []

    async def __aenter__(self) -> Self:
        self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def listen(self) -> None:
        """Listen at the cable as it is plugged now."""
        self._fd = self._cable.far_fd
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def leave(self) -> None:
        """Stop listening; answers still due are not given."""
        for timer in self._timers:
            timer.cancel()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = -1

    def units(self) -> list[int]:
        """The units asked, in order."""
        return [request[0] for request in self.requests]

    def _on_readable(self) -> None:
        try:
            self._heard += os.read(self._fd, 4096)
        except OSError:
            self.leave()
            return
        while len(self._heard) >= REQUEST_SIZE:
            request = bytes(self._heard[:REQUEST_SIZE])
            del self._heard[:REQUEST_SIZE]
            self.requests.append(request)
            answer = self._script(request, len(self.requests) - 1)
            if isinstance(answer, tuple):
                delay_s, octets = answer
                self._timers.append(asyncio.get_running_loop().call_later(delay_s, self._write, octets))
            elif answer:
                self._write(answer)

    def _write(self, octets: bytes) -> None:
        if self._fd >= 0:
            os.write(self._fd, octets)
