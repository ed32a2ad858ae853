"""Measurements of the model: speed, duration, start time, failed calls in a row. No I/O."""

from datetime import datetime
from typing import Final

_WEIGHT: Final = 0.2
"""Weight of the newest value in the moving averages."""
_FAILURES: Final = frozenset({"silence", "reset", "timeout", "error_in_reply"})


class ReplicaStats:
    """Moving averages; None until there is a value. Owned by the event loop.

    `started_at`: when this worker began to start its model. `ready_at`: when it was warm; None before.
    """

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.ready_at: datetime | None = None
        self.tokens_per_s: float | None = None
        self.service_s: float | None = None
        self.failures_in_row = 0

    def add(self, seconds: float, first_s: float | None, tokens: int) -> None:
        """One completed call: its duration, seconds to the first token (None: not streamed) and output tokens."""
        self.failures_in_row = 0
        self.service_s = _mean(self.service_s, seconds)
        decode_s = seconds - (first_s or 0.0)
        if tokens > 1 and decode_s > 0:
            self.tokens_per_s = _mean(self.tokens_per_s, tokens / decode_s)

    def note(self, outcome: str) -> None:
        """One call's outcome: failures of the server itself are counted until a call succeeds."""
        if outcome in _FAILURES or outcome.startswith("http_5"):
            self.failures_in_row += 1

    def load_ms(self, routed_at: datetime) -> float:
        """How much of a request's wait was spent on starting this worker's model."""
        if self.ready_at is None or routed_at >= self.ready_at:
            return 0.0
        waited = self.ready_at - max(routed_at, self.started_at)
        return round(max(0.0, waited.total_seconds() * 1000), 3)


def _mean(known: float | None, value: float) -> float:
    return value if known is None else (1 - _WEIGHT) * known + _WEIGHT * value
