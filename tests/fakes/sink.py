"""A ReadingSink that stores in lists, for driver tests."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateway.driver import DeviceError, MemoryValue
from gateway.reading import Reading

WAIT_LIMIT_S = 20.0  # a busy machine is slow; a test that hangs says so itself


class RecordingSink:
    """Keeps what a driver stores and says. Give ``memory`` of an earlier sink to play a restart.

    Attributes:
        appended: One list of readings for each `append`, in order.
        memory: What `append` stored under its keys.
        rejected: Errors handed to `reject`.
        counters: Counters raised by `count`.
        links: Details handed to `link_up`.
    """

    def __init__(self, memory: Mapping[str, MemoryValue] | None = None) -> None:
        self.appended: list[list[Reading]] = []
        self.memory: dict[str, MemoryValue] = dict(memory or {})
        self.rejected: list[DeviceError] = []
        self.counters: Counter[str] = Counter()
        self.is_disk_sound = True
        self.links: list[str] = []
        self._changed = asyncio.Event()

    @property
    def readings(self) -> list[Reading]:
        """Return all readings stored so far."""
        return [reading for readings in self.appended for reading in readings]

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        self.appended.append(list(readings))
        self.memory.update(memory or {})
        self._changed.set()
        return self.is_disk_sound

    def recall(self, key: str) -> MemoryValue | None:
        return self.memory.get(key)

    def reject(self, error: DeviceError) -> None:
        self.rejected.append(error)
        self._changed.set()

    def count(self, counter: str, by: int = 1) -> None:
        self.counters[counter] += by
        self._changed.set()

    def link_up(self, detail: str) -> None:
        self.links.append(detail)
        self._changed.set()

    async def until(self, condition: Callable[["RecordingSink"], object]) -> None:
        """Wait until ``condition`` holds; look again whenever something was stored or said.

        Raises:
            TimeoutError: It does not within ``WAIT_LIMIT_S``.
        """
        async with asyncio.timeout(WAIT_LIMIT_S):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()
