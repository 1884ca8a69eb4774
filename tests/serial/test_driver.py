import asyncio
import contextlib
import itertools
import os
import pathlib
import random
import struct
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.serial import MODBUS_RTU
from drivers.serial.driver import LineSettings, MeterSettings, ModbusDriver
from drivers.serial.modbus import ExceptionReplyError
from drivers.serial.schedule import PROBE_SHARE
from drivers.simulated.cable import Cable as NullModem
from drivers.simulated.meter import SimulatedMeter
from gateway.driver import (
    Device,
    DriverParts,
    FrameError,
    FrameReason,
    LinkError,
    LinkReason,
    NoReplyError,
    SystemClock,
)
from gateway.profile import Profile
from gateway.reading import Quality, Reading, Reason
from tests.fakes.sink import RecordingSink
from tests.serial.cable import Cable
from tests.serial.profiles import profile_of, shipped
from tests.serial.slave import Answer, ScriptedSlave, framed, registers_answer

SOON_S = 0.1  # a poll interval that makes no test wait
SHORT_S = 0.5  # a time limit that a slave on a loaded machine still keeps
BRIEF_S = 0.05  # one for slaves that do not answer anyway
LATE_S = 0.02  # the pause after silence, where no answer is late


@pytest.fixture
def cable(tmp_path: pathlib.Path) -> Iterator[Cable]:
    with Cable(tmp_path) as cable:
        yield cable


@pytest.fixture
def gauge(tmp_path: pathlib.Path) -> Profile:
    """Two registers, in two requests of the same length."""
    return profile_of(
        tmp_path,
        '[[field]]\nfrom = "low"\nproperty = "count/1"\nregister = 10\n'
        '[[field]]\nfrom = "high"\nproperty = "count/2"\nregister = 50\n',
    )


def device(unit: int, profile: Profile, every_s: float = SOON_S) -> Device:
    return Device(f"meter-{unit}", profile, every_s, MeterSettings(unit=unit))


def driver_of(
    port: object, devices: Sequence[Device], *, timeout: float = SHORT_S, retries: int = 1, late_max_s: float = LATE_S
) -> ModbusDriver:
    settings = LineSettings(port=str(port), baudrate=115200, timeout=timeout, retries=retries)
    return ModbusDriver("rs485", settings, devices, SystemClock(), late_max_s=late_max_s)


@contextlib.asynccontextmanager
async def running(driver: ModbusDriver, sink: RecordingSink) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(driver.run(sink))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LinkError):
            await task


def of(sink: RecordingSink, device_id: str) -> list[Reading]:
    return [reading for reading in sink.readings if reading.device_id == device_id]


def values_of(sink: RecordingSink, device_id: str) -> list[object]:
    return [reading.value for reading in of(sink, device_id)]


# ---- against pymodbus's own server ----------------------------------------------------------------------------------


async def test_reads_a_whole_meter_from_pymodbus(tmp_path: pathlib.Path) -> None:
    profile, sink = shipped("eastron-sdm630"), RecordingSink()
    before_ms = SystemClock().wall_ms()
    async with SimulatedMeter(tmp_path) as meter:
        driver = MODBUS_RTU.build(
            DriverParts("rs485", LineSettings(port=meter.port), [device(1, profile)], SystemClock())
        )
        assert isinstance(driver, ModbusDriver)
        async with running(driver, sink):
            await sink.until(lambda sink: len(sink.appended) >= 4)
    first = {reading.observed_property: reading for reading in sink.readings[:16]}
    assert set(first) == {field.observed_property for field in profile.fields}
    shown = SimulatedMeter.values(0.0)
    assert first["voltage/1"].value == pytest.approx(shown[0], abs=3)
    assert first["active_power"].value == pytest.approx(shown[0x34], rel=0.5)
    assert first["active_energy_import"].value == pytest.approx(1234, abs=1)
    assert first["power_factor"].value == 0.95
    assert first["voltage/1"].unit == "V"
    assert before_ms <= first["voltage/1"].received_time_ms <= SystemClock().wall_ms()
    assert not sink.rejected
    assert len(sink.links) == 1
    assert sink.links[0].endswith("at 9600 8N1")


