"""What a whole idle gateway costs: memory (PSS) and start-up time, as a process of its own.

Method: `litfass run` with the drivers lorawan-udp, ble and modbus-rtu, one device each, and one MQTT uplink to a port
where nobody listens; measured when the service has said READY=1 and then been left alone for 8 s. PSS and RSS are the
sums in /proc/PID/smaps_rollup, in MB of 10^6 octets. PSS counts only in part what other Python processes share, and
this measurement is one; RSS counts all of it: it is what PSS would be with nothing else running. The BLE driver has no
adapter to talk to on a machine without one: its code and its parsers are loaded all the same.
"""

import contextlib
import os
import pathlib
import pty
import socket
import subprocess
import sys
import tempfile
import time

TITLE = "A whole gateway, idle"
SETTLE_S = 8.0  # imports and first connection attempts are over, what they left behind is given back
READY_DEADLINE_S = 30.0

_SETTINGS = """\
[gateway]
id = "gw-bench"
state_dir = "state"

[ring]
size = "4MiB"

[[driver]]
name = "lora"
type = "lorawan-udp"
listen = "127.0.0.1:{udp_port}"

[[driver]]
name = "bluetooth"
type = "ble"

[[driver]]
name = "rs485"
type = "modbus-rtu"
port = "{serial_port}"

[[device]]
id = "pegel"
driver = "lora"
profile = "cayenne-lpp"
dev_eui = "0004A30B001C0530"
activation = "abp"
dev_addr = "26011BDA"
nwk_skey = "plain:2B7E151628AED2A6ABF7158809CF4F3C"
app_skey = "plain:2B7E151628AED2A6ABF7158809CF4F3C"

[[device]]
id = "luft"
driver = "bluetooth"
profile = "bthome-v2"
address = "A4:C1:38:12:34:56"
bindkey = "plain:231d39c1d7cc1ab1aee224cd096db932"

[[device]]
id = "zaehler"
driver = "rs485"
profile = "eastron-sdm630"
unit = 1

[[uplink]]
name = "city"
type = "mqtt"
url = "mqtt://127.0.0.1:{tcp_port}"
"""


def run() -> dict[str, float]:
    """Return ``service.pss_mb``, ``service.rss_mb``, ``service.private_dirty_mb`` and ``service.ready_s``."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        master, slave = pty.openpty()
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        settings = folder / "litfass.toml"
        settings.write_text(
            _SETTINGS.format(
                udp_port=_free_port(socket.SOCK_DGRAM),
                tcp_port=_free_port(socket.SOCK_STREAM),
                serial_port=os.ttyname(slave),
            )
        )
        notifications = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notifications.bind(str(folder / "notify"))
        notifications.settimeout(READY_DEADLINE_S)
        began_s = time.monotonic()
        process = subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, "-m", "gateway", "run", "--config", str(settings)],
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in notifications.recv(4096):
                pass
            ready_s = time.monotonic() - began_s
            time.sleep(SETTLE_S)
            rollup = _rollup_kb(process.pid)
        finally:
            process.terminate()
            process.wait(15)
    return {
        "service.pss_mb": _mb(rollup["Pss"]),
        "service.rss_mb": _mb(rollup["Rss"]),
        "service.private_dirty_mb": _mb(rollup["Private_Dirty"]),
        "service.ready_s": round(ready_s, 2),
    }


def _mb(kibibytes: int) -> float:
    return round(kibibytes * 1024 / 1e6, 1)


def _rollup_kb(pid: int) -> dict[str, int]:
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
