"""A serial cable made of two pseudo-terminals: what goes in at one end comes out at the other.

        gateway end (a link)                                  sensor end (a link)
    <folder>/rs485-gateway -> /dev/pts/4 ══ master ⇄ master ══ /dev/pts/5 <- <folder>/rs485-sensor

Both ends are links with lasting names, as ``/dev/serial/by-id`` has for USB adapters, so that a cable can be pulled and
put back: the kernel hangs both terminals up, and new ones with other numbers take their place.
"""

import asyncio
import contextlib
import os
import pathlib
import pty
import tty
from types import TracebackType
from typing import Self

_CHUNK_SIZE = 4096  # octets; what the kernel's tty buffer holds


class Cable:
    """A null modem between the gateway and a sensor.

    Attributes:
        gateway_port: Path for the driver.
        sensor_port: Path for the emulated sensor.
        octet_count: Octets carried so far, both ways.
        dropped_count: Octets that found the far end's buffer full; a line without handshake drops them likewise.
    """

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.gateway_port = folder / f"{name}-gateway"
        self.sensor_port = folder / f"{name}-sensor"
        self.octet_count = 0
        self.dropped_count = 0
        self._fds: tuple[int, ...] = ()

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pull()

    def plug(self) -> None:
        """Make both ends. The cable must not be plugged in."""
        assert not self._fds, "the cable is plugged in"
        gateway_master, gateway_end = pty.openpty()
        sensor_master, sensor_end = pty.openpty()
        # This side's copies of the ends stay open: a terminal nobody has open would report a hang-up to its master.
        self._fds = (gateway_master, gateway_end, sensor_master, sensor_end)
        for end, link in ((gateway_end, self.gateway_port), (sensor_end, self.sensor_port)):
            tty.setraw(end)
            new = link.with_name(link.name + ".new")
            new.symlink_to(os.ttyname(end))
            new.replace(link)
        loop = asyncio.get_running_loop()
        for source, target in ((gateway_master, sensor_master), (sensor_master, gateway_master)):
            os.set_blocking(source, False)
            loop.add_reader(source, self._carry, source, target)

    def pull(self) -> None:
        """Take both ends away; whoever has one open sees a hang-up. May be called twice."""
        loop = asyncio.get_running_loop()
        fds, self._fds = self._fds, ()
        for fd in fds:
            loop.remove_reader(fd)
            os.close(fd)
        for link in (self.gateway_port, self.sensor_port):
            link.unlink(missing_ok=True)

    def _carry(self, source: int, target: int) -> None:
        with contextlib.suppress(BlockingIOError):
            octets = os.read(source, _CHUNK_SIZE)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                sent = os.write(target, octets)
            self.octet_count += sent
            self.dropped_count += len(octets) - sent