async def test_reads_all_four_tables_from_pymodbus(tmp_path: pathlib.Path) -> None:
    profile = profile_of(
        tmp_path,
        '[[field]]\nfrom = "coil"\nproperty = "digital_output"\nregister = 5\nfunction = 1\ntype = "bool"\n'
        '[[field]]\nfrom = "discrete"\nproperty = "digital_input"\nregister = 3\nfunction = 2\ntype = "bool"\n'
        '[[field]]\nfrom = "holding"\nproperty = "count/3"\nregister = 7\nfunction = 3\n'
        '[[field]]\nfrom = "input"\nproperty = "count/4"\nregister = 7\nfunction = 4\ntype = "int32"\norder = "CDAB"\n',
    )
    tables = (
        [SimData(0, values=[i == 5 for i in range(16)], datatype=DataType.BITS)],
        [SimData(0, values=[i == 3 for i in range(16)], datatype=DataType.BITS)],
        [SimData(0, values=list(range(100, 110)), datatype=DataType.REGISTERS)],
        [SimData(7, values=[0xFFFE, 0xFFFF], datatype=DataType.REGISTERS)],
    )
    sink = RecordingSink()
    async with NullModem(tmp_path, "rs485") as line:
        server = ModbusSerialServer(SimDevice(7, tables), port=str(line.sensor_port), baudrate=9600)
        await server.serve_forever(background=True)
        async with running(driver_of(line.gateway_port, [device(7, profile)], timeout=1.0), sink):
            await sink.until(lambda sink: len(sink.readings) >= 4)
        await server.shutdown()  # type: ignore[no-untyped-call]
    assert {reading.observed_property: reading.value for reading in sink.readings[:4]} == {
        "digital_output": True,
        "digital_input": True,
        "count/3": 107,
        "count/4": -2,
    }


async def test_f37_silent_unit_goes_missing_once_and_the_other_is_read_on(tmp_path: pathlib.Path) -> None:
    profile, sink = shipped("keller-36xw"), RecordingSink()
    sdm = shipped("eastron-sdm630")
    async with SimulatedMeter(tmp_path) as meter:
        driver = driver_of(meter.port, [device(1, sdm), device(2, profile)], retries=0)
        async with running(driver, sink):
            await sink.until(lambda sink: len(of(sink, "meter-1")) > 200 and len(sink.rejected) >= 2)
    silent = of(sink, "meter-2")
    assert [(r.observed_property, r.value, r.quality, r.reasons) for r in silent] == [
        ("water_level", None, Quality.MISSING, Reason.NO_REPLY),
        ("water_temperature", None, Quality.MISSING, Reason.NO_REPLY),
    ]
    assert {type(error) for error in sink.rejected} == {NoReplyError}
    assert all(reading.quality is Quality.NOT_EVALUATED for reading in of(sink, "meter-1"))


async def test_f37_exception_reply_makes_its_values_missing_and_leaves_the_rest(tmp_path: pathlib.Path) -> None:
    profile = profile_of(
        tmp_path,
        '[[field]]\nfrom = "there"\nproperty = "voltage/1"\nregister = 0\nfunction = 4\ntype = "float32"\n'
        '[[field]]\nfrom = "beyond"\nproperty = "count"\nregister = 5000\nfunction = 4\n'
        '[[field]]\nfrom = "behind"\nproperty = "frequency"\nregister = 0x46\nfunction = 4\ntype = "float32"\n'
        "request = 9\n",
    )
    sink = RecordingSink()
    async with (
        SimulatedMeter(tmp_path) as meter,
        running(driver_of(meter.port, [device(1, profile)], timeout=1.0), sink),
    ):
        await sink.until(lambda sink: len(sink.rejected) >= 3)
    missing = [reading for reading in sink.readings if reading.value is None]
    assert [(r.observed_property, r.quality, r.reasons) for r in missing] == [
        ("count", Quality.MISSING, Reason.DEVICE_FAULT)
    ]
    assert len(sink.readings) >= 5
    for error in sink.rejected:
        assert isinstance(error, ExceptionReplyError)
        assert error.code == 2
        assert error.device_id == "meter-1"
    assert "no such registers" in str(sink.rejected[0])


