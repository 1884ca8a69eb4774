"""A part that fails is run again; what failed, why and how often is visible; a cancel passes through."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.errors import LinkError, LinkReason
from gateway.supervisor import PARKED_AFTER, Supervisor, cancel_and_wait
from tests.fakes.clock import FakeClock


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip the delays between tries, and keep them for a look."""
    delays: list[float] = []
    real_sleep = asyncio.sleep

    async def skip(delay_s: float) -> None:
        delays.append(delay_s)
        await real_sleep(0)

    monkeypatch.setattr("gateway.supervisor.asyncio.sleep", skip)
    return delays


async def run_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    task = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.wait({task}, timeout=0.001)
    assert await cancel_and_wait([task], 1.0)
    assert task.cancelled()


async def test_f48_a_missing_link_is_tried_again_and_said() -> None:
    tries = 0

    async def part() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise LinkError("hci0", LinkReason.ABSENT, "no such adapter")
        supervisor.mark_up("scanning on hci0")
        await asyncio.Event().wait()

    supervisor = Supervisor("driver:ble", part, FakeClock())
    await run_until(supervisor, lambda: supervisor.status.state == "up")
    assert (supervisor.status.detail, supervisor.status.restarts) == ("scanning on hci0", 3)


async def test_f81_a_part_that_crashes_again_and_again_is_parked(no_waiting: list[float]) -> None:
    async def part() -> None:
        raise ZeroDivisionError("a bug")

    supervisor = Supervisor("driver:bad", part, FakeClock())
    await run_until(supervisor, lambda: supervisor.status.state == "parked")
    assert supervisor.status.restarts >= PARKED_AFTER - 1
    assert supervisor.status.detail == "ZeroDivisionError: a bug"
    assert no_waiting[-1] == 600


async def test_f07_the_log_has_one_line_a_burst(caplog: pytest.LogCaptureFixture) -> None:
    async def part() -> None:
        raise LinkError("/dev/ttyUSB0", LinkReason.LOST, "unplugged")

    supervisor = Supervisor("driver:rs485", part, FakeClock())
    await run_until(supervisor, lambda: supervisor.status.restarts > 50)
    assert [record.getMessage() for record in caplog.records] == ["driver:rs485: /dev/ttyUSB0: unplugged"]
