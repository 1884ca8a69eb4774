"""The driver on a radio the test plays: what becomes a reading, what is refused, what leaves no trace."""

import asyncio
import contextlib
import logging
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from drivers.ble import BLE, AdvertCallback, BleSettings, ble_type
from drivers.ble.counter import FRESH_COUNTERS, FRESH_S
from drivers.ble.driver import QUEUED_PER_DEVICE_MAX
from drivers.ble.station import REPEAT_S
from gateway.driver import (
    DriverParts,
    FrameError,
    FrameReason,
    LinkError,
    LinkReason,
    MemoryValue,
    ReplayError,
    SystemClock,
)
from gateway.reading import Quality, Reading, Reason
from tests.ble.world import (
    BINDKEY,
    BTHOME,
    ENCRYPTED,
    NOW_MS,
    RUUVI,
    HandClock,
    Radio,
    devices,
    driver,
    encrypted,
)
from tests.fakes.sink import RecordingSink

CLIMATE = bytes.fromhex("4002c40903bf13")
TAG = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
TAG_EMPTY = bytes.fromhex("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF")


@contextlib.asynccontextmanager
async def listening(
    sink: RecordingSink, clock: HandClock | None = None, settings: BleSettings | None = None
) -> AsyncIterator[Radio]:
    """Run the driver on a radio as long as the context lasts."""
    radio = Radio()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver(radio, clock or HandClock(), settings).run(sink))
        await radio.is_open.wait()
        yield radio
        task.cancel()
    assert not radio.is_open.is_set(), "the scanner was left open"


def handled(sink: RecordingSink) -> int:
    return len(sink.appended) + len(sink.rejected) + sink.counters["duplicate"] + sink.counters["ignored"]


async def send_each(radio: Radio, sink: RecordingSink, address: str, frames: Sequence[bytes]) -> None:
    """Send BTHome adverts one after the other, each dealt with before the next."""
    for frame in frames:
        before = handled(sink)
        radio.send(address, bthome=frame)
        await sink.until(lambda sink, before=before: handled(sink) > before)  # type: ignore[misc]


async def test_adverts_of_listed_devices_become_readings() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        radio.send(BTHOME, bthome=CLIMATE, rssi_dbm=-71, name="DIY-sensor")
        radio.send(ENCRYPTED, bthome=encrypted(9))
        radio.send(RUUVI, ruuvi=TAG)
        await sink.until(lambda sink: len(sink.appended) == 3)
    plain, sealed, tag = sink.appended
    assert [(r.observed_property, r.value, r.unit) for r in plain] == [
        ("temperature", 25.0, "Cel"),
        ("relative_humidity", 50.55, "%"),
    ]
    assert {(r.device_id, r.rssi_dbm, r.phenomenon_time_ms, r.received_time_ms) for r in plain} == {
        ("plain", -71, NOW_MS + 1_000_000, NOW_MS + 1_000_000)
    }
    assert {r.reasons for r in plain + tag} == {Reason.UNAUTHENTICATED}
    assert [(r.observed_property, r.value, r.reasons) for r in sealed] == [
        ("temperature", 25.06, Reason.NONE),
        ("relative_humidity", 50.55, Reason.NONE),
    ]
    assert [(r.observed_property, r.value) for r in tag[:4]] == [
        ("temperature", 24.3),
        ("relative_humidity", 53.49),
        ("atmospheric_pressure", 1000.44),
        ("battery_voltage", 2.977),
    ]
    assert sink.memory == {"ble_counter/sealed": 9}
    assert sink.links == ["hci0, 3 devices listed"]


async def test_p10_what_a_tag_marks_invalid_is_missing_and_no_number() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        radio.send(RUUVI, ruuvi=TAG_EMPTY)
        await sink.until(lambda sink: sink.appended)
    assert len(sink.readings) == 8
    assert {(r.value, r.quality) for r in sink.readings} == {(None, Quality.MISSING)}


async def test_repeats_are_one_reading_until_half_the_interval_is_over() -> None:
    sink, clock = RecordingSink(), HandClock()
    async with listening(sink, clock) as radio:
        for _ in range(10):
            await send_each(radio, sink, BTHOME, [CLIMATE])
            clock.now_s += 0.1
        assert (len(sink.appended), sink.counters["duplicate"]) == (1, 9)
        clock.now_s += REPEAT_S
        await send_each(radio, sink, BTHOME, [CLIMATE])
        assert len(sink.appended) == 2


