"""The real bleak on a real D-Bus with a mock bluetoothd: adapter, daemon and bus come, hang and go."""

import asyncio
import contextlib
import pathlib
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from drivers.ble import BLE, BleSettings, scanner
from drivers.ble.bthome import SERVICE_UUID
from drivers.ble.ruuvi import COMPANY
from gateway.driver import Driver, DriverParts, LinkError, LinkReason, SystemClock
from tests.ble import bluez
from tests.ble.test_driver import TAG
from tests.ble.world import BTHOME, RUUVI, devices
from tests.fakes.sink import RecordingSink

pytestmark = pytest.mark.skipif(bool(bluez.missing()), reason=bluez.missing())


@pytest_asyncio.fixture
async def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[bluez.Bench]:
    async with bluez.bench(tmp_path, monkeypatch) as made:
        yield made


def driver(scan: str = "auto", silence: float = 300.0) -> Driver:
    parts = DriverParts("bluetooth", BleSettings(scan=scan, silence=silence), devices(), SystemClock())
    return BLE.build(parts)


@contextlib.asynccontextmanager
async def listening(sink: RecordingSink, scan: str = "auto") -> AsyncIterator["asyncio.Task[None]"]:
    """Run the driver; on leaving it must have ended with a LinkError, or is cancelled."""
    before = len(sink.links)
    run = asyncio.create_task(driver(scan).run(sink))
    up = asyncio.create_task(sink.until(lambda sink: len(sink.links) > before))
    await asyncio.wait({run, up}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if run.done():
            await run
        yield run
    finally:
        up.cancel()
        run.cancel()
        await asyncio.wait({run, up})


async def bench_up(bench: bluez.Bench) -> None:
    await bench.start_bus()
    await bench.start_bluetoothd()
    await bench.add_adapter()
    await bench.add_device(BTHOME)
    await bench.add_device(RUUVI)


async def hear_three(bench: bluez.Bench, sink: RecordingSink, packet_id: int) -> None:
    """Send three different adverts and wait until each made one reading, and none made two."""
    appended, duplicates = len(sink.appended), sink.counters["duplicate"]
    for index in range(3):
        data = bytes([0x40, 0x00, packet_id + index, 0x02, 0xCA, 0x09])
        await bench.hear(BTHOME, service_data={SERVICE_UUID: data})
    await sink.until(lambda sink: len(sink.appended) == appended + 3)
    assert sink.counters["duplicate"] == duplicates, "callbacks come twice"


async def end(run: "asyncio.Task[None]") -> LinkError:
    with pytest.raises(LinkError) as caught:
        await asyncio.wait_for(run, bluez.WAIT_LIMIT_S)
    return caught.value


async def test_scan_delivers_adverts_and_asks_bluez_for_nothing_else(bench: bluez.Bench) -> None:
    await bench_up(bench)
    sink = RecordingSink()
    async with listening(sink):
        await bench.hear(RUUVI, manufacturer_data={COMPANY: TAG}, rssi_dbm=-80)
        await sink.until(lambda sink: sink.appended)
        await hear_three(bench, sink, 10)
    assert [(r.device_id, r.value, r.rssi_dbm) for r in sink.appended[0][:1]] == [("tag", 24.3, -80.0)]
    assert {r.device_id for r in sink.readings[8:]} == {"plain"}
    assert await bench.calls("/org/bluez/hci0") == [  # it has no RegisterMonitor, which was asked first
        ("SetDiscoveryFilter", [{"Transport": "le", "DuplicateData": True}]),
        ("StartDiscovery", []),
        ("StopDiscovery", []),
        ("SetDiscoveryFilter", [{}]),
    ]
    for address in (BTHOME, RUUVI):  # S25: never paired, never connected
        assert await bench.calls(f"/org/bluez/hci0/dev_{address.replace(':', '_')}") == []


async def test_passive_scan_is_taken_where_bluez_offers_it(bench: bluez.Bench) -> None:
    await bench_up(bench)
    await bench.add_passive_scan()
    sink = RecordingSink()
    async with listening(sink):
        await hear_three(bench, sink, 20)
    assert [name for name, _ in await bench.calls("/org/bluez/hci0")] == ["RegisterMonitor", "UnregisterMonitor"]


async def test_passive_scan_insisted_on_says_what_is_missing(bench: bluez.Bench) -> None:
    await bench_up(bench)
    with pytest.raises(LinkError, match="experimental") as caught:
        async with listening(RecordingSink(), "passive"):
            pass
    assert caught.value.reason is LinkReason.ABSENT


async def test_active_scan_asks_for_no_monitor(bench: bluez.Bench) -> None:
    await bench_up(bench)
    await bench.add_passive_scan()
    sink = RecordingSink()
    async with listening(sink, "active"):
        await hear_three(bench, sink, 30)
    assert "RegisterMonitor" not in [name for name, _ in await bench.calls("/org/bluez/hci0")]


async def test_f48_what_is_absent_at_start_is_named_and_found_once_it_is_there(bench: bluez.Bench) -> None:
    sink = RecordingSink()
    run = asyncio.create_task(driver().run(sink))
    error = await end(run)
    assert (error.reason, str(error)[:26]) == (LinkReason.ABSENT, "hci0: D-Bus does not run (")

    await bench.start_bus()
    error = await end(asyncio.create_task(driver().run(sink)))
    assert (error.reason, str(error)[:29]) == (LinkReason.ABSENT, "hci0: bluetoothd does not run")

    await bench.start_bluetoothd()
    await bench.add_adapter("hci1")
    error = await end(asyncio.create_task(driver().run(sink)))
    assert (error.reason, str(error)) == (LinkReason.ABSENT, "hci0: adapter 'hci0' not found")

    await bench.add_adapter("hci0")
    await bench.add_device(BTHOME)
    async with listening(sink):
        await hear_three(bench, sink, 40)


async def test_f49_bluetoothd_restart_ends_the_run_and_the_next_hears_each_advert_once(bench: bluez.Bench) -> None:
    await bench_up(bench)
    sink = RecordingSink()
    async with listening(sink) as run:
        await hear_three(bench, sink, 50)
        await bench.kill_bluetoothd()
        error = await end(run)
    assert (error.reason, str(error)) == (LinkReason.LOST, "hci0: bluetoothd stopped or restarted")
    await bench.start_bluetoothd()
    await bench.add_adapter()
    await bench.add_device(BTHOME)
    async with listening(sink):
        await hear_three(bench, sink, 60)


async def test_f50_dbus_killed_ends_the_run_and_the_next_works_on_the_new_bus(bench: bluez.Bench) -> None:
    await bench_up(bench)
    sink = RecordingSink()
    async with listening(sink) as run:
        await hear_three(bench, sink, 70)
        await bench.kill_bus()
        error = await end(run)
    assert (error.reason, str(error)) == (LinkReason.LOST, "hci0: D-Bus is gone")
    error = await end(asyncio.create_task(driver().run(sink)))
    assert error.reason is LinkReason.ABSENT
    await bench_up(bench)
    async with listening(sink):
        await hear_three(bench, sink, 80)


async def test_adapter_pulled_or_switched_off_ends_the_run(bench: bluez.Bench) -> None:
    await bench_up(bench)
    sink = RecordingSink()
    async with listening(sink) as run:
        await bench.switch_off()
        error = await end(run)
    assert (error.reason, str(error)) == (LinkReason.LOST, "hci0: the adapter was switched off")
    async with listening(sink) as run:
        await bench.bluez("/", "org.bluez.Mock", "RemoveAdapter", "s", "hci0")
        error = await end(run)
    assert (error.reason, str(error)) == (LinkReason.LOST, "hci0: the adapter is gone")


async def test_hung_bluetoothd_is_given_up_in_time(bench: bluez.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench_up(bench)
    monkeypatch.setattr(scanner, "STOP_LIMIT_S", 0.2)
    sink = RecordingSink()
    assert bench.bluetoothd
    async with asyncio.timeout(bluez.WAIT_LIMIT_S):
        async with listening(sink) as run:
            await hear_three(bench, sink, 90)
            bench.bluetoothd.send_signal(signal.SIGSTOP)
            run.cancel()  # the service stops: it must not hang on a daemon that does
            await asyncio.wait({run})
        monkeypatch.setattr(scanner, "START_LIMIT_S", 0.2)
        error = await end(asyncio.create_task(driver().run(sink)))
    assert (error.reason, str(error)) == (LinkReason.SILENT, "hci0: bluetoothd did not answer within 0.2 s")
