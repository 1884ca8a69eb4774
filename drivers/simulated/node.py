"""The sensor node of ``firmware/node``, run on MicroPython's unix port as a process of its own."""

import asyncio
import contextlib
import importlib.util
import json
import pathlib
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from firmware import NODE_DIR

STOP_TIMEOUT_S = 2.0  # a node has nothing to save; one that does not end at SIGTERM is killed
_SENT = re.compile(rb"sent f_cnt=(\d+) ")
# `python -m micropython_unix` would lose the exit code
_RUN_PACKAGED = "import sys, micropython_unix; sys.argv[0] = 'micropython'; sys.exit(micropython_unix.main())"


def micropython_command() -> list[str] | None:
    """Return how to start MicroPython here: from the packages, else from PATH; None where there is none."""
    if importlib.util.find_spec("micropython_unix"):
        return [sys.executable, "-c", _RUN_PACKAGED]
    installed = shutil.which("micropython")
    return [installed] if installed else None


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """What node and gateway share, in hexadecimal as in both their settings."""

    dev_addr: str
    nwk_skey: str
    app_skey: str


class Node:
    """One running sensor node.

    Attributes:
        f_cnts: Frame counters of the frames it wrote to the line, in order.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.f_cnts: list[int] = []
        self.last_words = ""
        self._process = process

    async def run(self) -> None:
        """Take note of what the node tells, until it ends.

        Raises:
            RuntimeError: It ended by itself; the message is its last line.
        """
        assert self._process.stdout
        async for line in self._process.stdout:
            if match := _SENT.match(line):
                self.f_cnts.append(int(match[1]))
            elif line.strip():
                self.last_words = line.decode(errors="replace").strip()
        code = await self._process.wait()
        if code > 0:
            raise RuntimeError(f"the sensor node ended with exit code {code}: {self.last_words}")

    async def stop(self) -> None:
        """End the process. What it wrote to the line by then is in `f_cnts` once `run` returns."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def running_node(
    folder: pathlib.Path, port: pathlib.Path, keys: NodeKeys, *, every_s: float, frames: int = 0
) -> AsyncIterator[Node]:
    """Start a sensor node, and end it on the way out.

    Args:
        folder: Where its settings and its frame counter are kept.
        port: Its end of the line.
        keys: Address and keys.
        every_s: How often it sends, in seconds.
        frames: It ends after so many frames; 0: never.
    """
    command = micropython_command()
    assert command, "no MicroPython here"
    settings = folder / "node.json"
    settings.write_text(
        json.dumps(
            {
                "port": str(port),
                "dev_addr": keys.dev_addr,
                "nwk_skey": keys.nwk_skey,
                "app_skey": keys.app_skey,
                "every_ms": round(every_s * 1000),
                "counter": str(folder / "f_cnt"),
                "frames": frames,
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        str(NODE_DIR / "main.py"),
        str(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the demo; it ends its sensors in order
    )
    node = Node(process)
    try:
        yield node
    finally:
        await node.stop()
