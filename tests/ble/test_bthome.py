"""BTHome v2 against what its site and its parser's own tests publish."""

import json
import pathlib
from typing import Any

import pytest

from drivers.ble._parsers import bthome_object_sizes
from drivers.ble.advert import Advert
from drivers.ble.bthome import SERVICE_UUID, TWO_UNITS, decode_bthome
from gateway.driver import FrameError
from gateway.reading import Reason

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "ble"
OBJECTS = json.loads((VECTORS / "bthome_objects.json").read_text())
ADVERTS = json.loads((VECTORS / "bthome_adverts.json").read_text())


def advert(service_data: str, address: str = OBJECTS["address"]) -> Advert:
    return Advert(address, -60, service_data={SERVICE_UUID: bytes.fromhex(service_data)})


def bindkey(case: dict[str, Any]) -> bytes | None:
    return bytes.fromhex(case["bindkey"]) if "bindkey" in case else None


@pytest.mark.parametrize("case", OBJECTS["cases"], ids=lambda case: case["name"])
def test_published_objects(case: dict[str, Any]) -> None:
    decoded = decode_bthome(advert(case["service_data"]))
    assert decoded
    assert [{"source": m.source, "value": m.value} for m in decoded.measurements] == case["expect"]
    assert all(type(m.value) is not bool or m.source.startswith("binary:") for m in decoded.measurements)


@pytest.mark.parametrize("case", ADVERTS["cases"], ids=lambda case: case["name"])
def test_adverts(case: dict[str, Any]) -> None:
    heard = advert(case["service_data"], case["address"])
    if "error" in case:
        with pytest.raises(FrameError, match=case["error"]) as caught:
            decode_bthome(heard, bindkey(case))
        assert caught.value.reason.value == case["reason"]
        return
    decoded = decode_bthome(heard, bindkey(case))
    assert decoded
    found = [
        {"source": m.source, "value": m.value} | ({"channel": m.channel} if m.channel else {})
        for m in decoded.measurements
    ]
    assert sorted(found, key=str) == sorted(case["expect"], key=str)
    assert decoded.counter == case.get("counter")
    expected = Reason.NONE if "bindkey" in case else Reason.UNAUTHENTICATED
    assert {m.reasons for m in decoded.measurements} <= {expected}


def test_other_service_data_is_none_of_ours() -> None:
    assert (
        decode_bthome(Advert("A4:C1:38:12:34:56", service_data={"0000fe95-0000-1000-8000-00805f9b34fb": b"@"})) is None
    )


def test_values_of_an_earlier_advert_do_not_come_back() -> None:
    """The library's parser would give the temperature out again with the humidity."""
    decode_bthome(advert("4002ca09"))
    decoded = decode_bthome(advert("4003bf13"))
    assert decoded
    assert [m.source for m in decoded.measurements] == ["humidity"]


def test_every_object_cut_off_anywhere_is_refused() -> None:
    for case in OBJECTS["cases"]:
        whole = bytes.fromhex(case["service_data"])
        if len(whole) > 12 or case["name"].startswith("format page"):
            continue
        for size in range(2, len(whole)):
            with pytest.raises(FrameError, match="octets"):
                decode_bthome(advert(whole[:size].hex()))


def test_names_that_come_in_two_units_are_known() -> None:
    """A later library may add a third; then millimetres would pass for metres, so look again."""
    from bthome_ble.const import MEAS_TYPES  # after the stand-ins, as the driver does
    from sensor_state_data.description import BaseSensorDescription

    units: dict[str, set[str]] = {}
    for kind in MEAS_TYPES.values():
        if isinstance(kind.meas_format, BaseSensorDescription):
            units.setdefault(str(kind.meas_format.device_class), set()).add(
                str(kind.meas_format.native_unit_of_measurement)
            )
    assert {name for name, found in units.items() if len(found) > 1} == TWO_UNITS
    assert set(bthome_object_sizes()) == set(MEAS_TYPES)
