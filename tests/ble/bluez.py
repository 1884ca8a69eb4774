"""A private D-Bus with python-dbusmock's BlueZ on it: the real bleak scans, no radio and no root needed.

The mock is run by Debian's own Python (packages dbus, python3-dbus, python3-dbusmock; `tools/debian.sh test`).
"""

import asyncio
import contextlib
import pathlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus

SYSTEM_PYTHON = "/usr/bin/python3"
WAIT_LIMIT_S = 20.0
DEVICE, MOCK, ADAPTER = "org.bluez.Device1", "org.freedesktop.DBus.Mock", "org.bluez.Adapter1"
PROPERTIES = "org.freedesktop.DBus.Properties"
MONITORS = "org.bluez.AdvertisementMonitorManager1"

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""


def missing() -> str:
    """Return why the bench cannot run here, empty if it can."""
    for command in (["dbus-daemon", "--version"], [SYSTEM_PYTHON, "-m", "dbusmock", "--help"]):
        with contextlib.suppress(OSError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                continue
        return f"needs {' '.join(command[:-1])}: sh tools/debian.sh test"
    return ""


class Bench:
    """One bus and one bluetoothd, each to be started and killed."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._config = folder / "bus.xml"
        self._config.write_text(_CONFIG.format(socket=folder / "bus"))
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder / 'bus'}")
        self._daemon: asyncio.subprocess.Process | None = None
        self.bluetoothd: asyncio.subprocess.Process | None = None
        self._bus: MessageBus | None = None

    async def start_bus(self) -> None:
        self._daemon = await asyncio.create_subprocess_exec(
            "dbus-daemon", "--config-file", self._config, "--nofork", "--nopidfile", "--print-address=1",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._daemon.stdout
        await asyncio.wait_for(self._daemon.stdout.readline(), WAIT_LIMIT_S)  # it prints when it listens
        self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()

    async def kill_bus(self) -> None:
        if self._bus:
            self._bus.disconnect()
            self._bus = None
        await _kill(self._daemon)  # before bluetoothd, or that would be what is noticed
        self._daemon = None
        await self.kill_bluetoothd()

    async def start_bluetoothd(self) -> None:
        """Start the mock and wait until it owns its name on the bus."""
        assert self._bus
        there = asyncio.Event()

        def on_message(message: Message) -> None:
            if message.member == "NameOwnerChanged" and message.body[0] == "org.bluez" and message.body[2]:
                there.set()

        rule = "type='signal',member='NameOwnerChanged',arg0='org.bluez'"
        await self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule)
        self._bus.add_message_handler(on_message)
        self.bluetoothd = await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON, "-m", "dbusmock", "--system", "--template", "bluez5",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.wait_for(there.wait(), WAIT_LIMIT_S)
        self._bus.remove_message_handler(on_message)

    async def kill_bluetoothd(self) -> None:
        await _kill(self.bluetoothd)
        self.bluetoothd = None

    async def add_adapter(self, name: str = "hci0") -> None:
        async with asyncio.timeout(WAIT_LIMIT_S):
            while True:  # the name is owned a moment before the template's methods are there
                with contextlib.suppress(NotThereError):
                    await self.bluez("/", "org.bluez.Mock", "AddAdapter", "ss", name, "bench")
                    return

    async def add_passive_scan(self) -> None:
        """Give the adapter what BlueZ has with --experimental, or always since 5.77."""
        methods = [["RegisterMonitor", "o", "", ""], ["UnregisterMonitor", "o", "", ""]]
        await self.bluez("/org/bluez/hci0", MOCK, "AddMethods", "sa(ssss)", MONITORS, methods)

    async def add_device(self, address: str) -> None:
        await self.bluez("/", "org.bluez.Mock", "AddDevice", "sss", "hci0", address, "bench")

    async def hear(
        self,
        address: str,
        *,
        rssi_dbm: int = -61,
        service_data: dict[str, bytes] | None = None,
        manufacturer_data: dict[int, bytes] | None = None,
    ) -> None:
        """Let BlueZ tell of one advert."""
        changed = {
            "RSSI": Variant("n", rssi_dbm),
            "ServiceData": Variant("a{sv}", {k: Variant("ay", v) for k, v in (service_data or {}).items()}),
            "ManufacturerData": Variant("a{qv}", {k: Variant("ay", v) for k, v in (manufacturer_data or {}).items()}),
        }
        arguments = [Variant("s", DEVICE), Variant("a{sv}", changed), Variant("as", [])]
        path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        # UpdateProperties of Debian 12's dbusmock cannot hold dictionaries; the signal is what bleak listens to.
        await self.bluez(path, MOCK, "EmitSignal", "sssav", PROPERTIES, "PropertiesChanged", "sa{sv}as", arguments)

    async def switch_off(self, adapter: str = "hci0") -> None:
        off = {"Powered": Variant("b", False)}
        await self.bluez(f"/org/bluez/{adapter}", MOCK, "UpdateProperties", "sa{sv}", ADAPTER, off)

    async def calls(self, path: str) -> list[tuple[str, Any]]:
        """Return all methods that were called on an object of BlueZ, each with its arguments."""
        [calls] = await self.bluez(path, MOCK, "GetCalls", "")
        return [(name, unpack_variants(arguments)) for _, name, arguments in calls]

    async def bluez(self, path: str, interface: str, member: str, signature: str, *arguments: object) -> list[Any]:
        return await self._call("org.bluez", path, interface, member, signature, *arguments)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, *arguments: object
    ) -> list[Any]:
        assert self._bus
        message = Message(
            destination=destination, path=path, interface=interface, member=member, signature=signature,
            body=list(arguments),
        )  # fmt: skip
        reply = await asyncio.wait_for(self._bus.call(message), WAIT_LIMIT_S)
        if reply.message_type is MessageType.ERROR:
            raise NotThereError(f"{member}: {reply.error_name} {reply.body}")
        return list(reply.body)


class NotThereError(Exception):
    """The mock answers with an error."""


async def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def bench(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Make a bench; nothing runs on it yet."""
    made = Bench(folder, monkeypatch)
    try:
        yield made
    finally:
        await made.kill_bus()