# ---- against a scripted slave ---------------------------------------------------------------------------------------


async def first_answers(
    cable: Cable, profile: Profile, script: Sequence[Answer], count: int = 2
) -> tuple[RecordingSink, ScriptedSlave]:
    """Let the slave answer as scripted, then rightly, until ``count`` readings have arrived."""
    sink = RecordingSink()
    slave = ScriptedSlave(
        cable, lambda request, index: script[index] if index < len(script) else registers_answer(request)
    )
    async with slave, running(driver_of(cable.path, [device(1, profile)]), sink):
        await sink.until(lambda sink: len(sink.readings) >= count)
    return sink, slave


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (framed(1, 3, 2, 3, 0xF2)[:-1] + b"?", FrameReason.CHECKSUM),
        (framed(1, 3, 2, 3, 0xF2)[:4], FrameReason.MALFORMED),
        (framed(9, 3, 2, 3, 0xF2), FrameReason.TYPE),
        (framed(1, 4, 2, 3, 0xF2), FrameReason.TYPE),
        (framed(1, 3, 4, 3, 0xF2, 0, 0), FrameReason.TYPE),
        (framed(1, 3, 0, 10, 0, 1), FrameReason.TYPE),  # its own request
        (random.Random(4).randbytes(300), FrameReason.CHECKSUM),
    ],
    ids=["crc", "truncated", "unit", "function", "length", "echo", "garbage"],
)
async def test_f35_bad_answer_is_rejected_counted_and_asked_again(
    cable: Cable, gauge: Profile, answer: bytes, reason: FrameReason
) -> None:
    sink, slave = await first_answers(cable, gauge, [answer])
    assert values_of(sink, "meter-1")[:2] == [1010, 1050]
    (error,) = sink.rejected
    assert isinstance(error, FrameError)
    assert (error.device_id, error.reason) == ("meter-1", reason)
    assert slave.requests[0] == slave.requests[1]
    assert all(reading.value is not None for reading in sink.readings)  # one bad answer is no outage


async def test_f35_adapter_that_echoes_works_and_is_counted(cable: Cable, gauge: Profile) -> None:
    sink = RecordingSink()
    slave = ScriptedSlave(cable, lambda request, _: request + registers_answer(request))
    async with slave, running(driver_of(cable.path, [device(1, gauge)]), sink):
        await sink.until(lambda sink: len(sink.readings) >= 2)
    assert values_of(sink, "meter-1")[:2] == [1010, 1050]
    assert sink.counters["echoes"] >= 2
    assert not sink.rejected


async def test_f34_line_full_of_noise_neither_stops_nor_invents(cable: Cable, gauge: Profile) -> None:
    """Noise before, behind and instead of answers, from a seed."""
    dice = random.Random(20261123)
    sink = RecordingSink()

    def script(request: bytes, _: int) -> Answer:
        noise = dice.randbytes(dice.randrange(40))
        kind = dice.randrange(4)
        answer = registers_answer(request)
        if kind == 0:
            return noise + answer
        if kind == 1:
            return answer + noise
        if kind == 2:
            damaged = bytearray(answer)
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
            return bytes(damaged)
        return answer

    async with ScriptedSlave(cable, script), running(driver_of(cable.path, [device(1, gauge)]), sink):
        await sink.until(lambda sink: len(sink.readings) >= 20 and len(sink.rejected) >= 5)
    found = {(reading.observed_property, reading.value) for reading in sink.readings if reading.value is not None}
    assert found == {("count/1", 1010), ("count/2", 1050)}


