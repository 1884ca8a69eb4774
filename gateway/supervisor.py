"""Runs what may fail, again and again, with growing jittered delays. The only place that catches everything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.log import BurstLog

RETRY_MAX_S = 10.0  # a cable put back is noticed soon; trying costs one failed open
PARKED_AFTER = 10  # crashes (bugs, not missing cables) in a row until a part is tried only rarely
PARKED_S = 600.0  # how rarely

logger = logging.getLogger(__name__)


@dataclass
class PartStatus:
    """How one supervised part is.

    Attributes:
        state: starting, up, down (link missing or lost), crashed (a bug), parked (crashed again and again).
        detail: For people: the port that is open, or why it is not.
        since_ms: UTC when the state began.
        restarts: How often it was started again.
    """

    state: str = "starting"
    detail: str = ""
    since_ms: int = 0
    restarts: int = 0


@dataclass
class Supervisor:
    """One part and its restarts.

    Attributes:
        name: Of the part, as in ``driver:lora``.
        run_part: Runs it until it fails or is cancelled.
        clock: The time.
    """

    name: str
    run_part: Callable[[], Awaitable[None]]
    clock: Clock
    status: PartStatus = field(default_factory=PartStatus)
    _crashes: int = 0

    def mark_up(self, detail: str) -> None:
        """Note that the part works."""
        self._set("up", detail)

    async def run(self) -> None:
        """Run the part until cancelled."""
        backoff = Backoff(max_s=RETRY_MAX_S)
        bursts = BurstLog(logger, self.clock)
        while True:
            began_s = self.clock.elapsed_s()
            self._set("starting", self.status.detail)
            try:
                await self.run_part()
                self._fail("down", "ended by itself", bursts, logging.WARNING)
            except LinkError as error:
                self._crashes = 0
                self._fail("down", str(error), bursts, logging.WARNING)
            except Exception as error:  # a driver's bug must not end the service or another driver
                self._crashes += 1
                state = "parked" if self._crashes >= PARKED_AFTER else "crashed"
                logger.debug("%s crashed", self.name, exc_info=True)
                self._fail(state, f"{type(error).__name__}: {error}", bursts, logging.ERROR, error)
            useful_s = self.clock.elapsed_s() - began_s
            delay_s = backoff.next_delay_s(useful_s)
            await asyncio.sleep(PARKED_S if self.status.state == "parked" else delay_s)
            self.status.restarts += 1

    def _fail(self, state: str, detail: str, bursts: BurstLog, level: int, error: Exception | None = None) -> None:
        where = ""
        if error is not None and (traceback := error.__traceback__) is not None:
            while traceback.tb_next is not None:
                traceback = traceback.tb_next
            where = f" (at {traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"
        self._set(state, detail)
        bursts.event(level, f"part.{state}", detail, f"{self.name}: {detail}{where}", part=self.name)

    def _set(self, state: str, detail: str) -> None:
        if (state, detail) == (self.status.state, self.status.detail):
            return
        self.status.state, self.status.detail = state, detail
        self.status.since_ms = self.clock.wall_ms()


async def cancel_and_wait(tasks: Sequence["asyncio.Task[None]"], deadline_s: float) -> bool:
    """Cancel tasks and wait for their end; tell whether all ended in time."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    done, late = await asyncio.wait(tasks, timeout=deadline_s)
    for ended in done:
        if not ended.cancelled():
            ended.exception()  # seen: what a part says while it is thrown out is of no interest any more
    return not late
