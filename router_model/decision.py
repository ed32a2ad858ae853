"""A routing decision with its reasons: what travels in event attributes and can be explained afterwards."""

from dataclasses import dataclass

from router_model.catalogue import Tier
from router_model.classifier import RouteClass


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTerms:
    """One candidate: T in seconds, C in dollars, the three normalised terms of Eq. 2, and its score."""

    service: str
    model: str
    finish_s: float
    cost_usd: float
    relevance: float
    latency: float
    cost: float
    score: float
    start_eta_s: float = 0.0
    """Seconds until the model would start on the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The chosen service.

    `tier` is the tier that the class asks for; the model chosen may be of another one. `reason` is how the model was
    named (`explicit`, `alias`, `task`, `auto`), or `replay` for a repeated decision. `candidates` lists every service
    that was scored, best first.
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

    @property
    def chosen(self) -> CandidateTerms:
        return next(terms for terms in self.candidates if terms.service == self.service)
