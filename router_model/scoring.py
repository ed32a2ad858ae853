"""The score of a service for a prompt: Equation 2 of the paper, and nothing else.

    f = w_R R^ + w_T T^ + w_C C^      T^ = 1 - norm(T)      C^ = 1 - norm(C)

with (w_R, w_T, w_C) = (alpha, lambda, mu) / (alpha + lambda + mu) and norm the min-max over the candidates and, where
given, history. R^ is a chance in [0, 1] already. Each score lies in [0, 1].
"""

from collections.abc import Iterable
from dataclasses import dataclass

from router_model.catalogue import Profile


@dataclass(frozen=True, slots=True)
class ScoreWeights:
    """w_R, w_T, w_C: not negative, sum 1."""

    relevance: float
    latency: float
    cost: float


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


def weights_of(profile: Profile) -> ScoreWeights:
    """The normalised weights of a profile.

    Raises:
        ValueError: a negative parameter, or all zero (a checked catalogue has neither).
    """
    total = profile.alpha + profile.latency + profile.cost
    if total <= 0 or min(profile.alpha, profile.latency, profile.cost) < 0:
        raise ValueError("alpha, lambda and mu must not be negative, nor all zero")
    return ScoreWeights(profile.alpha / total, profile.latency / total, profile.cost / total)


def range_of(values: Iterable[float], history: Range | None = None) -> Range:
    """The range of the candidates' values, widened by history.

    Raises:
        ValueError: there is neither a value nor history.
    """
    found = list(values)
    if history is not None:
        found += [history.low, history.high]
    return Range(min(found), max(found))


def score(weights: ScoreWeights, relevance: float, latency: float, cost: float) -> float:
    """Equation 2 of the three normalised terms (all in [0, 1], higher is better)."""
    combined = weights.relevance * relevance + weights.latency * latency + weights.cost * cost
    # A convex combination is within [0, 1]; the last bit of rounding may not be.
    return min(1.0, max(0.0, combined))