async def test_f34_octets_nobody_asked_for_are_dropped(cable: Cable, gauge: Profile) -> None:
    sink = RecordingSink()
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request))
    async with slave, running(driver_of(cable.path, [device(1, gauge, every_s=0.5)]), sink):
        await sink.until(lambda sink: len(sink.readings) >= 2)
        os.write(cable.far_fd, b"babble")
        await sink.until(lambda sink: sink.counters["unasked_octets"] >= 6)
        await sink.until(lambda sink: len(sink.readings) >= 4)
    assert values_of(sink, "meter-1")[:4] == [1010, 1050, 1010, 1050]


@pytest.mark.slow
async def test_f36_answers_1500_ms_late_are_never_taken_for_another(cable: Cable, gauge: Profile) -> None:
    """Unit 1 answers 1.5 s late with a time limit of 0.7 s, and both its requests look alike but for their address.

    A driver that goes on at once takes the late answer of register 10 for the one of register 50, and unit 1's for
    unit 2's if it looks at the length only.
    """
    sink = RecordingSink()
    late = 2  # the first two requests to unit 1

    def script(request: bytes, _: int) -> Answer:
        nonlocal late
        if request[0] == 1 and late:
            late -= 1
            return 1.5, registers_answer(request)
        return registers_answer(request)

    devices = [device(1, gauge, every_s=1.0), device(2, gauge)]
    driver = driver_of(cable.path, devices, timeout=0.7, late_max_s=3.0)
    async with ScriptedSlave(cable, script), running(driver, sink):
        await sink.until(lambda sink: len([r for r in of(sink, "meter-1") if r.value is not None]) >= 4)
    for reading in sink.readings:
        if reading.value is not None:
            unit, register = int(reading.device_id[-1]), 10 if reading.observed_property == "count/1" else 50
            assert reading.value == 1000 * unit + register
    assert sum(isinstance(error, NoReplyError) for error in sink.rejected) == 2
    assert len(of(sink, "meter-2")) > 20  # asked on while unit 1 was owing answers


async def test_f36_late_answer_is_flushed_before_the_next_request(cable: Cable, gauge: Profile) -> None:
    """A whole sound answer of the same unit, function and length lies in the buffer when the poll begins."""
    sink = RecordingSink()
    stale = framed(1, 3, 2, 0xDE, 0xAD)
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request))
    driver = driver_of(cable.path, [device(1, gauge)])
    async with slave, running(driver, sink):
        await sink.until(lambda sink: len(sink.readings) >= 2)
        for _ in range(10):
            os.write(cable.far_fd, stale)
            count = len(sink.readings)
            await sink.until(lambda sink, count=count: len(sink.readings) > count)  # type: ignore[misc]
    assert 0xDEAD not in values_of(sink, "meter-1")


async def test_f32_f33_cable_pulled_mid_frame_and_put_back_under_another_name(
    cable: Cable, gauge: Profile, tmp_path: pathlib.Path
) -> None:
    sink = RecordingSink()
    first_name = cable.near_name
    half_sent = asyncio.Event()

    def script(request: bytes, index: int) -> Answer:
        if index < 2:
            return registers_answer(request)
        half_sent.set()
        return registers_answer(request)[:4]

    driver = driver_of(cable.path, [device(1, gauge)], timeout=5.0)
    async with ScriptedSlave(cable, script) as slave, running(driver, sink) as task, asyncio.timeout(20):
        await half_sent.wait()
        slave.leave()
        cable.pull()
        with pytest.raises(LinkError) as caught:
            await task
    assert caught.value.reason is LinkReason.LOST
    assert len(sink.readings) == 2  # the half frame left nothing
    assert not os.path.exists(cable.path)

    with pytest.raises(LinkError) as caught:  # the supervisor tries again while it is out
        await driver.run(sink)
    assert caught.value.reason is LinkReason.ABSENT

    with Cable(tmp_path, "takes-the-old-name"):
        cable.plug()
        assert cable.near_name != first_name
        async with ScriptedSlave(cable, lambda request, _: registers_answer(request)), running(driver, sink):
            await sink.until(lambda sink: len(sink.readings) >= 4)
    assert values_of(sink, "meter-1")[:4] == [1010, 1050, 1010, 1050]
    assert len(sink.links) == 2
    assert sink.links[0] != sink.links[1]


