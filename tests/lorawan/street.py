"""What a driver test needs of a street: devices, a clock, a packet forwarder on a real UDP socket."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from drivers.lorawan import LORAWAN_UDP
from drivers.lorawan.cayenne import CAYENNE_LPP
from drivers.lorawan.settings import LorawanDeviceSettings, UdpSettings
from gateway.clock import TimeStamp
from gateway.driver import Address, Device, Driver, DriverParts, MemoryValue, Secret
from gateway.files import config_folder
from gateway.profile import load_profile
from gateway.properties import standard_properties
from gateway.reading import Reading
from tests.fakes.sink import WAIT_LIMIT_S, RecordingSink
from tests.lorawan.vectors import Uplink, uplinks

PROFILE = load_profile(
    config_folder() / "devices" / "cayenne-lpp.toml", {"cayenne-lpp": CAYENNE_LPP}, standard_properties()
)
EUI = bytes.fromhex("0016c001ff10a2b3")
NOW_MS = 1760000000000  # 2025-10-09T08:53:20Z
NWK_SKEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")  # the keys of the vectors' "street" session
APP_SKEY = bytes.fromhex("3c4fcf098815f7aba6d2ae2816157e2b")
DEV_ADDR = 0x26011BDA

# Frames of the street session by their counter, as lora-packet built them.
FRAMES: dict[int, Uplink] = {frame.f_cnt: frame for frame in uplinks() if frame.dev_addr == DEV_ADDR}


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.now_ms = wall_ms
        self.now_s = 1000.0

    def move(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
        self.now_s += seconds

    def wall_ms(self) -> int:
        return self.now_ms

    def elapsed_s(self) -> float:
        return self.now_s

    def is_known(self) -> bool:
        return True

    def stamp(self) -> TimeStamp:
        return TimeStamp(bytes(16), round(self.now_s * 1000), self.now_ms, True)


class GatedSink(RecordingSink):
    """A ring that takes its time: `append` returns once ``gate`` is open."""

    def __init__(self, memory: Mapping[str, MemoryValue] | None = None) -> None:
        super().__init__(memory)
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        self.entered.set()
        await self.gate.wait()
        return await super().append(readings, memory=memory)


class BrokenSink(RecordingSink):
    """A ring that refuses everything."""

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        raise RuntimeError("the store is closed")


def device(device_id: str = "isar-pegel-3", number: int = 1, **changes: Any) -> Device:
    settings: dict[str, Any] = {
        "dev_eui": number.to_bytes(8, "big"),
        "activation": "abp",
        "dev_addr": DEV_ADDR.to_bytes(4, "big"),
        "nwk_skey": Secret(NWK_SKEY, "plain:…"),
        "app_skey": Secret(APP_SKEY, "plain:…"),
    }
    return Device(device_id, PROFILE, None, LorawanDeviceSettings(**{**settings, **changes}))


def udp_driver(
    *devices: Device, clock: MovableClock | None = None, forwarders: tuple[str, ...] = (), port: int = 0
) -> Driver:
    settings = UdpSettings(listen=Address("127.0.0.1", port), forwarders=forwarders)
    return LORAWAN_UDP.build(DriverParts("lora", settings, devices or (device(),), clock or MovableClock()))


@contextlib.asynccontextmanager
async def running(driver: Driver, sink: RecordingSink) -> AsyncIterator[asyncio.Task[None]]:
    """Run a driver while the body runs; a driver that ended by itself fails the test."""
    task = asyncio.create_task(driver.run(sink))
    waiting = asyncio.create_task(sink.until(lambda sink: sink.links))
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        await waiting
        yield task
        if task.done() and not task.cancelled():
            task.result()
    finally:
        waiting.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RuntimeError):
            await task


def rxpk(phy_payload: bytes, **members: Any) -> dict[str, Any]:
    entry = {
        "tmst": 3512348611, "freq": 868.1, "chan": 0, "rfch": 0, "stat": 1, "modu": "LORA", "datr": "SF7BW125",
        "codr": "4/5", "rssi": -97, "lsnr": 5.2, "size": len(phy_payload),
        "data": base64.b64encode(phy_payload).decode(),
    }  # fmt: skip
    return {name: value for name, value in {**entry, **members}.items() if value is not None}


def push_data(token: int, *entries: object, eui: bytes = EUI) -> bytes:
    body = {"rxpk": list(entries)} if entries else {"stat": {"rxnb": 0}}
    return b"\x02" + token.to_bytes(2, "big") + b"\x00" + eui + json.dumps(body).encode()


def push_ack(token: int) -> bytes:
    return b"\x02" + token.to_bytes(2, "big") + b"\x01"


def pull_data(token: int, eui: bytes = EUI) -> bytes:
    return b"\x02" + token.to_bytes(2, "big") + b"\x02" + eui


def pull_ack(token: int) -> bytes:
    return b"\x02" + token.to_bytes(2, "big") + b"\x04"


class PacketForwarder:
    """A forwarder's socket. Independent of gwmp.py, so that a mistake there shows."""

    def __init__(self, sink: RecordingSink, host: str = "127.0.0.1") -> None:
        self._server = ("127.0.0.1", int(sink.links[-1].rpartition(" ")[2]))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def send(self, datagram: bytes) -> None:
        await asyncio.get_running_loop().sock_sendto(self._socket, datagram, self._server)

    async def answer(self) -> bytes:
        async with asyncio.timeout(WAIT_LIMIT_S):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    def has_answer(self) -> bool:
        """Tell whether an answer lies there already; what loopback was given has arrived."""
        try:
            self._socket.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    async def deliver(self, token: int, *entries: object, eui: bytes = EUI) -> None:
        """Send a PUSH_DATA and expect its PUSH_ACK as the next answer."""
        await self.send(push_data(token, *entries, eui=eui))
        assert await self.answer() == push_ack(token)