async def test_a_new_packet_id_is_a_new_reading_and_two_kinds_of_advert_in_turn_are_not() -> None:
    sink = RecordingSink()
    first, second = bytes.fromhex("40000102ca09"), bytes.fromhex("4000010164")
    async with listening(sink) as radio:
        await send_each(radio, sink, BTHOME, [first, second, first, second, bytes.fromhex("40000202ca09")])
    assert (len(sink.appended), sink.counters["duplicate"]) == (3, 2)


async def test_a_tags_measurement_is_one_reading_however_long_it_is_repeated() -> None:
    sink, clock = RecordingSink(), HandClock()
    async with listening(sink, clock) as radio:
        for _ in range(5):
            before = handled(sink)
            radio.send(RUUVI, ruuvi=TAG)
            await sink.until(lambda sink, before=before: handled(sink) > before)  # type: ignore[misc]
            clock.now_s += 100 * REPEAT_S
        radio.send(RUUVI, ruuvi=TAG[:17] + b"\xce" + TAG[18:])
        await sink.until(lambda sink: len(sink.appended) == 2)
    assert sink.counters["duplicate"] == 4


async def test_p9_unlisted_transmitters_leave_one_counter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink = RecordingSink()
    async with listening(sink) as radio:
        radio.send("DE:AD:BE:EF:00:01", bthome=CLIMATE, name="Annas Telefon")
        radio.send(BTHOME, bthome=CLIMATE)
        await sink.until(lambda sink: sink.appended)
    assert sink.counters == {"unlisted": 1}
    assert {r.device_id for r in sink.readings} == {"plain"}
    traces = caplog.text + repr(sink.__dict__)
    assert "DE:AD" not in traces
    assert "Anna" not in traces


async def test_s06_the_bindkey_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink = RecordingSink()
    async with listening(sink) as radio:
        await send_each(radio, sink, ENCRYPTED, [encrypted(1), encrypted(2, key=bytes(16)), CLIMATE])
    texts = caplog.text + repr([(error, vars(error)) for error in sink.rejected]) + repr(devices())
    assert BINDKEY.hex() not in texts
    assert repr(BINDKEY) not in texts


async def test_an_advert_bluez_only_remembers_is_not_heard() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        radio.send(BTHOME, bthome=CLIMATE, rssi_dbm=-127)
        radio.send(BTHOME, bthome=CLIMATE + b"\x01\x61")
        await sink.until(lambda sink: sink.appended)
    assert sink.counters == {"without_rssi": 1}
    assert len(sink.appended) == 1


async def test_an_advert_without_data_of_the_profile_is_ignored() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        radio.send(BTHOME, others={"0000180f-0000-1000-8000-00805f9b34fb": b"\x01"})
        await sink.until(lambda sink: sink.counters["ignored"])
    assert not sink.appended


def test_f51_storm_of_random_addresses_keeps_memory_flat_and_costs_little() -> None:
    async def storm() -> tuple[int, float, RecordingSink]:
        sink = RecordingSink()
        random_source = random.Random(51)
        addresses = [
            ":".join(f"{octet:02X}" for octet in random_source.randbytes(6)) for _ in range(20_000)
        ]  # made beforehand: what is measured is ours
        async with listening(sink) as radio:
            radio.send(addresses[0], bthome=CLIMATE)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for address in addresses:
                radio.send(address, bthome=CLIMATE)
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            began_s = time.process_time()
            for address in addresses:
                radio.send(address, bthome=CLIMATE)
            spent_s = time.process_time() - began_s
            radio.send(BTHOME, bthome=CLIMATE)
            await sink.until(lambda sink: sink.appended)
        return after - before, spent_s / len(addresses), sink

    grown, spent_s, sink = asyncio.run(storm())
    assert sink.counters == {"unlisted": 40_001}
    assert grown < 50_000, f"{grown} octets kept of 20,000 unlisted adverts"
    assert spent_s < 100e-6, f"{spent_s * 1e6:.1f} µs an advert, test radio included"


