"""The show behind `litfass demo`: puts up street, gateway and city, tells what happens, and takes all of it down again.

sensors ── drivers ── pipeline ── ring ── MQTT uplink ──▶ broker ──▶ the city's platform
└ Street           └ gateway.service.Service, the real one   └ Broker   └ City
"""

import asyncio
import contextlib
import logging
import pathlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.ble import ble_type
from drivers.simulated.broker import start_broker
from drivers.simulated.city import Arrival, City
from drivers.simulated.node import micropython_command
from drivers.simulated.screen import PlainScreen, Row, Screen, View
from drivers.simulated.street import Street
from drivers.simulated.verdict import Verdict, judge
from gateway.config import load_config
from gateway.driver import Clock, SystemClock
from gateway.errors import LitfassError
from gateway.service import Service

REFRESH_S = 0.25  # of the screen, and how often a condition is looked at
POLL_S = 0.05
NEWS_MAX = 200  # kept; a show of days must not grow
OUTAGE_SHARE = 0.25  # of the show: when the outage begins, and how long it lasts
OUTAGE_MAX_S = 20.0
OUTAGE_NEWS_COUNT = 3  # how often the backlog is told while it grows
ARRIVAL_LIMIT_S = 60.0  # after the sensors went quiet: the gateway may wait that long until it tries the broker again
LAST_PACKS_LIMIT_S = 5.0  # after the gateway has stopped
SERVICE_STOP_LIMIT_S = 15.0  # it promises 10
STARTED_CODE = "service.started"  # of the gateway's log
MISSING_SUFFIX = "/status"  # a value that was due and is missing comes as such a text, not as a number

NO_NODE = "The MicroPython sensor node is left out: there is no MicroPython for this machine (apt install micropython)."


@dataclass(frozen=True, slots=True)
class Options:
    """What the audience asked for.

    Attributes:
        seconds: How long; None: until Ctrl-C.
        outage: Stop the broker for a while.
        port: The broker's port, 0 for a free one.
        broker: ``auto``, ``mosquitto`` or ``embedded``.
        svg: Where to draw a picture of the last moment, None for nowhere.
    """

    seconds: float | None
    outage: bool
    port: int
    broker: str
    svg: pathlib.Path | None


def run_show(options: Options) -> int:
    """Run the show on the terminal or into the pipe; return the exit code."""
    clock = SystemClock()
    screen: Screen
    if sys.stdout.isatty():
        from rich.console import Console

        from drivers.simulated.terminal import TerminalScreen

        screen = TerminalScreen(Console())
    else:
        screen = PlainScreen(sys.stdout, clock)
    try:
        return asyncio.run(Show(options, screen, clock).run())
    except asyncio.CancelledError:  # see _on_signal
        return 130


