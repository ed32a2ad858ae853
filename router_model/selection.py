"""Algorithm 2 of the paper: score every healthy service with capacity, take the best.

`decide` is the whole of Pick for one prompt: name, classify, filter, score, choose. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from router_model.catalogue import Catalogue, Model, Service
from router_model.classifier import Classification, Classifier, RouteClass
from router_model.decision import CandidateTerms, Decision
from router_model.estimating import FinishEstimate, expected_cost_usd, expected_finish, relevance
from router_model.features import PromptFeatures
from router_model.refusals import NoHealthyService, ProfileUnknown
from router_model.registry import Registry, ServiceView
from router_model.resolving import allowed_to, fitting, resolve
from router_model.scoring import Range, ScoreWeights, range_of, score, weights_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """One cell of the service matrix with what the registry knows of it."""

    model: Model
    service: Service
    view: ServiceView

    @property
    def is_eligible(self) -> bool:
        """Healthy (cold counts) and, when warm, with slots at all."""
        return self.view.is_healthy and (not self.view.is_warm or self.view.capacity > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request wants of Pick. `profile` None: the catalogue's default. `repeat`: the service of an earlier
    decision about the same request, which is repeated while it still exists.
    """

    model: str
    features: PromptFeatures
    tenant: str = ""
    profile: str | None = None
    repeat: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Ranges of T and C seen before; None: the candidates alone."""

    finish_s: Range | None = None
    cost_usd: Range | None = None


NO_HISTORY = History()


def decide(
    ask: Ask,
    catalogue: Catalogue,
    registry: Registry,
    now: datetime,
    classifier: Classifier,
    history: History = NO_HISTORY,
) -> Decision:
    """Chooses a service.

    Raises:
        NoRoute: one of its subclasses says why there is none.
    """
    name = catalogue.default_profile if ask.profile is None else ask.profile
    profile = catalogue.profiles.get(name)
    if profile is None:
        raise ProfileUnknown(f"no such profile; there are: {', '.join(catalogue.profiles)}")
    resolution = resolve(catalogue, ask.model, ask.features.operation)
    models = fitting(resolution, ask.features)
    models = allowed_to(models, catalogue, ask.tenant)
    found = classifier.classify(ask.features)
    candidates = candidates_of(catalogue, registry, models, now)
    repeated = [one for one in candidates if one.service.slug == ask.repeat]
    eligible = repeated or [one for one in candidates if one.is_eligible]
    ranked = rank(eligible, found.route_class, ask.features, weights_of(profile), history)
    reason = "replay" if repeated else resolution.asked_by
    return _decision(ranked, found, reason, name, catalogue.version)


def candidates_of(
    catalogue: Catalogue, registry: Registry, models: Iterable[Model], now: datetime
) -> list[Candidate]:
    """Every enabled service of the models, with its view at `now`."""
    return [
        Candidate(model, service, registry.view(service.slug, now))
        for model in models
        for service in catalogue.services_of(model.id)
    ]


def rank(
    candidates: Iterable[Candidate],
    route_class: RouteClass,
    features: PromptFeatures,
    weights: ScoreWeights,
    history: History = NO_HISTORY,
) -> tuple[CandidateTerms, ...]:
    """All candidates with their terms, best first; equal scores: cheaper, then sooner, then by slug.

    Raises:
        NoHealthyService: there is no candidate.
    """
    finishes = [(one, expected_finish(one.service, one.view, features)) for one in candidates]
    if not finishes:
        raise NoHealthyService("no service of the model is healthy now")
    raw = [(one, finish, expected_cost_usd(one.service, finish)) for one, finish in finishes]
    seconds = range_of((finish.total_s for _, finish, _ in raw), history.finish_s)
    dollars = range_of((cost for _, _, cost in raw), history.cost_usd)
    terms = [
        _terms(one, finish, cost, (1 - seconds.norm(finish.total_s), 1 - dollars.norm(cost)),
               relevance(one.model, route_class), weights)
        for one, finish, cost in raw
    ]  # fmt: skip
    return tuple(sorted(terms, key=lambda t: (-t.score, t.cost_usd, t.finish_s, t.service)))


def _terms(
    candidate: Candidate,
    finish: FinishEstimate,
    cost_usd: float,
    normed: tuple[float, float],
    chance: float,
    weights: ScoreWeights,
) -> CandidateTerms:
    latency, cost = normed
    return CandidateTerms(
        service=candidate.service.slug,
        model=candidate.model.id,
        finish_s=finish.total_s,
        cost_usd=cost_usd,
        relevance=chance,
        latency=latency,
        cost=cost,
        score=score(weights, chance, latency, cost),
        start_eta_s=finish.start_eta_s,
    )


def _decision(
    ranked: tuple[CandidateTerms, ...],
    found: Classification,
    reason: str,
    profile: str,
    version: str,
) -> Decision:
    best = ranked[0]
    return Decision(
        service=best.service,
        model=best.model,
        route_class=found.route_class,
        tier=found.tier,
        score=best.score,
        reason=reason,
        profile=profile,
        catalogue=version,
        candidates=ranked,
    )