async def test_f51_flood_in_a_listed_name_is_bounded_and_crowds_out_nobody() -> None:
    class SlowSink(RecordingSink):
        """Stores nothing until told."""

        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
            await self.go.wait()
            return await super().append(readings, memory=memory)

    sink = SlowSink()
    async with listening(sink) as radio:
        for index in range(10_000):
            radio.send(BTHOME, bthome=b"\x40\x3d" + index.to_bytes(2, "little"))
        radio.send(RUUVI, ruuvi=TAG)
        assert sink.counters["overflow"] == 10_000 - QUEUED_PER_DEVICE_MAX
        sink.go.set()
        await sink.until(lambda sink: any(r.device_id == "tag" for r in sink.readings))
        assert len(sink.appended) == QUEUED_PER_DEVICE_MAX + 1
        await send_each(
            radio, sink, BTHOME, [b"\x40\x09" + bytes([count]) for count in range(QUEUED_PER_DEVICE_MAX + 1)]
        )
        assert sink.counters["overflow"] == 10_000 - QUEUED_PER_DEVICE_MAX, "room once made is not used again"


async def test_f52_plain_advert_of_a_device_with_a_bindkey_is_dropped_as_downgrade() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        await send_each(radio, sink, ENCRYPTED, [CLIMATE, encrypted(1), CLIMATE])
    assert len(sink.appended) == 1
    assert sink.readings[0].value == 25.06
    for error in sink.rejected:
        assert isinstance(error, FrameError)
        assert (error.reason, error.device_id) == (FrameReason.KEY, "sealed")
        assert str(error).startswith("sealed: BTHome downgrade")
    assert len(sink.rejected) == 2


async def test_f53_replayed_adverts_are_dropped_also_after_a_restart_and_with_small_counters() -> None:
    recorded = [encrypted(counter) for counter in (1, 2, 3, 99, 100, 101)]
    sink = RecordingSink()
    async with listening(sink) as radio:
        await send_each(radio, sink, ENCRYPTED, recorded)
        await send_each(radio, sink, ENCRYPTED, recorded[:-1])
    assert len(sink.appended) == 6
    assert [type(error) for error in sink.rejected] == [ReplayError] * 5
    assert sink.memory == {"ble_counter/sealed": 101}

    after = RecordingSink(sink.memory)
    async with listening(after) as radio:
        await send_each(radio, after, ENCRYPTED, recorded)
        assert not after.appended
        assert (len(after.rejected), after.counters["duplicate"]) == (5, 1)
        await send_each(radio, after, ENCRYPTED, [encrypted(102)])
    assert len(after.appended) == 1


async def test_f53_an_advert_that_could_not_be_stored_is_taken_when_it_comes_again() -> None:
    class BrokenSink(RecordingSink):
        async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
            raise OSError("no space left")

    broken, radio = BrokenSink(), Radio()
    run = asyncio.create_task(driver(radio, HandClock()).run(broken))
    await radio.is_open.wait()
    radio.send(ENCRYPTED, bthome=encrypted(7))
    with pytest.raises(OSError, match="no space"):
        await run
    sink = RecordingSink(broken.memory)
    async with listening(sink) as radio:
        await send_each(radio, sink, ENCRYPTED, [encrypted(7)])
    assert len(sink.appended) == 1


async def test_f54_restarted_counter_is_quarantined_then_taken_and_stored() -> None:
    sink, clock = RecordingSink({"ble_counter/sealed": 70_000}), HandClock()
    async with listening(sink, clock) as radio:
        for counter in range(FRESH_COUNTERS):
            assert not sink.appended
            await send_each(radio, sink, ENCRYPTED, [encrypted(counter)])
            clock.now_s += FRESH_S / (FRESH_COUNTERS - 1)
        assert len(sink.rejected) == FRESH_COUNTERS - 1
        assert sink.counters["counter_restarted"] == 1
        await send_each(radio, sink, ENCRYPTED, [encrypted(FRESH_COUNTERS)])
    assert len(sink.appended) == 2
    assert sink.memory == {"ble_counter/sealed": FRESH_COUNTERS, "ble_counter_highest/sealed": 70_000}
    after = RecordingSink(sink.memory)
    async with listening(after) as radio:
        await send_each(radio, after, ENCRYPTED, [encrypted(69_999)])
    assert [type(error) for error in after.rejected] == [ReplayError]


