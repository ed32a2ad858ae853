"""How soon the next round comes: pure."""

from dataclasses import dataclass
from typing import Final

from functions.settings import ScalerSettings

RETRY_S: Final = 0.3
"""After a round that failed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`poll_s` while anyone listens, `quiet_poll_s` otherwise; never so often that rounds take more than `max_share` of
    the time, however many services there are.
    """

    settings: ScalerSettings

    def pause_s(self, took_s: float, *, is_listened_to: bool, has_failed: bool) -> float:
        """Seconds from the end of a round that took `took_s` to the beginning of the next."""
        if has_failed:
            return RETRY_S
        period_s = self.settings.poll_s if is_listened_to else self.settings.quiet_poll_s
        return max(period_s - took_s, took_s * (1 / self.settings.max_share - 1))