async def test_f36_answer_owed_from_before_the_pull_is_not_taken_behind_it(cable: Cable, gauge: Profile) -> None:
    sink, asked_high = RecordingSink(), asyncio.Event()
    late_max_s = 1.0
    asked_high_s = 0.0

    def before(request: bytes, index: int) -> Answer:
        nonlocal asked_high_s
        if index == 0:
            return registers_answer(request)
        asked_high_s = time.monotonic()
        asked_high.set()
        return None

    def behind(request: bytes, _: int) -> Answer:
        """Whatever is asked while the answer is owed gets the owed one."""
        owed = struct.pack(">BBHH", 1, 3, 50, 1)
        is_owed = time.monotonic() < asked_high_s + late_max_s - 0.1
        return registers_answer(owed if is_owed else request)

    driver = driver_of(cable.path, [device(1, gauge)], timeout=5.0, late_max_s=late_max_s)
    async with ScriptedSlave(cable, before) as slave, running(driver, sink) as task, asyncio.timeout(20):
        await asked_high.wait()
        slave.leave()
        cable.pull()
        with pytest.raises(LinkError):
            await task
    cable.plug()
    async with ScriptedSlave(cable, behind), running(driver, sink):
        await sink.until(lambda sink: len(sink.readings) >= 3)
    assert values_of(sink, "meter-1")[:3] == [1010, 1010, 1050]


async def test_f32_pulled_while_nobody_is_due_is_noticed_at_once(cable: Cable, gauge: Profile) -> None:
    sink = RecordingSink()
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request))
    driver = driver_of(cable.path, [device(1, gauge, every_s=3600.0)])
    async with slave, running(driver, sink) as task, asyncio.timeout(20):
        await sink.until(lambda sink: len(sink.readings) >= 2)
        slave.leave()
        cable.pull()
        with pytest.raises(LinkError):
            await task


@pytest.mark.slow
async def test_f37_ten_dead_of_twenty_on_a_real_line(cable: Cable, gauge: Profile) -> None:
    """Exact shares are counted in test_schedule.py; here the same on a line, bounds that hold on a slow machine."""
    sink, timeout_s = RecordingSink(), BRIEF_S
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request) if request[0] <= 10 else None)
    driver = driver_of(cable.path, [device(unit, gauge, 0.5) for unit in range(1, 21)], timeout=timeout_s)
    start_s = time.monotonic()
    async with slave, running(driver, sink):
        await sink.until(lambda sink: all(len(of(sink, f"meter-{unit}")) >= 12 for unit in range(1, 11)))
        elapsed_s = time.monotonic() - start_s
    probes = sum(unit > 10 for unit in slave.units()) - 10 * 2  # beyond the first attempt and its repeat
    assert probes <= elapsed_s * PROBE_SHARE / timeout_s + 1
    for unit in range(11, 21):
        values = values_of(sink, f"meter-{unit}")
        assert values in ([], [None, None])
    assert all(value is not None for unit in range(1, 11) for value in values_of(sink, f"meter-{unit}"))


async def test_dead_meter_that_comes_back_is_read_again(cable: Cable, gauge: Profile) -> None:
    sink, is_alive = RecordingSink(), False
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request) if is_alive else None)
    async with slave, running(driver_of(cable.path, [device(1, gauge)], timeout=BRIEF_S, retries=0), sink):
        await sink.until(lambda sink: len(sink.rejected) >= 2)
        is_alive = True
        await sink.until(lambda sink: len(sink.readings) >= 4)
    assert values_of(sink, "meter-1")[:4] == [None, None, 1010, 1050]


