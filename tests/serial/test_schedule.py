"""Time is a number here: whole hours of a line pass in milliseconds, and counts are exact."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.serial.schedule import PAUSE_MAX_S, PROBE_SHARE, Schedule, Verdict

ANSWER_S = 0.1  # what one answered poll takes
TIMEOUT_S = 1.0  # what one unanswered poll takes
LATE_MAX_S = 3.0


class Line:
    """Plays a line: who is dead does not answer; each poll takes its time."""

    def __init__(self, every_s: list[float], *, retries: int = 1) -> None:
        self.now_s = 0.0
        self.schedule = Schedule(every_s, 0.0, retries=retries, late_max_s=LATE_MAX_S)
        self.answered: Counter[int] = Counter()
        self.asked: list[tuple[float, int]] = []
        self.verdicts: list[tuple[int, Verdict]] = []
        self.left_out: Counter[int] = Counter()
        self.waited_s = 0.0  # for silent meters

    def run(self, until_s: float, dead: frozenset[int] = frozenset()) -> None:
        while self.now_s < until_s:
            index = self.schedule.next_index(self.now_s)
            if index is None:
                wait_s = self.schedule.wait_s(self.now_s)
                assert wait_s > 0, "a schedule that neither asks nor waits would spin"
                self.now_s += wait_s
                continue
            self.asked.append((self.now_s, index))
            if index in dead:
                self.now_s += TIMEOUT_S
                self.waited_s += TIMEOUT_S
                self.verdicts.append((index, self.schedule.unanswered(index, self.now_s, TIMEOUT_S)))
            else:
                self.now_s += ANSWER_S
                self.answered[index] += 1
                self.left_out[index] += self.schedule.answered(index, self.now_s)


def test_living_meters_are_asked_at_fixed_points() -> None:
    line = Line([10.0, 30.0])
    line.run(60.0)
    assert [(round(at, 6), index) for at, index in line.asked] == [
        (0.0, 0), (0.1, 1), (10.0, 0), (20.0, 0), (30.0, 0), (30.1, 1), (40.0, 0), (50.0, 0),
    ]  # fmt: skip
    assert not +line.left_out


def test_no_burst_after_the_line_was_busy() -> None:
    schedule = Schedule([10.0], 0.0, retries=1, late_max_s=LATE_MAX_S)
    assert schedule.next_index(0.0) == 0
    assert schedule.answered(0, 47.0) == 4  # asked at 0, answered at 47: those of 10, 20, 30 and 40 are left out
    assert schedule.next_index(47.0) is None
    assert schedule.wait_s(47.0) == pytest.approx(3.0)
    assert schedule.next_index(50.0) == 0


def test_crowded_line_asks_all_in_turn() -> None:
    line = Line([0.2] * 10)
    line.run(100.0)
    assert max(line.answered.values()) - min(line.answered.values()) <= 2
    assert sum(line.left_out.values()) > 0


def test_f37_ten_dead_of_twenty_cost_the_living_less_than_a_tenth() -> None:
    """Issue 5 asks for 80 % of the polls; the bound stated in schedule.py keeps 90 % and more."""
    hour_s = 3600.0
    every_s = 2.0  # ten living meters take half of the line's time
    living, dead = range(10), frozenset(range(10, 20))
    line = Line([every_s] * 20)
    line.run(hour_s, dead)
    due = hour_s / every_s
    for index in living:
        assert line.answered[index] >= 0.9 * due
    begin_s = (1 + 1) * TIMEOUT_S * len(dead)
    assert line.waited_s <= PROBE_SHARE * hour_s + begin_s + TIMEOUT_S
    asked = Counter(index for _, index in line.asked)
    assert min(asked[index] for index in dead) >= 30  # and each dead one is still looked for


def test_f37_living_are_asked_at_most_one_time_limit_late() -> None:
    dead = frozenset(range(1, 11))
    line = Line([10.0] + [60.0] * 10)
    line.run(100.0, dead)  # the outages begin
    line.run(3600.0, dead)
    times = [at for at, index in line.asked if index == 0 and at > 100.0]
    lateness = [at - round(at / 10.0) * 10.0 for at in times]
    assert max(lateness) <= TIMEOUT_S
    assert len(times) == 350 - 1


def test_outage_is_declared_once_after_its_retries() -> None:
    line = Line([10.0], retries=2)
    line.run(600.0, frozenset([0]))
    found = [verdict for _, verdict in line.verdicts]
    assert found[:4] == [Verdict.NOISE, Verdict.NOISE, Verdict.OUTAGE, Verdict.OUTAGE_GOES_ON]
    assert set(found[3:]) == {Verdict.OUTAGE_GOES_ON}


def test_meter_that_is_back_is_found_within_the_longest_pause() -> None:
    line = Line([10.0])
    line.run(5000.0, frozenset([0]))
    line.run(5000.0 + PAUSE_MAX_S + TIMEOUT_S)
    assert line.answered[0] >= 1
    back_at_s, back_count = line.now_s, line.answered[0]
    line.run(back_at_s + 100.0)
    assert line.answered[0] - back_count in (10, 11)  # polled at its own pace at once


def test_back_on_a_line_that_has_no_time_to_spare() -> None:
    line = Line([0.1] * 4)
    line.run(50.0, frozenset([3]))
    line.run(50.0 + PAUSE_MAX_S + 10 * TIMEOUT_S)
    assert line.answered[3] > 0


def test_meter_that_answers_now_and_then_loses_its_credit() -> None:
    """Two of three polls unanswered: it is no outage to wait out, and must not cost the others for ever."""
    schedule = Schedule([1.0], 0.0, retries=1, late_max_s=LATE_MAX_S)
    now_s, waited_s, count = 0.0, 0.0, 0
    while now_s < 7200.0:
        if schedule.next_index(now_s) is None:
            now_s += schedule.wait_s(now_s)
            continue
        count += 1
        if count % 3:
            now_s += TIMEOUT_S
            waited_s += TIMEOUT_S
            schedule.unanswered(0, now_s, TIMEOUT_S)
        else:
            now_s += ANSWER_S
            schedule.answered(0, now_s)
    assert waited_s < 1.5 * PROBE_SHARE * 7200.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.5, 60.0), min_size=1, max_size=12),
    st.lists(st.tuples(st.floats(1.0, 200.0), st.frozensets(st.integers(0, 11))), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_f36_nobody_is_asked_while_an_answer_may_still_come(
    every_s: list[float], spans: list[tuple[float, frozenset[int]]], retries: int
) -> None:
    line = Line(every_s, retries=retries)
    silences: dict[int, float] = {}
    until_s = 0.0
    for length_s, dead in spans:
        until_s += length_s
        start = len(line.asked)
        line.run(until_s, dead)
        for at, index in line.asked[start:]:
            assert at >= silences.get(index, 0.0) + LATE_MAX_S or index not in silences
            if index in dead:
                silences[index] = at + TIMEOUT_S
            else:
                silences.pop(index, None)


def test_held_meter_is_left_alone_and_then_asked() -> None:
    schedule = Schedule([10.0, 10.0], 0.0, retries=1, late_max_s=LATE_MAX_S)
    schedule.hold(0, 2.5)
    schedule.hold(1, -5.0)
    assert schedule.next_index(0.0) == 1
    schedule.answered(1, 0.1)
    assert schedule.next_index(2.4) is None
    assert schedule.wait_s(2.0) == pytest.approx(0.5)
    assert schedule.next_index(2.5) == 0


def test_line_without_meters_waits() -> None:
    schedule = Schedule([], 0.0, retries=1, late_max_s=LATE_MAX_S)
    assert schedule.next_index(0.0) is None
    assert schedule.wait_s(0.0) > 0
