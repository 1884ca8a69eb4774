"""Poll the meters on one Modbus RTU line. What the bytes mean is modbus.py's and registers.py's business.

A value that was due and could not be read becomes a missing reading (quality MISSING) once, when its outage begins,
with the reason: NO_REPLY where nothing sound came in time, DEVICE_FAULT where the device answered with an exception. It
is not repeated at every poll: a meter that is dead for a month would push the living ones' readings out of the ring.
Each failed request goes to ``sink.reject`` all the same, so counters and status keep telling.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from drivers.line import SerialLine
from drivers.serial.modbus import FRAME_SIZE_MAX, REQUEST_SIZE, AnswerFinder, ExceptionReplyError, Request
from drivers.serial.registers import MODBUS, Block, MapError, plan
from drivers.serial.schedule import Schedule, Verdict
from gateway.driver import (
    Clock,
    Device,
    DeviceError,
    Driver,
    DriverParts,
    DriverType,
    Problem,
    ReadingSink,
    choice,
    duration,
    integer,
    one_of_integers,
    setting,
    text,
)
from gateway.reading import Reason

EVERY_DEFAULT_S = 60.0  # where neither device nor profile says how often
LATE_MAX_S = 3.0  # no answer is expected later than this after its request; slow meters: three time limits, if longer
ANSWER_GAP_S = 0.05  # silence that ends a frame: USB adapters hand octets over every 16 ms, a busy loop adds its own
SETTLE_MAX_S = 1.0  # a line that babbles longer is asked all the same
LOAD_MAX = 0.9  # of the line's time; more is planned to fail
_CHARACTER_BITS = 11  # start, eight data, parity or second stop, stop (Serial Line, 2.5.1)
_T35_FLOOR_S = 0.00175  # silence between frames above 19200 bit/s (Serial Line, 2.5.1.1)
_REACTION_S = 0.03  # what a meter usually takes to answer; only to foresee an overloaded line
_UNSTABLE_PORT = re.compile(r"/dev/tty(USB|ACM)\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """Further keys of ``[[driver]]``."""

    port: str = setting(
        text(r"/[^\x00-\x1f\x7f]{1,255}", 'a device path such as "/dev/serial/by-id/usb-FTDI_…"'),
        help="the adapter: see ls -l /dev/serial/by-id",
    )
    baudrate: int = setting(
        one_of_integers(1200, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 76800, 115200),
        default=9600,
        help="bits per second, the same for all devices on the line",
    )
    parity: str = setting(choice("N", "E", "O"), default="N", help="none, even or odd")
    stopbits: int = setting(one_of_integers(1, 2), default=1, help="stop bits")
    timeout: float = setting(duration(0.02, 30), default="1s", help="how long a device may take to answer")
    retries: int = setting(
        integer(0, 5), default=1, help="how often an unanswered request is repeated before its values count as missing"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSettings:
    """Further keys of ``[[device]]``."""

    unit: int = setting(integer(1, 247), help="Modbus unit id, set at the device")


@dataclass(slots=True)
class _Meter:
    device: Device
    blocks: Sequence[Block]
    next_block_index: int = 0  # where a poll that was broken off by noise goes on
    missing: set[int] = field(default_factory=set)  # blocks whose readings were declared missing
    owes_since_s: float | None = None  # when a request was sent that has no sound answer yet

    @property
    def unit(self) -> int:
        """Its address on the line."""
        return int(self.device.settings.unit)

    @property
    def every_s(self) -> float:
        """How often it is asked, in seconds."""
        return self.device.every_s or EVERY_DEFAULT_S


class ModbusDriver:
    """One RS-485 line and its meters."""

    def __init__(
        self,
        name: str,
        settings: LineSettings,
        devices: Sequence[Device],
        clock: Clock,
        *,
        late_max_s: float | None = None,
    ) -> None:
        self._late_max_s = max(LATE_MAX_S, 3 * settings.timeout) if late_max_s is None else late_max_s
        self._name = name
        self._settings = settings
        self._meters = [_Meter(device, plan(device.profile)) for device in devices]
        self._clock = clock
        self._character_s = _CHARACTER_BITS / settings.baudrate
        self._t35_s = max(3.5 * self._character_s, _T35_FLOOR_S)

    async def run(self, sink: ReadingSink) -> None:
        """Poll until cancelled. A LinkError escapes: the supervisor runs it again, which opens the port again."""
        settings = self._settings
        opening = SerialLine.open(
            settings.port,
            baudrate=settings.baudrate,
            parity=settings.parity,
            stopbits=settings.stopbits,
            name=self._name,
        )
        async with await opening as line:
            sink.link_up(line.detail)
            schedule = Schedule(
                [meter.every_s for meter in self._meters],
                self._clock.elapsed_s(),
                retries=settings.retries,
                late_max_s=self._late_max_s,
            )
            for position, meter in enumerate(self._meters):
                meter.next_block_index = 0
                if meter.owes_since_s is not None:  # what it was asked before the cable was pulled
                    schedule.hold(position, meter.owes_since_s + self._late_max_s)
            while True:
                now_s = self._clock.elapsed_s()
                index = schedule.next_index(now_s)
                if index is None:
                    await _idle(line, schedule.wait_s(now_s), sink)
                else:
                    await self._poll(line, schedule, index, sink)

    async def _poll(self, line: SerialLine, schedule: Schedule, index: int, sink: ReadingSink) -> None:
        """Ask one meter for all its blocks; stop at the first that is not answered."""
        meter = self._meters[index]
        for position in range(meter.next_block_index, len(meter.blocks)):
            block = meter.blocks[position]
            meter.owes_since_s = asked_s = self._clock.elapsed_s()
            try:
                values = await self._exchange(line, meter, block.request(meter.unit), sink)
            except ExceptionReplyError as error:
                meter.owes_since_s = None
                sink.reject(error)
                await self._append_missing(meter, [position], Reason.DEVICE_FAULT, sink)
                continue
            except DeviceError as error:
                sink.reject(error)
                await self._settle(line)
                now_s = self._clock.elapsed_s()
                verdict = schedule.unanswered(index, now_s, now_s - asked_s)
                meter.next_block_index = position if verdict is Verdict.NOISE else 0
                if verdict is not Verdict.NOISE:
                    unread = range(position, len(meter.blocks))
                    await self._append_missing(meter, unread, Reason.NO_REPLY, sink)
                return
            heard_ms = self._clock.wall_ms()
            meter.owes_since_s = None
            meter.missing.discard(position)
            await sink.append(
                meter.device.profile.to_readings(
                    meter.device.device_id,
                    block.decode(values),
                    phenomenon_time_ms=heard_ms,
                    received_time_ms=heard_ms,
                )
            )
        meter.next_block_index = 0
        left_out = schedule.answered(index, self._clock.elapsed_s())
        if left_out:
            sink.count("polls_left_out", left_out)

    async def _exchange(self, line: SerialLine, meter: _Meter, request: Request, sink: ReadingSink) -> list[int]:
        """Return the registers or bits asked for.

        Raises:
            DeviceError: No sound answer came in time, or an exception.
            LinkError: The line is gone.
        """
        await asyncio.sleep(self._t35_s)
        line.reset_input()
        finder = AnswerFinder(request, meter.device.device_id)
        limit_s = self._settings.timeout + (REQUEST_SIZE + request.answer_size) * self._character_s
        asked_s = self._clock.elapsed_s()
        try:
            async with asyncio.timeout(limit_s):
                await line.write(request.encode())
                while True:
                    async with asyncio.timeout(ANSWER_GAP_S if finder.is_full else None):
                        octets = await line.read(FRAME_SIZE_MAX)
                    values = finder.feed(octets)
                    if values is not None:
                        return values
        except TimeoutError:
            raise finder.fault(self._clock.elapsed_s() - asked_s) from None
        finally:
            if finder.echo_count:
                sink.count("echoes", finder.echo_count)
            if finder.late_count:
                sink.count("late_answers", finder.late_count)

    async def _append_missing(self, meter: _Meter, positions: Iterable[int], reason: Reason, sink: ReadingSink) -> None:
        """Append missing values for the blocks among ``positions`` that are not missing already."""
        fresh = [position for position in positions if position not in meter.missing]
        if not fresh:
            return
        meter.missing.update(fresh)
        now_ms = self._clock.wall_ms()
        await sink.append(
            meter.device.profile.to_readings(
                meter.device.device_id,
                [measurement for position in fresh for measurement in meter.blocks[position].missing(reason)],
                phenomenon_time_ms=now_ms,
                received_time_ms=now_ms,
            )
        )

    async def _settle(self, line: SerialLine) -> None:
        """Wait until the line has been silent for a frame's end."""
        try:
            async with asyncio.timeout(SETTLE_MAX_S):
                while True:
                    async with asyncio.timeout(max(self._t35_s, ANSWER_GAP_S)):
                        await line.read(FRAME_SIZE_MAX)
        except TimeoutError:
            return


