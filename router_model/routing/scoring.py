"""The score of a service for a prompt, and the default policy: Equation 2 of the paper, and nothing else.

    f = w_R R^ + w_T T^ + w_C C^      T^ = 1 - norm(T)      C^ = 1 - norm(C)

with (w_R, w_T, w_C) = (alpha, lambda, mu) / (alpha + lambda + mu) and norm over the candidates and, where given,
history: min-max (`RangeScale`) or the position in their distribution (`RankScale`). R^ is a chance in [0, 1] already.
Each score lies in [0, 1]. Since the divisor is the same for every candidate, raising alpha alone never lowers the R of
the best, raising lambda never raises its T, and raising mu never raises its C.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from router_model.catalogue.model import Norm, Profile
from router_model.routing.candidates import Estimate
from router_model.routing.decision import CandidateTerms
from router_model.routing.estimate_history import NO_HISTORY, EstimateHistory

if TYPE_CHECKING:
    from router_model.routing.policy import PolicyContext


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
class RangeScale:
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
class RankScale:
    """Every value seen of a quantity, ascending. One far-off value moves the others by one place only."""

    ordered: Sequence[float]

    def norm(self, value: float) -> float:
        """The share of the other values that lie below `value`, equal ones counting half. A single value is at 0."""
        others = len(self.ordered) - 1
        if others <= 0:
            return 0.0
        below, upto = bisect_left(self.ordered, value), bisect_right(self.ordered, value)
        return min(1.0, max(0.0, (below + upto - 1) / 2 / others))


def make_scale(norm: Norm, values: Iterable[float], history: Sequence[float] = ()) -> Scale:
    """The scale of the candidates' values and of history, which is in ascending order.

    Raises:
        ValueError: there is neither a value nor history.
    """
    if norm == "distributional":
        return RankScale(sorted((*history, *values)))
    extremes = [*values, *history[:1], *history[-1:]]
    return RangeScale(min(extremes), max(extremes))


def normalise_weights(profile: Profile) -> ScoreWeights:
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


def score_candidates(
    estimates: Sequence[Estimate],
    weights: ScoreWeights,
    norm: Norm = "minmax",
    history: EstimateHistory = NO_HISTORY,
) -> tuple[CandidateTerms, ...]:
    """All candidates with their terms, best first; equal scores: cheaper, then sooner, then by slug."""
    if not estimates:
        return ()
    seconds = make_scale(norm, (one.finish_s for one in estimates), history.finish_s.ordered)
    dollars = make_scale(norm, (one.cost_usd for one in estimates), history.cost_usd.ordered)
    return _by_score(
        _terms(one, 1 - seconds.norm(one.finish_s), 1 - dollars.norm(one.cost_usd), weights)
        for one in estimates
    )


class Equation2:
    """The default policy. A profile may name it where the catalogue's own policy is another."""

    def rank(
        self, candidates: Sequence[CandidateTerms], context: "PolicyContext"
    ) -> tuple[CandidateTerms, ...]:
        """The candidates by their score."""
        return _by_score(candidates)


def _by_score(candidates: Iterable[CandidateTerms]) -> tuple[CandidateTerms, ...]:
    return tuple(sorted(candidates, key=lambda t: (-t.score, t.cost_usd, t.finish_s, t.service)))


def _terms(one: Estimate, latency: float, cost: float, weights: ScoreWeights) -> CandidateTerms:
    chance, basis, _ = one.relevance
    return CandidateTerms(
        service=one.candidate.service.slug,
        model=one.candidate.model.id,
        finish_s=one.finish_s,
        cost_usd=one.cost_usd,
        relevance=chance,
        basis=basis,
        latency=latency,
        cost=cost,
        score=score(weights, chance, latency, cost),
        parts=one.finish,
    )
