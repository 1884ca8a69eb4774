"""The memory of one LoRaWAN session: which frame counters were heard. A value; nothing here is I/O.

Every frame may be heard once. The next counter expected is what must survive a restart (INTERFACES 10.3). Beside it a
short window in memory knows the counters that were jumped over moments ago: two forwarders, or two UDP datagrams, may
overtake each other, and such a frame is late, not forged. The window is not stored; after a restart it is closed.

        heard before a restart         LATE_WINDOW
    ──────────────────────────────┬──────────────────┐
    ... all closed ...            │ 41  ·  43  44    │ 45 = next
    ──────────────────────────────┴──────────────────┘
                                        └ not heard: 42 may still come, within LATE_MAX_S of 43
"""

import enum
from dataclasses import dataclass, replace

LATE_WINDOW = 16  # counters; a device on the fastest data rate sends fewer within LATE_MAX_S
LATE_MAX_S = 10.0  # a forwarder behind a slow backhaul; short enough that arrival time stays a fair phenomenon time
RESTART_FCNT_MAX = 1  # a device that lost its memory starts at 0 (L2 1.0.4, 4.3.1.5); some older stacks at 1


class Verdict(enum.Enum):
    """What a counter says about a frame whose MIC is right."""

    NEW = "new"
    LATE = "late"  # overtaken by a later one, not heard before
    DUPLICATE = "duplicate"  # heard before: a retransmission, or a copy over another forwarder
    REPLAY = "replay"
    RESTART = "restart"  # the device counts from the start again, or somebody replays its first frames


@dataclass(frozen=True, slots=True)
class UplinkCounter:
    """What is known of one session's frame counters.

    Attributes:
        next: Next 32-bit counter expected; the one number to store.
        floor: Counters below are closed for late frames.
        heard: Accepted counters from ``floor`` on and when, in seconds of the monotonic clock, at most LATE_WINDOW.
        restart_next: What a device that started over would send next; None where none did.
    """

    next: int
    floor: int
    heard: tuple[tuple[int, float], ...] = ()
    restart_next: int | None = None

    @classmethod
    def start(cls, f_cnt_next: int) -> "UplinkCounter":
        """Return the counter of a session that expects ``f_cnt_next``, with all below closed."""
        return cls(f_cnt_next, f_cnt_next)

    def judge(self, f_cnt: int, now_s: float) -> Verdict:
        """Return what ``f_cnt`` of an authentic frame means, heard at ``now_s``."""
        if f_cnt >= self.next:
            return Verdict.NEW
        if f_cnt == self.next - 1:
            return Verdict.DUPLICATE
        heard_s = dict(self.heard)
        if f_cnt in heard_s:
            return Verdict.DUPLICATE if now_s - heard_s[f_cnt] <= LATE_MAX_S else Verdict.REPLAY
        overtaken_s = [time_s for other, time_s in self.heard if other > f_cnt]
        if f_cnt >= self.floor and overtaken_s and now_s - min(overtaken_s) <= LATE_MAX_S:
            return Verdict.LATE
        if f_cnt <= RESTART_FCNT_MAX or f_cnt == self.restart_next:
            return Verdict.RESTART
        return Verdict.REPLAY

    def accept(self, f_cnt: int, now_s: float) -> "UplinkCounter":
        """Return the counter after a frame that was judged NEW or LATE."""
        f_cnt_next = max(self.next, f_cnt + 1)
        floor = max(self.floor, f_cnt_next - LATE_WINDOW)
        heard = tuple(entry for entry in (*self.heard, (f_cnt, now_s)) if entry[0] >= floor)
        return UplinkCounter(f_cnt_next, floor, heard)

    def note_restart(self, f_cnt: int) -> "UplinkCounter":
        """Return the counter after a refused frame of a device that seems to have started over."""
        return replace(self, restart_next=f_cnt + 1)
