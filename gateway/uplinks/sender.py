"""Cursor -> batch -> message -> delivered -> acknowledged: what all platform languages share.

The sender reads the ring behind its own cursor, cuts batches, keeps a window of them in flight and moves the cursor
only over what the platform has acknowledged, in order. A batch is encoded once; a resend has the same octets.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.clock import Clock
from gateway.errors import LitfassError, UplinkDownError
from gateway.properties import Properties
from gateway.ring import Gap, Record
from gateway.store import Store

BATCH_RECORDS_MAX = 256  # a pack stays near 16 KiB, a fraction of what brokers and FROST take
WINDOW_MAX = 8  # batches in flight: 2,048 readings a round trip, 128 KiB in memory
PROGRESS_TIMEOUT_S = 30.0  # nothing acknowledged for this long while batches wait: the connection is dead

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UplinkParts:
    """What an uplink is built from.

    Attributes:
        name: Its name in the settings; also its consumer name in the ring.
        settings: An instance of its type's settings.
        gateway_id: MQTT client id and topic level.
        urn_of: Gives a device's URN.
        store: The ring.
        clock: The time.
        properties: The observed properties.
        health: Gives what the retained status message says about the gateway.
    """

    name: str
    settings: Any
    gateway_id: str
    urn_of: Callable[[str], str]
    store: Store
    clock: Clock
    properties: Properties
    health: Callable[[], dict[str, object]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records without a hole and of one epoch, seq ``seq_first`` to ``seq_last`` (inclusive)."""

    epoch: int
    seq_first: int
    seq_last: int
    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)


@dataclass(slots=True)
class _Delivery:
    """A batch or gap on its way. ``message`` is made once, so a resend has the same octets."""

    item: Batch | Gap
    message: Any
    is_done: bool = False

    @property
    def seq_first(self) -> int:
        return self.item.seq_first

    @property
    def seq_last(self) -> int:
        return self.item.seq_last


class BatchTooLargeError(LitfassError):
    """The encoder's platform takes no message as large as this batch makes; cut it smaller."""


class Link(Protocol):
    """A connection that is up.

    Attributes:
        lost: Done, with the reason, when it is not up any more.
    """

    lost: "asyncio.Future[str]"

    async def deliver(self, message: Any) -> None:
        """Deliver one message and return when the platform has it for good.

        Raises:
            UplinkDownError: The connection is lost or the platform wants a pause.
            UplinkRefusedError: The platform refuses this message.
        """
        ...


def cut_batches(items: Sequence[Record | Gap], records_max: int = BATCH_RECORDS_MAX) -> list[Batch | Gap]:
    """Return records as batches without holes, of one epoch and at most ``records_max``; gaps stand between them."""
    result: list[Batch | Gap] = []
    run: list[Record] = []

    def close() -> None:
        if run:
            result.append(Batch(run[0].epoch, run[0].seq, run[-1].seq, tuple(run)))
            run.clear()

    for item in items:
        if isinstance(item, Gap):
            close()
            result.append(item)
            continue
        if run and (item.epoch != run[0].epoch or item.seq != run[-1].seq + 1 or len(run) >= records_max):
            close()
        run.append(item)
    close()
    return result


@dataclass
class SenderStatus:
    """What an uplink has done since the start."""

    records_delivered: int = 0
    batches_delivered: int = 0
    batches_resent: int = 0
    gaps_delivered: int = 0
    refused: int = 0
    last_refusal: str = ""
    last_delivery_ms: int | None = None


