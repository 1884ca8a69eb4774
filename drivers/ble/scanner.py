"""The radio: bleak on BlueZ's D-Bus interface. What the adverts mean is nobody's business here.

bleak tells when an advert came; it does not tell when none will come any more, because bluetoothd restarted, the
adapter was pulled or switched off, or D-Bus itself is gone. A second, idle connection to the bus watches for that.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from drivers.ble.bthome import SERVICE_UUID
from drivers.ble.ruuvi import COMPANY
from drivers.ble.settings import BleSettings
from gateway.driver import LinkError, LinkReason

if TYPE_CHECKING:
    from bleak import BleakScanner
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

logger = logging.getLogger(__name__)

AdvertCallback = Callable[["BLEDevice", "AdvertisementData"], None]
"""What bleak calls for each advert."""

ScannerFactory = Callable[[AdvertCallback, BleSettings], AbstractAsyncContextManager["asyncio.Future[None] | None"]]
"""Opens a radio for as long as the context lasts. What it yields fails with a LinkError once the radio is lost;
None where that cannot happen. Opening raises LinkError."""

START_LIMIT_S = 20.0  # bluetoothd on a busy Pi answers within 3 s; a hung one never does
STOP_LIMIT_S = 5.0  # stopping is a courtesy: BlueZ ends a scan itself when our connection closes

BLUEZ = "org.bluez"
_ADAPTER = "org.bluez.Adapter1"
_DBUS = "org.freedesktop.DBus"

_REASONS = {
    "org.bluez.Error.NotReady": (
        LinkReason.ABSENT,
        "it is switched off: bluetoothctl power on, rfkill unblock bluetooth",
    ),
    "org.bluez.Error.InProgress": (LinkReason.BUSY, "another scan is starting or stopping"),
    "org.bluez.Error.NotAuthorized": (LinkReason.DENIED, "the user must be in the group bluetooth"),
    "org.freedesktop.DBus.Error.AccessDenied": (LinkReason.DENIED, "the user must be in the group bluetooth"),
    "org.freedesktop.DBus.Error.ServiceUnknown": (LinkReason.ABSENT, "bluetoothd does not run"),
    "org.freedesktop.DBus.Error.NameHasNoOwner": (LinkReason.ABSENT, "bluetoothd does not run"),
    "org.freedesktop.DBus.Error.NoReply": (LinkReason.LOST, "bluetoothd went away"),
}


@contextlib.asynccontextmanager
async def bluez_scanner(heard: AdvertCallback, settings: BleSettings) -> AsyncIterator["asyncio.Future[None] | None"]:
    """Scan with an adapter of this machine; see `ScannerFactory`.

    Raises:
        LinkError: ABSENT: no adapter of this name, it is switched off, or bluetoothd or D-Bus does not run. BUSY,
            DENIED: BlueZ says so. SILENT: no answer within ``START_LIMIT_S``.
    """
    from bleak.exc import BleakError  # noqa: PLC0415  # 6 MB that a gateway without BLE does not need
    from dbus_fast import DBusFastError  # noqa: PLC0415

    for name in ("bleak", "dbus_fast"):  # at DEBUG they would write every passer-by's phone into the log (P9)
        quiet = logging.getLogger(name)
        quiet.setLevel(max(quiet.level, logging.INFO))
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(START_LIMIT_S):
                lost = await stack.enter_async_context(_watch(settings.adapter))
                scanner = await _start(heard, settings)
        except (BleakError, DBusFastError, OSError, EOFError) as error:  # TimeoutError is an OSError
            raise _link_error(settings.adapter, error) from error
        stack.push_async_callback(_stop, scanner, settings.adapter)
        yield lost


async def _start(heard: AdvertCallback, settings: BleSettings) -> "BleakScanner":
    """Return a running scanner: passive, or active where that is asked for or passive cannot be had."""
    from bleak import BleakScanner  # noqa: PLC0415
    from bleak.args.bluez import OrPattern, OrPatternLike  # noqa: PLC0415
    from bleak.assigned_numbers import AdvertisementDataType  # noqa: PLC0415
    from bleak.exc import BleakError  # noqa: PLC0415

    if settings.scan != "active":
        # BlueZ hands passive adverts out by pattern only, so most phones do not even reach this process.
        patterns: list[OrPatternLike] = [
            OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, bytes.fromhex(SERVICE_UUID[4:8])[::-1]),
            OrPattern(0, AdvertisementDataType.MANUFACTURER_SPECIFIC_DATA, COMPANY.to_bytes(2, "little")),
        ]
        scanner = BleakScanner(
            heard, scanning_mode="passive", bluez={"adapter": settings.adapter, "or_patterns": patterns}
        )
        try:
            await scanner.start()
        except BleakError as error:
            if settings.scan == "passive":
                raise
            logger.debug("%s: no passive scan (%s), trying an active one", settings.adapter, error)
        else:
            return scanner
    # Without DuplicateData BlueZ tells changes only, and a sensor whose value stands still would seem dead.
    scanner = BleakScanner(
        heard, scanning_mode="active", bluez={"adapter": settings.adapter, "filters": {"DuplicateData": True}}
    )
    await scanner.start()
    return scanner


async def _stop(scanner: "BleakScanner", adapter: str) -> None:
    """End the scan if BlueZ still listens; if not, there is nothing to end."""
    from bleak.exc import BleakError  # noqa: PLC0415
    from dbus_fast import DBusFastError  # noqa: PLC0415

    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await scanner.stop()
    except (BleakError, DBusFastError, OSError, EOFError) as error:
        logger.debug("%s: scan not stopped in order: %s", adapter, error)


@contextlib.asynccontextmanager
async def _watch(adapter: str) -> AsyncIterator["asyncio.Future[None]"]:
    """Yield a future that fails with a LinkError when the adapter, bluetoothd or D-Bus goes away."""
    from dbus_fast import BusType, Message, MessageType  # noqa: PLC0415
    from dbus_fast.aio import MessageBus  # noqa: PLC0415

    path = f"/org/bluez/{adapter}"
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def lose(why: str) -> None:
        if not lost.done():
            lost.set_exception(LinkError(adapter, LinkReason.LOST, why))

    def on_message(message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member, message.body:
            case "NameOwnerChanged", [str(name), str(old), _] if name == BLUEZ and old:
                lose("bluetoothd stopped or restarted")
            case "InterfacesRemoved", [str(gone), interfaces] if gone == path and _ADAPTER in interfaces:
                lose("the adapter is gone")
            case "PropertiesChanged", [str(interface), {"Powered": powered}, _] if (
                message.path == path and interface == _ADAPTER and not powered.value
            ):
                lose("the adapter was switched off")

    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        await bus.connect()
        disconnected = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        disconnected.add_done_callback(lambda task: task.cancelled() or task.exception() or None)
        disconnected.add_done_callback(lambda _: lose("D-Bus is gone"))
        bus.add_message_handler(on_message)
        for rule in (
            f"sender='{_DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
            f"sender='{BLUEZ}',member='InterfacesRemoved',path='/'",
            f"sender='{BLUEZ}',member='PropertiesChanged',path='{path}'",
        ):
            await bus.call(
                Message(
                    destination=_DBUS,
                    path="/org/freedesktop/DBus",
                    interface=_DBUS,
                    member="AddMatch",
                    signature="s",
                    body=[f"type='signal',{rule}"],
                )
            )
        yield lost
    finally:
        bus.disconnect()
        if not lost.done():
            lost.cancel()
        elif not lost.cancelled():
            lost.exception()  # seen or not, it has been dealt with


def _link_error(adapter: str, error: Exception) -> LinkError:
    """Return what an error of bleak, D-Bus or the socket means for the adapter."""
    from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError  # noqa: PLC0415

    if isinstance(error, BleakDBusError):
        reason, hint = _REASONS.get(error.dbus_error, (LinkReason.LOST, "BlueZ refuses"))
        return LinkError(adapter, reason, f"{hint} ({error})")
    if isinstance(error, BleakBluetoothNotAvailableError):
        return LinkError(adapter, LinkReason.ABSENT, str(error.args[0]))
    if isinstance(error, TimeoutError):
        return LinkError(adapter, LinkReason.SILENT, f"bluetoothd did not answer within {START_LIMIT_S:g} s")
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return LinkError(adapter, LinkReason.ABSENT, f"D-Bus does not run ({error})")
    if isinstance(error, OSError | EOFError):
        return LinkError(adapter, LinkReason.LOST, f"D-Bus went away ({error or type(error).__name__})")
    return LinkError(adapter, LinkReason.ABSENT, str(error))  # bleak: "adapter 'hci0' not found", no passive scan here
