"""The node's sensors, simulated: a mild day that wanders a little. A board brings its own file of this name."""

import random

from lpp import Payload
from micropython import const

_STEP_TEMPERATURE_MCEL = const(150)
_STEP_HUMIDITY_MPERCENT = const(700)
_STEP_PRESSURE_PA = const(12)
_STEP_ILLUMINANCE_MLX = const(350000)


class Sensors:
    """A school yard: temperature, humidity, pressure and light, each on its own LPP channel."""

    def __init__(self) -> None:
        self._temperature_mcel = 11800
        self._humidity_mpercent = 64500
        self._pressure_pa = 101320
        self._illuminance_mlx = 8200000

    def measure(self, payload: Payload) -> None:
        """Add one value of each sensor to the payload."""
        self._temperature_mcel = _wander(self._temperature_mcel, _STEP_TEMPERATURE_MCEL, -8000, 31000)
        self._humidity_mpercent = _wander(self._humidity_mpercent, _STEP_HUMIDITY_MPERCENT, 30000, 98000)
        self._pressure_pa = _wander(self._pressure_pa, _STEP_PRESSURE_PA, 98500, 103500)
        self._illuminance_mlx = _wander(self._illuminance_mlx, _STEP_ILLUMINANCE_MLX, 0, 60000000)
        payload.add_temperature(1, self._temperature_mcel)
        payload.add_humidity(2, self._humidity_mpercent)
        payload.add_pressure(3, self._pressure_pa)
        payload.add_illuminance(4, self._illuminance_mlx)


def _wander(value: int, step: int, low: int, high: int) -> int:
    """Return ``value`` moved by up to ``step`` up or down, kept from ``low`` to ``high``."""
    moved = value + random.randint(-step, step)
    return min(max(moved, low), high)
