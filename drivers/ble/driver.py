"""Listen to the adverts of listed devices on one Bluetooth adapter.

    bleak's callback ── address listed? ── queue ── Station: new, repeat, replay ── sink.append
                        else one counter   bounded per device

The callback costs a look-up for the many transmitters that are none of a city's business, and nothing of them is kept
or logged (P9).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.ble.advert import Advert, same_address
from drivers.ble.bthome import decode_bthome
from drivers.ble.decoded import Decoded
from drivers.ble.ruuvi import decode_ruuvi
from drivers.ble.scanner import ScannerFactory
from drivers.ble.settings import BleDeviceSettings, BleSettings
from drivers.ble.station import Decode, Heard, Station
from gateway.driver import Clock, Device, DeviceError, DriverParts, LinkError, LinkReason, ReadingSink

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

logger = logging.getLogger(__name__)

QUEUED_PER_DEVICE_MAX = 16  # adverts; more than a second's worth, and one flooded address crowds out no other
RSSI_NONE_DBM = -127  # bleak's word for "BlueZ tells none": then nothing was heard just now, only kept


def bthome(device: Device) -> Decode:
    """Return the decoder of a BTHome device, with its bindkey."""
    settings: BleDeviceSettings = device.settings
    bindkey = settings.bindkey.reveal() if settings.bindkey else None

    def decode(advert: Advert) -> Decoded | None:
        return decode_bthome(advert, bindkey)

    return decode


def ruuvi(_: Device) -> Decode:
    """Return the decoder of a RuuviTag."""
    return decode_ruuvi


DECODES: Mapping[str, Callable[[Device], Decode]] = {"bthome": bthome, "ruuvi": ruuvi}


class _Inbox:
    """What the callback has for the driver: adverts of listed devices, few of each."""

    def __init__(self, stations: Mapping[str, Station], sink: ReadingSink, clock: Clock) -> None:
        self.heard_s = clock.elapsed_s()  # when anybody's advert was last heard
        self.queue: asyncio.Queue[tuple[Station, Heard] | None] = asyncio.Queue()  # None: look what happened
        self._stations = stations
        self._queued = dict.fromkeys(stations, 0)
        self._sink = sink
        self._clock = clock

    def heard(self, device: "BLEDevice", advertisement: "AdvertisementData") -> None:
        """Take one advert from bleak: count it, or queue it if its device is listed and has room."""
        if advertisement.rssi <= RSSI_NONE_DBM:
            self._sink.count("without_rssi")
            return
        now_s = self.heard_s = self._clock.elapsed_s()
        address = same_address(device.address)
        station = self._stations.get(address)
        if station is None:
            self._sink.count("unlisted")
        elif self._queued[address] >= QUEUED_PER_DEVICE_MAX:
            self._sink.count("overflow")
        else:
            self._queued[address] += 1
            advert = Advert(
                address,
                advertisement.rssi,
                advertisement.manufacturer_data,
                advertisement.service_data,
                advertisement.local_name or "",
            )
            self.queue.put_nowait((station, Heard(advert, self._clock.wall_ms(), now_s)))

    async def next(self, limit_s: float) -> tuple[Station, Heard] | None:
        """Return the next advert, None if there is none within ``limit_s`` or something else happened."""
        try:
            async with asyncio.timeout(limit_s):
                item = await self.queue.get()
        except TimeoutError:
            return None
        if item:
            self._queued[item[1].advert.address] -= 1
        return item


@dataclass(frozen=True, slots=True)
class BleDriver:
    """One adapter and its listed devices."""

    settings: BleSettings
    devices: tuple[Device, ...]
    clock: Clock
    scanner: ScannerFactory

    async def run(self, sink: ReadingSink) -> None:
        """Listen until cancelled. A LinkError escapes: the supervisor opens the adapter anew."""
        stations = {
            same_address(device.settings.address): Station(device, DECODES[device.profile.decoder](device), sink.recall)
            for device in self.devices
        }
        inbox = _Inbox(stations, sink, self.clock)
        async with self.scanner(inbox.heard, self.settings) as lost:
            if lost:
                lost.add_done_callback(lambda _: inbox.queue.put_nowait(None))
            sink.link_up(f"{self.settings.adapter}, {len(stations)} devices listed")
            while True:
                item = await inbox.next(self._silence_left_s(inbox))
                if lost and lost.done():
                    lost.result()
                if item:
                    await self._take(*item, sink)

    def _silence_left_s(self, inbox: _Inbox) -> float:
        """Return how long it may still stay silent; raise LinkError when that is over."""
        silent_s = self.clock.elapsed_s() - inbox.heard_s
        if silent_s >= self.settings.silence:
            raise LinkError(
                self.settings.adapter,
                LinkReason.SILENT,
                f"no advert of any device for {silent_s:.0f} s; expected one within {self.settings.silence:g} s"
                + ("" if self.settings.scan == "active" else ' (if it stays so, try scan = "active")'),
            )
        return self.settings.silence - silent_s

    @staticmethod
    async def _take(station: Station, heard: Heard, sink: ReadingSink) -> None:
        try:
            news = station.receive(heard)
        except DeviceError as error:  # this advert is bad; the adapter is fine
            sink.reject(error)
            return
        if isinstance(news, str):
            sink.count(news)
            return
        await sink.append(news.readings, memory=news.memory or None)
        station.stored(news)
        if news.is_restarted:
            sink.count("counter_restarted")
            logger.warning(
                "%s: its encryption counter started over, rose long enough, and is taken again from %d",
                station.device_id,
                news.counter,
                extra={"code": "ble.counter_restarted"},
            )


def build_with(scanner: ScannerFactory) -> Callable[[DriverParts], BleDriver]:
    """Return what builds the driver on the radio that ``scanner`` opens."""

    def build(parts: DriverParts) -> BleDriver:
        return BleDriver(parts.settings, tuple(parts.devices), parts.clock, scanner)

    return build
