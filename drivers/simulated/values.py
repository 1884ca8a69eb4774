"""Values of an emulated sensor: plausible, alive, and never outside what such a place knows."""

import random
from dataclasses import dataclass


@dataclass
class Wander:
    """A value that takes a random step each time it is asked for.

    Attributes:
        value: Where it is.
        step: Largest step up or down.
        low: Lowest value.
        high: Highest value.
    """

    value: float
    step: float
    low: float
    high: float

    def next(self) -> float:
        """Return the next value."""
        moved = self.value + random.uniform(-self.step, self.step)
        self.value = min(max(moved, self.low), self.high)
        return self.value
