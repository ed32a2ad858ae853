"""When to bring a record to the router again, and when it is hopeless: the rules of Knative's data plane. Pure."""

from typing import Final, Literal

Verdict = Literal["done", "again", "hopeless"]

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
_RETRIED: Final = frozenset({404, 408, 409, 429})
_OK: Final = range(200, 300)
_SERVER_ERRORS: Final = 500
_MAX_DOUBLINGS: Final = 10


def verdict(status: int | None) -> Verdict:
    """What an answer means; `status` None is a network error or a timeout."""
    if status is None or status in _RETRIED or status >= _SERVER_ERRORS:
        return "again"
    return "done" if status in _OK else "hopeless"


def delay_s(attempt: int) -> float:
    """Seconds before trying again after failed attempt number `attempt` (from 1): doubling, bounded."""
    doublings = min(_MAX_DOUBLINGS, max(0, attempt - 1))
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * float(2**doublings))
