"""Puts the parts together and runs them: open the ring, then supervise each driver and uplink, then stop in order.

The service starts with zero working drivers and zero reachable platforms. Stopping keeps the order of the data's way:
drivers first, then sync, then a last delivery with a deadline, then the ring.
"""

import asyncio
import contextlib
import logging
from dataclasses import asdict
from functools import partial

from gateway import __version__, process_memory
from gateway.clock import Clock, SystemClock, utc_text
from gateway.config import Config, DriverConfig
from gateway.control import serve_control
from gateway.driver import DriverParts
from gateway.errors import RingError
from gateway.log import event
from gateway.pipeline import Pipeline
from gateway.ring import Ring, RingEvent
from gateway.sink import DeviceState, DriverSink
from gateway.store import Store
from gateway.supervisor import Supervisor, cancel_and_wait
from gateway.systemd import notify, watchdog_interval_s
from gateway.uplinks import Uplink
from gateway.uplinks.sender import UplinkParts
from gateway.uplinks.senml import device_urn

STOP_S = 9.0  # the contract says 10 s from SIGTERM to the end
DRIVER_STOP_S = 2.0  # of these, at most: a driver that does not end by then is left behind
SYNC_S = 2.0  # for the last sync before the last delivery
DRAIN_S = 4.0  # for the last delivery
CLOSE_RESERVE_S = 1.0  # kept for closing the ring
START_UP_S = 4.0  # by then all imports and first connections are done
STORE_STALL_S = 45.0  # a worn card may sync for 30 s; a store that does nothing for longer hangs
HEARTBEAT_S = 2.0  # how often the service looks at itself

logger = logging.getLogger(__name__)


