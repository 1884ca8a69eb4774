"""An event loop in a thread, for asyncio helpers in tests whose subject is another process."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

CALL_LIMIT_S = 30.0

_Result = TypeVar("_Result")


class LoopThread:
    """Runs coroutines for a thread that has no loop."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what ``work`` returns, run in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_LIMIT_S)

    def soon(self, action: Any, *arguments: Any) -> None:
        """Call a plain function in the loop, and return when it has returned."""

        async def run() -> None:
            action(*arguments)

        self.call(run())