async def test_each_outage_is_told(cable: Cable, gauge: Profile) -> None:
    sink, is_alive = RecordingSink(), True
    slave = ScriptedSlave(cable, lambda request, _: registers_answer(request) if is_alive else None)
    async with slave, running(driver_of(cable.path, [device(1, gauge)], retries=0), sink):
        for gaps in (1, 2):
            is_alive = True
            before = len(sink.readings)
            await sink.until(lambda sink, before=before: len(sink.readings) >= before + 2)  # type: ignore[misc]
            is_alive = False
            await sink.until(lambda sink, gaps=gaps: values_of(sink, "meter-1").count(None) >= 2 * gaps - 1)  # type: ignore[misc]
    runs = [value is None for value in values_of(sink, "meter-1")]
    assert sum(is_gap and not was_gap for was_gap, is_gap in itertools.pairwise(runs)) == 2


async def test_noise_in_the_second_request_does_not_repeat_the_first(cable: Cable, gauge: Profile) -> None:
    script = [registers_answer(struct.pack(">BBHH", 1, 3, 10, 1)), None]
    sink, slave = await first_answers(cable, gauge, script)
    assert [struct.unpack(">H", request[2:4])[0] for request in slave.requests[:3]] == [10, 50, 50]
    assert values_of(sink, "meter-1")[:2] == [1010, 1050]


async def test_s26_nothing_but_reading_is_ever_sent(cable: Cable, tmp_path: pathlib.Path) -> None:
    rows = [
        f'[[field]]\nfrom = "f{function}"\nproperty = "digital_input/{function}"\nregister = 1\n'
        f'function = {function}\ntype = "bool"\n' + ("bit = 0\n" if function > 2 else "")
        for function in (1, 2, 3, 4)
    ]
    sink = RecordingSink()
    dice = random.Random(26)
    slave = ScriptedSlave(
        cable, lambda request, _: dice.choice([framed(request[0], request[1] | 0x80, 4), b"\x01\x05"])
    )
    driver = driver_of(
        cable.path, [device(unit, profile_of(tmp_path, "".join(rows))) for unit in (1, 2)], timeout=BRIEF_S
    )
    async with slave, running(driver, sink):
        await sink.until(lambda sink: len(sink.rejected) >= 12)
    assert {request[1] for request in slave.requests} == {1, 2, 3, 4}


# ---- settings --------------------------------------------------------------------------------------------------------


def problems(port: str, devices: Sequence[Device], baudrate: int = 9600) -> list[tuple[str | None, str, bool]]:
    found = MODBUS_RTU.check(LineSettings(port=port, baudrate=baudrate), devices)
    return [(problem.device_id, problem.key, problem.is_warning) for problem in found]


def test_check_finds_nothing_wrong_in_a_good_line(gauge: Profile) -> None:
    assert problems("/dev/serial/by-id/usb-FTDI_x", [device(1, gauge, 10.0), device(2, gauge, 10.0)]) == []


def test_check_asks_for_by_id(gauge: Profile) -> None:
    assert problems("/dev/ttyUSB0", [device(1, gauge, 10.0)]) == [(None, "port", True)]
    assert problems("/dev/ttyACM12", []) == [(None, "port", True)]
    assert problems("/dev/ttyAMA0", []) == []  # a soldered port keeps its name


def test_check_refuses_two_devices_with_one_unit(gauge: Profile) -> None:
    two = [Device("a", gauge, 10.0, MeterSettings(unit=5)), Device("b", gauge, 10.0, MeterSettings(unit=5))]
    (problem,) = MODBUS_RTU.check(LineSettings(port="/dev/x"), two)
    assert (problem.device_id, problem.key, problem.is_warning) == ("b", "unit", False)
    assert '"a"' in problem.expected


def test_check_names_a_contradictory_map(tmp_path: pathlib.Path) -> None:
    bad = profile_of(tmp_path, '[[field]]\nfrom = "t"\nproperty = "count"\nregister = 0\ntype = "string"\n')
    assert problems("/dev/x", [device(1, bad)]) == [("meter-1", "profile", False)]


def test_check_warns_of_more_polls_than_the_line_carries() -> None:
    meters = [device(unit, shipped("eastron-sdm630"), 1.0) for unit in range(1, 6)]
    assert problems("/dev/x", meters) == [(None, "baudrate", True)]
    assert problems("/dev/x", meters[:2], baudrate=115200) == []