class Service:
    """One running gateway."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._started_ms = self.clock.wall_ms()
        self._devices = {device_id: DeviceState() for device_id in config.devices}
        self._driver_of = {device_id: settings.driver for device_id, settings in config.devices.items()}
        self._supervisors: dict[str, Supervisor] = {}
        self._sinks: dict[str, DriverSink] = {}
        self._uplinks: dict[str, Uplink] = {}
        self._store: Store | None = None
        self._clock_known = False
        self._stop_by_s = float("inf")

    def stop(self) -> None:
        """Ask the service to drain and end."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop` or cancelled; drain and close within 10 s.

        Raises:
            RingError: The ring cannot be opened: another process has it, or its format is newer.
            OSError: The state folder cannot be made.
        """
        state_dir = self.config.gateway.state_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        now_s = self.clock.wall_ms() // 1000 if self.clock.is_known() else 0
        ring = await asyncio.to_thread(Ring.open, self.config.ring_path, size=self.config.ring.size, now_s=now_s)
        store = Store(ring, self.clock, sync_interval_s=self.config.ring.sync, on_event=_report_store)
        self._store = store
        for uplink in self.config.uplinks:
            store.add_consumer(uplink.name, "oldest")
        try:
            await self._run_parts(store)
        finally:
            try:
                async with asyncio.timeout(self._left_s(STOP_S)):
                    await store.close()
            except TimeoutError:
                event(logger, logging.ERROR, "store.failed", "the disk did not answer in time; the ring was left open")
            notify("STATUS=stopped")
            event(logger, logging.INFO, "service.stopped", "stopped")

    # ---- running -------------------------------------------------------------------------------------------------

    async def _run_parts(self, store: Store) -> None:
        pipeline = Pipeline.of(self.config)
        drivers = [asyncio.create_task(self._driver(d, pipeline, store), name=f"driver:{d.name}")
                   for d in self.config.drivers]  # fmt: skip
        uplinks = [asyncio.create_task(supervisor.run(), name=supervisor.name)
                   for supervisor in self._make_uplinks(store)]  # fmt: skip
        keeper = asyncio.create_task(store.run(), name="store")
        watcher = asyncio.create_task(self._watch(store), name="watch")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._open_control(stack)
                notify("READY=1", "STATUS=running")
                event(
                    logger, logging.INFO, "service.started",
                    f"Litfass {__version__}, gateway {self.config.gateway.id}: {len(self.config.drivers)} drivers,"
                    f" {len(self.config.devices)} devices, {len(self.config.uplinks)} uplinks",
                    version=__version__, gateway=self.config.gateway.id, config=self.config.digest, epoch=store.epoch,
                )  # fmt: skip
                # store and watcher never end by themselves: if one does, it is a bug and the service must restart
                done, _ = await asyncio.wait({stopped, keeper, watcher}, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopped}:
                    task.result()
        finally:
            self._stop_by_s = self.clock.elapsed_s() + STOP_S
            notify("STOPPING=1", "STATUS=stopping: draining")
            stopped.cancel()
            await cancel_and_wait(drivers, self._left_s(DRIVER_STOP_S))
            await self._drain(store)
            await cancel_and_wait([*uplinks, watcher, keeper], self._left_s(CLOSE_RESERVE_S))

    def _left_s(self, wanted_s: float) -> float:
        """Return how long a step of stopping may take: ``wanted_s``, or what is left of ``STOP_S``."""
        return max(0.1, min(wanted_s, self._stop_by_s - self.clock.elapsed_s() - CLOSE_RESERVE_S))

    async def _driver(self, config: DriverConfig, pipeline: Pipeline, store: Store) -> None:
        """Supervise one driver; it is built anew for each start, so nothing broken is carried over."""
        parts = DriverParts(config.name, config.settings, config.devices, self.clock)

        async def run_part() -> None:
            await config.driver_type.build(parts).run(sink)

        supervisor = Supervisor(f"driver:{config.name}", run_part, self.clock)
        sink = DriverSink(supervisor, store, pipeline, self.clock, self._devices)
        self._supervisors[config.name], self._sinks[config.name] = supervisor, sink
        await supervisor.run()

    def _make_uplinks(self, store: Store) -> list[Supervisor]:
        urn_of = partial(device_urn, self.config.gateway.organization, self.config.gateway.id)
        supervisors = []
        for config in self.config.uplinks:
            uplink = config.uplink_type.build(
                UplinkParts(
                    name=config.name,
                    settings=config.settings,
                    gateway_id=self.config.gateway.id,
                    urn_of=urn_of,
                    store=store,
                    clock=self.clock,
                    properties=self.config.properties,
                    health=self._health,
                )
            )
            self._uplinks[config.name] = uplink
            supervisors.append(Supervisor(f"uplink:{config.name}", uplink.run, self.clock))
        return supervisors

    async def _drain(self, store: Store) -> None:
        """Sync what the drivers left, and give every uplink a last moment."""
        try:
            async with asyncio.timeout(self._left_s(SYNC_S)):
                await store.sync()
        except (TimeoutError, RingError) as error:
            event(logger, logging.ERROR, "store.failed", f"last sync: {error or 'the disk did not answer in time'}")
        drains = [uplink.drain(self._left_s(DRAIN_S)) for uplink in self._uplinks.values()]
        await asyncio.gather(*drains, return_exceptions=True)

    async def _open_control(self, stack: contextlib.AsyncExitStack) -> None:
        """Open the control socket; without it the gateway still works, so a failure is reported, not fatal."""
        path = self.config.control_socket
        handlers = {"status": self.status, "devices": self.devices}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            await stack.enter_async_context(serve_control(path, handlers))
        except OSError as error:
            event(logger, logging.ERROR, "control.failed", f"no control socket: {error}", path=str(path))

    async def _watch(self, store: Store) -> None:
        """Feed systemd's watchdog while there is real progress, and notice when the clock becomes known."""
        interval_s = min(HEARTBEAT_S, watchdog_interval_s() or HEARTBEAT_S)
        stall_s = STORE_STALL_S + self.config.ring.sync
        progress, progress_s = store.progress, self.clock.elapsed_s()
        give_back_s = progress_s + START_UP_S
        while True:
            now_s = self.clock.elapsed_s()
            if store.progress != progress:
                progress, progress_s = store.progress, now_s
            if now_s - progress_s < stall_s:
                notify("WATCHDOG=1", f"STATUS={self._status_line(store)}")
            if now_s >= give_back_s:
                process_memory.give_back()
                give_back_s = float("inf")
            known = self.clock.is_known()
            if known and not self._clock_known:
                event(
                    logger, logging.INFO, "clock.known", f"the clock is synchronised: {utc_text(self.clock.wall_ms())}"
                )
                for uplink in self._uplinks.values():
                    uplink.clock_became_known()
            self._clock_known = known
            await asyncio.sleep(interval_s)

    # ---- what it says about itself -------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """Return what `litfass status` shows."""
        assert self._store is not None
        drivers = {}
        for name, supervisor in self._supervisors.items():
            drivers[name] = {**asdict(supervisor.status), "counters": dict(self._sinks[name].counters)}
        return {
            "gateway": self.config.gateway.id,
            "version": __version__,
            "config": self.config.digest,
            "started_ms": self._started_ms,
            "now_ms": self.clock.wall_ms(),
            "clock_known": self.clock.is_known(),
            "ring": self._ring_status(self._store),
            "drivers": drivers,
            "uplinks": {name: uplink.status() for name, uplink in self._uplinks.items()},
        }

    @staticmethod
    def _ring_status(store: Store) -> dict[str, object]:
        """Return the store's and the ring's figures as one flat table; the consumers stand with the uplinks."""
        status = asdict(store.status())
        ring = status.pop("ring")
        del ring["consumers"]
        return {**status, **ring}

    def devices(self) -> list[dict[str, object]]:
        """Return what `litfass devices` shows: each listed device with its newest values."""
        result: list[dict[str, object]] = []
        for device_id, state in self._devices.items():
            newest = [
                {
                    "property": reading.observed_property,
                    "value": reading.value,
                    "unit": reading.unit,
                    "time_ms": reading.phenomenon_time_ms,
                    "quality": reading.quality.name.lower(),
                    "rssi_dbm": reading.rssi_dbm,
                    "snr_db": reading.snr_db,
                }
                for reading in state.newest.values()
            ]
            result.append(
                {
                    "id": device_id,
                    "driver": self._driver_of[device_id],
                    "profile": self.config.devices[device_id].profile,
                    "heard_ms": state.heard_ms,
                    "readings": state.readings,
                    "rejected": state.rejected,
                    "last_error": state.last_error,
                    "newest": newest,
                }
            )
        return result

    def _health(self) -> dict[str, object]:
        """Return what the retained status message says."""
        assert self._store is not None
        return {
            "version": __version__,
            "epoch": self._store.epoch,
            "time": utc_text(self.clock.wall_ms()),
            "clock_known": self.clock.is_known(),
            "started": utc_text(self._started_ms),
            "drivers": {name: supervisor.status.state for name, supervisor in self._supervisors.items()},
            "store": self._store.status().state,
        }

    def _status_line(self, store: Store) -> str:
        up = sum(supervisor.status.state == "up" for supervisor in self._supervisors.values())
        backlog = max((store.readable_seq - store.cursor(uplink) for uplink in self._uplinks), default=0)
        return f"{up} of {len(self._supervisors)} drivers up, backlog {backlog}, store {store.status().state}"


def _report_store(found: RingEvent) -> None:
    event(logger, logging.WARNING, found.code, found.text)
