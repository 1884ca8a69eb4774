"""Bluetooth Low Energy: BTHome v2 and RuuviTag adverts, heard through BlueZ. docs/ble.md tells all of it."""

import importlib.util
from collections.abc import Iterable, Sequence

from drivers.ble.advert import read_advert, read_hex, same_address
from drivers.ble.bthome import decode_bthome
from drivers.ble.driver import build_with
from drivers.ble.ruuvi import decode_ruuvi
from drivers.ble.scanner import AdvertCallback, ScannerFactory, bluez_scanner
from drivers.ble.settings import BleDeviceSettings, BleSettings, ExampleSettings, FieldSettings
from gateway.driver import Decoder, Device, DriverType, Problem
from gateway.profile import Measurement, Profile

__all__ = ["BLE", "AdvertCallback", "BleDeviceSettings", "BleSettings", "ScannerFactory", "ble_type"]

NEEDED = ("bleak", "bthome_ble", "ruuvitag_ble")


def _bthome_example(_: Profile, example: ExampleSettings) -> Sequence[Measurement]:
    advert = read_advert(read_hex(example.advert), same_address(example.address))
    decoded = decode_bthome(advert, example.bindkey.reveal() if example.bindkey else None)
    return decoded.measurements if decoded else ()


def _ruuvi_example(_: Profile, example: ExampleSettings) -> Sequence[Measurement]:
    decoded = decode_ruuvi(read_advert(read_hex(example.advert), same_address(example.address)))
    return decoded.measurements if decoded else ()


def _check(settings: BleSettings, devices: Sequence[Device]) -> Iterable[Problem]:
    """Find missing packages, an address listed twice, and devices that anybody can speak for."""
    del settings
    missing = [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Problem(None, "type", f"{', '.join(missing)} not installed", 'expected: pip install "litfass[ble]"')
    owners: dict[str, str] = {}
    for device in devices:
        own: BleDeviceSettings = device.settings
        address = same_address(own.address)
        owner = owners.setdefault(address, device.device_id)
        if owner != device.device_id:
            yield Problem(device.device_id, "address", f"{address} is {owner}'s too", "expected one device an address")
        if own.bindkey and device.profile.decoder != "bthome":
            yield Problem(
                device.device_id, "bindkey", "a bindkey", f"expected none: {device.profile.title} does not encrypt"
            )
        elif not own.bindkey:
            yield Problem(
                device.device_id,
                "bindkey",
                "no bindkey",
                "anybody in radio range can send in its name; its readings are marked unauthenticated",
                is_warning=True,
            )


def ble_type(scanner: ScannerFactory = bluez_scanner) -> DriverType:
    """Return the driver type on the radio that ``scanner`` opens: BlueZ's, or one that a demo or test plays.

    A scanner calls its first argument as bleak calls a detection callback, with a ``BLEDevice`` and an
    ``AdvertisementData``, in the event loop's thread.
    """
    return DriverType(
        summary="Bluetooth Low Energy sensors: BTHome v2, RuuviTag",
        settings=BleSettings,
        device_settings=BleDeviceSettings,
        decoders=(
            Decoder("bthome", FieldSettings, ExampleSettings, _bthome_example),
            Decoder("ruuvi", FieldSettings, ExampleSettings, _ruuvi_example),
        ),
        build=build_with(scanner),
        check=_check,
    )


BLE = ble_type()
"""The driver type ``ble``."""
