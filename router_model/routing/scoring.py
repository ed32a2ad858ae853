"""The score of a service for a prompt: Equation 2 of the paper, and nothing else.

    f = w_R R^ + w_T T^ + w_C C^      T^ = 1 - norm(T)      C^ = 1 - norm(C)

with (w_R, w_T, w_C) = (alpha, lambda, mu) / (alpha + lambda + mu) and norm over the candidates and, where given,
history: min-max (`Range`) or the position in their distribution (`Positions`). R^ is a chance in [0, 1] already. Each
score lies in [0, 1]. Since the divisor is the same for every candidate, raising alpha alone never lowers the R of the
best, raising lambda never raises its T, and raising mu never raises its C.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from router_model.catalogue.model import Norm, Profile


@dataclass(frozen=True, slots=True)
class ScoreWeights:
    """w_R, w_T, w_C: not negative, sum 1."""

    relevance: float
    latency: float
    cost: float


class Scale(Protocol):
    """Puts a quantity (seconds or dollars) into [0, 1]: more is never lower, and the unit does not matter."""

    def norm(self, value: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value seen of a quantity (seconds or dollars)."""

    low: float
    high: float

    def norm(self, value: float) -> float:
        """Min-max position of `value` in [0, 1]. A range without width puts everything at 0: it cannot discriminate."""
        width = self.high - self.low
        if width <= 0:
            return 0.0
        return min(1.0, max(0.0, (value - self.low) / width))


@dataclass(frozen=True, slots=True)
class Positions:
    """Every value seen of a quantity, ascending. One far-off value moves the others by one place only."""

    ordered: Sequence[float]

    def norm(self, value: float) -> float:
        """The share of the other values that lie below `value`, equal ones counting half. A single value is at 0."""
        others = len(self.ordered) - 1
        if others <= 0:
            return 0.0
        below, upto = bisect_left(self.ordered, value), bisect_right(self.ordered, value)
        return min(1.0, max(0.0, (below + upto - 1) / 2 / others))


def scale_of(norm: Norm, values: Iterable[float], history: Sequence[float] = ()) -> Scale:
    """The scale of the candidates' values and of history, which is in ascending order.

    Raises:
        ValueError: there is neither a value nor history.
    """
    if norm == "distributional":
        return Positions(sorted((*history, *values)))
    found = [*values, *history[:1], *history[-1:]]
    return Range(min(found), max(found))


def weights_of(profile: Profile) -> ScoreWeights:
    """The normalised weights of a profile.

    Raises:
        ValueError: a negative parameter, or all zero (a checked catalogue has neither).
    """
    total = profile.alpha + profile.latency + profile.cost
    if total <= 0 or min(profile.alpha, profile.latency, profile.cost) < 0:
        raise ValueError("alpha, lambda and mu must not be negative, nor all zero")
    return ScoreWeights(profile.alpha / total, profile.latency / total, profile.cost / total)


def score(weights: ScoreWeights, relevance: float, latency: float, cost: float) -> float:
    """Equation 2 of the three normalised terms (all in [0, 1], higher is better)."""
    combined = weights.relevance * relevance + weights.latency * latency + weights.cost * cost
    # A convex combination is within [0, 1]; the last bit of rounding may not be.
    return min(1.0, max(0.0, combined))
