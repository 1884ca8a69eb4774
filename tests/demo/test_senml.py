"""The city's reader of SenML against the RFC's own examples and rules."""

import json

import pytest

from drivers.simulated.city import Ledger
from drivers.simulated.senml import PackError, SenmlRecord, resolve_pack

NOW_S = 1_800_000_000.0


def test_base_fields_hold_until_replaced() -> None:
    # RFC 8428, 5.1.3, "multiple measurements", and its resolved form in 5.1.4
    pack = b"""[
     {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":10,"n":"voltage","u":"V","v":120.1},
     {"n":"current","t":-5,"v":1.2},
     {"n":"current","t":-4,"v":1.3}]"""
    name = "urn:dev:ow:10e2073a0108006:"
    assert resolve_pack(pack, NOW_S) == [
        SenmlRecord(name + "voltage", "V", 1276020076.001, 120.1),
        SenmlRecord(name + "current", "A", 1276020071.001, 1.2),
        SenmlRecord(name + "current", "A", 1276020072.001, 1.3),
    ]


def test_small_times_are_relative_to_now_and_base_values_add_up() -> None:
    (record,) = resolve_pack(b'[{"n":"a","bv":20,"v":1.5,"t":-60}]', NOW_S)
    assert (record.value, record.time_s) == (21.5, NOW_S - 60)


def test_texts_and_truth_values_are_values_too() -> None:
    records = resolve_pack(b'[{"n":"a","vs":"missing"},{"n":"b","vb":false}]', NOW_S)
    assert [record.value for record in records] == ["missing", False]


def test_unknown_labels_are_ignored() -> None:
    assert resolve_pack(b'[{"n":"a","v":1,"q":3,"qr":["range"]}]', NOW_S)[0].value == 1


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (b"", "no JSON"),
        (b'{"n":"a","v":1}', "no array"),
        (b'[{"n":"a","v":1,"must_":1}]', "must_"),
        (b'[{"bver":26,"n":"a","v":1}]', "version 26"),
        (b'[{"v":1}]', "name"),
        (b'[{"n":"_a","v":1}]', "name"),
        (b'[{"n":"a"}]', "no value"),
        (b'[{"n":"a","v":1,"vs":"x"}]', "v and vs"),
        (b'[{"n":"a","v":"1"}]', "expected a number"),
        (b'[{"n":"a","v":NaN}]', "expected a number"),
        (b'[{"n":"a","vb":1}]', "vb is 1"),
        (b'[{"n":1,"v":1}]', "expected a text"),
    ],
)
def test_what_breaks_the_rules_is_refused(pack: bytes, why: str) -> None:
    with pytest.raises(PackError, match=why):
        resolve_pack(pack, NOW_S)


def pack(count: int, device_id: str = "pegel") -> bytes:
    rows = [{"n": f"urn:dev:org:32473-gw:{device_id}:water_level", "u": "m", "v": number} for number in range(count)]
    return json.dumps(rows).encode()


def coverage(first: int, last: int, epoch: int = 1) -> dict[str, str]:
    return {"epoch": str(epoch), "first-seq": str(first), "last-seq": str(last), "count": str(last - first + 1)}


def test_p3_repeats_are_dropped_by_epoch_and_seq() -> None:
    ledger = Ledger()
    assert [arrival.seq for arrival in ledger.take(pack(3), coverage(10, 12), NOW_S)] == [10, 11, 12]
    assert [arrival.seq for arrival in ledger.take(pack(3), coverage(11, 13), NOW_S)] == [13]
    assert ledger.take(pack(3), coverage(10, 12), NOW_S) == []
    assert len(ledger.take(pack(1), coverage(10, 10, epoch=2), NOW_S)) == 1
    assert (ledger.reading_count, ledger.repeat_count, ledger.pack_count) == (5, 5, 4)
    assert ledger.received == {"pegel": 5}


def test_p3_what_never_came_is_known_as_a_hole() -> None:
    ledger = Ledger()
    ledger.take(pack(2), coverage(0, 1), NOW_S)
    ledger.take(pack(1), coverage(5, 5), NOW_S)
    assert ledger.missing() == [(2, 4)]
    ledger.take(pack(3), coverage(2, 4), NOW_S)
    assert ledger.missing() == []
    assert ledger.seq_last == 5


@pytest.mark.parametrize("properties", [{}, coverage(0, 2), {**coverage(0, 1), "count": "x"}])
def test_a_pack_whose_coverage_is_not_certain_counts_as_not_arrived(properties: dict[str, str]) -> None:
    ledger = Ledger()
    assert ledger.take(pack(2), properties, NOW_S) == []
    assert len(ledger.faults) == 1
    assert ledger.reading_count == 0
