"""Delays grow, are drawn over the whole span, and start over only after useful work."""

from gateway.backoff import USEFUL_S, Backoff


def ceilings(backoff: Backoff, count: int, useful_s: float = 0.0) -> list[float]:
    return [backoff.next_delay_s(useful_s) for _ in range(count)]


def test_f16_the_ceiling_doubles_up_to_its_bound() -> None:
    assert ceilings(Backoff(1.0, 60.0, draw=lambda: 1.0), 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_full_jitter_reaches_down_to_zero() -> None:
    assert ceilings(Backoff(1.0, 60.0, draw=lambda: 0.0), 3) == [0, 0, 0]


def test_a_mere_connect_does_not_reset_it() -> None:
    backoff = Backoff(1.0, 60.0, draw=lambda: 1.0)
    ceilings(backoff, 5)
    assert backoff.next_delay_s(USEFUL_S - 1) == 32
    assert backoff.next_delay_s(USEFUL_S) == 1


def test_many_failures_overflow_nothing() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    assert max(ceilings(backoff, 5000)) == backoff.max_s
