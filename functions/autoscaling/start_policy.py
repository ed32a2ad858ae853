"""After failed starts in a row: when the next one is due, and when nothing should wait any more.

Pure. Used by the code that starts workers and by the worker itself.
"""

from dataclasses import dataclass
from typing import Final

from events.names import BreakerState
from functions.runtime.backoff import Backoff
from functions.runtime.settings import WorkerSettings

MOST_S: Final = 300.0
"""Longest pause between two starts, and longest time for which an open breaker stays open."""
START_BACKOFF: Final = Backoff(0.5, MOST_S, factor=3.0)
"""Pauses after starts that failed in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPolicy:
    """`most`: after so many failed starts in a row the service is given up for a while; `hold_s`:
    for how long at first.

    It doubles with each further failure.
    """

    most: int
    hold_s: float

    @classmethod
    def of(cls, settings: WorkerSettings) -> "StartPolicy":
        """As the settings say."""
        return cls(most=settings.failed_starts, hold_s=settings.failed_hold_s)

    def breaker(self, failures: int, since_failure_s: float) -> BreakerState:
        """The breaker of a service whose last start failed so many seconds ago."""
        if failures < self.most:
            return BreakerState.CLOSED
        return BreakerState.after_opening(self.hold(failures) - since_failure_s)

    def hold(self, failures: int) -> float:
        """Seconds for which a service counts as broken after its last failed start."""
        backoff = Backoff(self.hold_s, max(MOST_S, self.hold_s))
        return backoff.delay_s(failures - self.most + 1)
