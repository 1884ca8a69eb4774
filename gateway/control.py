"""The control socket: one JSON request a line in, one JSON answer a line out. `litfass status` speaks it.

It lies in the service's own folder and is open to its owner and group only; it answers questions and changes nothing.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping

REQUEST_SIZE_MAX = 4096  # octets of one request line
REQUEST_TIMEOUT_S = 10.0  # a client that says nothing is let go
CLIENTS_MAX = 8  # technicians at once
PATH_SIZE_MAX = 107  # octets; sockaddr_un holds no longer path

Handler = Callable[[], object]


@contextlib.asynccontextmanager
async def serve_control(path: pathlib.Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer requests named as in ``handlers`` on the Unix socket ``path`` while the context is open.

    Raises:
        OSError: The socket cannot be made, for example because its path is longer than ``PATH_SIZE_MAX``.
    """
    if len(os.fsencode(path)) > PATH_SIZE_MAX:
        raise OSError(f"the path of the control socket is longer than {PATH_SIZE_MAX} octets: {path}")
    clients: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(clients) >= CLIENTS_MAX:
            writer.close()
            return
        clients.add(writer)
        try:
            with contextlib.suppress(TimeoutError, OSError, ValueError):  # ValueError: a line beyond the limit
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    line = await reader.readline()
                    writer.write(json.dumps(_answer(line, handlers), ensure_ascii=False).encode() + b"\n")
                    await writer.drain()
        finally:
            clients.discard(writer)
            writer.close()

    path.unlink(missing_ok=True)  # a killed service leaves its socket; the ring's lock keeps two from running
    server = await asyncio.start_unix_server(answer, path, limit=REQUEST_SIZE_MAX)
    path.chmod(0o660)
    try:
        yield
    finally:
        server.close()
        for writer in list(clients):
            writer.close()
        path.unlink(missing_ok=True)


def _answer(line: bytes, handlers: Mapping[str, Handler]) -> dict[str, object]:
    try:
        request = json.loads(line)
        name = request["request"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"error": 'expected one line such as {"request": "status"}'}
    handler = handlers.get(name) if isinstance(name, str) else None
    if handler is None:
        return {"error": f"unknown request; known: {', '.join(sorted(handlers))}"}
    return {"result": handler()}


def ask(path: pathlib.Path, request: str, timeout_s: float = 5.0) -> object:
    """Return the running service's answer to ``request``.

    Raises:
        OSError: No service listens there.
        RuntimeError: It does not know the request.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(os.fspath(path))
        connection.sendall(json.dumps({"request": request}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise OSError("the service hung up")
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]
