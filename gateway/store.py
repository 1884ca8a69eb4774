"""The service's one owner of the ring: every call that may block runs in one worker thread, in order.

A disk that is slow or fails holds up nobody but those who wait for it: drivers feel back-pressure once the queue is
full, everything else goes on. While the disk fails, readings are numbered and kept in memory (the ring bounds that),
readers get them from there, and writing is tried again with a growing delay.
"""

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from gateway.clock import Clock
from gateway.errors import RingError, RingSyncError
from gateway.reading import Reading
from gateway.ring import Consumer, Gap, MemoryValue, Record, Ring, RingEvent, RingStat

QUEUE_READINGS_MAX = 10_000  # waiting for the disk; beyond it `append` waits: about 3 MB
GROUP_READINGS_MAX = 1_000  # of several small appends written as one
SLOW_SYNC_S = 1.0  # a sync that takes longer is told to the operator
SLOW_HOLD_S = 60.0  # the store counts as slow for so long after its last slow sync
APPEND_WAIT_S = 2.0  # an append waits no longer for a slow disk; sampling goes on
RETRY_FIRST_S = 1.0  # after a failed sync; doubles up to
RETRY_MAX_S = 60.0
CLOSE_TIMEOUT_S = 8.0  # of the 10 s a stopping service has

_Result = TypeVar("_Result")


