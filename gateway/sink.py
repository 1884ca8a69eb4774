"""The way from a driver into the ring: pipeline, store, counters, and the newest value of each series for people."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.driver import MemoryValue
from gateway.errors import DeviceError, FrameError, NoReplyError, ReplayError
from gateway.log import BurstLog
from gateway.pipeline import Pipeline
from gateway.reading import Reading
from gateway.store import Store
from gateway.supervisor import Supervisor

SERIES_SHOWN_MAX = 64  # newest values kept for each device, for `litfass devices`
COUNTERS_MAX = 64  # different counters of one driver

logger = logging.getLogger(__name__)


@dataclass
class DeviceState:
    """What is known of one listed device since the start."""

    heard_ms: int | None = None
    readings: int = 0
    rejected: int = 0
    last_error: str = ""
    newest: dict[str, Reading] = field(default_factory=dict)


class DriverSink:
    """A driver's `gateway.driver.ReadingSink`."""

    def __init__(
        self,
        supervisor: Supervisor,
        store: Store,
        pipeline: Pipeline,
        clock: Clock,
        devices: Mapping[str, DeviceState],
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._pipeline = pipeline
        self._clock = clock
        self._devices = devices
        self._bursts = BurstLog(logger, clock)
        self.counters: Counter[str] = Counter()

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        """Store readings; True: a SIGKILL can no longer take them."""
        processed = self._pipeline.process(readings, clock_known=self._clock.is_known())
        is_stored = await self._store.append(processed, memory) if processed or memory else True
        self.count("not_stored_yet", 0 if is_stored else len(processed))
        self.count("readings", len(processed))
        for reading in processed:
            device = self._devices.get(reading.device_id)
            if device is None:
                continue
            device.readings += 1
            device.heard_ms = reading.received_time_ms
            if reading.observed_property in device.newest or len(device.newest) < SERIES_SHOWN_MAX:
                device.newest[reading.observed_property] = reading
        return is_stored

    def recall(self, key: str) -> MemoryValue | None:
        """Return what was last stored under ``key``."""
        return self._store.recall(key)

    def reject(self, error: DeviceError) -> None:
        """Count a frame or device at fault; log the first of a burst."""
        code = _code(error)
        self.count(f"rejected.{code.partition('.')[2]}")
        device = self._devices.get(error.device_id)
        if device is not None:
            device.rejected += 1
            device.last_error = str(error)[:200]
        message = f"{self._supervisor.name}: {error}"
        self._bursts.event(
            logging.WARNING, code, error.device_id, message, part=self._supervisor.name, device=error.device_id
        )

    def count(self, counter: str, by: int = 1) -> None:
        """Raise a counter."""
        if by and (counter in self.counters or len(self.counters) < COUNTERS_MAX):
            self.counters[counter] += by

    def link_up(self, detail: str) -> None:
        """Note that the driver's port, adapter or socket is open."""
        if self._supervisor.status.state != "up" or self._supervisor.status.detail != detail:
            logger.info(
                "%s: %s",
                self._supervisor.name,
                detail,
                extra={"code": "driver.up", "fields": {"part": self._supervisor.name}},
            )
        self._supervisor.mark_up(detail)


def _code(error: DeviceError) -> str:
    if isinstance(error, FrameError):
        return f"frame.{error.reason.value}"
    if isinstance(error, ReplayError):
        return "frame.replay"
    if isinstance(error, NoReplyError):
        return "device.no_reply"
    return "device.fault"
