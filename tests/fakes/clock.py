"""A clock that stands still until a test moves it."""

from gateway.clock import TimeStamp


class FakeClock:
    """A `gateway.clock.Clock` under a test's control."""

    def __init__(self, wall_ms: int = 1_760_000_000_000, *, known: bool = True) -> None:
        self._wall_ms = wall_ms
        self._elapsed_s = 1000.0
        self.known = known
        self.boot_id = bytes(16)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self._elapsed_s += seconds
        self._wall_ms += round(seconds * 1000)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back; no time passes."""
        self._wall_ms += round(seconds * 1000)

    def wall_ms(self) -> int:
        return self._wall_ms

    def elapsed_s(self) -> float:
        return self._elapsed_s

    def is_known(self) -> bool:
        return self.known

    def stamp(self) -> TimeStamp:
        return TimeStamp(self.boot_id, round(self._elapsed_s * 1000), self._wall_ms, self.known)
