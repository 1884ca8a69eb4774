"""RuuviTag data format 5 against the maker's test vectors."""

import json
import pathlib
from typing import Any

import pytest

from drivers.ble.advert import Advert
from drivers.ble.ruuvi import COMPANY, decode_ruuvi
from gateway.driver import FrameError
from gateway.reading import Reason

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "vectors" / "ble" / "ruuvi_rawv2.json").read_text())


def advert(payload: str) -> Advert:
    return Advert(VECTORS["address"], -60, manufacturer_data={COMPANY: bytes.fromhex(payload)})


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_published_vectors(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(FrameError, match=case["error"]) as caught:
            decode_ruuvi(advert(case["payload"]))
        assert caught.value.reason.value == case["reason"]
        return
    decoded = decode_ruuvi(advert(case["payload"]))
    assert decoded
    found = {m.source: m.value for m in decoded.measurements}
    found.pop("acceleration_total")
    assert found == {name: pytest.approx(value, abs=0.0051) for name, value in case["expect"].items()}
    assert {m.reasons for m in decoded.measurements} == {Reason.UNAUTHENTICATED}
    assert decoded.is_numbered is (case["sequence"] is not None)
    if decoded.is_numbered:
        assert int.from_bytes(decoded.identity, "big") == case["sequence"]


def test_another_makers_data_is_none_of_ours() -> None:
    assert decode_ruuvi(Advert(VECTORS["address"], manufacturer_data={0x004C: b"\x05" * 24})) is None
