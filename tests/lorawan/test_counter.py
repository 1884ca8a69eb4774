"""The window of frame counters against a model that remembers everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.lorawan.counter import LATE_MAX_S, LATE_WINDOW, UplinkCounter, Verdict


def heard(*f_cnts: int, start: int = 0, step_s: float = 0.1) -> UplinkCounter:
    counter = UplinkCounter.start(start)
    for place, f_cnt in enumerate(f_cnts):
        assert counter.judge(f_cnt, place * step_s) in (Verdict.NEW, Verdict.LATE)
        counter = counter.accept(f_cnt, place * step_s)
    return counter


def test_next_rises_past_the_newest() -> None:
    assert heard(0, 1, 5).next == 6


def test_last_one_again_is_a_duplicate_however_late() -> None:
    assert heard(12).judge(12, 1e6) is Verdict.DUPLICATE


def test_f40_late_frame_is_taken_once() -> None:
    counter = heard(12, 11, start=11)
    assert counter.next == 13
    assert counter.judge(11, 0.5) is Verdict.DUPLICATE
    assert counter.judge(13, 0.5) is Verdict.NEW


@pytest.mark.parametrize(("after_s", "verdict"), [(LATE_MAX_S, Verdict.LATE), (LATE_MAX_S + 0.1, Verdict.REPLAY)])
def test_late_frame_must_come_soon(after_s: float, verdict: Verdict) -> None:
    assert heard(12, start=10).judge(11, after_s) is verdict


def test_time_counts_from_the_frame_that_overtook() -> None:
    counter = heard(12, start=10).accept(13, 9.0)
    assert counter.judge(11, 11.0) is Verdict.REPLAY


def test_late_frame_must_be_near() -> None:
    counter = heard(100, start=2)
    assert counter.judge(101 - LATE_WINDOW, 1.0) is Verdict.LATE
    assert counter.judge(100 - LATE_WINDOW, 1.0) is Verdict.REPLAY


def test_f41_nothing_below_a_recalled_counter_is_taken() -> None:
    counter = UplinkCounter.start(42).accept(43, 0.0)
    assert counter.judge(42, 0.1) is Verdict.LATE
    assert counter.judge(41, 0.1) is Verdict.REPLAY


def test_f43_counting_from_the_start_again_is_named() -> None:
    counter = UplinkCounter.start(1000)
    assert counter.judge(0, 0.0) is Verdict.RESTART
    assert counter.judge(2, 0.0) is Verdict.REPLAY
    counter = counter.note_restart(0).note_restart(1)
    assert counter.judge(2, 0.0) is Verdict.RESTART
    assert counter.next == 1000


def test_window_stays_small() -> None:
    assert len(heard(*range(1000)).heard) == LATE_WINDOW


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 60), st.floats(0, 8)), max_size=60))
def test_no_counter_is_ever_taken_twice(start: int, events: list[tuple[int, float]]) -> None:
    counter, taken, now_s = UplinkCounter.start(start), set(range(start)), 0.0
    for f_cnt, wait_s in events:
        now_s += wait_s
        if counter.judge(f_cnt, now_s) in (Verdict.NEW, Verdict.LATE):
            assert f_cnt not in taken
            taken.add(f_cnt)
            counter = counter.accept(f_cnt, now_s)
        assert len(counter.heard) <= LATE_WINDOW
        assert counter.next == max(taken, default=-1) + 1
