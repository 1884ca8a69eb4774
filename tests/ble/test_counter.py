"""Replay protection by itself: the rules, at their edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ble.counter import FRESH_COUNTERS, FRESH_S, STEP_MAX, CounterGuard, Verdict
from gateway.driver import ReplayError

ENOUGH_S = FRESH_S / (FRESH_COUNTERS - 1)  # between counters, so that the last one comes just in time


def test_first_counter_ever_is_taken_and_the_next_must_rise() -> None:
    guard = CounterGuard("d", None)
    assert guard.judge(7, 0.0) is Verdict.FRESH
    guard.accept(7)
    assert guard.judge(7, 0.1) is Verdict.REPEAT
    assert guard.judge(8, 0.2) is Verdict.FRESH
    with pytest.raises(ReplayError) as caught:
        guard.judge(6, 0.3)
    assert (caught.value.f_cnt, caught.value.f_cnt_last) == (6, 7)


def test_judging_takes_nothing() -> None:
    """Only what is stored counts: a reading lost on its way to the ring may come again."""
    guard = CounterGuard("d", 5)
    assert guard.judge(6, 0.0) is Verdict.FRESH
    assert guard.judge(6, 0.1) is Verdict.FRESH


@given(last=st.integers(1, 2**32 - 1), data=st.data())
def test_f53_no_free_pass_for_any_lower_counter(last: int, data: st.DataObject) -> None:
    guard = CounterGuard("d", last)
    counter = data.draw(st.integers(0, last - 1))
    for index in range(2 * FRESH_COUNTERS):  # the same one again and again is no living device
        with pytest.raises(ReplayError, match="quarantined, 1 of"):
            guard.judge(counter, index * FRESH_S)


def test_f54_restarted_counter_is_taken_after_it_rose_for_the_whole_time() -> None:
    guard = CounterGuard("d", 5000)
    for index in range(FRESH_COUNTERS - 1):
        with pytest.raises(ReplayError, match=f"quarantined, {index + 1} of {FRESH_COUNTERS}"):
            guard.judge(index, index * ENOUGH_S)
    assert guard.judge(FRESH_COUNTERS - 1, FRESH_S) is Verdict.RESTARTED
    guard.accept(FRESH_COUNTERS - 1)
    assert guard.judge(FRESH_COUNTERS, FRESH_S + 1) is Verdict.FRESH


def test_f54_many_counters_in_a_short_time_stay_in_quarantine() -> None:
    guard = CounterGuard("d", 5000)
    for index in range(1000):
        with pytest.raises(ReplayError):
            guard.judge(index, index * FRESH_S / 1001)


def test_f54_a_lower_counter_begins_the_quarantine_anew() -> None:
    guard = CounterGuard("d", 5000)
    for index in range(FRESH_COUNTERS - 1):
        with pytest.raises(ReplayError):
            guard.judge(100 + index, index * ENOUGH_S)
    with pytest.raises(ReplayError, match="quarantined, 1 of"):
        guard.judge(50, FRESH_S)


def test_f54_the_device_itself_heard_ends_a_replayed_series() -> None:
    guard = CounterGuard("d", 5000)
    for index in range(FRESH_COUNTERS - 1):
        with pytest.raises(ReplayError):
            guard.judge(100 + index, index * ENOUGH_S)
    assert guard.judge(5001, FRESH_S - 1) is Verdict.FRESH
    guard.accept(5001)
    with pytest.raises(ReplayError, match="quarantined, 1 of"):
        guard.judge(200, FRESH_S)


def test_f53_adverts_of_a_former_life_are_no_fresh_ones_after_a_restart() -> None:
    """The device counts from 0 again; somebody has its adverts up to 5000 on tape."""
    guard = CounterGuard("d", 9, 5000)
    for counter in (9 + STEP_MAX + 1, 4999, 5000):
        with pytest.raises(ReplayError, match="does not follow 9"):
            guard.judge(counter, 0.0)
    assert guard.judge(9 + STEP_MAX, 1.0) is Verdict.FRESH
    assert guard.judge(5001, 2.0) is Verdict.FRESH


def test_f53_the_highest_counter_stays_known_through_a_restart_of_the_device() -> None:
    guard = CounterGuard("d", 5000)
    guard.accept(9)
    assert guard.counter_highest == 5000
    with pytest.raises(ReplayError):
        guard.judge(4000, 0.0)
    guard.accept(5002)
    assert guard.counter_highest == 5002
