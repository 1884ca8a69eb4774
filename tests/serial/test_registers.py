import json
import math
import pathlib
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from drivers.serial.modbus import Function
from drivers.serial.registers import MODBUS, MapError, RegisterField, decode_field, plan
from gateway.cli.profile import example_problem
from gateway.driver import DeviceError
from gateway.reading import Quality, Reason
from tests.serial.profiles import device_types, profile_of, shipped

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "vectors/modbus/values.json").read_text())["vectors"]
PEER_TYPES = {name: ModbusClientMixin.DATATYPE[name.upper()] for name in
    ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")}  # fmt: skip


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def options_of(vector: dict[str, Any]) -> RegisterField:
    further = {key: vector[key] for key in ("length", "bit") if key in vector}
    return RegisterField(
        register=0, type=vector["type"], order=vector["order"], invalid=tuple(vector.get("invalid", ())), **further
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_value(vector: dict[str, Any]) -> None:
    found = decode_field("x", options_of(vector), words(vector["registers"]))
    expected = float(vector["value"]) if vector["value"] in ("nan", "inf") else vector["value"]
    assert repr(found.value) == repr(expected)  # also tells 1 from 1.0 and True, and NaN from NaN
    assert found.reasons == Reason[vector.get("reason", "NONE")]


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["type"] in PEER_TYPES and v["order"] in ("ABCD", "CDAB") and v["value"] is not None],
    ids=lambda vector: vector["name"],
)
def test_pymodbus_reads_the_same(vector: dict[str, Any]) -> None:
    peer = ModbusClientMixin.convert_from_registers(
        words(vector["registers"]),
        PEER_TYPES[vector["type"]],
        word_order="big" if vector["order"] == "ABCD" else "little",
    )
    assert isinstance(peer, int | float)
    ours = decode_field("x", options_of(vector), words(vector["registers"])).value
    assert isinstance(ours, int | float)
    assert (math.isnan(peer) and math.isnan(ours)) or struct.pack(">f", peer) == struct.pack(">f", ours)


def digit_count(value: float) -> int:
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


@settings(deadline=None)  # a loaded machine is no fault
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_shortest_text_is_the_same_float32(value: float) -> None:
    octets = struct.pack(">f", value)
    found = decode_field("x", RegisterField(register=0, type="float32"), list(struct.unpack(">HH", octets))).value
    assert isinstance(found, float)
    assert struct.pack(">f", found) == octets
    assert digit_count(found) <= min(9, digit_count(value))


@settings(deadline=None)  # a loaded machine is no fault
@given(st.sampled_from(sorted(PEER_TYPES)), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]), st.data())
def test_s30_any_octets_are_some_value(kind: str, order: str, data: st.DataObject) -> None:
    options = RegisterField(register=0, type=kind, order=order)
    registers = data.draw(st.lists(st.integers(0, 65535), min_size=options.count, max_size=options.count))
    assert isinstance(decode_field("x", options, registers).value, int | float)


def fields(*rows: str) -> str:
    return "".join(f'[[field]]\nproperty = "analog_input/{i + 1}"\n{row}\n' for i, row in enumerate(rows))


def blocks_of(folder: pathlib.Path, *rows: str) -> list[tuple[int, int, int, list[str]]]:
    blocks = plan(profile_of(folder, fields(*rows)))
    return [(block.function, block.address, block.count, [f.source for f in block.fields]) for block in blocks]


def test_neighbours_share_a_request_and_gaps_part_them(tmp_path: pathlib.Path) -> None:
    found = blocks_of(
        tmp_path,
        'from = "c"\nregister = 12\ntype = "float64"',
        'from = "a"\nregister = 10',
        'from = "b"\nregister = 11',
        'from = "after_gap"\nregister = 17',
        'from = "other_table"\nregister = 16\nfunction = 4',
        'from = "same_register"\nregister = 11\ntype = "bool"\nbit = 3',
    )
    assert found == [
        (3, 10, 6, ["a", "b", "same_register", "c"]),
        (3, 17, 1, ["after_gap"]),
        (4, 16, 1, ["other_table"]),
    ]


def test_request_number_reads_over_gaps(tmp_path: pathlib.Path) -> None:
    found = blocks_of(tmp_path, 'from = "a"\nregister = 0\nrequest = 1', 'from = "b"\nregister = 99\nrequest = 1')
    assert found == [(3, 0, 100, ["a", "b"])]


