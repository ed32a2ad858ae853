"""Hours in which a service is kept warm: two cron expressions, as KEDA's own cron trigger has them. Pure.

An expression is five fields: minute, hour, day of month, month, day of week (0 or 7 is Sunday), each `*`, a number, a
range `a-b`, a step `*/n` or `a-b/n`, or several of these with commas. As in cron, a day counts when either of two
restricted day fields names it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES: Final = ("minute", "hour", "day of month", "month", "day of week")
_LOOK_BACK_DAYS: Final = 366


class CronRejected(ValueError):
    """Not an expression; the message says which field, for a person."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    is_either_day: bool
    """Both day fields are restricted: either names a day."""

    def last_before(self, now: datetime) -> datetime | None:
        """The newest instant of the expression that is not after `now`, within a year; in the clock of `now`'s zone."""
        for back in range(_LOOK_BACK_DAYS + 1):
            day = (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
            if not self._names(day):
                continue
            for hour in reversed(self.hours):
                for minute in reversed(self.minutes):
                    found = day.replace(hour=hour, minute=minute)
                    if found <= now:
                        return found
        return None

    def _names(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_date or by_week) if self.is_either_day else (by_date and by_week)


@lru_cache(maxsize=512)
def parse_cron(text: str) -> Cron:
    """Raises CronRejected."""
    fields = text.split()
    if len(fields) != len(_BOUNDS):
        raise CronRejected(f"{text!r} is not five fields: minute hour day month weekday")
    found = [_field(part, index) for index, part in enumerate(fields)]
    return Cron(
        minutes=tuple(sorted(found[0])),
        hours=tuple(sorted(found[1])),
        days=frozenset(found[2]),
        months=frozenset(found[3]),
        weekdays=frozenset(number % 7 for number in found[4]),
        is_either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )


def _field(text: str, index: int) -> set[int]:
    low, high = _BOUNDS[index]
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if span == "*":
                start, end = low, high
            elif dash:
                start, end = int(first), int(last)
            else:
                start, end = int(first), high if slash else int(first)
            every = int(step) if slash else 1
        except ValueError:
            raise CronRejected(f"{text!r} is not a {_NAMES[index]}") from None
        if not (low <= start <= end <= high and every >= 1):
            raise CronRejected(f"{text!r}: a {_NAMES[index]} lies in {low}..{high}")
        found.update(range(start, end + 1, every))
    return found


def zone(name: str) -> tzinfo:
    """Raises CronRejected for an unknown time zone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CronRejected(f"there is no time zone {name!r}") from None


def is_within(windows: Iterable[tuple[str, str, str]], now: datetime) -> bool:
    """Whether `now` lies in one of the windows (start, end, time zone): its last start is newer than its last end.

    Raises:
        CronRejected: an expression or a zone is wrong.
    """
    for start, end, where in windows:
        local = now.astimezone(zone(where))
        began, ended = parse_cron(start).last_before(local), parse_cron(end).last_before(local)
        if began is not None and (ended is None or began > ended):
            return True
    return False
