"""Recent T and C of candidates, for the norm of Eq. 2: two bounded windows, folded decision by decision. Pure."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from router_model.catalogue.model import Norm
from router_model.routing.decision import CandidateTerms

DISTRIBUTION_VALUES: Final = 512
"""Values kept for the distributional norm unless a setting says otherwise: of a few candidates alone it would be their
order and nothing more."""


@dataclass(frozen=True, slots=True)
class Window:
    """The last `limit` values: as they came, and ascending. A limit of 0 keeps none."""

    limit: int = 0
    recent: tuple[float, ...] = ()
    ordered: tuple[float, ...] = ()

    def add(self, values: Iterable[float]) -> "Window":
        """The window with these values too; the oldest make room."""
        if self.limit <= 0:
            return self
        recent, ordered = [*self.recent, *values], list(self.ordered)
        for value in recent[len(self.recent) :]:
            insort(ordered, value)
        surplus = max(0, len(recent) - self.limit)
        for value in recent[:surplus]:
            del ordered[bisect_left(ordered, value)]
        return Window(self.limit, tuple(recent[surplus:]), tuple(ordered))


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateHistory:
    """Seconds and dollars expected of recent candidates. Empty: the candidates alone count."""

    finish_s: Window = Window()
    cost_usd: Window = Window()

    def observe(self, candidates: Iterable[CandidateTerms]) -> "EstimateHistory":
        """With every candidate of a decision, chosen or not: what history holds does not depend on the weights."""
        if self.finish_s.limit <= 0:
            return self
        observed = tuple(candidates)
        return EstimateHistory(
            finish_s=self.finish_s.add(terms.finish_s for terms in observed),
            cost_usd=self.cost_usd.add(terms.cost_usd for terms in observed),
        )


NO_HISTORY: Final = EstimateHistory()


def start_history(norm: Norm, limit: int | None = None) -> EstimateHistory:
    """An empty history of `limit` values. None: what the norm needs, which is nothing for min-max."""
    if limit is None:
        limit = DISTRIBUTION_VALUES if norm == "distributional" else 0
    return EstimateHistory(finish_s=Window(limit), cost_usd=Window(limit))
