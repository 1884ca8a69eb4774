"""What happens to a reading between its driver and the ring: pure steps over one reading.

calibrate (gain, offset) -> check against the plausible range -> mark an unknown clock
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from gateway.config import Calibration, Config
from gateway.profile import Profile
from gateway.properties import DECIMALS_MAX, Properties
from gateway.reading import Quality, Reading, Reason

RULES_MAX = 65_536  # (device, property) pairs remembered; channel suffixes come from frames


def calibrate(reading: Reading, calibration: Calibration) -> Reading:
    """Return the reading with gain and offset applied in exact decimals; texts and states stay as they are."""
    if isinstance(reading.value, bool | str) or reading.value is None:
        return reading
    gain, offset = Decimal(repr(calibration.gain)), Decimal(repr(calibration.offset))
    exact = Decimal(repr(reading.value)) * gain + offset
    exponent = exact.normalize().as_tuple().exponent
    places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    decimals = None if places > DECIMALS_MAX else max(places, reading.decimals or 0)
    return dataclasses.replace(reading, value=float(exact), decimals=decimals)


def check_range(reading: Reading, low: float | None, high: float | None) -> Reading:
    """Return the reading with the verdict of the gross range test; the value itself is never changed or dropped."""
    value = reading.value
    if isinstance(value, bool | str) or value is None or reading.quality in (Quality.FAIL, Quality.MISSING):
        return reading
    if low is None and high is None:
        return reading
    if (low is not None and value < low) or (high is not None and value > high):
        return dataclasses.replace(reading, quality=Quality.SUSPECT, reasons=reading.reasons | Reason.RANGE)
    return dataclasses.replace(reading, quality=Quality.PASS)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What the settings say about one property of one device."""

    calibration: Calibration | None
    low: float | None
    high: float | None


class Pipeline:
    """The steps, with the rules of all devices."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        calibrations: Mapping[str, Mapping[str, Calibration]],
        properties: Properties,
    ) -> None:
        self._profiles = profiles
        self._calibrations = calibrations
        self._properties = properties
        self._rules: dict[tuple[str, str], _Rule] = {}

    @classmethod
    def of(cls, config: Config) -> "Pipeline":
        """Return the pipeline of a gateway's settings."""
        profiles = {device.device_id: device.profile for driver in config.drivers for device in driver.devices}
        calibrations = {device_id: settings.calibration for device_id, settings in config.devices.items()}
        return cls(profiles, calibrations, config.properties)

    def process(self, readings: Iterable[Reading], *, clock_known: bool) -> list[Reading]:
        """Return the readings as they go into the ring."""
        return [self._process_one(reading, clock_known) for reading in readings]

    def _process_one(self, reading: Reading, clock_known: bool) -> Reading:
        rule = self._rule(reading.device_id, reading.observed_property)
        if rule.calibration is not None:
            reading = calibrate(reading, rule.calibration)
        reading = check_range(reading, rule.low, rule.high)
        if not clock_known:
            reading = dataclasses.replace(reading, reasons=reading.reasons | Reason.CLOCK)
        return reading

    def _rule(self, device_id: str, observed_property: str) -> _Rule:
        key = (device_id, observed_property)
        rule = self._rules.get(key)
        if rule is None:
            if len(self._rules) >= RULES_MAX:
                self._rules.clear()
            rule = self._rules[key] = self._make_rule(device_id, observed_property)
        return rule

    def _make_rule(self, device_id: str, observed_property: str) -> _Rule:
        plain = observed_property.partition("/")[0]
        calibrations = self._calibrations.get(device_id, {})
        calibration = calibrations.get(observed_property, calibrations.get(plain))
        profile = self._profiles.get(device_id)
        fields = {field.observed_property: field for field in profile.fields} if profile else {}
        field = fields.get(observed_property) or fields.get(plain)
        if field:
            return _Rule(calibration, field.low, field.high)
        known = self._properties.get(observed_property)
        return _Rule(calibration, known.low if known else None, known.high if known else None)
