"""Calibration in exact decimals, plausible ranges as flags; values are never dropped or changed by a check."""

import pytest

from gateway.config import Calibration
from gateway.pipeline import calibrate, check_range
from gateway.reading import Quality, Reading, Reason, Value


def reading(value: Value, decimals: int | None = 1, quality: Quality = Quality.NOT_EVALUATED) -> Reading:
    return Reading("d", "temperature", value, "Cel", 0, 0, decimals=decimals, quality=quality)


@pytest.mark.parametrize(
    ("value", "gain", "offset", "expected", "decimals"),
    [
        (21.5, 1.0, -0.3, 21.2, 1),
        (0.1, 3.0, 0.0, 0.3, 1),  # 0.30000000000000004 in floats
        (21.5, 1.02, 0.0, 21.93, 2),
        (21.5, 1.0000000001, 0.0, 21.50000000215, None),
        (100, 1.0, 0.5, 100.5, 1),
        (True, 2.0, 1.0, True, 1),
        ("open", 2.0, 1.0, "open", 1),
        (None, 2.0, 1.0, None, 1),
    ],
)
def test_calibration(value: Value, gain: float, offset: float, expected: Value, decimals: int | None) -> None:
    found = calibrate(reading(value), Calibration(gain=gain, offset=offset))
    assert (found.value, found.decimals) == (expected, decimals)
    assert type(found.value) in (type(expected), float)


@pytest.mark.parametrize(
    ("value", "low", "high", "quality", "reasons"),
    [
        (20.0, -10, 50, Quality.PASS, Reason.NONE),
        (-10.0, -10, 50, Quality.PASS, Reason.NONE),
        (50.1, -10, 50, Quality.SUSPECT, Reason.RANGE),
        (-10.1, -10, None, Quality.SUSPECT, Reason.RANGE),
        (1e300, None, None, Quality.NOT_EVALUATED, Reason.NONE),
        (True, 5, 6, Quality.NOT_EVALUATED, Reason.NONE),
        (None, 5, 6, Quality.NOT_EVALUATED, Reason.NONE),
    ],
)
def test_f71_range(value: Value, low: float | None, high: float | None, quality: Quality, reasons: Reason) -> None:
    found = check_range(reading(value), low, high)
    assert (found.value, found.quality, found.reasons) == (value, quality, reasons)


def test_what_a_device_calls_bad_is_not_made_good() -> None:
    assert check_range(reading(20.0, quality=Quality.FAIL), -10, 50).quality is Quality.FAIL


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_f70_no_reading_without_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="is no reading"):
        reading(value)
