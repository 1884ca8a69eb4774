"""The gateway as systemd sees it: a process that says READY=1, has a control socket and is ended by signals."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

from gateway.control import ask

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0  # the contract's: DESIGN 2, `litfass run`
_POLL_S = 0.02
_MESSAGE_SIZE_MAX = 4096


class NotifySocket:
    """What systemd holds at the other end of NOTIFY_SOCKET; keeps every assignment in order."""

    def __init__(self) -> None:
        self.address = f"@litfass-test-{uuid.uuid4()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._said: list[str] = []
        self._alive_s = time.monotonic()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="notify", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while octets := self._socket.recv(_MESSAGE_SIZE_MAX):
            with self._changed:
                said = octets.decode().split("\n")
                self._said.extend(said)
                if "WATCHDOG=1" in said:
                    self._alive_s = time.monotonic()
                self._changed.notify_all()

    @property
    def said(self) -> list[str]:
        """Every assignment heard so far, such as ``READY=1``."""
        with self._changed:
            return list(self._said)

    def count(self, assignment: str) -> int:
        """How often ``assignment`` was heard."""
        return self.said.count(assignment)

    @property
    def silent_s(self) -> float:
        """For how many seconds ``WATCHDOG=1`` has not been heard."""
        with self._changed:
            return time.monotonic() - self._alive_s

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())  # an empty datagram ends the reader
        self._reader.join()
        self._socket.close()


class GatewayProcess:
    """``litfass run`` as a process of its own; may be started again after it ended.

    Attributes:
        config: Its settings file.
        log_path: What it wrote to stderr, over all its lives.
        notify: What it told systemd in its present life.
    """

    def __init__(
        self, config: pathlib.Path, *, module: str = "gateway", environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.log_path = config.with_suffix(".log")
        self._command: Sequence[str] = [sys.executable, "-m", module, "run", "--config", str(config)]
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_path = _control_socket(config)
        self.notify: NotifySocket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # ---- life ----------------------------------------------------------------------------------------------------

    def start(self, *, is_awaited: bool = True) -> None:
        """Start it and return once it says READY=1 (or at once)."""
        assert self._process is None, "it runs already"
        self.notify = NotifySocket()
        environment = {**os.environ, **self._environment, "NOTIFY_SOCKET": self.notify.address}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        if is_awaited:
            self.await_said("READY=1")

    def await_said(self, assignment: str, count: int = 1) -> None:
        """Return once it told systemd ``assignment`` for the ``count``-th time in this life."""
        notify = self.notify
        assert notify is not None
        self.until(lambda: notify.count(assignment) >= count, f"{assignment} in vain; heard: {notify.said[-5:]}")

    def until(self, condition: Callable[[], bool], complaint: str, limit_s: float = START_LIMIT_S) -> None:
        """Return when ``condition`` holds; fail when the process ends before, or after ``limit_s``."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.is_running, f"it ended with code {self.returncode}: {self.log_text[-3000:]}"
            assert time.monotonic() < deadline, f"{complaint} (waited {limit_s:g} s): {self.log_text[-3000:]}"
            time.sleep(_POLL_S)  # polling a foreign process, bounded by the deadline

    def kill(self) -> None:
        """End it as the kernel would: SIGKILL, no goodbye. Nothing happens where it has ended already."""
        if self._process is not None:
            self._process.kill()
            self._reap(STOP_LIMIT_S)

    def terminate(self) -> int:
        """Send SIGTERM and return the exit code; more than 10 s break the contract."""
        self.signal(signal.SIGTERM)
        return self.await_end()

    def signal(self, number: signal.Signals) -> None:
        """Send any signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def await_end(self, limit_s: float = STOP_LIMIT_S) -> int:
        """Return the exit code once it ended."""
        try:
            return self._reap(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit_s:g} s: {self.log_text[-3000:]}") from None

    def _reap(self, limit_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(limit_s)
        self._process = None
        if self.notify is not None:
            self.notify.close()
        return code

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # ---- what it says --------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `litfass status --json` prints."""
        return cast("dict[str, Any]", ask(self._socket_path, "status"))

    def devices(self) -> dict[str, dict[str, Any]]:
        """What `litfass devices --json` prints, by device id."""
        rows = cast("list[dict[str, Any]]", ask(self._socket_path, "devices"))
        return {row["id"]: row for row in rows}

    def until_status(self, condition: Callable[[dict[str, Any]], bool], complaint: str) -> dict[str, Any]:
        """Return the first status for which ``condition`` holds."""
        found: list[dict[str, Any]] = []

        def holds() -> bool:
            with contextlib.suppress(OSError):
                found[:] = [self.status()]
            return bool(found) and condition(found[0])

        self.until(holds, complaint)
        return found[0]

    def until_delivered(self, uplink: str = "city") -> int:
        """Return once the platform has acknowledged all that the ring holds: the seq the next record gets."""
        status = self.until_status(
            lambda s: bool(s["uplinks"][uplink]["cursor"] == s["ring"]["head_seq"]), f"{uplink} lags behind"
        )
        return int(status["ring"]["head_seq"])

    @property
    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log, line by line; every line is one JSON object."""
        return [json.loads(line) for line in self.log_text.splitlines()]

    def logged(self, code: str) -> list[dict[str, Any]]:
        """The log lines with this code."""
        return [line for line in self.log if line["code"] == code]

    def until_logged(self, code: str) -> dict[str, Any]:
        """Return the first log line with this code."""
        self.until(lambda: f'"code": "{code}"' in self.log_text, f"nothing logged as {code}")
        return self.logged(code)[0]


def _control_socket(config: pathlib.Path) -> pathlib.Path:
    import tomllib

    table = tomllib.loads(config.read_text())["gateway"]
    path: str = table.get("control_socket") or f"{table['state_dir']}/control.sock"
    return config.parent / path


def free_udp_port() -> int:
    """Return a UDP port of this machine that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def readable(sock: socket.socket, limit_s: float) -> bool:
    """Tell whether something can be read within ``limit_s``."""
    return bool(select.select([sock], [], [], max(0.0, limit_s))[0])
