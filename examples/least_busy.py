"""A routing policy of one's own: the least busy of the services that are good enough.

It is this file and one line of the catalogue, with the file beside it (or in `PICKSPIN_ROUTER_POLICY_DIR`):

    policy: least_busy:LeastBusy
"""

from collections.abc import Sequence
from typing import Final

from router_model.routing.decision import CandidateTerms
from router_model.routing.policy import PolicyContext

MARGIN: Final = 0.1
"""How much less likely than the best one a good answer may be."""
ASLEEP: Final = 1.0
"""A service that has to start first counts as full."""


class LeastBusy:
    """Good enough before the others, then by how many of its places are taken, then by cost."""

    def rank(
        self, candidates: Sequence[CandidateTerms], context: PolicyContext
    ) -> Sequence[CandidateTerms]:
        enough = max(one.relevance for one in candidates) - MARGIN

        def order(one: CandidateTerms) -> tuple[bool, float, float]:
            return one.relevance < enough, taken_share(one.service, context), one.cost_usd

        return sorted(candidates, key=order)


def taken_share(service: str, context: PolicyContext) -> float:
    """Requests that run or wait, for each place of the service."""
    view = context.registry.view(service, context.now)
    return (view.in_flight + view.lag) / view.capacity if view.capacity else ASLEEP
