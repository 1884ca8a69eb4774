"""Replay protection for encrypted adverts: their counter must rise, also over a restart of the gateway.

A counter below the last accepted one is either an old advert that somebody recorded and sends again, or the device
itself after its battery was changed. No threshold tells the two apart, so there is no free pass for small counters:
what comes is quarantined until it looks like a living device (all of it authentic, or it would not come this far):

  * `FRESH_COUNTERS` different counters, each higher than the one before,
  * over at least `FRESH_S` seconds,
  * and not one advert of the old series in between: while the device itself is heard, a recording of it gets nowhere.

Once a device counts from the start again, whoever recorded its former life has adverts with higher counters. So up to
the highest counter ever accepted it must rise in steps of at most `STEP_MAX`; a jump is quarantined like a fall.

Who replays ten recorded adverts in order, for ten minutes, at a device that is silent meanwhile, passes. Against that
helps only a new bindkey when the battery is changed, and docs/ble.md says so.
"""

import enum
from dataclasses import dataclass

from gateway.driver import ReplayError

FRESH_COUNTERS = 10  # a device that reports each minute is back after ten minutes; a recording must be that long too
FRESH_S = 600.0  # a device that sends each second is not back sooner: ten minutes of silence of the real one are seen
STEP_MAX = 1000  # adverts missed in one go: a device that sends each second, unheard for a quarter of an hour


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
    """Judges the counters of one device. The last one moves only by `accept`, after its readings are stored."""

    def __init__(self, device_id: str, counter_last: int | None, counter_highest: int | None = None) -> None:
        """Begin with what was stored.

        Args:
            device_id: For errors.
            counter_last: Last one accepted, None for a device never heard: its first counter is taken.
            counter_highest: Highest one ever accepted, None where that is the last one.
        """
        self._device_id = device_id
        self._counter_last = counter_last
        self.counter_highest = max(counter_last or 0, counter_highest or 0)
        self._quarantine: _Quarantine | None = None

    def judge(self, counter: int, now_s: float) -> Verdict:
        """Return what to make of an authentic advert.

        Args:
            counter: Of the advert, after its MIC held.
            now_s: Monotonic time it was heard.

        Raises:
            ReplayError: It does not follow the last accepted one and is not (yet) out of quarantine. Drop the advert.
        """
        last = self._counter_last
        if last is None or counter > self.counter_highest or last < counter <= last + STEP_MAX:
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
            f"encryption counter {counter} does not follow {last}: replayed, or restarted after a battery change;"
            f" quarantined, {min(quarantine.count, FRESH_COUNTERS)} of {FRESH_COUNTERS} rising counters"
            f" in {now_s - quarantine.first_s:.0f} of {FRESH_S:.0f} s",
        )

    def accept(self, counter: int) -> None:
        """Take ``counter`` as the last one: the readings that came with it are stored."""
        self._counter_last = counter
        self.counter_highest = max(self.counter_highest, counter)
        self._quarantine = None  # the series lives: whatever came below it was no restarted device
