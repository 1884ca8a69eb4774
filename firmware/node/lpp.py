"""Cayenne Low Power Payload: channel, type, value, again and again (myDevices, Cayenne LPP 1.0; types from IPSO).

Values come in thousandths of their unit, as integers, and leave rounded to what the type resolves.
"""

from micropython import const

# LPP data type: IPSO object number minus 3200
_DIGITAL_INPUT = const(0)
_ANALOG_INPUT = const(2)
_ILLUMINANCE = const(101)
_PRESENCE = const(102)
_TEMPERATURE = const(103)
_HUMIDITY = const(104)
_BAROMETER = const(115)


class Payload:
    """A payload under construction: ``bytes(payload.octets)`` is what goes on air."""

    def __init__(self) -> None:
        self.octets = bytearray()

    def add_digital_input(self, channel: int, is_on: bool) -> None:
        """Add a contact or switch."""
        self._add(channel, _DIGITAL_INPUT, 1 if is_on else 0, 1, False)

    def add_presence(self, channel: int, is_present: bool) -> None:
        """Add a presence detector."""
        self._add(channel, _PRESENCE, 1 if is_present else 0, 1, False)

    def add_analog_input(self, channel: int, value_milli: int) -> None:
        """Add a number without unit; LPP keeps hundredths, from -327.68 to 327.67."""
        self._add(channel, _ANALOG_INPUT, _divide(value_milli, 10), 2, True)

    def add_illuminance(self, channel: int, value_mlx: int) -> None:
        """Add an illuminance in mlx; LPP keeps whole lux, up to 65535."""
        self._add(channel, _ILLUMINANCE, _divide(value_mlx, 1000), 2, False)

    def add_temperature(self, channel: int, value_mcel: int) -> None:
        """Add a temperature in thousandths of a degree Celsius; LPP keeps tenths."""
        self._add(channel, _TEMPERATURE, _divide(value_mcel, 100), 2, True)

    def add_humidity(self, channel: int, value_mpercent: int) -> None:
        """Add a relative humidity in thousandths of a percent; LPP keeps halves, up to 127.5 %."""
        self._add(channel, _HUMIDITY, _divide(value_mpercent, 500), 1, False)

    def add_pressure(self, channel: int, value_pa: int) -> None:
        """Add a barometric pressure in Pa; LPP keeps tenths of a hectopascal."""
        self._add(channel, _BAROMETER, _divide(value_pa, 10), 2, False)

    def _add(self, channel: int, data_type: int, number: int, size: int, is_signed: bool) -> None:
        """Append one value, most significant octet first.

        Raises:
            ValueError: It does not fit: a value cut short would be a wrong one.
        """
        bits = 8 * size - (1 if is_signed else 0)
        if not (-(1 << bits) if is_signed else 0) <= number < 1 << bits or not 0 <= channel <= 255:
            raise ValueError(f"LPP type {data_type} channel {channel}: {number} does not fit")
        self.octets.append(channel)
        self.octets.append(data_type)
        for shift in range(8 * size - 8, -1, -8):
            self.octets.append(number >> shift & 0xFF)


def _divide(number: int, divisor: int) -> int:
    """Return the nearest integer to ``number / divisor``, halves away from zero."""
    half = divisor // 2
    return (number + half) // divisor if number >= 0 else -((-number + half) // divisor)