def test_no_request_is_longer_than_the_protocol_allows(tmp_path: pathlib.Path) -> None:
    rows = [f'from = "v{i}"\nregister = {2 * i}\ntype = "uint32"' for i in range(100)]
    found = blocks_of(tmp_path, *rows)
    assert [(address, count) for _, address, count, _ in found] == [(0, 124), (124, 76)]
    bits = [f'from = "v{i}"\nregister = {i}\ntype = "bool"\nfunction = 1' for i in range(200)]
    assert [(address, count) for _, address, count, _ in blocks_of(tmp_path, *bits)] == [(0, 200)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['from = "a"\nregister = 0\nfunction = 1'], 'field "a": type = "uint16"; expected "bool"'),
        (['from = "a"\nregister = 0\ntype = "bool"'], "expected the bit of the register"),
        (['from = "a"\nregister = 0\ntype = "bool"\nfunction = 2\nbit = 1'], 'only with type "bool" in a register'),
        (['from = "a"\nregister = 0\ntype = "string"'], "expected the number of registers of the text"),
        (['from = "a"\nregister = 0\nlength = 2'], 'only with type "string" or "bcd"'),
        (['from = "a"\nregister = 65535\ntype = "int32"'], "expected room for 2 registers"),
        (['from = "a"\nregister = 0'] * 2, "expected a name that no other field has"),
        (
            ['from = "a"\nregister = 0\nrequest = 1', 'from = "b"\nregister = 1\nfunction = 4\nrequest = 1'],
            "expected one function for all fields of a request",
        ),
        (
            ['from = "a"\nregister = 0\nrequest = 1', 'from = "b"\nregister = 125\nrequest = 1'],
            "request = 1, which spans 126; expected at most 125",
        ),
    ],
)
def test_contradiction_is_named(tmp_path: pathlib.Path, rows: list[str], message: str) -> None:
    with pytest.raises(MapError) as caught:
        plan(profile_of(tmp_path, fields(*rows)))
    assert message in str(caught.value)


def test_example_tables_and_addresses(tmp_path: pathlib.Path) -> None:
    profile = profile_of(
        tmp_path,
        fields(
            'from = "coil"\nregister = 2\ntype = "bool"\nfunction = 1',
            'from = "discrete"\nregister = 16\ntype = "bool"\nfunction = 2',
            'from = "holding"\nregister = 1',
            'from = "input"\nregister = 1\nfunction = 4',
            'from = "not_shown"\nregister = 9\nfunction = 4',
        )
        + '[[example]]\nname = "e"\ncoils = ["0: 0 0 1"]\ndiscrete = ["0x10: 0"]\nholding = ["0: 00010002"]\n'
        'input = ["0x0001: 0003"]\n',
    )
    found = {m.source: m.value for m in MODBUS.run_example(profile, profile.examples[0].options)}
    assert found == {"coil": True, "discrete": False, "holding": 2, "input": 3}


def test_example_that_shows_half_a_value_is_an_error(tmp_path: pathlib.Path) -> None:
    text = fields('from = "a"\nregister = 0\ntype = "float32"') + '[[example]]\nname = "e"\nholding = ["0: 0001"]\n'
    profile = profile_of(tmp_path, text)
    with pytest.raises(DeviceError, match='1 registers of "a", expected 2'):
        MODBUS.run_example(profile, profile.examples[0].options)


@pytest.mark.parametrize("name", device_types())
def test_shipped_profile(name: str) -> None:
    profile = shipped(name)
    assert plan(profile)
    assert profile.examples
    for example in profile.examples:
        assert example_problem(profile, MODBUS, example) == ""
    shown = {row["property"] for example in profile.examples for row in example.expect}
    assert {field.observed_property for field in profile.fields} - shown <= {
        "electric_current/1", "electric_current/2", "electric_current/3"
    }  # fmt: skip


def test_sdm630_stays_within_its_makers_limit_of_30_values() -> None:
    assert max(block.count for block in plan(shipped("eastron-sdm630"))) <= 60


def test_missing_block_becomes_missing_readings() -> None:
    profile = shipped("keller-36xw")
    (block,) = plan(profile)
    readings = profile.to_readings("pegel", block.missing(Reason.NO_REPLY), phenomenon_time_ms=1, received_time_ms=1)
    assert [(r.observed_property, r.value, r.quality, r.reasons) for r in readings] == [
        ("water_level", None, Quality.MISSING, Reason.NO_REPLY),
        ("water_temperature", None, Quality.MISSING, Reason.NO_REPLY),
    ]


def test_f38_wrong_word_order_lands_outside_the_profiles_range(tmp_path: pathlib.Path) -> None:
    """What the range check sees when 230.2 V comes with its words swapped; the value itself is kept."""
    (field,) = [field for field in shipped("eastron-sdm630").fields if field.source == "voltage_l1"]
    right, swapped = [
        decode_field("x", RegisterField(register=0, type="float32", order=order), words("4366 3333")).value
        for order in ("ABCD", "CDAB")
    ]
    assert isinstance(right, float)
    assert isinstance(swapped, float)
    assert field.low is not None
    assert field.high is not None
    assert field.low <= right <= field.high
    assert not 1 <= swapped <= field.high
    assert Function(field.options.function) is Function.INPUT_REGISTERS
