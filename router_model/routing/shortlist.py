"""Which candidates may be chosen for a request, and why the others may not. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from router_model.classifier.keyword_rules import Classification
from router_model.routing.candidates import Candidate, Estimate, estimate
from router_model.routing.capabilities import Lack, find_lack
from router_model.routing.constraints import NO_CONSTRAINTS, Miss, find_worst_miss, refuse_unmet
from router_model.routing.context import RouteRequest
from router_model.routing.decision import Dropped, DropReason
from router_model.routing.no_route import NoHealthyService, NoRoute

NONE_HEALTHY: Final = "no service of the model is healthy now"
_MOST_WHY: Final = 300
"""Characters of a service's own words in a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """What may be chosen among, with estimates, and what may not. `misses`: the limits that candidates break."""

    estimates: tuple[Estimate, ...]
    dropped: tuple[Dropped, ...]
    unusable: int
    misses: tuple[Miss, ...] = ()
    is_repeat: bool = False
    why: str = ""
    """What the first unhealthy service says of itself."""
    lack: Lack | None = None
    """What the first service cannot do whose server cannot do what the request wants."""

    @property
    def refusal(self) -> NoRoute:
        """Why nothing may be chosen, where nothing may."""
        if self.misses:
            return refuse_unmet(self.misses)
        if self.lack is not None and all(one.reason == "unsupported" for one in self.dropped):
            return self.lack.refusal()
        return NoHealthyService(f"{NONE_HEALTHY}: {self.why}" if self.why else NONE_HEALTHY)


def make_shortlist(
    candidates: Iterable[Candidate], request: RouteRequest, classification: Classification
) -> Shortlist:
    """The candidates that are healthy, have capacity and keep the limits of the request.

    A service that was decided on before is taken again whatever became of it: its request may be there already.
    """
    listed = list(candidates)
    repeated = [one for one in listed if one.service.slug == request.repeat]
    if repeated:
        again = tuple(estimate(one, request.features, classification) for one in repeated)
        unusable = sum(one.unusable for one in again)
        return Shortlist(estimates=again, dropped=(), unusable=unusable, is_repeat=True)
    kept: list[Estimate] = []
    dropped: list[Dropped] = []
    misses: list[Miss] = []
    unusable, why = 0, ""
    first_lack: Lack | None = None
    for one in listed:
        lack = find_lack(one.service.backend.kind, one.view.server, request.features)
        if lack is not None:
            dropped.append(_drop(one, "unsupported", why=lack.what))
            first_lack = first_lack or lack
            continue
        obstacle = one.obstacle(request.patience)
        if obstacle is not None:
            dropped.append(_drop(one, obstacle))
            why = why or (one.view.message or "")[:_MOST_WHY]
            continue
        expected = estimate(one, request.features, classification)
        unusable += expected.unusable
        queue_s, mark_s = expected.finish.queue_s, one.service.queue_mark_s
        if request.heeds_queue and queue_s > mark_s:
            dropped.append(_drop(one, "queue", value=queue_s, limit=mark_s))
            continue
        miss = _miss(request, expected)
        if miss is not None:
            misses.append(miss)
            dropped.append(_drop(one, miss.bound, value=miss.value, limit=miss.limit))
            continue
        kept.append(expected)
    return Shortlist(
        estimates=tuple(kept),
        dropped=tuple(dropped),
        unusable=unusable,
        misses=tuple(misses),
        why=why,
        lack=first_lack,
    )


def _drop(
    candidate: Candidate,
    reason: DropReason,
    *,
    value: float | None = None,
    limit: float | None = None,
    why: str = "",
) -> Dropped:
    return Dropped(
        service=candidate.service.slug,
        model=candidate.model.id,
        reason=reason,
        value=value,
        limit=limit,
        why=why,
    )


def _miss(request: RouteRequest, expected: Estimate) -> Miss | None:
    if request.limits is NO_CONSTRAINTS:
        return None
    return find_worst_miss(
        request.limits,
        expected.candidate.service.slug,
        finish_s=expected.finish_s,
        cost_usd=expected.cost_usd,
        relevance=expected.relevance.chance,
    )
