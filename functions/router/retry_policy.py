"""When to send a record to the router again: the rules of Knative's data plane. Pure."""

from typing import Final, Literal

from functions.runtime.backoff import Backoff

Verdict = Literal["done", "again", "hopeless"]

BACKOFF: Final = Backoff(0.1, 5.0)
_RETRIED: Final = frozenset({404, 408, 409, 429})
_OK: Final = range(200, 300)
_SERVER_ERRORS: Final = 500


def judge_status(status: int | None) -> Verdict:
    """What an answer means; `status` None is a network error or a timeout."""
    if status is None or status in _RETRIED or status >= _SERVER_ERRORS:
        return "again"
    return "done" if status in _OK else "hopeless"
