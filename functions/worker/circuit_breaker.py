"""The circuit breaker of a service's model calls: a pure reducer, one instance for each worker.

Closed: calls are made, their ends recorded. Open: too many of the last requests failed.
Half open: one request tries it. Its end closes the breaker, or opens it for twice as long.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Final

from events.names import BreakerState
from functions.runtime.backoff import Backoff

MOST_KEPT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRule:
    """Opens when, of at least `least` requests within `window_s`, a share of more than `share` failed, for `open_s`
    seconds; doubled each time in a row, up to `most_open_s`.
    """

    window_s: float
    least: int
    share: float
    open_s: float
    most_open_s: float


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a request's last call here ended."""

    at_s: float
    tenant: str
    request_id: str
    is_failure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """Instants are those of one monotonic clock."""

    rule: BreakerRule
    is_open: bool = False
    ends: tuple[CallEnd, ...] = ()
    opened_s: float = 0.0
    times: int = 0
    """How often it has opened since it was last closed."""

    @property
    def open_for_s(self) -> float:
        """How long it stays open, counted from `opened_s`."""
        return Backoff(self.rule.open_s, self.rule.most_open_s).delay_s(self.times)

    def left_s(self, now_s: float) -> float:
        """Seconds until it is half open; 0 where it is, or is closed."""
        return max(0.0, self.opened_s + self.open_for_s - now_s) if self.is_open else 0.0

    def state(self, now_s: float) -> BreakerState:
        if not self.is_open:
            return BreakerState.CLOSED
        return BreakerState.after_opening(self.left_s(now_s))

    def ended(self, end: CallEnd) -> "CircuitBreaker":
        """Adds a call's end. While it is open, ends of earlier calls do not count."""
        state = self.state(end.at_s)
        if state is BreakerState.OPEN:
            return self
        if state is BreakerState.HALF_OPEN:
            return self._open(end.at_s) if end.is_failure else CircuitBreaker(rule=self.rule)
        since_s = end.at_s - self.rule.window_s
        kept = [e for e in self.ends if e.at_s >= since_s and e.request_id != end.request_id]
        ends = (*kept, end)[-MOST_KEPT:]
        if len(ends) >= self.rule.least and compute_failed_share(ends) > self.rule.share:
            return self._open(end.at_s)
        return replace(self, ends=ends)

    def _open(self, now_s: float) -> "CircuitBreaker":
        return CircuitBreaker(rule=self.rule, is_open=True, opened_s=now_s, times=self.times + 1)


def compute_failed_share(ends: tuple[CallEnd, ...]) -> float:
    """The mean of the tenants' shares of failed requests: one tenant's bad requests are not all of the service."""
    shares: dict[str, list[bool]] = defaultdict(list)
    for end in ends:
        shares[end.tenant].append(end.is_failure)
    return sum(sum(failures) / len(failures) for failures in shares.values()) / max(1, len(shares))
