"""Request rate over a sliding window (Algorithm 1, line 2), from the end offsets of topics."""

from dataclasses import dataclass, replace
from typing import Final

BUCKETS: Final = 60
"""Resolution and bound of memory: old arrivals are forgotten within window / BUCKETS seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWindow:
    """Arrivals by bucket of time. Frozen: `observe` returns the next window."""

    window_s: float
    last_total: int | None = None
    """Arrivals since ever at the last observation; None before the first one."""
    counts: tuple[tuple[int, int], ...] = ()
    """(bucket number, arrivals), oldest first, at most BUCKETS + 1 of them."""

    def observe(self, now_s: float, total: int) -> "RateWindow":
        """The window with arrivals up to `total` folded in at monotonic time `now_s`.

        The first total is where counting starts, not arrivals; so is a total that went down
        (another broker).
        """
        arrived = 0 if self.last_total is None else max(0, total - self.last_total)
        bucket = self._bucket(now_s)
        counts = tuple((b, n) for b, n in self.counts if b > bucket - BUCKETS)
        if arrived and counts and counts[-1][0] >= bucket:
            counts = (*counts[:-1], (counts[-1][0], counts[-1][1] + arrived))
        elif arrived:
            counts = (*counts, (bucket, arrived))
        return replace(self, last_total=total, counts=counts)

    def rate_per_s(self, now_s: float) -> float:
        """Mean arrivals a second over the whole window, even a young one."""
        oldest = self._bucket(now_s) - BUCKETS
        return sum(n for b, n in self.counts if b > oldest) / self.window_s

    def _bucket(self, now_s: float) -> int:
        return int(now_s * BUCKETS // self.window_s)
