"""Replay protection for encrypted adverts: their counter must rise, also over a restart of the gateway.

A counter below the last accepted one is either an old advert that somebody recorded and sends again, or the device
itself after its battery was changed. No threshold tells the two apart, so there is no free pass for small counters:
what comes is quarantined until it looks like a living device (all of it authentic, or it would not come this far):

  * `FRESH_COUNTERS` different counters, each higher than the one before,
  * over at least `FRESH_S` seconds,
  * and not one advert of the old series in between: while the device itself is heard, a recording of it gets nowhere.

Who replays ten recorded adverts in order, for ten minutes, at a device that is silent meanwhile, passes. Against that
helps only a new bindkey when the battery is changed, and docs/ble.md says so.
"""

import enum
from dataclasses import dataclass

from gateway.driver import ReplayError

FRESH_COUNTERS = 10  # a device that reports each minute is back after ten minutes; a recording must be that long too
FRESH_S = 600.0  # a device that sends each second is not back sooner: ten minutes of silence of the real one are seen


class Verdict(enum.Enum):
    """What an advert's counter says about it."""

    FRESH = "fresh"
    REPEAT = "repeat"  # the last accepted one, sent again
    RESTARTED = "restarted"  # the first one taken after a quarantine


@dataclass(slots=True)
class _Quarantine:
    first_s: float
    counter_last: int
    count: int = 1


class CounterGuard:
    """Judges the counters of one device. It moves only by `accept`, which comes after the reading is stored."""

    def __init__(self, device_id: str, counter_last: int | None) -> None:
        """Begin with what was stored (``counter_last``), None for a device never heard: its first counter is taken."""
        self._device_id = device_id
        self._counter_last = counter_last
        self._quarantine: _Quarantine | None = None

    def judge(self, counter: int, now_s: float) -> Verdict:
        """Return what to make of an authentic advert.

        Args:
            counter: Of the advert, after its MIC held.
            now_s: Monotonic time it was heard.

        Raises:
            ReplayError: It is lower than the last accepted one and not (yet) out of quarantine. Drop the advert.
        """
        last = self._counter_last
        if last is None or counter > last:
            self._quarantine = None  # the old series lives: whatever came below it was no restarted device
            return Verdict.FRESH
        if counter == last:
            return Verdict.REPEAT
        quarantine = self._quarantine
        if quarantine is None or counter < quarantine.counter_last:
            quarantine = self._quarantine = _Quarantine(now_s, counter)
        elif counter > quarantine.counter_last:
            quarantine.counter_last = counter
            quarantine.count += 1
        if quarantine.count >= FRESH_COUNTERS and now_s - quarantine.first_s >= FRESH_S:
            return Verdict.RESTARTED
        raise ReplayError(
            self._device_id,
            counter,
            last,
            f"encryption counter {counter} is below {last}: replayed, or restarted after a battery change;"
            f" quarantined, {min(quarantine.count, FRESH_COUNTERS)} of {FRESH_COUNTERS} rising counters"
            f" in {now_s - quarantine.first_s:.0f} of {FRESH_S:.0f} s",
        )

    def accept(self, counter: int) -> None:
        """Take ``counter`` as the last one: the readings that came with it are stored."""
        self._counter_last = counter
        self._quarantine = None