@dataclass
class Sender:
    """The delivery of one consumer's records.

    Attributes:
        parts: What the uplink is built from.
        encode: Makes the message of a batch or gap. Pure.
        records_max: Most records in a batch; the platform may ask for less.
        window: Most batches in flight; likewise.
        progress_timeout_s: How long an acknowledgement may take before the connection counts as dead.
    """

    parts: UplinkParts
    encode: Callable[[Batch | Gap], Any]
    records_max: int = BATCH_RECORDS_MAX
    window: int = WINDOW_MAX
    progress_timeout_s: float = PROGRESS_TIMEOUT_S
    status: SenderStatus = field(default_factory=SenderStatus)
    _pending: deque[_Delivery] = field(default_factory=deque)
    _sent_before: int = 0
    _caught_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cursor(self) -> int:
        """The seq of the next record to be acknowledged."""
        return self.parts.store.cursor(self.parts.name)

    @property
    def backlog_records(self) -> int:
        """How many seqs lie between cursor and head."""
        return max(0, self.parts.store.readable_seq - self.cursor)

    def recut_if(self, is_too_large: Callable[[Any], bool]) -> None:
        """Cut waiting batches anew, and smaller, where a new connection takes no message as large as theirs."""
        if any(is_too_large(delivery.message) for delivery in self._pending):
            self.records_max = max(1, self.records_max // 2)
            self._pending.clear()

    async def run(self, link: Link) -> None:
        """Deliver over ``link`` until it fails; what was in flight on an earlier link goes first, octet for octet.

        Raises:
            UplinkDownError: The link is lost, or nothing was acknowledged for ``PROGRESS_TIMEOUT_S``.
            UplinkRefusedError: The platform refuses the oldest batch; the cursor stays before it.
        """
        self.status.batches_resent += sum(not delivery.is_done for delivery in self._pending)
        tasks: dict[asyncio.Task[None], _Delivery] = {}
        refill: asyncio.Task[None] | None = None
        try:
            for delivery in self._pending:
                if not delivery.is_done:
                    tasks[self._start(link, delivery)] = delivery
            while True:
                if refill is None and len(self._pending) < self.window:
                    refill = asyncio.create_task(self._refill(), name=f"uplink:{self.parts.name}:read")
                waiting: set[asyncio.Future[Any]] = {*tasks, *([refill] if refill else []), link.lost}
                done, _ = await asyncio.wait(
                    waiting,
                    timeout=self.progress_timeout_s if tasks else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    raise self._no_progress()
                if refill in done:
                    assert refill is not None
                    refill.result()
                    refill = None
                    under_way = {id(delivery) for delivery in tasks.values()}
                    for delivery in self._pending:
                        if not delivery.is_done and id(delivery) not in under_way:
                            tasks[self._start(link, delivery)] = delivery
                failure = None
                for task in [task for task in tasks if task in done]:
                    delivery = tasks.pop(task)
                    error = task.exception()
                    if error is None:
                        delivery.is_done = True
                    else:
                        failure = failure or error
                self._acknowledge_done()
                if failure is not None:
                    raise failure
                if link.lost.done():
                    raise UplinkDownError(self.parts.name, link.lost.result())
        finally:
            await _cancel([*tasks, *([refill] if refill else [])])

    async def caught_up(self) -> None:
        """Return when everything synced at the time of the call is acknowledged."""
        goal = self.parts.store.readable_seq
        while self.cursor < goal:
            self._caught_up.clear()
            await self._caught_up.wait()

    def _start(self, link: Link, delivery: _Delivery) -> asyncio.Task[None]:
        coroutine: Awaitable[None] = link.deliver(delivery.message)
        return asyncio.ensure_future(coroutine)

    async def _refill(self) -> None:
        """Read the next records behind the last pending one; waits until there are any."""
        next_seq = self._pending[-1].seq_last + 1 if self._pending else self.cursor
        await self.parts.store.wait_synced(next_seq)
        items = await self.parts.store.read(next_seq, self.records_max * (self.window - len(self._pending)))
        for item in cut_batches(items, self.records_max)[: self.window - len(self._pending)]:
            try:
                message = self.encode(item)
            except BatchTooLargeError:
                self.records_max = max(1, self.records_max // 2)
                return  # what is pending goes on; the next refill cuts smaller
            self._pending.append(_Delivery(item, message))

    def _acknowledge_done(self) -> None:
        """Move the cursor over the deliveries that are done without a hole before them."""
        store, status = self.parts.store, self.status
        moved = False
        while self._pending and self._pending[0].is_done:
            delivery = self._pending.popleft()
            store.acknowledge(self.parts.name, delivery.seq_first, delivery.seq_last)
            moved = True
            if isinstance(delivery.item, Gap):
                status.gaps_delivered += 1
            else:
                status.batches_delivered += 1
                status.records_delivered += len(delivery.item)
            status.last_delivery_ms = self.parts.clock.wall_ms()
        if moved:
            self._caught_up.set()

    def _no_progress(self) -> Exception:
        return UplinkDownError(
            self.parts.name, f"nothing acknowledged for {self.progress_timeout_s:g} s: the connection is dead"
        )


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
