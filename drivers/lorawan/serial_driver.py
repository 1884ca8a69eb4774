"""The port of one wired sensor node. What stands between the zeros is framing.py's business."""

import asyncio

from drivers.line import SerialLine
from drivers.lorawan.framing import ENCODED_SIZE_MAX, Deframer
from drivers.lorawan.receiver import Reception, UplinkReceiver
from drivers.lorawan.settings import SerialSettings
from gateway.driver import DriverParts, FrameError, ReadingSink


class LorawanSerialDriver:
    """The port of one wired node that sends PHYPayloads in COBS frames."""

    def __init__(self, parts: DriverParts) -> None:
        settings: SerialSettings = parts.settings
        self._name = parts.name
        self._settings = settings
        self._clock = parts.clock
        self._receiver = UplinkReceiver(parts.devices, parts.clock)

    async def run(self, sink: ReadingSink) -> None:
        """Receive until cancelled. A LinkError escapes: the supervisor opens the port again."""
        self._receiver.recall(sink)
        settings = self._settings
        async with await SerialLine.open(settings.port, baudrate=settings.baudrate, name=self._name) as line:
            sink.link_up(line.detail)
            deframer = Deframer()
            while True:
                octets = await line.read(ENCODED_SIZE_MAX)
                now_ms = self._clock.wall_ms()
                for frame in deframer.feed(octets):
                    if isinstance(frame, FrameError):
                        sink.reject(frame)
                    else:
                        await self._receiver.take(Reception(frame, now_ms, now_ms), sink)
                await asyncio.sleep(0)  # a chattering node must not keep the loop from the other drivers