async def _idle(line: SerialLine, wait_s: float, sink: ReadingSink) -> None:
    """Wait, but notice at once when the line goes; octets nobody asked for are dropped."""
    try:
        async with asyncio.timeout(wait_s):
            while True:
                sink.count("unasked_octets", len(await line.read(FRAME_SIZE_MAX)))
    except TimeoutError:
        return


def _build(parts: DriverParts) -> Driver:
    return ModbusDriver(parts.name, parts.settings, parts.devices, parts.clock)


def _check(settings: LineSettings, devices: Sequence[Device]) -> Iterable[Problem]:
    """Find what shows only when line and meters are seen together."""
    if _UNSTABLE_PORT.fullmatch(settings.port):
        expected = "after a replug it may lead to another adapter: take its path in /dev/serial/by-id (or by-path)"
        yield Problem(None, "port", f'port = "{settings.port}"', expected, is_warning=True)
    units: dict[int, str] = {}
    load = 0.0
    for device in devices:
        unit = device.settings.unit
        if unit in units:
            yield Problem(device.device_id, "unit", f"unit = {unit}", f'expected one that "{units[unit]}" has not')
        units.setdefault(unit, device.device_id)
        if device.profile.decoder != MODBUS.name:
            continue  # said elsewhere
        try:
            blocks = plan(device.profile)
        except MapError as error:
            yield Problem(
                device.device_id,
                "profile",
                f'profile "{device.profile.name}": {error}',
                "expected a map that agrees with itself",
            )
            continue
        characters = sum(REQUEST_SIZE + block.request(unit).answer_size + 7 for block in blocks)
        round_s = characters * _CHARACTER_BITS / settings.baudrate + len(blocks) * _REACTION_S
        load += round_s / (device.every_s or EVERY_DEFAULT_S)
    if load > LOAD_MAX:
        found = f"the polls of all devices take {load:.0%} of the line's time"
        yield Problem(None, "baudrate", found, f"at most {LOAD_MAX:.0%}: longer every, or more bits a second", True)


MODBUS_RTU = DriverType(
    summary="Modbus RTU meters on an RS-485 line, polled in turn",
    settings=LineSettings,
    device_settings=MeterSettings,
    decoders=(MODBUS,),
    build=_build,
    check=_check,
)
