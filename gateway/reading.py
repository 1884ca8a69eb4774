"""Reading and Quality: the one currency of the house. Frozen values, no I/O."""

import enum
import math
from dataclasses import dataclass

Value = float | int | bool | str | None
"""What a sensor said. ``None``: a value was due and is missing; ``Reading.reasons`` says why."""

STRING_VALUE_SIZE_MAX = 1024  # octets of UTF-8; hostile payloads stay small in ring, log and topic


class Quality(enum.IntEnum):
    """Verdict on one reading, numbered as in QARTOD (IOOS, Manual for Real-Time Data Flags, 2020)."""

    PASS = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class Reason(enum.IntFlag):
    """Why a reading carries its quality, or what else its reader must know. Stored as 16 bits; never renumber."""

    NONE = 0
    RANGE = 1 << 0  # outside the range its property or profile allows
    NOT_FINITE = 1 << 1  # the device sent NaN or an infinity; the value is missing
    CLOCK = 1 << 2  # the wall clock was not known when it was taken
    DECODER = 1 << 3  # the decoder warned
    UNAUTHENTICATED = 1 << 4  # anybody in radio range could have sent it (plain BLE advert)
    NO_REPLY = 1 << 5  # the device did not answer in time; the value is missing
    DEVICE_FAULT = 1 << 6  # the device itself says its value is bad


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one observed property of one device.

    Attributes:
        device_id: The name the city gave the device in its settings.
        observed_property: A name from properties.toml, with ``/1``, ``/2`` … where a device has several.
        value: Finite number, truth value, text of at most ``STRING_VALUE_SIZE_MAX`` octets, or None (missing).
        unit: UCUM code of the property; empty for states, texts and counts.
        phenomenon_time_ms: When it was true: UTC, ms since 1970.
        received_time_ms: When we heard it: UTC, ms since 1970.
        decimals: Decimal places the profile declares (0 to 9), None where it declares none. A storage hint,
            never a reason to round.
        quality: Verdict of the checks so far.
        reasons: Reasons for it.
        rssi_dbm: Received signal strength of the frame it came from, None on a wire.
        snr_db: Signal-to-noise ratio of that frame, None where the radio tells none.

    Raises:
        ValueError: The value is NaN or infinite, or the text is too long.
    """

    device_id: str
    observed_property: str
    value: Value
    unit: str
    phenomenon_time_ms: int
    received_time_ms: int
    decimals: int | None = None
    quality: Quality = Quality.NOT_EVALUATED
    reasons: Reason = Reason.NONE
    rssi_dbm: float | None = None
    snr_db: float | None = None

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{self.device_id} {self.observed_property}: {value} is no reading")
        if isinstance(value, str) and len(value.encode()) > STRING_VALUE_SIZE_MAX:
            raise ValueError(
                f"{self.device_id} {self.observed_property}: text of {len(value.encode())} octets,"
                f" at most {STRING_VALUE_SIZE_MAX}"
            )
