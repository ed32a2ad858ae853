"""The deadline of a call: the least of our own bound and the caller's. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from functions.runtime.errors import ApiError

DEADLINE_HEADER: Final = "x-pickspin-deadline-s"
READ_TIMEOUT_HEADER: Final = "x-stainless-read-timeout"
CLIENT_MARGIN_S: Final = 1.25
"""Our 504 must reach the client before its own read timeout fires, or it would retry a finished refusal. It comes up to
`grace_s` after the deadline."""
MIN_WAIT_S: Final = 0.05
_GRACE_SHARE: Final = 0.75
"""Of what is left of the client's read timeout; the rest is for the way back."""


@dataclass(frozen=True, slots=True)
class Preference:
    """The `Prefer` header (RFC 7240): `respond-async` and `wait`, in seconds (None: not given)."""

    is_async: bool = False
    wait_s: float | None = None


def choose_wait_s(headers: Mapping[str, str], *, ours_s: float, reads_at_once: bool) -> float:
    """Seconds from acceptance to the deadline.

    `reads_at_once`: the answer comes in one piece, so the client's read timeout bounds the whole wait. A stream is kept
    alive by comments and is not bounded by it.

    Raises:
        ApiError: `invalid_value` when `x-pickspin-deadline-s` is not a positive finite number.
    """
    bound = ours_s
    asked = headers.get(DEADLINE_HEADER)
    if asked is not None:
        seconds = _number(asked)
        if seconds is None or seconds <= 0:
            raise ApiError(
                "invalid_value",
                "The deadline must be a positive number of seconds.",
                param=DEADLINE_HEADER,
            )
        bound = min(bound, seconds)
    read_timeout = _read_timeout(headers, reads_at_once=reads_at_once)
    if read_timeout is not None:
        bound = min(bound, max(read_timeout - CLIENT_MARGIN_S, read_timeout * 0.9))
    return max(MIN_WAIT_S, bound)


def choose_grace_s(
    headers: Mapping[str, str], *, wait_s: float, most_s: float, reads_at_once: bool
) -> float:
    """Seconds after the deadline for reading the recorded end. `wait_s`, `reads_at_once`: as above."""
    read_timeout = _read_timeout(headers, reads_at_once=reads_at_once)
    if read_timeout is None:
        return most_s
    return min(most_s, max(0.0, read_timeout - wait_s) * _GRACE_SHARE)


def parse_preference(text: str | None, *, longest_s: float) -> Preference:
    """Reads a `Prefer` header; what is not understood is ignored, as the RFC asks."""
    is_async, wait = False, None
    for part in (text or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "respond-async":
            is_async = True
        elif name.strip().lower() == "wait":
            seconds = _number(value.strip().strip('"'))
            if seconds is not None and seconds >= 0:
                wait = min(seconds, longest_s)
    return Preference(is_async=is_async and wait is None, wait_s=wait)


def _read_timeout(headers: Mapping[str, str], *, reads_at_once: bool) -> float | None:
    """The client's read timeout, where it bounds the wait and is one."""
    seconds = _number(headers.get(READ_TIMEOUT_HEADER, "")) if reads_at_once else None
    return None if seconds is None or seconds <= 0 else seconds


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
