"""A ring against a plain list, values of every kind, what is remembered, curves, and the documentation's example."""

import contextlib
import dataclasses
import math
import pathlib
import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import RingError
from gateway.reading import Quality, Reading, Reason
from gateway.ring import Gap, Record, Ring, copy_ring
from gateway.ring._state import MEMORY_SIZE_MAX, VALUE_SIZE_MAX
from tests.ring.conftest import SIZE
from tests.ring.samples import (
    START_MS,
    FailingMedium,
    assert_joined,
    fill,
    many,
    read_all,
    reading,
    records,
    stamp,
)

TIMES = st.integers(min_value=-(1 << 40), max_value=1 << 42)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**6), 10**6).map(lambda scaled: scaled / 100),
    st.text(max_size=40),
)
READINGS = st.builds(
    Reading,
    device_id=st.sampled_from(["a", "b", "pegel-3"]),
    observed_property=st.sampled_from(["water_level", "x/2"]),
    value=VALUES,
    unit=st.sampled_from(["m", ""]),
    phenomenon_time_ms=TIMES,
    received_time_ms=TIMES,
    decimals=st.sampled_from([None, 0, 1, 2, 9]),
    quality=st.sampled_from(list(Quality)),
    reasons=st.integers(0, 127).map(Reason),
    rssi_dbm=st.one_of(st.none(), st.integers(-15000, 2000).map(lambda centi: centi / 100)),
    snr_db=st.one_of(st.none(), st.integers(-300, 300).map(lambda deci: deci / 10)),
)


def exact(one: Reading, other: Reading) -> bool:
    """Equal in every field, in the type of the value, and in the sign of zero."""
    if one != other or type(one.value) is not type(other.value):
        return False
    if isinstance(one.value, float) and isinstance(other.value, float):
        return math.copysign(1.0, one.value) == math.copysign(1.0, other.value)
    return True


class RingMachine(RuleBasedStateMachine):
    """A ring in a medium, beside a list."""

    @initialize()
    def begin(self) -> None:
        self.medium = FailingMedium(224 * 1024)
        self.model: list[Reading] = []
        self.memory: dict[str, Any] = {}
        self.cursor = 0
        self.open()
        self.ring.add_consumer("city")
        self.ring.sync()

    def open(self) -> None:
        self.ring = Ring.open("machine", size=self.medium.size(), io=self.medium)

    @rule(readings=st.lists(READINGS, max_size=30))
    def append(self, readings: list[Reading]) -> None:
        assert self.ring.append(readings, stamp()) == range(len(self.model), len(self.model) + len(readings))
        self.model += readings

    @rule(seed=st.integers(0, 1000), count=st.integers(100, 600))
    def append_much(self, seed: int, count: int) -> None:
        self.model += fill(self.ring, random.Random(seed), count)

    @rule(key=st.sampled_from("abc"), value=st.one_of(st.none(), st.integers(-5, 1 << 62), st.binary(max_size=4096)))
    def remember(self, key: str, value: int | bytes | None) -> None:
        self.ring.append([], stamp(), {key: value})
        self.memory[key] = value

    @rule()
    def sync(self) -> None:
        assert self.ring.sync() == len(self.model)

    @rule()
    def restart(self) -> None:
        self.open()

    @rule()
    def sync_fails(self) -> None:
        self.ring.sync()
        self.ring.append(many(len(self.model), 5), stamp())
        self.model += many(len(self.model), 5)
        self.medium.sync_errors = 1
        self.ring.sync()
        self.medium.sync_errors = 0
        assert self.ring.failure is None

    @precondition(lambda self: self.cursor < self.ring.synced_seq)
    @rule(count=st.integers(1, 500))
    def consume(self, count: int) -> None:
        items = self.ring.read(self.cursor, count)
        last = items[-1]
        seq_last = last.seq_last if isinstance(last, Gap) else last.seq
        self.ring.acknowledge("city", self.cursor, seq_last)
        self.ring.sync()
        self.cursor = seq_last + 1

    @invariant()
    def reads_as_the_list(self) -> None:
        items = self.ring.read(0, 10**6, with_unsynced=True)
        assert_joined(items, len(self.model))
        for record in records(items):
            assert exact(self.model[record.seq], record.reading), (self.model[record.seq], record.reading)
        assert all(self.ring.recall(key) == value for key, value in self.memory.items())
        assert self.ring.cursor("city") == self.cursor


TestRingMachine = pytest.mark.slow(pytest.mark.timeout(240)(RingMachine.TestCase))
RingMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(readings=st.lists(READINGS, min_size=1, max_size=120))
def test_every_kind_of_value_comes_back_from_a_block(readings: list[Reading]) -> None:
    medium = FailingMedium()
    ring = Ring.open("m", size=medium.size(), io=medium)
    ring.append(readings, stamp())
    ring.sync()
    assert ring._seal(is_forced=True)
    again = Ring.open("m", size=medium.size(), io=medium)
    assert again._rows == []
    for opened in (ring, again):
        found = records(read_all(opened))
        assert len(found) == len(readings)
        for record, expected in zip(found, readings, strict=True):
            assert exact(expected, record.reading), (expected, record.reading)
            assert record.boottime_ms == expected.received_time_ms - 1_700_000_000_000
        some = readings[0]
        curve = opened.read_series(some.device_id, some.observed_property, -(1 << 41), 1 << 43)
        assert len(curve) == sum(
            (value.device_id, value.observed_property) == (some.device_id, some.observed_property) for value in readings
        )


