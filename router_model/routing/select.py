"""Algorithm 2 of the paper: score every healthy service with capacity, take the best.

`decide` is the whole of Pick for one prompt: name, classify, filter, score, choose. Pure.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from events.payloads import CascadeState
from events.requests import Fallback
from router_model.cascade.plan import planned, standing_by
from router_model.catalogue.model import Catalogue, Norm
from router_model.classifier.features import PromptFeatures, within
from router_model.classifier.keyword_rules import Classification, Classifier
from router_model.routing.candidates import Candidate, Estimate, Patience, candidates_of, estimate
from router_model.routing.capabilities import Lack, lack_of
from router_model.routing.constraints import NO_CONSTRAINTS, Constraints, Miss, unmet, worst_miss
from router_model.routing.decision import CandidateTerms, Decision, Dropped
from router_model.routing.estimate_history import NO_HISTORY, History
from router_model.routing.fallbacks import Option, options_of, usable
from router_model.routing.model_names import Resolution, allowed_to, resolve
from router_model.routing.no_route import NoHealthyService, NoRoute, ProfileUnknown
from router_model.routing.scoring import ScoreWeights, scale_of, score, weights_of
from router_model.routing.session_affinity import conversation_choices, session_choice
from router_model.service_registry import Registry

OPEN_REASONS: Final = frozenset({"auto", "task"})
"""Whoever asks like this names no model: a conversation has one of its own."""
MAX_STANDING_BY: Final = 2
"""Services that may take over from the chosen one, should it fail."""
_NONE_HEALTHY: Final = "no service of the model is healthy now"
_MOST_WHY: Final = 300
"""Characters of a service's own words in a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request wants of Pick. `profile` None: the catalogue's default. `repeat`: the service of an earlier
    decision about the same request, which is repeated while it still exists. `fallback` None: as the catalogue says.
    """

    model: str
    features: PromptFeatures
    tenant: str = ""
    profile: str | None = None
    repeat: str | None = None
    session: str | None = None
    home: str | None = None
    """The service that the session has been with, where that is remembered."""
    fallback: Fallback | None = None
    limits: Constraints = NO_CONSTRAINTS
    patience: Patience = "none"
    """What it waits for where no service is healthy."""
    heeds_queue: bool = False
    """Whether a service whose queue is beyond its mark is left out."""

    @property
    def impatient(self) -> "Ask":
        """The same, which waits for nobody."""
        return replace(self, patience="none")


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
            return unmet(self.misses)
        if self.lack is not None and all(one.reason == "unsupported" for one in self.dropped):
            return self.lack.refused()
        return NoHealthyService(f"{_NONE_HEALTHY}: {self.why}" if self.why else _NONE_HEALTHY)


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
    weights = _weights(catalogue, name)
    resolution = resolve(catalogue, ask.model, ask.features.operation)
    allowed_to(resolution.models, catalogue, ask.tenant)
    if resolution.task is not None:
        ask = replace(ask, features=within(ask.features, resolution.task.max_tokens))
    options = options_of(catalogue, resolution, ask.features, ask.fallback)
    learned = dict.fromkeys(model.learned_name for one in options for model in one.models)
    judge = _Judge(classifier, tuple(learned), weights, catalogue.norm, history)
    found = judge.classify(ask.features)
    option, listed = _first_open(options, ask, catalogue, registry, now, found)
    ranked = judge.rank(listed.estimates)
    chosen = _chosen(ranked, option, listed, ask, catalogue, judge)

    def best_of(one: Option) -> CandidateTerms | None:
        with suppress(NoRoute):
            _, further = _open_option([one], ask.impatient, catalogue, registry, now, found)
            return judge.rank(further.estimates)[0]
        return None

    later = map(best_of, options[options.index(option) + 1 :])
    return Decision(
        service=chosen.service,
        model=chosen.model,
        route_class=found.route_class,
        tier=found.tier,
        score=chosen.score,
        reason="replay" if listed.is_repeat else option.reason,
        profile=name,
        catalogue=catalogue.version,
        candidates=ranked,
        stage=found.reason,
        dropped=listed.dropped,
        unusable=listed.unusable,
        stands_in_for=_replaced(resolution, chosen.model),
        cascade=_plan(ask, resolution, chosen, ranked, later),
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """How prompts of this request are classified, and candidates for them ranked."""

    classifier: Classifier
    learned: tuple[str, ...]
    """Names under which the classifier may know the models."""
    weights: ScoreWeights
    norm: Norm
    history: History

    def classify(self, features: PromptFeatures) -> Classification:
        return self.classifier.classify(features, self.learned)

    def rank(self, estimates: Sequence[Estimate]) -> tuple[CandidateTerms, ...]:
        return rank(estimates, self.weights, self.norm, self.history)


def _chosen(
    ranked: Sequence[CandidateTerms],
    option: Option,
    listed: Shortlist,
    ask: Ask,
    catalogue: Catalogue,
    judge: _Judge,
) -> CandidateTerms:
    """The best of `ranked`, or near it for a session, or of the model that a conversation keeps."""
    is_free = option.reason in OPEN_REASONS and len({terms.model for terms in ranked}) > 1
    home = _home(ask, listed, catalogue, judge) if is_free else None
    own = conversation_choices(ranked, home, margin=catalogue.conversation_margin)
    return _of_session(own, ask, catalogue)


def _home(ask: Ask, listed: Shortlist, catalogue: Catalogue, judge: _Judge) -> str | None:
    """The model that a conversation has been with: what is remembered of its session, else what its opening would be
    given now. None: it only begins.
    """
    opening = ask.features.opening
    if opening is None or catalogue.conversation_margin <= 0:
        return None
    service = None if ask.home is None else catalogue.service(ask.home)
    if service is not None:
        return service.model
    found = judge.classify(opening)
    begun = judge.rank([estimate(one.candidate, opening, found) for one in listed.estimates])
    return _of_session(begun, ask, catalogue).model


def _of_session(ranked: Sequence[CandidateTerms], ask: Ask, catalogue: Catalogue) -> CandidateTerms:
    margin = catalogue.affinity_margin
    return session_choice(ranked, ask.session, tenant=ask.tenant, margin=margin)


def _weights(catalogue: Catalogue, profile: str) -> ScoreWeights:
    found = catalogue.profiles.get(profile)
    if found is None:
        raise ProfileUnknown(f"no such profile; there are: {', '.join(catalogue.profiles)}")
    return weights_of(found)


def _plan(
    ask: Ask,
    resolution: Resolution,
    chosen: CandidateTerms,
    ranked: Sequence[CandidateTerms],
    later: Iterable[CandidateTerms | None],
) -> CascadeState | None:
    """The steps of a cascade; else who stands by: the next best of `ranked`, then of `later`, the best of each later
    option that is open.
    """
    if resolution.cascade is not None:
        return planned(ask.model, resolution.cascade, [chosen, *filter(None, later)])
    places = [chosen, *[one for one in ranked if one.service != chosen.service][:1]]
    for best in later if len(places) <= MAX_STANDING_BY else ():
        if best is not None and best.service not in {place.service for place in places}:
            places.append(best)
        if len(places) > MAX_STANDING_BY:
            break
    return standing_by(places)


def _replaced(resolution: Resolution, chosen: str) -> str | None:
    named = resolution.models[0].id
    return named if resolution.asked_by in {"explicit", "alias"} and chosen != named else None


def _first_open(
    options: Sequence[Option],
    ask: Ask,
    catalogue: Catalogue,
    registry: Registry,
    now: datetime,
    found: Classification,
) -> tuple[Option, Shortlist]:
    """The first option with a healthy service whose queue is not too long; where there is none, the first with one that
    the request waits for.

    Raises:
        NoRoute: there is neither.
    """
    eager = replace(ask.impatient, heeds_queue=True)
    try:
        return _open_option(options, eager, catalogue, registry, now, found)
    except NoRoute:
        return _open_option(options, ask, catalogue, registry, now, found)


def _open_option(
    options: Sequence[Option],
    ask: Ask,
    catalogue: Catalogue,
    registry: Registry,
    now: datetime,
    found: Classification,
) -> tuple[Option, Shortlist]:
    """The first option with a service that can take the request; an earlier decision's comes before all.

    A model that was named and breaks a limit of the request is not replaced, unless the request allows stand-ins.

    Raises:
        NoRoute: there is none; why the last one that was no stand-in could not.
    """
    refusal: NoRoute = NoHealthyService(_NONE_HEALTHY)
    dropped: dict[str, Dropped] = {}
    for option in sorted(options, key=lambda one: not _holds(one, ask.repeat, catalogue)):
        try:
            models = usable(option, catalogue, registry, ask.features, ask.tenant)
            listed = shortlist(candidates_of(catalogue, registry, models, now), ask, found)
        except NoRoute as why:
            if option.reason != "fallback":
                refusal = why
            continue
        dropped |= {one.service: one for one in listed.dropped}
        if listed.estimates:
            return option, replace(listed, dropped=tuple(dropped.values()))
        if option.reason != "fallback":
            refusal = listed.refusal
        if listed.misses and option.reason in {"explicit", "alias"} and ask.fallback != "allow":
            break
    raise refusal


def _holds(option: Option, slug: str | None, catalogue: Catalogue) -> bool:
    service = None if slug is None else catalogue.service(slug)
    return service is not None and any(model.id == service.model for model in option.models)


def shortlist(candidates: Iterable[Candidate], ask: Ask, found: Classification) -> Shortlist:
    """The candidates that are healthy, have capacity and keep the limits of the request.

    A service that was decided on before is taken again whatever became of it: its request may be there already.
    """
    listed = list(candidates)
    repeated = [one for one in listed if one.service.slug == ask.repeat]
    if repeated:
        again = tuple(estimate(one, ask.features, found) for one in repeated)
        unusable = sum(one.unusable for one in again)
        return Shortlist(estimates=again, dropped=(), unusable=unusable, is_repeat=True)
    kept, dropped, misses, unusable, why = [], [], [], 0, ""
    first_lack: Lack | None = None
    for one in listed:
        slug, model, obstacle = one.service.slug, one.model.id, one.obstacle(ask.patience)
        lack = lack_of(one.service.backend.kind, one.view.server, ask.features)
        if lack is not None:
            dropped.append(Dropped(service=slug, model=model, reason="unsupported", why=lack.what))
            first_lack = first_lack or lack
            continue
        if obstacle is not None:
            dropped.append(Dropped(service=slug, model=model, reason=obstacle))
            why = why or (one.view.message or "")[:_MOST_WHY]
            continue
        expected = estimate(one, ask.features, found)
        unusable += expected.unusable
        queue_s, mark_s = expected.finish.queue_s, one.service.queue_mark_s
        if ask.heeds_queue and queue_s > mark_s:
            dropped.append(
                Dropped(service=slug, model=model, reason="queue", value=queue_s, limit=mark_s)
            )
            continue
        miss = _miss(ask.limits, expected)
        if miss is None:
            kept.append(expected)
            continue
        misses.append(miss)
        dropped.append(
            Dropped(
                service=slug, model=model, reason=miss.bound, value=miss.value, limit=miss.limit
            )
        )
    return Shortlist(
        estimates=tuple(kept),
        dropped=tuple(dropped),
        unusable=unusable,
        misses=tuple(misses),
        why=why,
        lack=first_lack,
    )


def rank(
    estimates: Sequence[Estimate],
    weights: ScoreWeights,
    norm: Norm = "minmax",
    history: History = NO_HISTORY,
) -> tuple[CandidateTerms, ...]:
    """All candidates with their terms, best first; equal scores: cheaper, then sooner, then by slug.

    Raises:
        NoHealthyService: there is no candidate.
    """
    if not estimates:
        raise NoHealthyService(_NONE_HEALTHY)
    seconds = scale_of(norm, (one.finish_s for one in estimates), history.finish_s.ordered)
    dollars = scale_of(norm, (one.cost_usd for one in estimates), history.cost_usd.ordered)
    terms = [
        _terms(one, 1 - seconds.norm(one.finish_s), 1 - dollars.norm(one.cost_usd), weights)
        for one in estimates
    ]
    return tuple(sorted(terms, key=lambda t: (-t.score, t.cost_usd, t.finish_s, t.service)))


def _miss(limits: Constraints, expected: Estimate) -> Miss | None:
    if limits is NO_CONSTRAINTS:
        return None
    return worst_miss(
        limits,
        expected.candidate.service.slug,
        finish_s=expected.finish_s,
        cost_usd=expected.cost_usd,
        relevance=expected.relevance.chance,
    )


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
