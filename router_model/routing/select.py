"""Algorithm 2 of the paper: score every healthy service with capacity, take the best.

`decide` is the whole of Pick for one prompt: name, classify, filter, score, rank, choose. Pure, if its policy is.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from events.payloads import CascadeState
from router_model.cascade.plan import plan_cascade, plan_stand_by
from router_model.classifier.features import PromptFeatures, limit_answer
from router_model.classifier.keyword_rules import Classification
from router_model.routing.candidates import Estimate, estimate, find_candidates
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import CandidateTerms, Decision, Dropped
from router_model.routing.fallbacks import Option, filter_usable, list_options
from router_model.routing.model_names import Resolution, filter_allowed, resolve
from router_model.routing.no_route import NoHealthyService, NoRoute, ProfileUnknown
from router_model.routing.policy import (
    LoadedPolicy,
    PolicyFailed,
    add_request,
    find_policy,
    name_policy,
)
from router_model.routing.scoring import normalise_weights, score_candidates
from router_model.routing.session_affinity import choose_for_session, filter_for_conversation
from router_model.routing.shortlist import NONE_HEALTHY, Shortlist, make_shortlist

OPEN_REASONS: Final = frozenset({"auto", "task"})
"""Whoever asks like this names no model: a conversation has one of its own."""
MAX_STANDING_BY: Final = 2
"""Services that may take over from the chosen one, should it fail."""


def decide(request: RouteRequest, context: RoutingContext) -> Decision:
    """Chooses a service: by the policy that the catalogue names, and by Equation 2 where it names none or that fails.

    Raises:
        NoRoute: one of its subclasses says why there is none.
    """
    catalogue = context.catalogue
    profile = catalogue.default_profile if request.profile is None else request.profile
    if profile not in catalogue.profiles:
        raise ProfileUnknown(f"no such profile; there are: {', '.join(catalogue.profiles)}")
    name = name_policy(catalogue, profile)
    try:
        policy = None if name is None else find_policy(context, name)
        return replace(_decide_by(policy, request, context, profile), policy=name)
    except PolicyFailed as failure:
        decision = _decide_by(None, request, context, profile)
        return replace(decision, policy=name, policy_fault=str(failure))


def _decide_by(
    policy: LoadedPolicy | None, request: RouteRequest, context: RoutingContext, profile: str
) -> Decision:
    catalogue = context.catalogue
    resolution = resolve(catalogue, request.model, request.features.operation)
    filter_allowed(resolution.models, catalogue, request.tenant)
    if resolution.task is not None:
        limited = limit_answer(request.features, resolution.task.max_tokens)
        request = replace(request, features=limited)
    options = list_options(catalogue, resolution, request.features, request.fallback)
    pick = _Pick(request, context, profile, policy, options)
    option, listed = pick.first_open()
    ranked = pick.rank(listed.estimates, pick.classification)
    chosen = pick.choose(ranked, option, listed)
    later = map(pick.best_of, options[options.index(option) + 1 :])
    return Decision(
        service=chosen.service,
        model=chosen.model,
        route_class=pick.classification.route_class,
        tier=pick.classification.tier,
        score=chosen.score,
        reason="replay" if listed.is_repeat else option.reason,
        profile=profile,
        catalogue=catalogue.version,
        candidates=ranked,
        stage=pick.classification.reason,
        dropped=listed.dropped,
        unusable=listed.unusable,
        stands_in_for=_replaced(resolution, chosen.model),
        cascade=_plan(request, resolution, chosen, ranked, later),
    )


class _Pick:
    """One decision under way. Its prompt is classified once.

    Raises:
        PolicyFailed: by any method that ranks.
    """

    def __init__(
        self,
        request: RouteRequest,
        context: RoutingContext,
        profile: str,
        policy: LoadedPolicy | None,
        options: Sequence[Option],
    ) -> None:
        self._request = request
        self._context = context
        self._profile = profile
        self._policy = policy
        self._options = options
        self._weights = normalise_weights(context.catalogue.profiles[profile])
        learned = dict.fromkeys(model.learned_name for one in options for model in one.models)
        self._learned = tuple(learned)
        self.classification = self._classify(request.features)

    def rank(
        self, estimates: Sequence[Estimate], classification: Classification
    ) -> tuple[CandidateTerms, ...]:
        """All candidates, best first. A policy is asked where there is something to choose."""
        context, norm = self._context, self._context.catalogue.norm
        scored = score_candidates(estimates, self._weights, norm, context.history)
        if self._policy is None or len(scored) <= 1:
            return scored
        known = add_request(context, self._request, self._profile, classification)
        return self._policy.rank(scored, known)

    def choose(
        self, ranked: Sequence[CandidateTerms], option: Option, listed: Shortlist
    ) -> CandidateTerms:
        """The best of `ranked`, or near it for a session, or of the model that a conversation keeps."""
        is_free = option.reason in OPEN_REASONS and len({terms.model for terms in ranked}) > 1
        home = self._home_model(listed) if is_free else None
        margin = self._context.catalogue.conversation_margin
        return self._of_session(filter_for_conversation(ranked, home, margin=margin))

    def first_open(self) -> tuple[Option, Shortlist]:
        """The first option with a healthy service whose queue is not too long; where there is none, the first with one
        that the request waits for.

        Raises:
            NoRoute: there is neither.
        """
        try:
            eager = replace(self._request.impatient, heeds_queue=True)
            return self._open_option(self._options, eager)
        except NoRoute:
            return self._open_option(self._options, self._request)

    def best_of(self, option: Option) -> CandidateTerms | None:
        """The best service of another option, if one can take the request now."""
        with suppress(NoRoute):
            _, listed = self._open_option([option], self._request.impatient)
            return self.rank(listed.estimates, self.classification)[0]
        return None

    def _open_option(
        self, options: Sequence[Option], request: RouteRequest
    ) -> tuple[Option, Shortlist]:
        """The first option with a service that can take the request; an earlier decision's comes before all.

        A model that was named and breaks a limit of the request is not replaced, unless the request allows stand-ins.

        Raises:
            NoRoute: there is none; why the last one that was no stand-in could not.
        """
        catalogue, registry = self._context.catalogue, self._context.registry
        refusal: NoRoute = NoHealthyService(NONE_HEALTHY)
        dropped: dict[str, Dropped] = {}
        for option in sorted(options, key=lambda one: not self._holds_repeat(one)):
            try:
                models = filter_usable(
                    option, catalogue, registry, request.features, request.tenant
                )
                candidates = find_candidates(catalogue, registry, models, self._context.now)
                listed = make_shortlist(candidates, request, self.classification)
            except NoRoute as why:
                if option.reason != "fallback":
                    refusal = why
                continue
            dropped |= {one.service: one for one in listed.dropped}
            if listed.estimates:
                return option, replace(listed, dropped=tuple(dropped.values()))
            if option.reason != "fallback":
                refusal = listed.refusal
            is_named = option.reason in {"explicit", "alias"}
            if listed.misses and is_named and request.fallback != "allow":
                break
        raise refusal

    def _holds_repeat(self, option: Option) -> bool:
        slug = self._request.repeat
        service = None if slug is None else self._context.catalogue.service(slug)
        return service is not None and any(model.id == service.model for model in option.models)

    def _classify(self, features: PromptFeatures) -> Classification:
        return self._context.classifier.classify(features, self._learned)

    def _home_model(self, listed: Shortlist) -> str | None:
        """The model that a conversation has been with: what is remembered of its session, else what its opening would
        be given now. None: it only begins.
        """
        request, catalogue = self._request, self._context.catalogue
        opening = request.features.opening
        if opening is None or catalogue.conversation_margin <= 0:
            return None
        service = None if request.home is None else catalogue.service(request.home)
        if service is not None:
            return service.model
        classification = self._classify(opening)
        begun = [estimate(one.candidate, opening, classification) for one in listed.estimates]
        return self._of_session(self.rank(begun, classification)).model

    def _of_session(self, ranked: Sequence[CandidateTerms]) -> CandidateTerms:
        return choose_for_session(
            ranked,
            self._request.session,
            tenant=self._request.tenant,
            margin=self._context.catalogue.affinity_margin,
            by_score=self._policy is None,
        )


def _plan(
    request: RouteRequest,
    resolution: Resolution,
    chosen: CandidateTerms,
    ranked: Sequence[CandidateTerms],
    later: Iterable[CandidateTerms | None],
) -> CascadeState | None:
    """The steps of a cascade, else the stand-by services: the next best of `ranked`, then the best
    of each later open option.
    """
    if resolution.cascade is not None:
        return plan_cascade(request.model, resolution.cascade, [chosen, *filter(None, later)])
    places = [chosen, *[one for one in ranked if one.service != chosen.service][:1]]
    for best in later if len(places) <= MAX_STANDING_BY else ():
        if best is not None and best.service not in {place.service for place in places}:
            places.append(best)
        if len(places) > MAX_STANDING_BY:
            break
    return plan_stand_by(places)


def _replaced(resolution: Resolution, chosen: str) -> str | None:
    named = resolution.models[0].id
    return named if resolution.asked_by in {"explicit", "alias"} and chosen != named else None
