"""What a decoder makes of one advert, before anybody asks whether it is new."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.profile import Measurement

_CHANNEL = re.compile(r"(.+)_([0-9]{1,3})")  # how the parsers tell the second temperature from the first


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded advert.

    Attributes:
        measurements: What it says; may be empty (a button, a bare packet id).
        identity: The same for repeats of one measurement, other for the next one.
        counter: Its encryption counter, None if it is plain.
        is_numbered: The device numbers its measurements, so one identity is never a second measurement.
    """

    measurements: Sequence[Measurement]
    identity: bytes
    counter: int | None = None
    is_numbered: bool = False


def split_channel(key: str) -> tuple[str, int | None]:
    """Return a parser's key as name and channel: ``temperature_2`` is temperature, channel 2."""
    match = _CHANNEL.fullmatch(key)
    return (match[1], int(match[2])) if match else (key, None)
