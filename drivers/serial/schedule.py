"""Who is asked next on a shared line, and how little a silent meter may cost the others. Pure: time is passed in.

A meter that answers is asked every ``every_s``, at fixed points: a poll that comes too late is left out, never made up
for. One that does not answer is asked again after a pause, for three reasons at once:

- *It may still answer.* A frame carries no number, so its late answer to one request looks like the answer to the next.
  For ``late_max_s`` after an unanswered request the same meter is asked nothing; others are, and drop what they hear.
- *Noise is no outage.* The first ``retries`` repeats come after just that pause; only then its values are missing.
- *Silence is expensive.* Each further attempt (a probe) holds the line for a whole time limit, so all probes of a line
  share one budget: after a probe of T seconds there is none for T x (1/PROBE_SHARE - 1) seconds.

So however many meters are silent, and for however long, they take at most a tenth of the line's time, besides
1 + retries time limits each when their outage begins; and a living meter is asked at most one time limit late.
A probe goes before living meters that are due, otherwise a crowded line would never find out who is back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

PROBE_SHARE = 0.1  # of the line's time: the living keep nine tenths of their polls
PAUSE_MAX_S = 60.0  # a single meter that is back is found within about a minute
FAILURES_MAX = 16  # where counting ends; the pause has reached its longest well before


class Verdict(Enum):
    """What an unanswered request means."""

    NOISE = auto()  # it is asked again soon
    OUTAGE = auto()  # its values are missing now
    OUTAGE_GOES_ON = auto()


@dataclass(slots=True)
class _Meter:
    every_s: float
    due_s: float
    failure_count: int = (
        0  # rises with each unanswered request, halves with each answered poll: trust comes back slowly
    )
    is_failing: bool = False  # the last request was not answered
    is_out: bool = False
    not_before_s: float = 0.0


class Schedule:
    """The order in which the meters of one line are asked, by index."""

    def __init__(self, every_s: Sequence[float], now_s: float, *, retries: int, late_max_s: float) -> None:
        """Make all due at once.

        Args:
            every_s: How often each meter is asked, in seconds.
            now_s: The monotonic clock.
            retries: Repeats of an unanswered request before its values are missing.
            late_max_s: How long a meter may still answer, in seconds after its request.
        """
        self._meters = [_Meter(every, now_s) for every in every_s]
        self._retries = retries
        self._late_max_s = late_max_s
        self._probe_from_s = now_s

    def hold(self, index: int, until_s: float) -> None:
        """Ask a meter nothing before ``until_s``: it may still answer what it was asked on an earlier line."""
        meter = self._meters[index]
        meter.due_s = max(meter.due_s, until_s)

    def next_index(self, now_s: float) -> int | None:
        """Return the meter to ask now, None if nobody is due."""
        probes = [i for i, meter in enumerate(self._meters) if self._is_probe(meter) and meter.not_before_s <= now_s]
        if probes and self._probe_from_s <= now_s:
            return min(probes, key=lambda i: self._meters[i].not_before_s)
        living = [
            i for i, meter in enumerate(self._meters) if not self._is_probe(meter) and self._from_s(meter) <= now_s
        ]
        return min(living, key=lambda i: self._from_s(self._meters[i]), default=None)

    def wait_s(self, now_s: float) -> float:
        """Return how long nobody will be due, in seconds."""
        return max(0.0, min(map(self._from_s, self._meters), default=PAUSE_MAX_S) - now_s)

    def answered(self, index: int, now_s: float) -> int:
        """Note that a poll was answered in full; return how many were left out because the line was busy."""
        meter = self._meters[index]
        was_failing = meter.is_failing
        meter.failure_count //= 2
        meter.is_failing = meter.is_out = False
        steps = int((now_s - meter.due_s) // meter.every_s) + 1
        meter.due_s += steps * meter.every_s
        return 0 if was_failing else steps - 1

    def unanswered(self, index: int, now_s: float, waited_s: float) -> Verdict:
        """Note that a meter gave no sound answer while the line waited ``waited_s``; return what that means."""
        meter = self._meters[index]
        was_probe = self._is_probe(meter)
        meter.is_failing = True
        meter.failure_count = min(meter.failure_count + 1, FAILURES_MAX)
        doublings = max(0, meter.failure_count - 1 - self._retries)
        pause_s = max(self._late_max_s, min(PAUSE_MAX_S, self._late_max_s * 2**doublings))
        meter.not_before_s = now_s + pause_s
        if was_probe:
            self._probe_from_s = now_s + waited_s * (1 / PROBE_SHARE - 1)
        if meter.failure_count <= self._retries:
            return Verdict.NOISE
        if meter.is_out:
            return Verdict.OUTAGE_GOES_ON
        meter.is_out = True
        return Verdict.OUTAGE

    def _is_probe(self, meter: _Meter) -> bool:
        """Tell whether asking it comes out of the silent meters' budget."""
        return meter.is_failing and meter.failure_count > self._retries

    def _from_s(self, meter: _Meter) -> float:
        """Return when it may be asked."""
        if not meter.is_failing:
            return meter.due_s
        return max(meter.not_before_s, self._probe_from_s) if self._is_probe(meter) else meter.not_before_s
