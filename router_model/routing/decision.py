"""A routing decision with its reasons: what travels in event attributes and can be explained afterwards."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from events.classifier_stages import explain_decision
from events.payloads import CascadeState, DecisionInfo
from router_model.catalogue.model import Tier
from router_model.classifier.keyword_rules import RouteClass
from router_model.routing.constraints import Bound
from router_model.routing.estimates import Basis, FinishEstimate

DropReason = Bound | Literal["unhealthy", "no_capacity", "queue", "unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTerms:
    """One candidate: raw T in seconds, C in dollars and R, the three normalised terms of Eq. 2, and its score.

    `relevance` is both: R is a chance in [0, 1] already; `basis` says where it comes from. `parts` are those of T.
    """

    service: str
    model: str
    finish_s: float
    cost_usd: float
    relevance: float
    basis: Basis
    latency: float
    cost: float
    score: float
    parts: FinishEstimate

    @property
    def start_eta_s(self) -> float:
        """Seconds until the model would start on the request."""
        return self.parts.start_eta_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A service that was not scored. `value` and `limit` are those of a broken limit, else None; `why` says of one that
    cannot do it what it lacks.
    """

    service: str
    model: str
    reason: DropReason
    value: float | None = None
    limit: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The chosen service.

    `tier` is the tier that the class asks for; the model chosen may be of another one. `reason` is how the model was
    named (`explicit`, `alias`, `task`, `cascade`, `auto`), `fallback` where another model stands in for the one that
    was named, or `replay` for a repeated decision; `stage` is what of the classifier found the class. `candidates`
    lists every service that was scored, best first (the session's own may be chosen before the best); `dropped` those
    that were not. `unusable` counts values of the classifier that were no chance or length and counted as unknown.
    """

    service: str
    model: str
    route_class: RouteClass
    tier: Tier
    score: float
    reason: str
    profile: str
    catalogue: str
    candidates: tuple[CandidateTerms, ...]
    stage: str = ""
    policy: str | None = None
    """Name of the policy that ranked them; None: Equation 2."""
    policy_fault: str | None = None
    """Why that policy did not, and Equation 2 did."""
    dropped: tuple[Dropped, ...] = ()
    unusable: int = 0
    stands_in_for: str | None = None
    """Id of the model that was named, where another one was chosen for it."""
    cascade: CascadeState | None = None
    """The steps of a cascade; the chosen service is the first."""

    @property
    def chosen(self) -> CandidateTerms:
        return next(terms for terms in self.candidates if terms.service == self.service)

    @property
    def info(self) -> DecisionInfo:
        """As it is shown on the wire and to the caller."""
        return explain_decision(
            DecisionInfo(
                route_class=self.route_class,
                score=self.score,
                reason=self.reason,
                catalogue=self.catalogue,
                stage=self.stage or msgspec.UNSET,
                asked_model=self.stands_in_for or msgspec.UNSET,
            )
        )
