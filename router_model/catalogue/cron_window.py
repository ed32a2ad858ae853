"""Hours in which a service is kept warm: two cron expressions, as KEDA's own cron trigger has them. Pure.

An expression is five fields: minute, hour, day of month, month, day of week (0 or 7 is Sunday), each `*`, a number,
a range `a-b`, a step `*/n` or `a-b/n`, or several of these with commas. A day counts when either of two restricted
day fields names it. `croniter` is imported by the first expression: it takes long, and few catalogues have one.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SIGNS: Final = re.compile(r"[0-9*/, -]*")
"""Neither names nor croniter's extensions (`L`, `#`, `H`): KEDA's trigger would not understand them."""
_LONG: Final = re.compile(r"[0-9]{5}")
"""No field has such numbers; and what reads the others is linear, as they are short."""
_RANGE: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
_ONE: Final = re.compile(r"\b0{0,3}([0-9]{1,4})-0{0,3}\1\b(/[0-9]{1,4})?")
"""A range of one number, which croniter takes for the whole circle."""


class CronRejected(ValueError):
    """Not an expression; the message says why, for a person."""


@lru_cache(maxsize=512)
def check_cron(text: str) -> None:
    """Raises CronRejected."""
    from croniter import CroniterError, croniter  # noqa: PLC0415

    if len(text.split()) != 5:
        raise CronRejected(f"{text!r} is not five fields: minute hour day month weekday")
    if not _SIGNS.fullmatch(text):
        raise CronRejected(f"{text!r}: a field is numbers, *, ranges a-b, steps /n and commas")
    if _LONG.search(text):
        raise CronRejected(f"{text!r}: a number has at most four digits")
    if any(int(first) > int(last) for first, last in _RANGE.findall(text)):
        raise CronRejected(f"{text!r}: a range goes from the smaller to the larger number")
    try:
        croniter.expand(text)
    except (CroniterError, ValueError) as error:
        raise CronRejected(f"{text!r} is no cron expression: {error}") from None


def last_before(text: str, now: datetime) -> datetime | None:
    """The newest instant of the expression that is not after `now`, within a year; in the clock of `now`'s zone.

    Raises:
        CronRejected: `text` is not an expression.
    """
    from croniter import CroniterBadDateError, croniter  # noqa: PLC0415

    check_cron(text)
    past = croniter(
        _ONE.sub(r"\1", text), now + timedelta(microseconds=1), max_years_between_matches=1
    )
    try:
        return past.get_prev(datetime)
    except CroniterBadDateError:
        return None


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
        began, ended = last_before(start, local), last_before(end, local)
        if began is not None and (ended is None or began > ended):
            return True
    return False