async def test_f55_malformed_and_wrongly_keyed_adverts_are_counted_and_the_next_is_taken() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        await send_each(
            radio,
            sink,
            ENCRYPTED,
            [b"", b"\x41", encrypted(5)[:10], encrypted(5, key=bytes(16)), encrypted(5)[:-1] + b"\0", encrypted(5)],
        )
        await send_each(radio, sink, BTHOME, [b"\x40\x02\xca", b"\xe0\x02", CLIMATE])
        radio.send(RUUVI, ruuvi=TAG[:-1])
        await sink.until(lambda sink: len(sink.rejected) == 8)
    assert [error.reason for error in sink.rejected if isinstance(error, FrameError)] == [
        FrameReason.MALFORMED,
        FrameReason.MALFORMED,
        FrameReason.MALFORMED,
        FrameReason.KEY,
        FrameReason.KEY,
        FrameReason.MALFORMED,
        FrameReason.TYPE,
        FrameReason.MALFORMED,
    ]
    assert len(sink.appended) == 2
    assert sink.memory == {"ble_counter/sealed": 5}


async def test_s23_a_bindkey_set_later_makes_plain_adverts_strangers() -> None:
    sink = RecordingSink()
    async with listening(sink) as radio:
        await send_each(radio, sink, BTHOME, [encrypted(1, address=BTHOME)])
    assert [str(error) for error in sink.rejected] == ["plain: BTHome: encrypted, and the device has no bindkey set"]


async def test_silence_is_a_link_error_and_anybodys_advert_is_life() -> None:
    clock, sink, radio = HandClock(), RecordingSink(), Radio()
    run = asyncio.create_task(driver(radio, clock, BleSettings(silence=60.0)).run(sink))
    await radio.is_open.wait()
    clock.now_s += 59.0
    radio.send("DE:AD:BE:EF:00:01")
    clock.now_s += 59.0
    radio.send(BTHOME, bthome=CLIMATE)
    await sink.until(lambda sink: sink.appended)
    clock.now_s += 60.0
    radio.lost.set_result(None)  # wakes the driver, which looks at the clock
    with pytest.raises(LinkError, match="no advert of any device for 60 s") as caught:
        await run
    assert caught.value.reason is LinkReason.SILENT
    assert not radio.is_open.is_set()


async def test_silence_needs_nothing_to_wake_it_and_a_radio_need_not_tell_that_it_is_lost() -> None:
    @contextlib.asynccontextmanager
    async def mute(heard: AdvertCallback, settings: BleSettings) -> AsyncIterator[None]:
        yield None

    parts = DriverParts("bluetooth", BleSettings(silence=0.05), devices(), SystemClock())
    with pytest.raises(LinkError) as caught:
        await ble_type(mute).build(parts).run(RecordingSink())
    assert caught.value.reason is LinkReason.SILENT


async def test_f49_a_lost_radio_ends_the_run_at_once_and_the_next_run_hears_again() -> None:
    sink, radio = RecordingSink(), Radio()
    ble = driver(radio, HandClock())
    run = asyncio.create_task(ble.run(sink))
    await radio.is_open.wait()
    radio.lost.set_exception(LinkError("hci0", LinkReason.LOST, "bluetoothd stopped or restarted"))
    with pytest.raises(LinkError, match="bluetoothd"):
        await run
    radio.lost = asyncio.get_running_loop().create_future()
    run = asyncio.create_task(ble.run(sink))
    await radio.is_open.wait()
    radio.send(BTHOME, bthome=CLIMATE)
    await sink.until(lambda sink: sink.appended)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (radio.opened_count, len(sink.appended)) == (2, 1)


def test_check_names_what_does_not_fit_together() -> None:
    plain, sealed, tag = devices()
    problems = list(BLE.check(BleSettings(), (plain, sealed, tag)))
    assert [(p.device_id, p.key, p.is_warning) for p in problems] == [
        ("plain", "bindkey", True),
        ("tag", "bindkey", True),
    ]
    twin = type(plain)("twin", plain.profile, None, plain.settings)
    locked = type(tag)("locked", tag.profile, None, sealed.settings)
    found = [str(p.found) + "; " + p.expected for p in BLE.check(BleSettings(), (plain, sealed, twin, locked))]
    assert "A4:C1:38:12:34:56 is plain's too; expected one device an address" in found
    assert "54:48:E6:8F:80:A5 is sealed's too; expected one device an address" in found
    assert "a bindkey; expected none: RuuviTag, data format 5 (RAWv2) does not encrypt" in found
