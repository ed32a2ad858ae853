"""When a callback is retried, and when it is given up. Pure.

The default schedule is Standard Webhooks' example.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from functions.runtime.errors import StartupFailed

JITTER: Final = 0.1
MAX_RETRY_AFTER_S: Final = 86_400.0
"""Longest wait that a receiver may ask for."""
GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """What one attempt came to. `status` None: no answer, `failure` says why (`timeout`, `dns`, `refused`, ...).

    `is_final`: no further attempt can help.
    """

    status: int | None = None
    failure: str | None = None
    retry_after: str | None = None
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        """Only 2xx is; a redirect is a failure and is never followed."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def text(self) -> str:
        """For the store and the logs: never anything the receiver said."""
        return f"status {self.status}" if self.status is not None else (self.failure or "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """The next attempt starts at `due_at` or later."""

    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """No further attempt. `is_target_gone`: the receiver said 410; nothing is sent there any more."""

    is_target_gone: bool = False


Step = Delivered | TryAgain | GivenUp


def parse_schedule(text: str) -> tuple[float, ...]:
    """Delays in seconds before each attempt, the first included.

    Raises:
        StartupFailed: empty, not numbers, negative or infinite.
    """
    try:
        delays = tuple(float(part) for part in text.split(","))
    except ValueError:
        delays = (-1.0,)
    if any(not math.isfinite(delay) or delay < 0 for delay in delays):
        raise StartupFailed(
            "PICKSPIN_CALLBACKS_SCHEDULE_S must be seconds, zero or more, separated by commas: 0,5,300"
        )
    return delays


def choose_step(
    outcome: AttemptOutcome,
    *,
    attempts: int,
    delays: tuple[float, ...],
    chance: float,
    now: datetime,
) -> Step:
    """What follows an attempt.

    `attempts` counts those made, this one included; `chance` in [0, 1) is the random part of the jitter.
    """
    if outcome.is_success:
        return Delivered()
    if outcome.status == GONE:
        return GivenUp(is_target_gone=True)
    if outcome.is_final or attempts >= len(delays):
        return GivenUp()
    asked_s = parse_retry_after(outcome.retry_after, now)
    return TryAgain(
        due_at=now + timedelta(seconds=max(asked_s, add_jitter(delays[attempts], chance)))
    )


def add_jitter(delay_s: float, chance: float) -> float:
    """The delay, up to 10 % shorter or longer."""
    return delay_s * (1 + JITTER * (2 * chance - 1))


def parse_retry_after(text: str | None, now: datetime) -> float:
    """Seconds that a `Retry-After` header asks for, clamped to 0..86400; 0 where it says nothing sensible."""
    if text is None or len(text) > 64 or not text.isascii():
        return 0.0
    text = text.strip()
    if text.isdigit():
        # Longer than the clamp, whatever follows.
        return MAX_RETRY_AFTER_S if len(text) > 9 else min(MAX_RETRY_AFTER_S, float(text))
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return 0.0
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, min(MAX_RETRY_AFTER_S, (instant - now).total_seconds()))
