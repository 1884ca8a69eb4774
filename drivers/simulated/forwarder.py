"""LoRaWAN sensors and the packet forwarder that hears them: real frames, encrypted and signed, sent by UDP.

A sensor makes its frame; the forwarder hands it over in a PUSH_DATA and sends it again until the PUSH_ACK comes. The
gateway acknowledges what its ring owns, so from then on the reading must not be lost.
"""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from drivers.lorawan.gwmp import RxPacket, encode_pull_data, encode_push_data
from drivers.lorawan.mac import encode_uplink

RESEND_S = 1.0  # a PUSH_ACK comes within milliseconds; the driver may be starting or restarting
KEEPALIVE_S = 10.0  # PULL_DATA, as Semtech's forwarder sends it
CHANNELS_HZ = (868_100_000, 868_300_000, 868_500_000)  # the EU868 default channels
F_PORT = 1
_ACK_SIZE, _ACK_TYPE_OFFSET, _PUSH_ACK = 4, 3, 1


@dataclass
class LoraSensor:
    """One LoRaWAN device activated by personalisation.

    Attributes:
        device_id: What the city calls it.
        profile: Its type in the gateway's settings.
        dev_eui: 8 octets, hexadecimal.
        dev_addr: 32 bits.
        nwk_skey: 16 octets.
        app_skey: 16 octets.
        every_s: How often it sends.
        measure: Makes the payload.
        values_per_frame: How many readings one payload makes.
        f_cnt: Next frame counter.
        taken_count: Readings the gateway has acknowledged.
    """

    device_id: str
    profile: str
    dev_eui: str
    dev_addr: int
    nwk_skey: bytes
    app_skey: bytes
    every_s: float
    measure: Callable[[], bytes]
    values_per_frame: int
    f_cnt: int = 0
    taken_count: int = 0

    def next_frame(self) -> bytes:
        """Return the PHYPayload of a new measurement."""
        frame = encode_uplink(
            nwk_skey=self.nwk_skey,
            app_skey=self.app_skey,
            dev_addr=self.dev_addr,
            f_cnt=self.f_cnt,
            f_port=F_PORT,
            payload=self.measure(),
        )
        self.f_cnt += 1
        return frame


class PacketForwarder(asyncio.DatagramProtocol):
    """The forwarder's UDP side (Semtech UDP protocol, version 2).

    Attributes:
        resent_count: PUSH_DATA sent again because no PUSH_ACK came.
        closed: The socket is gone.
    """

    def __init__(self, gateway_eui: bytes) -> None:
        self.resent_count = 0
        self.closed = asyncio.Event()
        self._gateway_eui = gateway_eui
        self._transport: asyncio.DatagramTransport | None = None
        self._tokens = itertools.count(random.randrange(1 << 16))
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._started_us = random.randrange(1 << 32)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take an acknowledgement."""
        del addr
        if len(data) == _ACK_SIZE and data[_ACK_TYPE_OFFSET] == _PUSH_ACK:
            waiter = self._waiting.get(data[1:3])
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        del exc
        self.closed.set()

    def error_received(self, exc: Exception) -> None:
        """Ignore that nobody listens yet: the frame is sent again."""

    async def deliver(self, phy_payload: bytes) -> None:
        """Return when the gateway has acknowledged the frame."""
        token = (next(self._tokens) & 0xFFFF).to_bytes(2, "big")
        packet = RxPacket(
            phy_payload,
            tmst_us=(self._started_us + int(asyncio.get_running_loop().time() * 1e6)) & 0xFFFFFFFF,
            frequency_hz=random.choice(CHANNELS_HZ),
            data_rate="SF7BW125",
            rssi_dbm=random.randint(-115, -60),
            snr_db=random.randint(-60, 100) / 10,
        )
        datagram = encode_push_data(token, self._gateway_eui, [packet])
        waiter = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            while True:
                self._send(datagram)
                try:
                    await asyncio.wait_for(asyncio.shield(waiter), RESEND_S)
                except TimeoutError:
                    self.resent_count += 1
                else:
                    return
        finally:
            del self._waiting[token]

    async def keep_alive(self) -> None:
        """Send PULL_DATA until cancelled."""
        while True:
            self._send(encode_pull_data(os.urandom(2), self._gateway_eui))
            await asyncio.sleep(KEEPALIVE_S)

    def _send(self, datagram: bytes) -> None:
        assert self._transport
        self._transport.sendto(datagram)


@asynccontextmanager
async def open_forwarder(gateway_eui: bytes, host: str, port: int) -> AsyncIterator[PacketForwarder]:
    """Open a forwarder that sends to a gateway's ``lorawan-udp`` driver."""
    loop = asyncio.get_running_loop()
    transport, forwarder = await loop.create_datagram_endpoint(
        lambda: PacketForwarder(gateway_eui), remote_addr=(host, port)
    )
    try:
        yield forwarder
    finally:
        transport.close()
        await forwarder.closed.wait()


async def run_lora_sensor(sensor: LoraSensor, forwarder: PacketForwarder, stopping: asyncio.Event) -> None:
    """Measure and send until ``stopping``; the frame under way is delivered first."""
    while not stopping.is_set():
        await forwarder.deliver(sensor.next_frame())
        sensor.taken_count += sensor.values_per_frame
        await pause(stopping, sensor.every_s)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Return after ``seconds`` or when ``stopping``."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
