"""SenML packs: read back by the rules of RFC 8428, with the values a platform must see."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.properties import standard_properties
from gateway.reading import Quality, Reading, Reason, Value
from gateway.ring import Record
from gateway.uplinks.senml import device_urn, encode_pack, seconds_text
from tests.support.city import resolve

T0_MS = 1_760_000_000_120
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")  # RFC 8428, 4.5.1


def record(seq: int, device: str, name: str, value: Value, **keys: object) -> Record:
    fields: dict[str, object] = {"phenomenon_time_ms": T0_MS, "received_time_ms": T0_MS, "unit": ""}
    return Record(seq, 1, Reading(device, name, value, **{**fields, **keys}), bytes(16), 0, True)  # type: ignore[arg-type]


def pack(*records: Record) -> bytes:
    return encode_pack(records, lambda device: device_urn(32473, "gw-1", device), standard_properties())


def test_a_pack_reads_as_it_was_meant() -> None:
    octets = pack(
        record(1, "pegel-3", "water_level", 1.234),
        record(2, "pegel-3", "battery_voltage", 3.61, phenomenon_time_ms=T0_MS + 500),
        record(3, "meter", "voltage/1", 287.1, quality=Quality.SUSPECT, reasons=Reason.RANGE | Reason.CLOCK),
        record(4, "meter", "contact_open", True),
        record(5, "pegel-3", "water_level", None, quality=Quality.MISSING, reasons=Reason.NO_REPLY),
    )
    prefix = "urn:dev:org:32473-gw-1:"
    assert resolve(json.loads(octets)) == [
        {"name": f"{prefix}pegel-3:water_level", "time": 1_760_000_000.12, "u": "m", "v": 1.234},
        {"name": f"{prefix}pegel-3:battery_voltage", "time": 1_760_000_000.62, "u": "V", "v": 3.61},
        {"name": f"{prefix}meter:voltage/1", "time": 1_760_000_000.12, "u": "V", "v": 287.1, "q": 3,
         "qr": ["range", "clock"]},
        {"name": f"{prefix}meter:contact_open", "time": 1_760_000_000.12, "vb": True},
        {"name": f"{prefix}pegel-3:water_level/status", "time": 1_760_000_000.12, "vs": "missing", "q": 9,
         "qr": ["no-reply"]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("atmospheric_pressure", 1013.25, "Pa", 101325),
        ("atmospheric_pressure", 23.4, "Pa", 2340),
        ("pm2_5", 12.3, "kg/m3", 1.23e-08),
        ("active_energy_import", 14000.123, "J", 50400442800),
        ("transmit_power", -20, "dBW", -50),
        ("soil_moisture", 28.5, "/", 0.285),
        ("relative_humidity", 64.5, "%RH", 64.5),
    ],
)
def test_units_are_primary_and_exact(name: str, value: float, unit: str, expected: float) -> None:
    (found,) = json.loads(pack(record(1, "d", name, value)))
    assert (found["u"], found["v"]) == (unit, expected)


def test_f70_a_value_too_large_for_its_unit_is_missing() -> None:
    (found,) = json.loads(pack(record(1, "d", "atmospheric_pressure", 1e307)))
    assert (found["n"], found["vs"]) == ("atmospheric_pressure/status", "missing")


def test_every_property_has_a_unit_a_reader_of_version_10_knows() -> None:
    primary = {
        *("m", "kg", "s", "A", "K", "cd", "mol", "Hz", "rad", "sr", "N", "Pa", "J", "W", "C", "V", "F", "Ohm", "S"),
        *("Wb", "T", "H", "Cel", "lm", "lx", "Bq", "Gy", "Sv", "kat", "m2", "m3", "m/s", "m/s2", "m3/s", "W/m2"),
        *("cd/m2", "bit", "bit/s", "lat", "lon", "pH", "dB", "dBW", "count", "/", "%RH", "%EL", "EL", "1/s", "S/m"),
        *("B", "VA", "VAs", "var", "vars", "J/m", "kg/m3", "NTU"),
    }
    table = standard_properties()
    units = {name: table[name].senml_unit for name in table.names}
    assert {name: unit for name, unit in units.items() if unit not in primary | {None}} == {}


_values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1), st.booleans(),
    st.text(max_size=40), st.none(),
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b.c-1"]),
            st.sampled_from(["temperature/2", "atmospheric_pressure", "unheard_of", "contact_open"]),
            _values,
            st.integers(0, 2**42),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_reading_becomes_one_valid_record(rows: list[tuple[str, str, Value, int]]) -> None:
    records = [record(i, device, name, value, phenomenon_time_ms=t) for i, (device, name, value, t) in enumerate(rows)]
    octets = pack(*records)
    assert octets == pack(*records), "the same records give the same octets"
    found = json.loads(octets, parse_constant=pytest.fail)
    assert len(found) == len(rows)
    for resolved, (_, _, value, time_ms) in zip(resolve(found), rows, strict=True):
        assert NAME.fullmatch(resolved["name"])
        assert resolved["time"] == pytest.approx(time_ms / 1000, abs=0.0011)
        if resolved["name"].endswith("/status"):
            assert resolved["vs"] == "missing"
            continue
        assert sum(key in resolved for key in ("v", "vs", "vb")) == 1
        if isinstance(value, str):
            assert resolved["vs"] == value
        elif "v" in resolved:
            assert math.isfinite(resolved["v"])


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0"), (1000, "1"), (1500, "1.5"), (-60, "-0.06"), (1_760_000_000_120, "1760000000.12")]
)
def test_seconds_are_exact(ms: int, text: str) -> None:
    assert seconds_text(ms) == text
