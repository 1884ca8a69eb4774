"""The lorawan-serial driver on a pseudo-terminal: a wired node's frames, a bad line, a pulled cable."""

import asyncio
import contextlib
import os
import random
import tty
from collections.abc import AsyncIterator

import pytest
from cobs import cobs

from drivers.lorawan import LORAWAN_SERIAL
from drivers.lorawan.framing import ENCODED_SIZE_MAX
from drivers.lorawan.settings import SerialSettings
from gateway.driver import Device, Driver, DriverParts, FrameError, FrameReason, LinkError, LinkReason, ReplayError
from tests.fakes.sink import RecordingSink
from tests.lorawan.street import DEV_ADDR, FRAMES, NOW_MS, GatedSink, MovableClock, device, running


def crc_ccitt_false(octets: bytes) -> int:
    """Bit by bit, so that it shares nothing with the driver's."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def on_wire(phy_payload: bytes) -> bytes:
    return bytes(cobs.encode(phy_payload + crc_ccitt_false(phy_payload).to_bytes(2, "big"))) + b"\0"


def frame(f_cnt: int) -> bytes:
    return on_wire(FRAMES[f_cnt].phy_payload)


class Node:
    """The far end of the cable."""

    def __init__(self) -> None:
        self._master, self._end = os.openpty()
        tty.setraw(self._end)
        self.port = os.ttyname(self._end)

    async def write(self, octets: bytes) -> None:
        os.set_blocking(self._master, False)
        rest = octets
        while rest:
            try:
                rest = rest[os.write(self._master, rest) :]
            except BlockingIOError:
                await asyncio.sleep(0)  # the terminal's buffer is full: the driver's turn

    def pull(self) -> None:
        for fd in (self._master, self._end):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    node.pull()


def serial_driver(port: str, *devices: Device) -> Driver:
    parts = DriverParts("cellar", SerialSettings(port=port), devices or (device(),), MovableClock())
    return LORAWAN_SERIAL.build(parts)


async def test_frame_on_the_wire_becomes_readings(node: Node) -> None:
    sink = RecordingSink()
    async with running(serial_driver(node.port), sink):
        await node.write(frame(0))
        await sink.until(lambda sink: sink.appended)
    first = sink.readings[0]
    assert (first.observed_property, first.value) == ("temperature/1", 21.0)
    assert (first.phenomenon_time_ms, first.received_time_ms) == (NOW_MS, NOW_MS)
    assert (first.rssi_dbm, first.snr_db) == (None, None)
    assert sink.memory["f_cnt_up/isar-pegel-3"] == 1
    assert node.port in sink.links[0]


async def test_byte_by_byte(node: Node) -> None:
    sink = RecordingSink()
    async with running(serial_driver(node.port), sink):
        for octet in frame(0) + frame(1):
            await node.write(bytes([octet]))
            await asyncio.sleep(0)
        await sink.until(lambda sink: len(sink.appended) == 2)


async def test_garbage_between_frames_is_counted_and_costs_no_frame(node: Node) -> None:
    sink = RecordingSink()
    line = b"MicroPython v1.28\r\n\0" + frame(0) + b"\0\0" + b"\x55" * 5000 + b"\0" + frame(1)
    damaged = bytearray(frame(2))
    damaged[5] ^= 0x10
    async with running(serial_driver(node.port), sink):
        await node.write(line + bytes(damaged) + frame(3))
        await sink.until(lambda sink: len(sink.appended) == 3)
    reasons = [error.reason for error in sink.rejected if isinstance(error, FrameError)]
    assert reasons == [FrameReason.MALFORMED, FrameReason.MALFORMED, FrameReason.CHECKSUM]
    assert sink.memory["f_cnt_up/isar-pegel-3"] == 4


async def test_lossy_line_loses_frames_and_makes_none_up(node: Node) -> None:
    dice = random.Random(1700)
    numbers = list(range(18))
    line = b"".join(frame(f_cnt) for f_cnt in numbers)
    lossy = bytes(octet for octet in line if dice.random() > 0.01)
    sink = RecordingSink()
    async with running(serial_driver(node.port), sink):
        await node.write(lossy + b"\0" + frame(65535))
        await sink.until(lambda sink: sink.memory.get("f_cnt_up/isar-pegel-3") == 65536)
    sent = {("temperature/1", 21.0 + n / 10) for n in range(9)} | {("relative_humidity/2", 57.5)}
    assert {(reading.observed_property, reading.value) for reading in sink.readings} <= sent
    assert 5 < len(sink.appended) < len(numbers)


async def test_f41_replay_on_the_wire_after_a_restart(node: Node) -> None:
    sink = RecordingSink()
    async with running(serial_driver(node.port), sink):
        await node.write(frame(0) + frame(1))
        await sink.until(lambda sink: len(sink.appended) == 2)
    again = RecordingSink(sink.memory)
    async with running(serial_driver(node.port), again):
        await node.write(frame(0) + frame(1) + frame(2))
        await again.until(lambda sink: sink.appended)
    assert again.counters["duplicate"] == 1
    assert [type(error) for error in again.rejected] == [ReplayError]
    assert again.memory["f_cnt_up/isar-pegel-3"] == 3


async def test_slow_ring_loses_nothing_the_terminal_holds(node: Node) -> None:
    sink = GatedSink()
    async with running(serial_driver(node.port), sink):
        await node.write(b"".join(frame(f_cnt) for f_cnt in range(10)))
        await sink.entered.wait()
        sink.gate.set()
        await sink.until(lambda sink: len(sink.appended) == 10)


async def test_unlisted_node_leaves_a_counter_only(node: Node) -> None:
    sink = RecordingSink()
    other = device(dev_addr=(DEV_ADDR + 1).to_bytes(4, "big"))
    async with running(serial_driver(node.port, other), sink):
        await node.write(frame(0))
        await sink.until(lambda sink: sink.counters["unlisted"])
    assert (sink.appended, sink.rejected) == ([], [])


async def test_pulled_cable_is_a_link_error(node: Node) -> None:
    sink = RecordingSink()
    task = asyncio.create_task(serial_driver(node.port).run(sink))
    await sink.until(lambda sink: sink.links)
    node.pull()
    with pytest.raises(LinkError) as caught:
        await task
    assert caught.value.reason is LinkReason.LOST


async def test_absent_port_is_a_link_error() -> None:
    with pytest.raises(LinkError) as caught:
        await serial_driver("/dev/serial/by-id/not-there").run(RecordingSink())
    assert caught.value.reason is LinkReason.ABSENT


async def test_endless_noise_does_not_grow(node: Node) -> None:
    sink = RecordingSink()
    async with running(serial_driver(node.port), sink):
        for _ in range(50):
            await node.write(b"\xaa" * ENCODED_SIZE_MAX)
        await node.write(b"\0" + frame(0))
        await sink.until(lambda sink: sink.appended)
    assert len(sink.rejected) == 1