@dataclass
class Show:
    """One show, from the first sensor to the verdict."""

    options: Options
    screen: Screen
    clock: Clock
    _now: str = "The street wakes up."
    _news: list[tuple[float, str]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _service_is_up: asyncio.Event = field(default_factory=asyncio.Event)
    _is_down: bool = False
    _delivering: set[str] = field(default_factory=set)
    _last_live_view: View | None = None

    async def run(self) -> int:
        """Run it; return 0 when every driver delivered and nothing was lost, else 1."""
        self._started_s = self.clock.elapsed_s()
        with tempfile.TemporaryDirectory(prefix="litfass-demo-") as name, self._signals(), self._log():
            folder = pathlib.Path(name)
            self.street = Street(folder, with_node=micropython_command() is not None)
            self._residents = {resident.device_id: resident for resident in self.street.residents}
            try:
                self.broker = await start_broker(self.options.broker, folder, self.options.port)
            except OSError as error:
                self.screen.close(None, (), [f"The broker cannot be started: {error}"])
                return 1
            self.city = City(self.broker.port, self.clock, self._show_arrivals)
            try:
                verdict = await self._run_in()
            except LitfassError as error:
                self.screen.close(None, (), [f"The gateway cannot run: {error}"])
                return 1
            except BaseException:
                self.screen.close(None, (), ())  # the terminal is whole again before anybody writes to it
                raise
            finally:
                await self.broker.stop()
            view = self._view()
            if self.options.svg is not None:
                from drivers.simulated.terminal import draw_svg

                draw_svg(self.options.svg, self._last_live_view or view, verdict.lines)
            self.screen.close(view, verdict.lines, self._conclusion(verdict))
            return 0 if verdict.is_ok else 1

    # ---- the parts -----------------------------------------------------------------------------------------------

    async def _run_in(self) -> Verdict:
        """Run city, street and gateway beside the broker; return the verdict."""
        self.screen.open(self._introduction(), self.street.residents)
        config_path = self.street.write_settings(self.broker.port)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(_running(self.city.run(), "city"))
            await self.city.subscribed()
            await stack.enter_async_context(self.street.standing())
            overrides = {"ble": ble_type(self.street.radio.scanner)}
            config = load_config(config_path, overrides)
            self.service = Service(config, self.clock)
            self._service_task = asyncio.create_task(self.service.run(), name="service")
            stack.push_async_callback(_cancel, self._service_task)
            await stack.enter_async_context(_running(self._refresh(), "refresh"))
            await self._until(self._service_is_up.is_set)
            if not self._is_over:
                self.street.wake(self._node_is_heard)
                await self._play()
                await self._end()
            return self._judge()

    async def _play(self) -> None:
        """Let the street live for its time, with an outage in the middle if asked for."""
        seconds = self.options.seconds
        self._now = "Sensors send, the gateway stores and forwards, the city receives."
        if not self.options.outage or seconds is None:
            await self._until(lambda: False, seconds)
            return
        outage_s = min(seconds * OUTAGE_SHARE, OUTAGE_MAX_S)
        await self._until(lambda: False, seconds * OUTAGE_SHARE)
        if self._is_over:
            return
        await self.broker.stop()
        self._is_down = True
        self._now = "The city's broker is stopped. Sensors go on; the ring keeps what cannot leave."
        self.tell(f"the broker is stopped for {outage_s:.0f} s; the city has {self.city.ledger.reading_count} readings")
        for _ in range(OUTAGE_NEWS_COUNT - 1):
            await self._until(lambda: False, outage_s / OUTAGE_NEWS_COUNT)
            self.tell(f"{self._view().waiting_count} readings wait in the ring")
        await self._until(lambda: False, outage_s / OUTAGE_NEWS_COUNT)
        waiting_count = self._view().waiting_count
        await self.broker.start()
        self._is_down = False
        self._now = "The broker is back. The gateway tries again after a random pause, then sends its backlog."
        self.tell(f"the broker is back; {waiting_count} readings wait in the ring")
        await self._until(lambda: self._view().waiting_count < waiting_count // 4 + 1, ARRIVAL_LIMIT_S)
        self.tell(f"the backlog is at the city; it has {self.city.ledger.reading_count} readings now")
        self._now = "The backlog is at the city; all goes on as before."
        elapsed_s = self.clock.elapsed_s() - self._started_s
        await self._until(lambda: False, max(0.0, seconds - elapsed_s))

    async def _end(self) -> None:
        """Let the sensors fall silent, the last readings arrive, and the gateway stop as at SIGTERM."""
        self._last_live_view = self._view()
        self._now = "The sensors fall silent; the last readings are on their way."
        self.tell("the sensors fall silent")
        await self.street.quiet()
        await self._until(self._has_all_taken, ARRIVAL_LIMIT_S, even_if_stopping=True)
        self.service.stop()
        await asyncio.wait({self._service_task}, timeout=SERVICE_STOP_LIMIT_S)
        await self._until(self._has_all_stored, LAST_PACKS_LIMIT_S, even_if_stopping=True)
        self._now = "The show is over: the gateway has sent everything and closed its ring."

    async def _until(
        self, is_done: Callable[[], bool], limit_s: float | None = None, *, even_if_stopping: bool = False
    ) -> bool:
        """Wait until ``is_done``, for at most ``limit_s``, and no longer than the audience stays.

        Raises:
            LitfassError: The gateway ended by itself; whatever ended it.
        """
        deadline_s = None if limit_s is None else self.clock.elapsed_s() + limit_s
        while not is_done():
            if self._is_over and not even_if_stopping:
                if self._service_task.done():
                    self._service_task.result()
                return False
            if deadline_s is not None and self.clock.elapsed_s() >= deadline_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    @property
    def _is_over(self) -> bool:
        """The audience wants to leave, or the gateway has ended."""
        return self._stop.is_set() or self._service_task.done()

    # ---- what is counted -----------------------------------------------------------------------------------------

    def _stored_counts(self) -> dict[str, int]:
        counts = {}
        for device in self.service.devices():
            readings = device["readings"]
            assert isinstance(readings, int)
            counts[str(device["id"])] = readings
        return counts

    def _has_all_taken(self) -> bool:
        received = self.city.ledger.received
        return all(received[device] >= count for device, count in self.street.taken_counts().items())

    def _has_all_stored(self) -> bool:
        received = self.city.ledger.received
        return all(received[device] >= count for device, count in self._stored_counts().items())

    def _is_up(self, driver_type: str) -> bool:
        """Tell whether the driver of a type has its port open."""
        return self._driver_status(driver_type).get("state") == "up"

    def _driver_status(self, driver_type: str) -> Mapping[str, Any]:
        """Return what `litfass status` shows of the driver of a type."""
        (name,) = (driver.name for driver in self.service.config.drivers if driver.type_name == driver_type)
        drivers = self.service.status()["drivers"]
        assert isinstance(drivers, dict)
        status: Mapping[str, Any] = drivers.get(name, {})
        return status

    async def _node_is_heard(self) -> None:
        await self._until(lambda: self._is_up("lorawan-serial"), even_if_stopping=True)

    def _judge(self) -> Verdict:
        ledger = self.city.ledger
        valued = {device for device, name in ledger.newest if not name.endswith(MISSING_SUFFIX)}
        received = {device: count if device in valued else 0 for device, count in ledger.received.items()}
        return judge(
            self.street.residents,
            self.street.taken_counts(),
            self._stored_counts(),
            received,
            hole_count=sum(last - first + 1 for first, last in ledger.missing()),
            faults=[*self.street.faults, *ledger.faults],
        )

    # ---- what is shown -------------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Tell the audience that something happened."""
        self._news.append((self.clock.elapsed_s() - self._started_s, text))
        del self._news[:-NEWS_MAX]
        self.screen.tell(text)

    def _hear(self, record: logging.LogRecord) -> None:
        """Hear what the gateway logs."""
        if getattr(record, "code", "") == STARTED_CODE:
            self._service_is_up.set()
        self.tell(f"gateway: {record.getMessage()}")

    async def _refresh(self) -> None:
        while True:
            self.screen.refresh(self._view())
            await asyncio.sleep(REFRESH_S)

    def _show_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        rows = self._rows(arrivals)
        self.screen.arrived(rows)
        for row in rows:
            driver = row.resident.driver
            if driver not in self._delivering and not row.arrival.observed_property.endswith(MISSING_SUFFIX):
                self._delivering.add(driver)
                self.tell(f"the first reading by {driver} is at the city")

    def _rows(self, arrivals: Sequence[Arrival]) -> list[Row]:
        return [
            Row(self._residents[arrival.device_id], arrival)
            for arrival in arrivals
            if arrival.device_id in self._residents
        ]

    def _view(self) -> View:
        ledger = self.city.ledger
        order = list(self._residents)
        rows = sorted(self._rows(list(ledger.newest.values())), key=lambda row: order.index(row.resident.device_id))
        heard = {row.resident.device_id for row in rows}
        return View(
            now=self._now,
            broker=self.broker.title,
            is_down=self._is_down,
            wall_s=self.clock.wall_ms() / 1000,
            elapsed_s=self.clock.elapsed_s() - self._started_s,
            total_s=self.options.seconds,
            news=tuple(self._news),
            rows=rows,
            silent=[resident for device_id, resident in self._residents.items() if device_id not in heard],
            stored_count=sum(self._stored_counts().values()),
            received_count=ledger.reading_count,
            pack_count=ledger.pack_count,
            repeat_count=ledger.repeat_count,
            missing_count=sum(last - first + 1 for first, last in ledger.missing()),
        )

    def _introduction(self) -> list[str]:
        lines = [
            "Only the sensors are emulated. Drivers, ring and MQTT uplink are those of `litfass run`, in this process.",
            "No radio is used: BLE adverts are handed over where the Bluetooth library delivers what it heard.",
            f"The city is {self.broker.title} on 127.0.0.1:{self.broker.port}, and a subscriber that reads SenML.",
        ]
        return lines if self.street.with_node else [*lines, NO_NODE]

    def _conclusion(self, verdict: Verdict) -> list[str]:
        ledger = self.city.ledger
        sent_count = sum(line.sent_count for line in verdict.lines)
        holes = f"{verdict.hole_count} numbers missing" if verdict.hole_count else "without a hole"
        at_city = f"{ledger.reading_count} are at the city (seq to {ledger.seq_last}, {holes})"
        repeats = f"{ledger.repeat_count} repeats dropped"
        lines = [f"{verdict.lost_count} lost: {sent_count} readings were sent, {at_city}; {repeats}."]
        unlisted_count = self._driver_status("ble").get("counters", {}).get("unlisted", 0)
        lines.append(
            f"{unlisted_count} adverts of a passer-by's phone were heard: not listed, so counted and forgotten."
        )
        lines += [f"Fault: {fault}" for fault in verdict.faults]
        if not self.street.with_node:
            lines.append(NO_NODE)
        silent = [line.driver for line in verdict.lines if not line.is_ok]
        if verdict.is_ok:
            lines.append("Every driver delivered.")
        elif silent:
            lines.append(f"Not well: {', '.join(silent)}.")
        return lines

    # ---- the world around ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._catch_signals()
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _catch_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        """End the show in order; at the second signal, or before it has begun, at once."""
        if self._stop.is_set() or not self._service_is_up.is_set():
            assert self._main
            self._main.cancel()
        self._stop.set()

    @contextlib.contextmanager
    def _log(self) -> Iterator[None]:
        """Make what the gateway logs part of what is told."""
        root, handler = logging.getLogger(), _Listener(self._hear)
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.WARNING)
        gateway = logging.getLogger("gateway")
        gateway_level = gateway.level
        gateway.setLevel(logging.INFO)
        mqtt = logging.getLogger("mqtt")
        mqtt_level = mqtt.level
        mqtt.setLevel(logging.CRITICAL)  # the uplink logs the same, better
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            gateway.setLevel(gateway_level)
            mqtt.setLevel(mqtt_level)


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record)


@contextlib.asynccontextmanager
async def _running(work: "asyncio._CoroutineLike[None]", name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await _cancel(task)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen
