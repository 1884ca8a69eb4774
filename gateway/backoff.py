"""How long to wait before the next try: exponential with full jitter, so a fleet never storms in step.

The delay is drawn evenly from zero to a ceiling that doubles; it goes back to its start only after the connection was
*useful* for a while, not after each mere connect (a broker that accepts and hangs up would be hammered otherwise).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

USEFUL_S = 60.0  # work that lasted this long was no fluke


@dataclass
class Backoff:
    """The delays of one thing that is tried again and again.

    Attributes:
        first_s: Ceiling of the first delay, in seconds.
        max_s: Highest ceiling.
        draw: Returns a number from 0 to 1; tests hand in their own.
    """

    first_s: float = 1.0
    max_s: float = 120.0
    draw: Callable[[], float] = field(default=random.random)
    failures: int = 0

    def next_delay_s(self, useful_s: float = 0.0) -> float:
        """Return the next delay in seconds, after something worked for ``useful_s`` seconds before it failed."""
        if useful_s >= USEFUL_S:
            self.failures = 0
        ceiling_s: float = min(self.max_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return ceiling_s * self.draw()

    def reset(self) -> None:
        """Start over: the cause of the failures is known to be gone (the clock came, the cable is back)."""
        self.failures = 0