def test_a_value_beyond_64_bits_is_refused_and_nothing_stored(ring: Ring) -> None:
    with pytest.raises(ValueError, match="more than 64 bits"):
        ring.append([reading(1), reading(2, 1 << 63)], stamp())
    assert ring.head_seq == 0


def test_memory_is_bounded(ring: Ring) -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        ring.append([], stamp(), {"large": bytes(VALUE_SIZE_MAX + 1)})
    number = 0
    with contextlib.suppress(RingError):
        while number <= MEMORY_SIZE_MAX // VALUE_SIZE_MAX:
            ring.append([reading(number)], stamp(), {f"key-{number}": bytes(VALUE_SIZE_MAX)})
            number += 1
    with pytest.raises(RingError, match="full"):
        ring.append([reading(number)], stamp(), {"one-more": bytes(VALUE_SIZE_MAX)})
    before = ring.head_seq
    ring.append([], stamp(), {"key-0": None, "key-1": None})
    ring.append([reading(1)], stamp(), {"key-0": bytes(VALUE_SIZE_MAX)})
    assert ring.head_seq == before + 1


def test_memory_and_names_outlive_many_turns_of_the_journal(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE // 2) as ring:
        ring.add_consumer("city")
        ring.append([reading(0)], stamp(), {"text": "Länge", "number": -(1 << 63), "octets": bytes(4096), "gone": 1})
        ring.append([], stamp(), {"gone": None})
        expected = fill(ring, random.Random(1), 60_000, first=1)
    with Ring.open(path, size=SIZE // 2) as ring:
        assert ring.memory == {"text": "Länge", "number": -(1 << 63), "octets": bytes(4096)}
        kept = records(read_all(ring))
        assert kept[0].seq > 1
        assert [record.reading for record in kept] == expected[kept[0].seq - 1 :]
        assert ring.cursor("city") == 0


def test_acknowledged_stretches_join(ring: Ring) -> None:
    ring.append(many(0, 100), stamp())
    ring.sync()
    ring.add_consumer("live")
    for first, last in ((90, 99), (50, 60), (61, 70), (0, 9), (12, 12), (10, 11)):
        ring.acknowledge("live", first, last)
    assert ring.cursor("live") == 13
    assert ring.acknowledged("live") == ((50, 70), (90, 99))
    ring.acknowledge("live", 13, 89)
    assert ring.cursor("live") == 100
    with pytest.raises(ValueError, match="of 100"):
        ring.acknowledge("live", 99, 100)


def test_a_day_of_one_series(ring: Ring) -> None:
    expected = fill(ring, random.Random(3), 20_000)
    found = ring.read_series("d-3", "water_level", START_MS + 12_000_000, START_MS + 13_000_000)
    assert found == [
        value
        for value in expected
        if value.device_id == "d-3" and START_MS + 12_000_000 <= value.phenomenon_time_ms <= START_MS + 13_000_000
    ]
    assert ring.read_series("d-3", "unknown", 0, 1 << 60) == []


def test_idle_writes_nothing(path: pathlib.Path) -> None:
    medium = FailingMedium()
    ring = Ring.open("m", size=medium.size(), io=medium)
    fill(ring, random.Random(1), 5000)
    for _ in range(5):
        ring.sync()
    before = medium.writes, medium.syncs
    for _ in range(100):
        ring.sync()
    assert (medium.writes, medium.syncs) == before


def test_clock_of_each_boot_stays_with_its_records(path: pathlib.Path) -> None:
    for boot in (1, 2):
        with Ring.open(path, size=SIZE) as ring:
            known = boot == 2
            at = dataclasses.replace(stamp(START_MS + boot, known=known), boot_id=bytes([boot] * 16))
            ring.append(many(boot * 10, 3), at)
            ring.append(many(boot * 10 + 3, 3), dataclasses.replace(at, wall_ms=at.wall_ms + 3_600_000, is_known=True))
    with Ring.open(path, size=SIZE) as ring:
        found = records(read_all(ring))
        assert [record.boot_id[0] for record in found] == [1] * 6 + [2] * 6
        assert [record.clock_known for record in found] == [False] * 3 + [True] * 9
        offsets = [record.reading.received_time_ms - record.boottime_ms for record in found]
        assert offsets[3] - offsets[0] == 3_600_000


@pytest.mark.parametrize("size", [224 * 1024, 4 << 20])
def test_a_copy_of_another_size_keeps_ids_cursors_and_memory(path: pathlib.Path, size: int) -> None:
    with Ring.open(path, size=SIZE) as ring:
        ring.add_consumer("city")
        fill(ring, random.Random(5), 30_000)
        ring.append([reading(1)], stamp(), {"f_cnt": 7})
        ring.acknowledge("city", 0, 20_000)
        ring.sync()
        before = records(read_all(ring))
    other = path.with_name("other.ring")
    with Ring.open_read_only(path) as source:
        copy_ring(source, other, size)
    with Ring.open(other, size=size) as copy:
        after = records(read_all(copy))
        assert after == before[len(before) - len(after) :]
        assert len(after) >= min(len(before), 5000)
        assert copy.head_seq == before[-1].seq + 1
        assert (copy.recall("f_cnt"), copy.cursor("city")) == (7, 20_001)
        assert copy.epoch > before[-1].epoch
        copy.append([reading(2)], stamp())
        copy.sync()
        assert isinstance(read_all(copy)[-1], Record)


def test_the_example_in_the_documentation_runs() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "ring.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(page), "exec"), {})
