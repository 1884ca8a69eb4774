"""The parser libraries bthome-ble and ruuvitag-ble, without the Bluetooth stack they name in their annotations.

Both packages import ``habluetooth`` for two class names and use neither: they only read attributes of what they are
given. Behind that import hang bleak-retry-connector, bluetooth-adapters, bluetooth-auto-recovery and more, some 4 MB
of memory in a gateway that has 45. So while the parsers are imported, two stand-in modules answer with `ServiceInfo`
for both names; afterwards they are gone again, and a later ``import habluetooth`` finds the real one. Where the real
one is loaded already, it is used.

`tests/ble/test_parsers.py` parses the same adverts with the real ``habluetooth`` in a process of its own and compares.
"""

import importlib
import logging
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bthome_ble import BTHomeBluetoothDeviceData
    from ruuvitag_ble import RuuvitagBluetoothDeviceData

STANDS_IN_FOR = ("habluetooth", "home_assistant_bluetooth")

# Parsers answer each bad advert with a warning of their own, ten a second. The driver hands each to `sink.reject`,
# which counts all and logs the first of a burst.
SILENCED_LOGGERS = ("bthome_ble", "ruuvitag_ble")


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """One advert with the attributes the parsers read; the names are theirs."""

    name: str
    address: str
    rssi: int
    manufacturer_data: Mapping[int, bytes]
    service_data: Mapping[str, bytes]
    service_uuids: tuple[str, ...] = ()
    source: str = "local"
    time: float = 0.0
    raw: bytes | None = None


def bthome_parser() -> "type[BTHomeBluetoothDeviceData]":
    """Return the parser class of bthome-ble."""
    parser: type[BTHomeBluetoothDeviceData] = _load("bthome_ble").BTHomeBluetoothDeviceData
    return parser


def ruuvi_parser() -> "type[RuuvitagBluetoothDeviceData]":
    """Return the parser class of ruuvitag-ble."""
    parser: type[RuuvitagBluetoothDeviceData] = _load("ruuvitag_ble").RuuvitagBluetoothDeviceData
    return parser


def bthome_object_sizes() -> dict[int, int | None]:
    """Return BTHome's object ids with the octets of their values, None where a length octet comes first."""
    return {
        object_id: None if kind.data_format in ("raw", "string", "command") else kind.data_length
        for object_id, kind in _load("bthome_ble.const").MEAS_TYPES.items()
    }


def _load(name: str) -> types.ModuleType:
    """Import a parser package, once, with the stand-ins in place of what is not loaded yet."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    for logger in SILENCED_LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    stand_ins = {name: _stand_in(name) for name in STANDS_IN_FOR if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(name)
    finally:
        for stand_in in stand_ins:
            del sys.modules[stand_in]


def _stand_in(name: str) -> types.ModuleType:
    module = types.ModuleType(name, "Stand-in of drivers.ble._parsers while the parsers are imported.")
    vars(module).update(BluetoothServiceInfo=ServiceInfo, BluetoothServiceInfoBleak=ServiceInfo)
    return module
