"""One listed device: what of all it sends is a new reading. Holds state, awaits nothing.

Adverts are sent ten times a second so that one of them is heard; they are one reading, not ten. A repeat is known by
its octets (a packet id or a sequence number inside makes the next measurement differ). A device without such a number
that measures the same value again sends the same octets again: they count as a new reading after half the interval it
should report in, so that a steady value stays a living one.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from drivers.ble.advert import Advert
from drivers.ble.counter import CounterGuard, Verdict
from drivers.ble.decoded import Decoded
from gateway.driver import Device, FrameError, MemoryValue
from gateway.reading import Reading

Decode = Callable[[Advert], Decoded | None]

REPEAT_S = 30.0  # where nobody says how often a device should report: half a minute, as most BLE sensors' minute allows
REPEAT_SHARE = 0.5  # of the interval it should report in; a whole one would miss a report that comes a little early
REMEMBERED_MAX = 8  # a device takes turns between few kinds of advert; more would let old ones pass for repeats


@dataclass(frozen=True, slots=True)
class Heard:
    """One advert of a listed device.

    Attributes:
        advert: What was heard.
        received_time_ms: When, UTC in ms since 1970.
        elapsed_s: When, on the monotonic clock.
    """

    advert: Advert
    received_time_ms: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class News:
    """Readings of one advert, to be stored together with ``memory``; then `Station.stored` is told.

    Attributes:
        readings: May be empty: the profile wants nothing of it, but its counter is used up.
        memory: For `gateway.driver.ReadingSink.append`.
        counter: Encryption counter to be used up, None for plain adverts.
        is_restarted: The counter had started over and came out of its quarantine.
    """

    readings: list[Reading]
    memory: dict[str, MemoryValue]
    identity: bytes
    elapsed_s: float
    counter: int | None = None
    is_restarted: bool = False


class Station:
    """Tells new readings of one device from repeats, replays and what is none of ours."""

    def __init__(self, device: Device, decode: Decode, recall: Callable[[str], MemoryValue | None]) -> None:
        """Begin where the device was left; ``recall`` is `gateway.driver.ReadingSink.recall`."""
        self.device_id = device.device_id
        self._device = device
        self._decode = decode
        self._key_last = f"ble_counter/{device.device_id}"
        self._key_highest = f"ble_counter_highest/{device.device_id}"
        counter_last, counter_highest = (
            value if isinstance(value, int) else None for value in (recall(self._key_last), recall(self._key_highest))
        )
        self._guard = CounterGuard(device.device_id, counter_last, counter_highest)
        self._repeat_s = device.every_s * REPEAT_SHARE if device.every_s else REPEAT_S
        self._remembered: OrderedDict[bytes, float] = OrderedDict()  # identity -> when it was last a new reading

    def receive(self, heard: Heard) -> News | str:
        """Return what is to be stored, or the counter to raise: ``ignored`` (no data of its profile), ``duplicate``.

        Raises:
            FrameError: The advert cannot be decoded, or came without or with a wrong key.
            ReplayError: Its encryption counter is not above the last one.
        """
        try:
            decoded = self._decode(heard.advert)
        except FrameError as error:  # decoders know no device
            raise FrameError(
                self.device_id, error.reason, str(error), frame=error.frame, offset=error.offset
            ) from error
        if decoded is None:
            return "ignored"
        verdict = Verdict.FRESH
        if decoded.counter is not None:
            verdict = self._guard.judge(decoded.counter, heard.elapsed_s)
        if verdict is Verdict.REPEAT or self._is_repeat(decoded, heard.elapsed_s):
            return "duplicate"
        readings = self._device.profile.to_readings(
            self.device_id,
            decoded.measurements,
            phenomenon_time_ms=heard.received_time_ms,
            received_time_ms=heard.received_time_ms,
            rssi_dbm=heard.advert.rssi_dbm,
        )
        memory: dict[str, MemoryValue] = {}
        if decoded.counter is not None:
            memory[self._key_last] = decoded.counter
        if verdict is Verdict.RESTARTED:
            memory[self._key_highest] = self._guard.counter_highest
        return News(
            readings,
            memory,
            decoded.identity,
            heard.elapsed_s,
            decoded.counter,
            is_restarted=verdict is Verdict.RESTARTED,
        )

    def stored(self, news: News) -> None:
        """Take note that ``news`` is stored: from now on the same is a repeat, and a lower counter a replay."""
        self._remembered.pop(news.identity, None)
        self._remembered[news.identity] = news.elapsed_s
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        if news.counter is not None:
            self._guard.accept(news.counter)

    def _is_repeat(self, decoded: Decoded, now_s: float) -> bool:
        taken_s = self._remembered.get(decoded.identity)
        return taken_s is not None and (decoded.is_numbered or now_s - taken_s < self._repeat_s)
