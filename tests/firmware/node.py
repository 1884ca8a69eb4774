"""Runs the node's own functions on the real MicroPython, many calls in one process.

results = on_node([("line.crc16", b"123456789"), ...])      # 0x29b1, ...; an exception comes as "ValueError: ..."
"""

import json
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from drivers.simulated.node import micropython_command
from firmware import NODE_DIR

MICROPYTHON = micropython_command() or []
needs_micropython = pytest.mark.skipif(not MICROPYTHON, reason="no MicroPython for this machine")
RUNNER = pathlib.Path(__file__).with_name("runner.mpy")
TIMEOUT_S = 60


def on_node(calls: Sequence[tuple[object, ...]]) -> list[Any]:
    """Return the result of each ``("module.function", argument, ...)``; octets may go in and come back."""
    done = subprocess.run(
        [*MICROPYTHON, RUNNER],
        input=json.dumps([[_pack(word) for word in call] for call in calls]),
        cwd=NODE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return [_unpack(result) for result in json.loads(done.stdout)]


def _pack(value: object) -> object:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _unpack(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