class StoreState(enum.StrEnum):
    """How the store is."""

    OK = "ok"
    SLOW = "slow"  # a sync takes longer than SLOW_SYNC_S
    FAILED = "failed"  # readings are in memory only


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What `litfass status` shows of the store.

    Attributes:
        state: How it is.
        ring: What the ring knows about itself.
        bytes_written_per_day: Wear: octets written a day, from what was written since the start.
        queue_readings: Readings waiting to be written.
        unsynced_readings: Readings a power cut would take now.
        sync_s: Seconds the last sync took.
        last_error: The last failure, empty where there was none.
    """

    state: StoreState
    ring: RingStat
    bytes_written_per_day: float
    queue_readings: int
    unsynced_readings: int
    sync_s: float
    last_error: str


@dataclass(slots=True)
class _Waiting:
    """One append that waits for the worker."""

    readings: Sequence[Reading]
    memory: Mapping[str, MemoryValue | None]
    is_urgent: bool
    done: "asyncio.Future[bool]"


@dataclass(frozen=True, slots=True)
class _Report:
    """What the worker tells the loop after each piece of work."""

    stat: RingStat
    failure: str
    events: Sequence[RingEvent]


class Store:
    """A `Ring` for coroutines.

    Attributes:
        progress: Rises with each sync done, or found not due; what a watchdog looks at.
    """

    def __init__(
        self,
        ring: Ring,
        clock: Clock,
        *,
        sync_interval_s: float,
        on_event: Callable[[RingEvent], None] | None = None,
    ) -> None:
        """Take over a ring.

        Args:
            ring: Nobody else may use it from now on.
            clock: Stamps appends and measures syncs.
            sync_interval_s: A power cut may take what arrived within it, at most.
            on_event: Told, on the loop, of every event of the ring and the store.
        """
        self._ring = ring
        self._clock = clock
        self._sync_interval_s = sync_interval_s
        self._on_event = on_event or _ignore
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ring")
        self._queue: deque[_Waiting] = deque()
        self._queue_readings = 0
        self._changed = asyncio.Condition()  # something was written, synced or given up
        self._changes = self._changes_synced = 0  # what was asked of the worker, and how much of it is synced
        self._is_closed = False
        self._consumers = {
            consumer.name: Consumer(consumer.cursor, consumer.ranges) for consumer in ring.stat().consumers
        }
        self._opened_s = clock.elapsed_s()
        self._sync_began_s: float | None = None
        self._sync_s = 0.0
        self._slow_until_s = float("-inf")
        self._retry_s = RETRY_FIRST_S
        self._retry_at_s = float("-inf")
        self._told = StoreState.OK
        self._last_error = ""
        self._is_failed = ring.failure is not None
        self._wakers: set[asyncio.Future[None]] = set()
        self._stat = ring.stat()
        self.progress = 0

    # ------------------------------------------------------------ write

    async def append(
        self,
        readings: Sequence[Reading],
        memory: Mapping[str, MemoryValue | None] | None = None,
        *,
        urgent: bool = False,
    ) -> bool:
        """Store readings and what must be remembered with them, as one.

        Small appends that come together are written together. Where the queue is full this waits: that is the
        back-pressure a driver feels.

        Args:
            readings: In the order they are to keep; may be empty.
            memory: Values to remember by key; None forgets a key.
            urgent: Sync at once (alarms) instead of within the interval.

        Returns:
            True: no SIGKILL can take them any more, the frame may be acknowledged. False: the disk is slow
            (``APPEND_WAIT_S``) or fails; they are kept in memory and stored as soon as it works.

        Raises:
            ValueError: A value that cannot be stored; see `Ring.append`.
            RingError: The ring's table is full, or the store is closed.
        """
        if self._is_closed:
            raise RingError(self._stat.path, "is closed")
        async with self._changed:
            await self._changed.wait_for(lambda: self._queue_readings < QUEUE_READINGS_MAX)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(readings, memory or {}, urgent, loop.create_future())
        self._queue.append(waiting)
        self._queue_readings += len(readings)
        self._changes += 1
        self._submit(loop, self._drain)
        try:
            async with asyncio.timeout(APPEND_WAIT_S):
                return await asyncio.shield(waiting.done)
        except TimeoutError:
            waiting.done.add_done_callback(_forget_outcome)
            return False

    def _submit(self, loop: asyncio.AbstractEventLoop, work: "Callable[[asyncio.AbstractEventLoop], None]") -> None:
        """Have the worker do something that tells its outcome by itself."""
        self._worker.submit(work, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what waits. Runs in the worker; one call may do the work of many, the others then find nothing."""
        group: list[_Waiting] = []
        count = 0
        while self._queue and count < GROUP_READINGS_MAX:
            group.append(self._queue.popleft())
            count += len(group[-1].readings)
        if not group:
            return
        outcomes: list[tuple[_Waiting, bool | Exception]] = []
        for part in self._parts(group):
            outcomes.extend((waiting, outcome) for waiting, outcome in self._write(part))
        loop.call_soon_threadsafe(self._on_drained, outcomes, self._report())
        if any(waiting.is_urgent for waiting in group):
            self._sync(loop, 0)

    @staticmethod
    def _parts(group: list[_Waiting]) -> list[list[_Waiting]]:
        """Return what is written as one: everything, unless one large append alone is much already."""
        parts: list[list[_Waiting]] = [[]]
        count = 0
        for waiting in group:
            if parts[-1] and count + len(waiting.readings) > GROUP_READINGS_MAX:
                parts.append([])
                count = 0
            parts[-1].append(waiting)
            count += len(waiting.readings)
        return parts

    def _write(self, part: list[_Waiting]) -> list[tuple[_Waiting, bool | Exception]]:
        """Append some waiting readings as one; where that cannot be stored, each for itself."""
        readings = [reading for waiting in part for reading in waiting.readings]
        memory: dict[str, MemoryValue | None] = {}
        for waiting in part:
            memory.update(waiting.memory)
        try:
            self._ring.append(readings, self._clock.stamp(), memory)
        except RingSyncError:
            return [(waiting, False) for waiting in part]
        except (ValueError, RingError) as error:
            if len(part) == 1:
                return [(part[0], error)]
            return [outcome for waiting in part for outcome in self._write([waiting])]
        return [(waiting, True) for waiting in part]

    def _on_drained(self, outcomes: Sequence[tuple[_Waiting, bool | Exception]], report: _Report) -> None:
        """Tell the waiting ones."""
        for waiting, outcome in outcomes:
            self._queue_readings -= len(waiting.readings)
            if waiting.done.done():
                continue  # its driver was cancelled
            if isinstance(outcome, Exception):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(outcome)
        self._take(report)

    def acknowledge(self, name: str, seq_first: int, seq_last: int) -> None:
        """Note that a consumer has ``seq_first`` to ``seq_last``, both inclusive; durable with the next sync.

        Raises:
            KeyError: There is no such consumer.
        """
        self._consumers[name] = self._consumers[name].acknowledged(seq_first, seq_last)
        self._changes += 1
        self._worker.submit(self._ring.acknowledge, name, seq_first, seq_last)

    def add_consumer(self, name: str, start: str | int = "oldest") -> int:
        """Return the cursor of a consumer; see `Ring.add_consumer`. Blocks: meant for the start of the service."""
        cursor = self._worker.submit(self._ring.add_consumer, name, start).result()
        self._consumers.setdefault(name, Consumer(cursor))
        self._changes += 1
        return cursor

    def remove_consumer(self, name: str) -> None:
        """Forget a consumer. Blocks: meant for the start of the service."""
        self._worker.submit(self._ring.remove_consumer, name).result()
        self._consumers.pop(name, None)
        self._changes += 1

    # ------------------------------------------------------------ read

    @property
    def epoch(self) -> int:
        """Return this life of the ring."""
        return self._ring.epoch

    @property
    def readable_seq(self) -> int:
        """Return the number below which `read` gives records: synced ones; while the disk fails, all."""
        return self._stat.head_seq if self._is_failed else self._stat.synced_seq

    def cursor(self, name: str) -> int:
        """Return the oldest record a consumer has not acknowledged.

        Raises:
            KeyError: There is no such consumer.
        """
        return self._consumers[name].cursor

    def acknowledged(self, name: str) -> tuple[tuple[int, int], ...]:
        """Return the stretches above the cursor, both ends inclusive, that a consumer has already."""
        return self._consumers[name].ranges

    def recall(self, key: str) -> MemoryValue | None:
        """Return what is remembered under ``key``, also from before a restart; None if nothing."""
        return self._ring.recall(key)

    async def read(self, from_seq: int, count_max: int) -> list[Record | Gap]:
        """Return records and gaps from ``from_seq`` on that join without holes; see `Ring.read`."""
        return await self._call(lambda: self._ring.read(from_seq, count_max, with_unsynced=self._is_failed))

    async def read_series(
        self, device_id: str, observed_property: str, from_ms: int, to_ms: int, *, count_max: int = 100_000
    ) -> list[Reading]:
        """Return one series' readings by phenomenon time; see `Ring.read_series`."""
        return await self._call(
            lambda: self._ring.read_series(device_id, observed_property, from_ms, to_ms, count_max=count_max)
        )

    async def wait_synced(self, seq: int) -> None:
        """Return once record ``seq`` can be read."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.readable_seq > seq or self._is_closed)

    async def _call(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    # ------------------------------------------------------------ sync

    async def run(self) -> None:
        """Sync what arrived, every interval, until cancelled. Where nothing arrived, nothing is written."""
        while True:
            await asyncio.sleep(self._sync_interval_s)
            await self.sync()

    async def sync(self) -> None:
        """Make everything appended survive a power cut, if the disk lets us; quick where nothing is to be done."""
        is_due = self._changes != self._changes_synced or self._is_failed
        if is_due and (not self._is_failed or self._clock.elapsed_s() >= self._retry_at_s):
            loop, changes = asyncio.get_running_loop(), self._changes
            await self._call(lambda: self._sync(loop, changes))
            await asyncio.sleep(0)  # its report comes first
        else:
            self._tell_state()
        self.progress += 1

    def _sync(self, loop: asyncio.AbstractEventLoop, changes: int) -> None:
        """Sync the ring, with at least ``changes`` changes in it. Runs in the worker."""
        self._sync_began_s = began_s = self._clock.elapsed_s()
        with contextlib.suppress(RingSyncError):  # its report says so
            self._ring.sync()
        self._sync_began_s = None
        loop.call_soon_threadsafe(self._on_synced, changes, self._clock.elapsed_s() - began_s, self._report())

    def _on_synced(self, changes: int, took_s: float, report: _Report) -> None:
        self._sync_s = took_s
        if took_s > SLOW_SYNC_S:
            self._slow_until_s = self._clock.elapsed_s() + SLOW_HOLD_S
        if report.failure:
            self._retry_at_s = self._clock.elapsed_s() + self._retry_s
            self._retry_s = min(RETRY_MAX_S, self._retry_s * 2)
        else:
            self._retry_s = RETRY_FIRST_S
            self._changes_synced = max(self._changes_synced, changes)
        self._take(report)

    def _report(self) -> _Report:
        events = list(self._ring.events)
        self._ring.events.clear()
        failure = self._ring.failure
        return _Report(self._ring.stat(), str(failure) if failure else "", events)

    def _take(self, report: _Report) -> None:
        """Note what the worker reported and wake those who wait for it."""
        self._stat = report.stat
        self._is_failed = bool(report.failure)
        if report.failure:
            self._last_error = report.failure
        for event in report.events:
            self._on_event(event)
        self._tell_state()
        task = asyncio.ensure_future(self._wake())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # ------------------------------------------------------------ state

    @property
    def state(self) -> StoreState:
        """Return how the store is."""
        if self._is_failed:
            return StoreState.FAILED
        now_s, began_s = self._clock.elapsed_s(), self._sync_began_s
        if now_s < self._slow_until_s or (began_s is not None and now_s - began_s > SLOW_SYNC_S):
            return StoreState.SLOW
        return StoreState.OK

    def _tell_state(self) -> None:
        """Report a change of state, once."""
        state = self.state
        if state == self._told:
            return
        self._told = state
        text = {
            StoreState.OK: "the disk works; everything is stored",
            StoreState.SLOW: f"a sync took {self._sync_s:.1f} s",
            StoreState.FAILED: f"readings are in memory only: {self._last_error}",
        }[state]
        self._on_event(RingEvent(f"store.{state.value}", text))

    def status(self) -> StoreStatus:
        """Return what `litfass status` shows; touches no disk."""
        elapsed_s = max(1.0, self._clock.elapsed_s() - self._opened_s)
        return StoreStatus(
            state=self.state,
            ring=self._stat,
            bytes_written_per_day=self._stat.bytes_written * 86_400 / elapsed_s,
            queue_readings=self._queue_readings,
            unsynced_readings=self._stat.head_seq - self._stat.synced_seq + self._queue_readings,
            sync_s=self._sync_s,
            last_error=self._last_error,
        )

    async def close(self) -> None:
        """Write and sync what waits, then close the ring; gives up after ``CLOSE_TIMEOUT_S``."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._wake()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                while self._queue_readings:
                    await self._call(lambda: self._drain(loop))
                    await asyncio.sleep(0)
                await self._call(lambda: self._sync(loop, 0))
                await self._call(self._ring.close)
                await asyncio.sleep(0)
        except TimeoutError:
            self._last_error = f"the disk did not answer within {CLOSE_TIMEOUT_S:g} s"
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)


def _ignore(event: RingEvent) -> None:
    """Tell nobody."""
    del event


def _forget_outcome(done: "asyncio.Future[bool]") -> None:
    """Look at an outcome nobody waits for any more, so that asyncio does not complain."""
    if not done.cancelled():
        done.exception()
