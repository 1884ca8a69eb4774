"""The ring's owner in the service: nothing blocks the loop, a failing disk is felt only by those who wait for it."""

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncIterator

import pytest

from gateway.errors import RingError
from gateway.ring import Gap, Record, Ring, RingEvent
from gateway.store import QUEUE_READINGS_MAX, Store, StoreState
from tests.fakes.clock import FakeClock
from tests.ring.samples import FailingMedium, many, reading, records

LONG_S = 3600.0  # an interval no test waits for


class Desk:
    """A store on a medium whose faults the test commands."""

    def __init__(self) -> None:
        self.medium = HeldMedium()
        self.clock = FakeClock()
        self.events: list[RingEvent] = []
        self.store = self.open()

    def open(self) -> Store:
        ring = Ring.open("desk", size=self.medium.size(), io=self.medium)
        return Store(ring, self.clock, sync_interval_s=LONG_S, on_event=self.events.append)

    @property
    def codes(self) -> list[str]:
        return [event.code for event in self.events]


class HeldMedium(FailingMedium):
    """A medium whose syncs can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.held = threading.Event()

    def sync(self) -> None:
        if hasattr(self, "free") and not self.free.is_set():
            self.held.set()
            self.free.wait(30)
        super().sync()


def state_of(store: Store) -> StoreState:
    return store.state


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.medium.free.set()
    desk.medium.sync_errors, desk.medium.write_fails = 0, False
    await desk.store.close()


async def test_what_is_appended_is_readable_once_synced(desk: Desk) -> None:
    store = desk.store
    assert store.add_consumer("city") == 0
    waiting = asyncio.create_task(store.wait_synced(0))
    assert await store.append(many(0, 3), {"f_cnt": 5})
    assert store.recall("f_cnt") == 5
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await store.read(0, 10) == []
    await store.sync()
    await waiting
    assert [record.reading for record in records(await store.read(0, 10))] == many(0, 3)
    store.acknowledge("city", 0, 1)
    assert store.cursor("city") == 2
    await store.sync()
    assert store.status().ring.consumers[0].cursor == 2


async def test_p2_urgent_appends_are_synced_at_once(desk: Desk) -> None:
    await desk.store.append([reading(0)], urgent=True)
    await asyncio.wait_for(desk.store.wait_synced(0), 5)


async def test_small_appends_are_grouped_and_keep_their_order(desk: Desk) -> None:
    desk.medium.free.clear()
    urgent = asyncio.create_task(desk.store.append([reading(0)], urgent=True))
    await urgent
    await asyncio.to_thread(desk.medium.held.wait, 5)
    before = desk.medium.writes
    appends = [asyncio.create_task(desk.store.append([reading(number)])) for number in range(1, 200)]
    await asyncio.sleep(0)
    desk.medium.free.set()
    assert all(await asyncio.gather(*appends))
    assert desk.medium.writes - before < 20
    await desk.store.sync()
    found = records(await desk.store.read(0, 1000))
    assert [record.reading for record in found] == many(0, 200)


async def test_idle_store_writes_nothing_and_shows_progress(desk: Desk) -> None:
    await desk.store.append(many(0, 3))
    await desk.store.sync()
    before = (desk.medium.writes, desk.medium.syncs)
    for _ in range(20):
        await desk.store.sync()
    assert (desk.medium.writes, desk.medium.syncs) == before
    assert desk.store.progress == 21


async def test_f08_f09_failing_disk_keeps_sampling_and_delivers_live(desk: Desk) -> None:
    store = desk.store
    await store.append(many(0, 5), urgent=True)
    await store.wait_synced(4)
    desk.medium.error, desk.medium.sync_errors, desk.medium.write_fails = errno.EROFS, -1, True
    assert not await store.append(many(5, 5), {"f_cnt": 9})
    assert state_of(store) is StoreState.FAILED
    assert store.status().last_error
    assert not await store.append(many(10, 5))
    await asyncio.wait_for(store.wait_synced(14), 5)
    assert [record.reading for record in records(await store.read(0, 100))] == many(0, 15)
    writes = desk.medium.syncs
    for _ in range(50):
        await store.sync()
    assert desk.medium.syncs - writes <= 2, "a failing disk is not tried without a pause"
    desk.medium.sync_errors, desk.medium.write_fails = 0, False
    desk.clock.pass_time(120)
    await store.sync()
    assert state_of(store) is StoreState.OK
    assert desk.codes.count("store.failed") == 1
    assert desk.codes.count("store.ok") == 1
    again = Ring.open("desk", size=desk.medium.size(), io=desk.medium)
    assert [record.reading for record in records(again.read(0, 100))] == many(0, 15)
    assert again.recall("f_cnt") == 9


async def test_f11_slow_sync_holds_up_nobody_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.APPEND_WAIT_S", 0.01)
    store = desk.store
    await store.append(many(0, 5))
    desk.medium.free.clear()
    syncing = asyncio.create_task(store.sync())
    await asyncio.to_thread(desk.medium.held.wait, 5)
    desk.clock.pass_time(30)
    assert state_of(store) is StoreState.SLOW
    assert not await store.append(many(5, 5)), "the driver goes on, but must not acknowledge"
    assert store.status().queue_readings == 5
    desk.medium.free.set()
    await syncing
    await store.sync()
    assert "store.slow" in desk.codes
    desk.clock.pass_time(61)
    assert state_of(store) is StoreState.OK
    assert [record.reading for record in records(await store.read(0, 100))] == many(0, 10)


async def test_full_queue_is_back_pressure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.APPEND_WAIT_S", 0.01)
    await desk.store.append([reading(0)])
    desk.medium.free.clear()
    syncing = asyncio.create_task(desk.store.sync())
    await asyncio.to_thread(desk.medium.held.wait, 5)
    count = 1
    while desk.store.status().queue_readings < QUEUE_READINGS_MAX:
        await desk.store.append(many(count, 500))
        count += 500
    held = asyncio.create_task(desk.store.append([reading(count)]))
    await asyncio.sleep(0.05)
    assert not held.done()
    assert desk.store.status().queue_readings <= QUEUE_READINGS_MAX + 500
    desk.medium.free.set()
    await syncing
    await asyncio.wait_for(held, 20)
    await desk.store.sync()
    assert desk.store.status().ring.synced_seq == count + 1


async def test_one_bad_reading_does_not_take_its_neighbours_along(desk: Desk) -> None:
    desk.medium.free.clear()
    await desk.store.append([reading(0)], urgent=True)
    appends = [desk.store.append([reading(number)]) for number in (1, 2)]
    bad = desk.store.append([reading(3, 1 << 70)])
    gathered = asyncio.gather(*appends, bad, return_exceptions=True)
    await asyncio.sleep(0)
    desk.medium.free.set()
    first, second, third = await gathered
    assert first is True
    assert second is True
    assert isinstance(third, ValueError)


async def test_cancelled_driver_takes_nobody_along(desk: Desk) -> None:
    desk.medium.free.clear()
    await desk.store.append([reading(0)], urgent=True)
    cancelled = asyncio.create_task(desk.store.append([reading(1)]))
    other = asyncio.create_task(desk.store.append([reading(2)]))
    await asyncio.sleep(0)
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled
    desk.medium.free.set()
    assert await other


async def test_close_stores_what_waits(desk: Desk) -> None:
    desk.store.add_consumer("city")
    appends = [asyncio.create_task(desk.store.append([reading(number)])) for number in range(20)]
    await asyncio.sleep(0)
    await desk.store.close()
    await asyncio.gather(*appends)
    with pytest.raises(RingError, match="is closed"):
        await desk.store.append([reading(1)])
    again = Ring.open("desk", size=desk.medium.size(), io=desk.medium)
    items = again.read(0, 100)
    assert not any(isinstance(item, Gap) for item in items)
    assert [item.reading for item in items if isinstance(item, Record)] == many(0, 20)


async def test_close_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.CLOSE_TIMEOUT_S", 0.05)
    await desk.store.append([reading(0)])
    desk.medium.free.clear()
    await asyncio.wait_for(desk.store.close(), 5)
    desk.medium.free.set()


async def test_run_syncs_every_interval() -> None:
    medium = FailingMedium()
    ring = Ring.open("run", size=medium.size(), io=medium)
    store = Store(ring, FakeClock(), sync_interval_s=0.001)
    running = asyncio.create_task(store.run())
    await store.append([reading(0)])
    await asyncio.wait_for(store.wait_synced(0), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
