"""BLE sensors without a radio: adverts made octet by octet and handed over where bleak's callback delivers them.

Written from the formats' documents and not from `drivers.ble`, so that a mistake there does not hide here:
BTHome v2 (https://bthome.io/format, https://bthome.io/encryption) and Ruuvi data format 5
(https://docs.ruuvi.com/communication/bluetooth-advertisements/data-format-5-rawv2).
"""

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from drivers.ble import AdvertCallback, BleSettings
from drivers.simulated.forwarder import pause

BTHOME_UUID = "0000fcd2-0000-1000-8000-00805f9b34fb"
RUUVI_COMPANY = 0x0499
REPEATS = 3  # each measurement is on air several times; the driver must take it once
_DEVICE_INFO_PLAIN, _DEVICE_INFO_ENCRYPTED = 0x40, 0x41  # BTHome version 2, and whether it is encrypted
_MIC_SIZE = 4


@dataclass(frozen=True, slots=True)
class Payload:
    """What one advert carries beside address and strength."""

    service_data: dict[str, bytes] = field(default_factory=dict)
    manufacturer_data: dict[int, bytes] = field(default_factory=dict)


@dataclass
class BleSensor:
    """One advertising device.

    Attributes:
        device_id: What the city calls it.
        profile: Its type in the gateway's settings.
        address: ``A4:C1:38:12:34:56``.
        every_s: How often it measures.
        advertise: Makes the payload of a new measurement from its number.
        values_per_advert: How many readings one measurement makes.
        bindkey: Its key, None where it does not encrypt.
        number: How many measurements were on air.
    """

    device_id: str
    profile: str
    address: str
    every_s: float
    advertise: Callable[[int], Payload]
    values_per_advert: int
    bindkey: bytes | None = None
    number: int = 0

    @property
    def taken_count(self) -> int:
        """Readings handed to the driver; there is no acknowledgement in an advert."""
        return self.number * self.values_per_advert


def bthome_objects(*objects: tuple[int, int, int]) -> bytes:
    """Return BTHome objects from (object id, value in the object's own steps, octets), in ascending order of ids."""
    return b"".join(
        bytes([object_id]) + value.to_bytes(size, "little", signed=value < 0)
        for object_id, value, size in sorted(objects)
    )


def bthome_plain(objects: bytes) -> Payload:
    """Return an unencrypted BTHome v2 advert."""
    return Payload({BTHOME_UUID: bytes([_DEVICE_INFO_PLAIN]) + objects})


def bthome_encrypted(objects: bytes, address: str, bindkey: bytes, counter: int) -> Payload:
    """Return an encrypted BTHome v2 advert: info | ciphertext | counter, 4 octets | MIC, 4 octets."""
    info = bytes([_DEVICE_INFO_ENCRYPTED])
    counter_octets = counter.to_bytes(4, "little")
    nonce = bytes.fromhex(address.replace(":", "")) + b"\xd2\xfc" + info + counter_octets
    sealed = AESCCM(bindkey, tag_length=_MIC_SIZE).encrypt(nonce, objects, None)
    return Payload({BTHOME_UUID: info + sealed[:-_MIC_SIZE] + counter_octets + sealed[-_MIC_SIZE:]})


def ruuvi(
    address: str,
    number: int,
    *,
    temperature_cel: float,
    humidity_percent: float,
    pressure_pa: float,
    battery_mv: int = 2977,
    tx_power_dbm: int = 4,
    movements: int = 0,
) -> Payload:
    """Return a RuuviTag's advert, data format 5, of a tag that lies still."""
    octets = struct.pack(
        ">BhHHhhhHBH6s",
        5,
        round(temperature_cel / 0.005),
        round(humidity_percent / 0.0025),
        round(pressure_pa - 50_000),
        *(4, -4, 1036),  # acceleration in thousandths of g: flat on its back
        (battery_mv - 1600) << 5 | (tx_power_dbm + 40) // 2,
        movements,
        number % 0xFFFF,
        bytes.fromhex(address.replace(":", "")),
    )
    return Payload(manufacturer_data={RUUVI_COMPANY: octets})


class SimulatedRadio:
    """Stands in for the adapter: whoever scans hears the street's sensors, and the phone of a passer-by."""

    def __init__(self) -> None:
        self._listening: list[AdvertCallback] = []
        self._heard = asyncio.Event()

    @asynccontextmanager
    async def scanner(self, heard: AdvertCallback, settings: BleSettings) -> AsyncIterator[None]:
        """Hand adverts to ``heard`` for as long as the context lasts; a `drivers.ble.ScannerFactory`."""
        del settings
        self._listening.append(heard)
        self._heard.set()
        try:
            yield None
        finally:
            self._listening.remove(heard)
            if not self._listening:
                self._heard.clear()

    async def run_sensor(self, sensor: BleSensor, stopping: asyncio.Event) -> None:
        """Measure and advertise until ``stopping``; before anybody scans, nothing is measured."""
        scanning = asyncio.ensure_future(self._heard.wait())
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait({scanning, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            scanning.cancel()
            stopped.cancel()
        while not stopping.is_set():
            if self._listening:
                payload = sensor.advertise(sensor.number)
                sensor.number += 1
                for _ in range(REPEATS):
                    self.send(sensor.address, payload)
            await pause(stopping, sensor.every_s)

    async def run_passer_by(self, stopping: asyncio.Event) -> None:
        """Advertise as a phone does, under an address that changes all the time."""
        while not stopping.is_set():
            address = ":".join(f"{octet:02X}" for octet in os.urandom(6))
            self.send(address, Payload(manufacturer_data={0x004C: os.urandom(8)}))
            await pause(stopping, 0.5)

    def send(self, address: str, payload: Payload) -> None:
        """Let everybody who scans hear one advert."""
        device = BLEDevice(address, None, None)
        advert = AdvertisementData(
            local_name=None,
            manufacturer_data=payload.manufacturer_data,
            service_data=payload.service_data,
            service_uuids=[],
            tx_power=None,
            rssi=random.randint(-90, -50),
            platform_data=(),
        )
        for heard in self._listening:
            heard(device, advert)
