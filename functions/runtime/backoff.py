"""How long to wait before another try of what failed."""

import math
import random
from dataclasses import dataclass
from typing import Final

_MOST_POWER: Final = 60
"""Keeps the power of a long row of failures a number."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """`first_s` after the first failure, then `factor` times the pause before, at most `most_s`."""

    first_s: float
    most_s: float = math.inf
    factor: float = 2.0

    def delay_s(self, failures: int) -> float:
        """The pause after so many failures in a row; fewer than one counts as one."""
        power = min(_MOST_POWER, max(0, failures - 1))
        return min(self.most_s, self.first_s * self.factor**power)


def jittered(delay_s: float) -> float:
    """Half to all of a pause, so that many waiters do not come back at once."""
    return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
