"""When a refused request is tried again, and after how long. Pure."""

from collections.abc import Mapping
from typing import Final

RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
FIRST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0
MOST_RETRY_AFTER_S: Final = 120.0


def is_worth_a_retry(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may go better later: `x-should-retry` decides, else the status."""
    said = headers.get("x-should-retry")
    if said is not None:
        return said.lower() == "true"
    return status in RETRIED


def pause_s(attempt: int, headers: Mapping[str, str], spread: float) -> float:
    """Seconds before attempt `attempt` + 1. `Retry-After` in seconds is obeyed (at most two minutes), else 0.5 s
    doubled each time; `spread` in 0..1 adds up to a quarter, so that many waiters do not come back at once.
    """
    try:
        asked = min(MOST_RETRY_AFTER_S, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        asked = min(MOST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempt - 1, 10))
    return asked * (1 + spread / 4)
