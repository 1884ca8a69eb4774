"""A day in a municipal sensor network, made up: 200 channels in 21 kinds, one reading a minute each.

Each channel is a first-order autoregressive process around a daily course, with the noise and resolution of real
sensors, and keeps its own second of the minute with a jitter of 20 ms (half of them), 0.3 s or 1.5 s. The same seed
gives the same stream on every machine.
"""

# ruff: noqa: ARG005, E501, S311  (every kind takes the same arguments, one a line; nothing here is secret)
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.reading import Quality, Reading

START_MS = 1_780_000_000_000
MINUTES_PER_DAY = 1440
CHANNELS_PER_DEVICE = 3
JITTERS_S = (0.02, 0.02, 0.3, 1.5)
SUSPECT_SHARE = 0.001  # of the readings carry another quality


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of channel.

    Attributes:
        observed_property: What it measures.
        unit: UCUM.
        channels: How many of the 200.
        decimals: Resolution.
        keep: Share of the deviation that lasts to the next minute.
        drift: Standard deviation of what is added to it.
        value: The value, given the deviation, the time of day in radians and a random generator.
    """

    observed_property: str
    unit: str
    channels: int
    decimals: int
    keep: float
    drift: float
    value: Callable[[float, float, random.Random], float]


def _poisson(mean: float, rng: random.Random) -> float:
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def _sun(day: float) -> float:
    return max(0.0, math.sin(day))


KINDS = (
    Kind("air_temperature", "Cel", 24, 1, 0.995, 0.06, lambda x, d, r: 12 + 6 * math.sin(d) + 1.2 * x + r.gauss(0, 0.03)),
    Kind("surface_temperature", "Cel", 6, 2, 0.995, 0.06, lambda x, d, r: 13 + 7 * math.sin(d) + 1.2 * x + r.gauss(0, 0.03)),
    Kind("relative_humidity", "%", 24, 1, 0.995, 0.3, lambda x, d, r: min(100, max(5, 65 - 18 * math.sin(d) + x + r.gauss(0, 0.15)))),
    Kind("air_pressure", "hPa", 8, 1, 0.9998, 0.02, lambda x, d, r: 1010 + 5 * x + r.gauss(0, 0.04)),
    Kind("pm2_5", "ug/m3", 12, 1, 0.98, 0.12, lambda x, d, r: 9 * math.exp(0.4 * x) * (1 + r.gauss(0, 0.04))),
    Kind("pm10", "ug/m3", 12, 1, 0.98, 0.12, lambda x, d, r: 17 * math.exp(0.4 * x) * (1 + r.gauss(0, 0.04))),
    Kind("no2", "ug/m3", 6, 1, 0.97, 0.15, lambda x, d, r: max(0, 24 * math.exp(0.3 * x) * (1 + 0.3 * math.sin(2 * d)) + r.gauss(0, 0.4))),
    Kind("sound_pressure_level", "dB[SPL]", 12, 1, 0.7, 1.6, lambda x, d, r: 54 + 6 * math.sin(d) + x),
    Kind("water_level", "m", 16, 3, 0.9995, 0.01, lambda x, d, r: 1.6 + 0.4 * x + r.gauss(0, 0.0012)),
    Kind("flow", "L/min", 6, 2, 0.98, 0.1, lambda x, d, r: max(0, 12 + 3 * math.sin(2 * d) + x + r.gauss(0, 0.05))),
    Kind("co2", "[ppm]", 10, 0, 0.99, 4.0, lambda x, d, r: 600 + 180 * _sun(d) + x + r.gauss(0, 3)),
    Kind("battery_voltage", "V", 20, 2, 0.0, 0.0, lambda x, d, r: 3.6 + 0.01 * math.sin(d) + r.gauss(0, 0.004)),
    Kind("rssi", "dB[mW]", 14, 0, 0.9, 0.8, lambda x, d, r: -92 + x + r.gauss(0, 2.2)),
    Kind("wind_speed", "m/s", 4, 1, 0.93, 0.35, lambda x, d, r: max(0, 2.6 + x + r.gauss(0, 0.5))),
    Kind("wind_direction", "deg", 4, 0, 1.0, 3.0, lambda x, d, r: (230 + x + r.gauss(0, 12)) % 360),
    Kind("solar_irradiance", "W/m2", 4, 0, 0.95, 0.15, lambda x, d, r: 850 * _sun(d) * min(1, max(0.15, 0.8 + 0.3 * x))),
    Kind("soil_moisture", "%", 6, 1, 0.9999, 0.01, lambda x, d, r: 28 + 2 * x + r.gauss(0, 0.03)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meter:
    """One kind of channel that counts up or switches: its next state, given the last one, the day and a generator."""

    observed_property: str
    unit: str
    channels: int
    decimals: int
    first: float
    step: Callable[[float, float, random.Random], float]


METERS = (
    Meter("energy", "kW.h", 4, 3, 14_000, lambda x, d, r: x + max(0, 0.02 * (1 + math.sin(d)) + r.gauss(0, 0.004))),
    Meter("water_volume", "m3", 2, 0, 50_000, lambda x, d, r: x + (r.choice([1, 1, 2, 5]) if r.random() < 0.06 else 0)),
    Meter("vehicle_count", "", 4, 0, 0, lambda x, d, r: _poisson(max(0.3, 9 * (1 + math.sin(d))), r)),
    Meter("parking_occupied", "", 2, 0, 0, lambda x, d, r: (1 - x) if r.random() < 0.01 else x),
)


class _Channel:
    """One channel and its state."""

    def __init__(self, number: int, kind: Kind | Meter) -> None:
        self._kind = kind
        self._rng = rng = random.Random(7919 + number)
        self.device_id = f"mast-{number // CHANNELS_PER_DEVICE:03d}"
        self.observed_property = f"{kind.observed_property}/{number % CHANNELS_PER_DEVICE + 1}"
        self.unit, self.decimals = kind.unit, kind.decimals
        self._state = kind.first if isinstance(kind, Meter) else rng.gauss(0, 1)
        self._jitter_s = rng.choice(JITTERS_S)
        self._second = rng.uniform(0, 60)

    def read(self, minute: int) -> tuple[int, float]:
        """Return time in ms and value of the reading of a minute."""
        rng, kind = self._rng, self._kind
        time_ms = START_MS + minute * 60_000 + int((self._second + rng.gauss(0, self._jitter_s)) * 1000)
        day = 2 * math.pi * (minute / MINUTES_PER_DAY + self._second / 600)
        if isinstance(kind, Meter):
            self._state = kind.step(self._state, day, rng)
            return time_ms, round(float(self._state), self.decimals)
        self._state = kind.keep * self._state + rng.gauss(0, kind.drift)
        return time_ms, round(float(kind.value(self._state, day, rng)), self.decimals)

    def reading(self, time_ms: int, value: float, quality: Quality) -> Reading:
        """Return one reading."""
        return Reading(
            self.device_id, self.observed_property, value, self.unit, time_ms, time_ms, self.decimals, quality
        )


def readings(days: float, *, unit_ms: int) -> Iterator[Reading]:
    """Yield the stream in order of arrival.

    Args:
        days: How long.
        unit_ms: Resolution of the times: 1000 rounds them down to whole seconds. The order of arrival stays that of
            the milliseconds.
    """
    channels = [
        _Channel(number, kind)
        for number, kind in enumerate(kind for kind in (*KINDS, *METERS) for _ in range(kind.channels))
    ]
    quality_rng = random.Random(99)
    waiting: list[tuple[int, int, float]] = []
    for minute in range(round(days * MINUTES_PER_DAY)):
        waiting.extend((time_ms, number, value) for number, (time_ms, value) in _read_all(channels, minute))
        waiting.sort()
        until_ms = START_MS + minute * 60_000  # the next minute's may come up to some seconds early
        ready = [entry for entry in waiting if entry[0] < until_ms + 50_000]
        waiting = waiting[len(ready) :]
        for time_ms, number, value in ready:
            quality = Quality.SUSPECT if quality_rng.random() < SUSPECT_SHARE else Quality.PASS
            yield channels[number].reading(time_ms // unit_ms * unit_ms, value, quality)
    for time_ms, number, value in waiting:
        yield channels[number].reading(time_ms // unit_ms * unit_ms, value, Quality.PASS)


def _read_all(channels: list[_Channel], minute: int) -> Iterator[tuple[int, tuple[int, float]]]:
    return enumerate(channel.read(minute) for channel in channels)
