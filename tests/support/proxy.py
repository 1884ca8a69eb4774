"""A TCP proxy that can swallow, so that a connection is half open: alive for TCP, dead for us."""

import asyncio
import contextlib


class SwallowingProxy:
    """Forwards both ways until told to swallow; then it reads on, answers nothing and forwards nothing."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallowing: set[int] = set()
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> "SwallowingProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self) -> None:
        """Make every connection that exists now half open; later ones work."""
        self._swallowing.update(range(self.connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            with contextlib.closing(writer), contextlib.closing(far_writer), contextlib.suppress(OSError):
                pumps = [self._pump(number, reader, far_writer), self._pump(number, far_reader, writer)]
                done, rest = await asyncio.wait(map(asyncio.ensure_future, pumps), return_when=asyncio.FIRST_COMPLETED)
                for pump in rest:
                    pump.cancel()
                await asyncio.gather(*done, *rest, return_exceptions=True)
        finally:
            self._tasks.discard(task)

    async def _pump(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65536):
            if number not in self._swallowing:
                writer.write(octets)
                await writer.drain()
