"""cayenne.py and the profile that travels with it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.lorawan import cayenne
from gateway.driver import DeviceError, FrameError
from gateway.files import config_folder
from gateway.profile import Example, Measurement, Profile, load_profile
from gateway.properties import standard_properties

PROFILE = load_profile(
    config_folder() / "devices" / "cayenne-lpp.toml", {"cayenne-lpp": cayenne.CAYENNE_LPP}, standard_properties()
)
RUN = cayenne.CAYENNE_LPP.run_example
NOT_MAPPED = {"generic", "concentration", "colour_red", "colour_green", "colour_blue"}
# The size of every type's value, from the documents: an independent copy, so that a slip in the table shows.
SIZES = {
    0: 1, 1: 1, 2: 2, 3: 2, 100: 4, 101: 2, 102: 1, 103: 2, 104: 1, 113: 6, 115: 2, 116: 2, 117: 2, 118: 4, 120: 1,
    121: 2, 125: 2, 128: 2, 130: 4, 131: 4, 132: 2, 133: 4, 134: 6, 135: 3, 136: 9, 142: 1,
}  # fmt: skip


def decode(text: str) -> list[Measurement]:
    return cayenne.decode(bytes.fromhex(text))


@pytest.mark.parametrize("example", PROFILE.examples, ids=lambda example: example.name)
def test_examples_of_the_profile(example: Example) -> None:
    if example.error is not None:
        with pytest.raises(DeviceError, match=example.error):
            RUN(PROFILE, example.options)
        return
    readings = PROFILE.to_readings("probe", RUN(PROFILE, example.options), phenomenon_time_ms=1, received_time_ms=1)
    found = [{"property": reading.observed_property, "value": reading.value} for reading in readings]
    assert found == list(example.expect)
    assert all(type(a["value"]) is type(b["value"]) for a, b in zip(found, example.expect, strict=True))


def test_profile_maps_every_type_that_has_a_meaning() -> None:
    assert {field.source for field in PROFILE.fields} == set(cayenne.NAMES) - NOT_MAPPED


def test_examples_show_every_field() -> None:
    shown = {row["property"] for example in PROFILE.examples for row in example.expect}
    assert {str(name).partition("/")[0] for name in shown} == {field.observed_property for field in PROFILE.fields}


@pytest.mark.parametrize("kind", range(256))
def test_every_type_has_its_size(kind: int) -> None:
    size = SIZES.get(kind)
    if size is None:
        with pytest.raises(FrameError, match=f"unknown Cayenne LPP type {kind}"):
            cayenne.decode(bytes([1, kind]) + bytes(20))
        return
    assert {m.channel for m in cayenne.decode(bytes([7, kind]) + bytes(size))} == {7}
    for short in range(size):
        with pytest.raises(FrameError, match="expected"):
            cayenne.decode(bytes([7, kind]) + bytes(short))
    with pytest.raises(FrameError, match="a channel without a type"):
        cayenne.decode(bytes([7, kind]) + bytes(size) + b"\0")


@pytest.mark.parametrize(
    ("text", "source", "value"),
    [
        ("01677fff", "temperature", 3276.7),
        ("01678000", "temperature", -3276.8),
        ("0168ff", "humidity", 127.5),
        ("0165ffff", "illuminance", 65535),
        ("0173ffff", "barometer", 6553.5),
        ("0164ffffffff", "generic", 4294967295),
        ("0179ffff", "altitude", -1),
        ("017dffff", "concentration", 65535),
        ("0182ffffffff", "distance", 4294967.295),
        ("016600", "presence", False),
        ("018e01", "switch", True),
        ("010002", "digital_input", 2),
    ],
)
def test_ends_of_scale(text: str, source: str, value: float) -> None:
    assert decode(text) == [Measurement(source, value, 1)]


def test_nothing_is_nothing() -> None:
    assert decode("") == []


@pytest.mark.parametrize("text", ["016602", "018eff"])
def test_truth_is_zero_or_one(text: str) -> None:
    with pytest.raises(FrameError, match="expected 0 or 1"):
        decode(text)


def test_f39_same_value_twice_is_refused() -> None:
    with pytest.raises(FrameError, match="a second time"):
        decode("016700d2016700d3")
    assert len(decode("016700d2026700d3016873")) == 3


def test_every_truncation_of_a_long_payload() -> None:
    whole = bytes.fromhex("016700d2 026873 06710 4d2fb2e0000 0188 06765ff2960a0003e8".replace(" ", ""))
    ends = set(itertools.accumulate((4, 3, 8, 11), initial=0))
    for size in range(len(whole) + 1):
        if size in ends:
            cayenne.decode(whole[:size])
        else:
            with pytest.raises(FrameError):
                cayenne.decode(whole[:size])


@given(st.binary(max_size=242))
def test_any_octets_give_measurements_or_a_frame_error(payload: bytes) -> None:
    try:
        measurements = cayenne.decode(payload)
    except FrameError as error:
        place = error.offset
    else:
        place = len(payload)
        assert {m.source for m in measurements} <= set(cayenne.NAMES)
    assert 0 <= place <= len(payload)


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from(sorted(SIZES))), unique=True, max_size=20), st.data())
def test_readings_never_fail_on_what_was_decoded(values: list[tuple[int, int]], data: st.DataObject) -> None:
    payload = b"".join(
        bytes([channel, kind]) + (data.draw(st.binary(min_size=SIZES[kind], max_size=SIZES[kind])))
        for channel, kind in values
        if kind not in (102, 142)
    )
    profile: Profile = PROFILE
    measurements = cayenne.decode(payload)
    readings = profile.to_readings("probe", measurements, phenomenon_time_ms=1, received_time_ms=1)
    assert len(readings) == sum(m.source not in NOT_MAPPED for m in measurements)
