"""Prewarming by habit: which services are expected to be asked for soon. Pure.

The history is arrivals by hour, counted from 1970 in UTC.
An hour of the week comes again every 168 hours.
It is expected to be busy when most of the same hours of the last weeks had requests, and enough
of them on average.
Weeks from before anything was recorded do not count.
Two weeks are needed: one is no habit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

HOURS_A_WEEK: Final = 168
LEAST_WEEKS: Final = 2
_HOUR_S: Final = 3600

Arrivals = Mapping[int, int]
"""Requests by hour since 1970; an hour without any may be absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HabitThresholds:
    """A busy hour: `share` of the weeks (0 to 1) had requests, `requests` on average."""

    weeks: int
    share: float
    requests: float


def count_hours(at: datetime) -> int:
    """Hours since 1970."""
    return int(at.timestamp()) // _HOUR_S


def is_expected(
    arrivals: Arrivals, first_hour: int, now: datetime, lead_s: float, thresholds: HabitThresholds
) -> bool:
    """Whether requests are expected in any hour between `now` and `lead_s` later.

    `first_hour` is the oldest hour that the history knows of at all.
    """
    last = count_hours(now + timedelta(seconds=lead_s))
    return any(
        _is_busy(arrivals, first_hour, hour, thresholds)
        for hour in range(count_hours(now), last + 1)
    )


def _is_busy(arrivals: Arrivals, first_hour: int, hour: int, thresholds: HabitThresholds) -> bool:
    past = [
        arrivals.get(hour - HOURS_A_WEEK * back, 0)
        for back in range(1, thresholds.weeks + 1)
        if hour - HOURS_A_WEEK * back >= first_hour
    ]
    if len(past) < LEAST_WEEKS:
        return False
    share = sum(count > 0 for count in past) / len(past)
    return share >= thresholds.share and sum(past) / len(past) >= thresholds.requests
