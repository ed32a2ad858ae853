"""How soon the next round comes: pure."""

from dataclasses import dataclass
from typing import Final

from functions.runtime.settings import ScalerSettings

RETRY_S: Final = 0.3
"""After a round that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What the last round took: seconds of waiting and working, and seconds of CPU of the whole process meanwhile."""

    wall_s: float
    cpu_s: float
    has_failed: bool


def pause_s(took: Took, settings: ScalerSettings, *, is_listened_to: bool) -> float:
    """Seconds from the end of that round to the beginning of the next.

    A round every `poll_s` while anyone listens, every `quiet_poll_s` otherwise; but never so often that rounds take
    more of a core than `max_share`, however many services there are.
    """
    if took.has_failed:
        return RETRY_S
    period_s = settings.poll_s if is_listened_to else settings.quiet_poll_s
    return max(0.0, max(period_s, took.cpu_s / settings.max_share) - took.wall_s)
