"""Instants as text: RFC 3339, UTC, milliseconds. Pure conversion; no clock is read."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from events.errors import EventRejected

_DAY: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CANONICAL: Final = re.compile(
    _DAY + r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?Z", re.ASCII
)
_RFC3339: Final = re.compile(
    rf"({_DAY})[Tt]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d|(?<=:59:)60)(\.\d{{1,9}})?)?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_LEAP: Final = "60"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def from_unix_ms(unix_ms: int) -> datetime | None:
    """The aware UTC instant of milliseconds since 1970; None before that (Kafka's -1: none is known) and after 9999."""
    try:
        return None if unix_ms < 0 else _EPOCH + timedelta(milliseconds=unix_ms)
    except OverflowError:
        return None


def to_rfc3339(instant: datetime) -> str:
    """`2026-11-21T12:00:00.123Z`. `instant` must be aware; parts below a millisecond are cut off.

    Raises:
        ValueError: the instant is naive (a programming error, never input).
    """
    if instant.tzinfo is None:
        raise ValueError("a naive instant has no UTC text")
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds")
    return f"{text[:-6]}Z"


def from_rfc3339(text: str, attribute: str | None = None) -> datetime:
    """The aware UTC instant of RFC 3339 text with `Z` or an offset.

    Seconds may be left out, as Java writes a whole minute; a leap second is the one after it. Naive text and other ISO
    8601 forms are refused; digits beyond microseconds are cut off. `attribute` names what held the text, for the error.

    Raises:
        EventRejected: `invalid_event`.
    """
    match = _RFC3339.fullmatch(text)
    if match is not None:
        day, minute, second, fraction, zone = match.groups(default="")
        is_leap = second == _LEAP
        whole = f"{day}T{minute}:{'59' if is_leap else second or '00'}{fraction}{zone.upper()}"
        try:
            instant = datetime.fromisoformat(whole).astimezone(UTC)
            return instant + timedelta(seconds=1) if is_leap else instant
        except (ValueError, OverflowError):  # 31 April, or an offset that leaves the years 1..9999
            pass
    raise EventRejected("invalid_event", "must be an RFC 3339 instant with a time zone", attribute)


def canonical(text: str, attribute: str | None = None) -> str:
    """Checked RFC 3339 text in UTC: as it came where that is its full form, else converted (which keeps milliseconds).

    Raises:
        EventRejected: `invalid_event`.
    """
    instant = from_rfc3339(text, attribute)
    return text if _CANONICAL.fullmatch(text) is not None else to_rfc3339(instant)
