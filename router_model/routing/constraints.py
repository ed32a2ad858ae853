"""Limits that one request sets on its answer: cost, latency, quality. A candidate that is expected to break one is out.

They judge expectations (C, T and R of Eq. 2), not what the answer will turn out to be.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from events import names
from router_model.routing.no_route import ConstraintsUnmet

Bound = Literal["max_cost", "max_latency", "min_quality"]
ATTRIBUTE_OF: Final[dict[Bound, str]] = {
    "max_cost": names.MAX_COST,
    "max_latency": names.MAX_LATENCY,
    "min_quality": names.MIN_QUALITY,
}
"""The event attribute that sets each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Most dollars, most seconds to the whole answer, least chance in [0, 1] of a good one. None: no limit."""

    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    min_quality: float | None = None


NO_CONSTRAINTS: Final = Constraints()


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One limit that one candidate breaks: `value` is what is expected of it."""

    service: str
    bound: Bound
    value: float
    limit: float

    @property
    def excess(self) -> float:
        """How far off, as a share of the limit; infinite where the limit is 0."""
        return abs(self.value - self.limit) / self.limit if self.limit > 0 else math.inf

    def __str__(self) -> str:
        value, limit = (_shown(self.bound, amount) for amount in (self.value, self.limit))
        return f"{self.service}: {_MEANING[self.bound]} {value}, {self.bound} is {limit}"


_MEANING: Final[dict[Bound, str]] = {
    "max_cost": "expected cost",
    "max_latency": "expected time",
    "min_quality": "expected quality",
}


def find_worst_miss(
    limits: Constraints, service: str, *, finish_s: float, cost_usd: float, relevance: float
) -> Miss | None:
    """The limit that a candidate breaks by most, or None where it keeps all. A value at its limit keeps it."""
    misses: list[Miss] = []
    if limits.max_cost_usd is not None and cost_usd > limits.max_cost_usd:
        misses.append(_miss(service, "max_cost", cost_usd, limits.max_cost_usd))
    if limits.max_latency_s is not None and finish_s > limits.max_latency_s:
        misses.append(_miss(service, "max_latency", finish_s, limits.max_latency_s))
    if limits.min_quality is not None and relevance < limits.min_quality:
        misses.append(_miss(service, "min_quality", relevance, limits.min_quality))
    return max(misses, key=lambda miss: miss.excess, default=None)


def refuse_unmet(misses: Iterable[Miss]) -> ConstraintsUnmet:
    """The refusal where every candidate missed; it names the one that came nearest."""
    nearest = min(misses, key=lambda miss: (miss.excess, miss.service))
    return ConstraintsUnmet(
        f"no service keeps the limits of this request; nearest is {nearest}",
        param=ATTRIBUTE_OF[nearest.bound],
    )


def _miss(service: str, bound: Bound, value: float, limit: float) -> Miss:
    return Miss(service=service, bound=bound, value=value, limit=limit)


def _shown(bound: Bound, amount: float) -> str:
    if bound == "max_cost":
        return f"{amount:.3g} USD"
    return f"{amount:.3g} s" if bound == "max_latency" else f"{amount:.3g}"
