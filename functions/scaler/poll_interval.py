"""How long the lag watcher pauses between two rounds. Pure."""

from dataclasses import dataclass
from typing import Final

from functions.runtime.settings import ScalerSettings

RETRY_S: Final = 0.3
"""After a round that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCost:
    """Seconds of the last round, and seconds of CPU that the whole process used meanwhile."""

    wall_s: float
    cpu_s: float
    has_failed: bool


def compute_pause_s(cost: RoundCost, settings: ScalerSettings, *, is_listened_to: bool) -> float:
    """Seconds from the end of that round to the beginning of the next.

    A round every `poll_s` while anyone listens, every `quiet_poll_s` otherwise; but never so often
    that rounds take more of a core than `max_share`, however many services there are.
    """
    if cost.has_failed:
        return RETRY_S
    period_s = settings.poll_s if is_listened_to else settings.quiet_poll_s
    return max(0.0, max(period_s, cost.cpu_s / settings.max_share) - cost.wall_s)
