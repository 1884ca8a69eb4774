"""The packet forwarder keeps a frame until the gateway has acknowledged it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import cast

from drivers.lorawan.mac import decrypt_uplink, has_valid_mic, parse_uplink
from drivers.simulated.forwarder import LoraSensor, PacketForwarder, open_forwarder, run_lora_sensor

GATEWAY_EUI = bytes.fromhex("0016c001ff10a2b3")
LIMIT_S = 20


class Server(asyncio.DatagramProtocol):
    """Takes datagrams; answers those that `answers` lets it, in the order of arrival."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers = answers
        self.received: list[bytes] = []
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)  # not its subclass, in Python 3.11

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)
        if self.answers.pop(0) if self.answers else True:
            self.transport.sendto(data[:3] + b"\x01", addr)


@contextlib.asynccontextmanager
async def serving(answers: list[bool]) -> AsyncIterator[tuple[Server, PacketForwarder]]:
    """Open both ends for as long as the context lasts."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Server(answers), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        async with asyncio.timeout(LIMIT_S), open_forwarder(GATEWAY_EUI, "127.0.0.1", port) as forwarder:
            yield server, forwarder
    finally:
        transport.close()
        await server.closed.wait()


async def test_a_frame_is_sent_again_with_the_same_octets_until_it_is_acknowledged() -> None:
    async with serving([False, True]) as (server, forwarder):
        await forwarder.deliver(b"\x40 a frame")
        assert forwarder.resent_count == 1
    assert len(server.received) == 2
    assert server.received[0] == server.received[1]
    assert server.received[0][4:12] == GATEWAY_EUI
    (entry,) = json.loads(server.received[0][12:])["rxpk"]
    assert entry["data"] == "QCBhIGZyYW1l"


async def test_only_acknowledged_readings_count_and_the_frame_under_way_is_finished() -> None:
    stopping = asyncio.Event()
    measured: list[int] = []

    async with serving([]) as (server, forwarder):

        def measure() -> bytes:
            measured.append(len(measured))
            if len(measured) == 3:
                server.answers = [False, True]
                stopping.set()
            return bytes([1, 103, 0, len(measured)])

        sensor = LoraSensor("pegel", "profile", "00" * 8, 0x260000A1, b"n" * 16, b"a" * 16, 0.001, measure, 2)
        await run_lora_sensor(sensor, forwarder, stopping)
    assert (sensor.f_cnt, sensor.taken_count, len(server.received)) == (3, 6, 4)


def test_a_frame_opens_with_the_sensors_keys_only() -> None:
    sensor = LoraSensor("pegel", "p", "00" * 8, 0x260000A1, b"n" * 16, b"a" * 16, 1, lambda: b"\x01\x67\x00\x6e", 1)
    frames = [parse_uplink(sensor.next_frame()) for _ in range(2)]
    for f_cnt, frame in enumerate(frames):
        assert frame.dev_addr == 0x260000A1
        assert has_valid_mic(frame, b"n" * 16, f_cnt)
        assert not has_valid_mic(frame, b"x" * 16, f_cnt)
        assert decrypt_uplink(frame, b"n" * 16, b"a" * 16, f_cnt) == b"\x01\x67\x00\x6e"
