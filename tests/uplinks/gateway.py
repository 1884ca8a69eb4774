"""A ring, its store and one MQTT uplink, run inside a test."""

import asyncio
import contextlib
import dataclasses
import pathlib
import random
import time
from collections.abc import AsyncIterator, Callable

from gateway.clock import SystemClock
from gateway.properties import standard_properties
from gateway.reading import Reading
from gateway.ring import Ring
from gateway.settings import Report, read_table
from gateway.store import Store
from gateway.toml_lines import TomlLines
from gateway.uplinks.mqtt import MqttSettings, MqttUplink
from gateway.uplinks.sender import UplinkParts
from gateway.uplinks.senml import device_urn
from tests.support.mosquitto import Mosquitto

GATEWAY_ID = "gw-test"
RING_SIZE = 4 << 20
T0_MS = 1_760_000_000_000


def reading(number: int, device_id: str = "pegel-1") -> Reading:
    """Return the reading whose value tells its number."""
    time_ms = T0_MS + number * 1000
    return Reading(device_id, "water_level", number / 1000, "m", time_ms, time_ms, decimals=3)


def settings_for(broker: Mosquitto, url: str | None = None, **keys: str) -> MqttSettings:
    """Return the uplink's settings as a technician would write them."""
    table: dict[str, object] = {"url": url or broker.url, **keys}
    if broker.pki is not None:
        cert, key = broker.pki.client(GATEWAY_ID)
        table = {"ca": str(broker.pki.ca_path), "cert": str(cert), "key": f"file:{key}", **table}
    report = Report("litfass.toml", TomlLines(""))
    settings = read_table(MqttSettings, table, report)
    report.raise_errors()
    assert settings is not None
    return settings


class Bench:
    """What a test looks at."""

    def __init__(self, store: Store, uplink: MqttUplink, task: asyncio.Task[None]) -> None:
        self.store, self.uplink, self.task = store, uplink, task

    async def append(self, numbers: range, noise: random.Random | None = None) -> None:
        """Append readings and make them durable; values of ``noise`` fill a ring soonest."""
        readings = [reading(number) for number in numbers]
        if noise is not None:
            readings = [dataclasses.replace(r, value=noise.random(), decimals=None) for r in readings]
        await self.store.append(readings)
        await self.store.sync()

    async def until(self, condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Return when ``condition`` holds; fail after ``deadline_s``."""
        end = time.monotonic() + deadline_s
        while not condition():
            if self.task.done():
                self.task.result()
            assert time.monotonic() < end, f"waited in vain: {self.uplink.status()}"
            await asyncio.sleep(0.01)

    @property
    def state(self) -> str:
        return str(self.uplink.status()["state"])

    @property
    def detail(self) -> str:
        return str(self.uplink.status()["detail"])

    @property
    def cursor(self) -> int:
        return self.store.cursor("city")


@contextlib.asynccontextmanager
async def running(folder: pathlib.Path, settings: MqttSettings, *, ring_size: int = RING_SIZE) -> AsyncIterator[Bench]:
    """Run store and uplink while the context is open."""
    folder.mkdir(exist_ok=True)
    clock = SystemClock()
    store = Store(Ring.open(folder / "ring.lfr", size=ring_size), clock, sync_interval_s=0.05)
    store.add_consumer("city", "oldest")
    uplink = MqttUplink(
        UplinkParts(
            name="city",
            settings=settings,
            gateway_id=GATEWAY_ID,
            urn_of=lambda device_id: device_urn(32473, GATEWAY_ID, device_id),
            store=store,
            clock=clock,
            properties=standard_properties(),
            health=dict,
        )
    )
    uplink._backoff.max_s = 0.2  # a test does not wait as a fleet must
    uplink._refusals.first_s = uplink._refusals.max_s = 0.1
    keeper = asyncio.create_task(store.run())
    task = asyncio.create_task(uplink.run())
    try:
        yield Bench(store, uplink, task)
    finally:
        task.cancel()
        keeper.cancel()
        await asyncio.gather(task, keeper, return_exceptions=True)
        await store.close()
