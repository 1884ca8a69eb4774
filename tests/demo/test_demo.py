"""`litfass demo` as its audience runs it: the whole street in a process of its own."""

import asyncio
import contextlib
import io
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys

import pytest

from drivers.simulated import show
from drivers.simulated.broker import mosquitto_path
from drivers.simulated.meter import SimulatedMeter
from drivers.simulated.node import micropython_command
from drivers.simulated.screen import PlainScreen
from gateway.driver import SystemClock

DEMO = (sys.executable, "-W", "error", "-m", "gateway", "demo")
DRIVERS = ["lorawan-udp", "ble", "modbus-rtu", *(["lorawan-serial"] if micropython_command() else [])]
BROKERS = [
    "embedded",
    pytest.param("mosquitto", marks=pytest.mark.skipif(not mosquitto_path(), reason="Mosquitto is not installed")),
]
LIMIT_S = 100

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """Give the demo a folder for temporary files that must be empty afterwards."""
    return {**os.environ, "TMPDIR": str(tmp_path)}


def run_demo(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *options], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def verdicts(text: str) -> dict[str, tuple[int, int, str]]:
    """Return sent, received and verdict by driver, from the table at the end."""
    table = text.rpartition("Readings, from the sensors to the city:")[2]
    found = re.findall(r"^  (\S+) +(\d+) +(\d+)  (.*?)  ", table, re.MULTILINE)
    return {driver: (int(sent), int(received), verdict) for driver, sent, received, verdict in found}


@pytest.mark.parametrize("broker", BROKERS)
def test_every_driver_delivers_over_either_broker(
    broker: str, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    done = run_demo(environment, "--seconds", "6", "--broker", broker)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    found = verdicts(done.stdout)
    assert list(found) == DRIVERS
    for sent, received, verdict in found.values():
        assert sent == received > 0
        assert verdict == "delivered"
    assert re.search(
        r"^0 lost: (\d+) readings were sent, \1 are at the city .*without a hole", done.stdout, re.MULTILINE
    )
    assert "no radio is used" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broker", BROKERS)
def test_p3_an_outage_of_the_broker_loses_nothing(
    broker: str, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    done = run_demo(environment, "--outage", "--seconds", "16", "--broker", broker)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    waiting = re.search(r"the broker is back; (\d+) readings wait in the ring", done.stdout)
    assert waiting
    assert int(waiting[1]) > 0
    assert "the backlog is at the city" in done.stdout
    assert re.search(r"^0 lost: ", done.stdout, re.MULTILINE)
    assert list(verdicts(done.stdout)) == DRIVERS
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_gets_a_live_table_and_the_picture_is_drawn(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    picture = folder / "demo.svg"
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*DEMO, "--seconds", "5", "--svg", picture],
            env={**environment, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"},
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        screen = b""
        with contextlib.suppress(OSError):  # EIO: all of its side is closed
            while octets := os.read(ours, 65536):
                screen += octets
        _, stderr = process.communicate(timeout=LIMIT_S)
    finally:
        os.close(ours)
    assert process.returncode == 0, (screen + stderr).decode()
    assert b"\x1b[" in screen
    assert b"what happened" in screen
    assert b"0 lost" in screen
    assert "isar-pegel-3" in picture.read_text()


def descendants(pid: int) -> set[int]:
    """Return the processes that ``pid`` has started, and theirs."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= new
    return found


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_ctrl_c_leaves_nothing_behind(
    signals: list[signal.Signals], environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    process = subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    waiting_for = set(DRIVERS)
    for line in process.stdout:
        waiting_for -= {driver for driver in DRIVERS if f"the first reading by {driver} is at the city" in line}
        if not waiting_for:
            break
    started = descendants(process.pid)
    for number in signals:
        process.send_signal(number)
    rest, errors = process.communicate(timeout=LIMIT_S)
    if len(signals) == 1:
        assert process.returncode == 0, rest + errors
        assert re.search(r"^0 lost: ", rest, re.MULTILINE)
    assert "Traceback" not in errors
    assert not waiting_for
    assert [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_told(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_demo(environment, "--seconds", "5", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "The broker cannot be started: " in done.stdout
    assert "in use" in done.stdout


@pytest.fixture
def mute_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plug(self: SimulatedMeter) -> None:
        self.cable.plug()

    monkeypatch.setattr(SimulatedMeter, "plug", plug)


@pytest.mark.usefixtures("mute_meter")
async def test_a_driver_that_delivers_nothing_is_named_and_a_node_without_micropython_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show, "micropython_command", lambda: None)
    out, clock = io.StringIO(), SystemClock()
    options = show.Options(6.0, outage=False, port=0, broker="embedded", svg=None)
    async with asyncio.timeout(LIMIT_S):
        code = await show.Show(options, PlainScreen(out, clock), clock).run()
    assert code == 1
    found = verdicts(out.getvalue())
    assert list(found) == ["lorawan-udp", "ble", "modbus-rtu"]
    assert found["modbus-rtu"][2] == "delivered nothing"
    assert found["ble"][2] == "delivered"
    assert "Not well: modbus-rtu." in out.getvalue()
    assert "The MicroPython sensor node is left out" in out.getvalue()
