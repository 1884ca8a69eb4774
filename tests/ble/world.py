"""A radio whose adverts the test sends, devices as a settings file would list them, and a BTHome sender."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Mapping

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from drivers.ble import BLE, AdvertCallback, BleDeviceSettings, BleSettings, ble_type
from drivers.ble.bthome import SERVICE_UUID
from drivers.ble.ruuvi import COMPANY
from gateway.driver import Clock, Device, Driver, DriverParts, Secret, TimeStamp
from gateway.profile import Profile, load_profile
from gateway.properties import standard_properties

ROOT = pathlib.Path(__file__).parents[2]
BTHOME = "A4:C1:38:12:34:56"
ENCRYPTED = "54:48:E6:8F:80:A5"
RUUVI = "CB:B8:33:4C:88:4F"
BINDKEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
NOW_MS = 1_790_000_000_000


class HandClock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_ms(self) -> int:
        return NOW_MS + round(self.now_s * 1000)

    def elapsed_s(self) -> float:
        return self.now_s

    def is_known(self) -> bool:
        return True

    def stamp(self) -> TimeStamp:
        return TimeStamp(bytes(16), round(self.now_s * 1000), self.wall_ms(), True)


class Radio:
    """Stands where bleak's scanner stands: opens once, then delivers what the test sends."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.opened_count = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard: AdvertCallback | None = None

    @contextlib.asynccontextmanager
    async def scanner(self, heard: AdvertCallback, settings: BleSettings) -> AsyncIterator["asyncio.Future[None]"]:
        self._heard = heard
        self.opened_count += 1
        self.is_open.set()
        try:
            yield self.lost
        finally:
            self._heard = None
            self.is_open.clear()

    def send(
        self,
        address: str,
        *,
        bthome: bytes | None = None,
        ruuvi: bytes | None = None,
        rssi_dbm: int = -61,
        others: Mapping[str, bytes] | None = None,
        name: str | None = None,
    ) -> None:
        assert self._heard, "the radio is not open"
        service_data = dict(others or {}) | ({} if bthome is None else {SERVICE_UUID: bthome})
        manufacturer_data = {} if ruuvi is None else {COMPANY: ruuvi}
        self._heard(
            BLEDevice(address, name, {}),
            AdvertisementData(name, manufacturer_data, service_data, [], None, rssi_dbm, ()),
        )


def encrypted(
    counter: int, objects: bytes = bytes.fromhex("02ca0903bf13"), key: bytes = BINDKEY, address: str = ENCRYPTED
) -> bytes:
    """Return service data encrypted as bthome.io/encryption tells."""
    count = counter.to_bytes(4, "little")
    nonce = bytes.fromhex(address.replace(":", "")) + b"\xd2\xfc\x41" + count
    sealed = AESCCM(key, tag_length=4).encrypt(nonce, objects, None)
    return b"\x41" + sealed[:-4] + count + sealed[-4:]


def profile(name: str) -> Profile:
    decoders = {decoder.name: decoder for decoder in BLE.decoders}
    return load_profile(ROOT / "config" / "devices" / f"{name}.toml", decoders, standard_properties())


def devices() -> tuple[Device, Device, Device]:
    """Return a plain BTHome sensor, an encrypted one, and a RuuviTag."""
    bthome, ruuvi = profile("bthome-v2"), profile("ruuvitag-rawv2")
    key = Secret(BINDKEY, "plain:…")
    return (
        Device("plain", bthome, None, BleDeviceSettings(address=BTHOME.lower())),
        Device("sealed", bthome, None, BleDeviceSettings(address=ENCRYPTED, bindkey=key)),
        Device("tag", ruuvi, None, BleDeviceSettings(address=RUUVI.replace(":", "-"))),
    )


def driver(radio: Radio, clock: Clock, settings: BleSettings | None = None) -> Driver:
    parts = DriverParts("bluetooth", settings or BleSettings(silence=3600.0), devices(), clock)
    return ble_type(radio.scanner).build(parts)
