"""A serial line: octets in, octets out, and the moment it is gone. What they mean is a driver's business.

    async with await SerialLine.open("/dev/serial/by-id/usb-FTDI_…", baudrate=9600) as line:
        line.reset_input()
        await line.write(request)
        octets = await line.read(256)

A pulled cable closes the descriptor at once, so that the kernel can give the name away again; whoever reads or writes
then gets LinkError(LOST), and the supervisor opens the same by-id path anew, whatever tty it now leads to.
"""

import asyncio
import contextlib
import errno
import grp
import os
import termios
from types import TracebackType
from typing import Self

import serial

from gateway.driver import LinkError, LinkReason

BUFFER_SIZE_MAX = 4096  # octets waiting for a reader: what the kernel's tty buffer holds too; beyond, reading pauses
PRESENCE_CHECK_S = 2.0  # how soon a link that now leads to another adapter is noticed; one stat(2) each time

_BUSY_ERRNO = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)
_DENIED_ERRNO = (errno.EACCES, errno.EPERM)


class SerialLine:
    """One open serial port, held exclusively.

    Attributes:
        name: What errors and logs call it.
        port: Path it was opened by.
        detail: For people: ``/dev/serial/by-id/… (ttyUSB0) at 9600 8N1``.
    """

    def __init__(self, port: serial.Serial, name: str, presence_check_s: float = PRESENCE_CHECK_S) -> None:
        """Take over an open pyserial port; use `open` instead."""
        self.name = name
        self.port = str(port.port)
        real = os.path.realpath(self.port)
        alias = "" if real == self.port else f" ({real.removeprefix('/dev/')})"
        self.detail = f"{self.port}{alias} at {port.baudrate} {port.bytesize}{port.parity}{port.stopbits:g}"
        self._serial: serial.Serial | None = port
        self._fd: int = port.fileno()
        self._rdev = os.fstat(self._fd).st_rdev
        self._buffer = bytearray()
        self._fault = "closed"
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._loop = asyncio.get_running_loop()
        self._presence_check_s = presence_check_s
        self._presence_timer = self._loop.call_later(presence_check_s, self._check_presence)
        self._loop.add_reader(self._fd, self._on_readable)

    @classmethod
    async def open(
        cls,
        port: str,
        *,
        baudrate: int = 9600,
        bytesize: int = 8,
        parity: str = "N",
        stopbits: float = 1,
        name: str = "",
        presence_check_s: float = PRESENCE_CHECK_S,
    ) -> Self:
        """Open ``port`` and lock it. Off the loop: some adapters take seconds.

        Args:
            port: A device path, at best below ``/dev/serial/by-id`` or ``by-path``.
            baudrate: Bits per second.
            bytesize: Data bits, 5 to 8.
            parity: ``N``, ``E`` or ``O``.
            stopbits: 1, 1.5 or 2.
            name: What errors call the line; the port's path if empty.
            presence_check_s: How often to look whether ``port`` still leads to this adapter, in seconds.

        Raises:
            LinkError: It is absent, denied, held by another process, or refuses these settings.
        """
        link = name or port

        def open_port() -> serial.Serial:
            return serial.Serial(
                port,
                baudrate,
                bytesize,
                parity,
                stopbits,
                timeout=0,
                write_timeout=0,
                inter_byte_timeout=0,  # VMIN 1: a read that finds nothing says EAGAIN, and 0 octets mean hung up only
                exclusive=True,
            )

        opening = asyncio.ensure_future(asyncio.to_thread(open_port))
        try:
            opened = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread cannot be stopped: close what it may still open
            opening.add_done_callback(_close_opened)
            raise
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
            raise _open_error(link, port, error) from error
        return cls(opened, link, presence_check_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Tell whether the descriptor is still held."""
        return self._serial is not None

    def close(self) -> None:
        """Give the port back. May be called twice."""
        self._close("closed")

    def reset_input(self) -> None:
        """Drop what arrived and was not read.

        Raises:
            LinkError: The line is gone.
        """
        self._raise_if_gone()
        self._buffer.clear()
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            self._lose(str(error))
            self._raise_if_gone()
        self._resume()

    async def read(self, size_max: int) -> bytes:
        """Return 1 to ``size_max`` octets, waiting for the first. One reader at a time; may be cancelled.

        Raises:
            LinkError: The line is gone. Octets that came before are handed out first.
        """
        assert size_max > 0
        while not self._buffer:
            self._raise_if_gone()
            assert self._waiter is None, "one reader at a time"
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        octets = bytes(self._buffer[:size_max])
        del self._buffer[:size_max]
        self._resume()
        return octets

    async def write(self, octets: bytes) -> None:
        """Hand all ``octets`` to the kernel; they leave at the line's speed. Cancelled, it may have sent a part.

        Raises:
            LinkError: The line is gone.
        """
        rest = memoryview(octets)
        while rest:
            self._raise_if_gone()
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._lose(str(error))

    async def _writable(self) -> None:
        assert self._write_waiter is None, "one writer at a time"
        self._write_waiter = self._loop.create_future()
        self._loop.add_writer(self._fd, _wake, self._write_waiter)
        try:
            await self._write_waiter
        finally:
            self._write_waiter = None
            if self.is_open:
                self._loop.remove_writer(self._fd)

    def _on_readable(self) -> None:
        try:
            octets = os.read(self._fd, BUFFER_SIZE_MAX - len(self._buffer))
        except BlockingIOError:
            return
        except OSError as error:  # EIO: the kernel hung the tty up
            self._lose(str(error))
            return
        if not octets:
            self._lose("end of file")
            return
        self._buffer += octets
        if len(self._buffer) >= BUFFER_SIZE_MAX:
            self._loop.remove_reader(self._fd)
            self._is_paused = True
        _wake(self._waiter)

    def _resume(self) -> None:
        if self._is_paused and self.is_open:
            self._is_paused = False
            self._loop.add_reader(self._fd, self._on_readable)

    def _check_presence(self) -> None:
        """Close when the path leads elsewhere: two adapters that swap names must not swap their meters."""
        try:
            is_same = os.stat(self.port).st_rdev == self._rdev
        except OSError as error:
            self._lose(str(error))
            return
        if not is_same:
            self._lose(f"{self.port} leads to another adapter now")
            return
        self._presence_timer = self._loop.call_later(self._presence_check_s, self._check_presence)

    def _lose(self, message: str) -> None:
        self._close(f"lost: {message}")

    def _close(self, fault: str) -> None:
        if self._serial is None:
            return
        self._presence_timer.cancel()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        closing, self._serial = self._serial, None
        self._fault = fault
        with contextlib.suppress(OSError):  # a hung-up tty may refuse even that; the descriptor is gone all the same
            closing.close()
        _wake(self._waiter)
        _wake(self._write_waiter)

    def _raise_if_gone(self) -> None:
        if self._serial is None:
            raise LinkError(self.name, LinkReason.LOST, self._fault)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _close_opened(opening: asyncio.Future[serial.Serial]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _open_error(link: str, port: str, error: Exception) -> LinkError:
    number = error.errno if isinstance(error, OSError) else None
    if number in _DENIED_ERRNO:
        return LinkError(link, LinkReason.DENIED, f"{port} may not be opened; {_group_hint(port)}")
    if number in _BUSY_ERRNO:
        return LinkError(link, LinkReason.BUSY, f"{port} is held by another process: fuser -v {port}")
    if isinstance(error, ValueError):
        return LinkError(link, LinkReason.DENIED, f"{port} refuses these settings: {error}")
    if not os.path.exists(port):
        return LinkError(link, LinkReason.ABSENT, f"{port} is not there: is the cable in? ls -l /dev/serial/by-id")
    return LinkError(link, LinkReason.ABSENT, f"{port} does not work as a serial port: {error}")


def _group_hint(port: str) -> str:
    try:
        gid = os.stat(port).st_gid
    except OSError:
        return "its folder is closed to this user"
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return f'it belongs to group "{group}": SupplementaryGroups={group} in the unit, or usermod -aG {group} USER'
