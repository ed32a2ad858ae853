"""What the router does with one event. Pure.

The same event and context give the same bytes, in both bindings.
Bad input never raises. It becomes a failed reply, a dead letter, or both.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from events import builders, ids, names
from events.builders import ProgressData
from events.destinations import is_waited_for
from events.errors import EventRejected
from events.event import Event, Outgoing
from events.limits import DEFAULT_LIMITS
from events.names import Priority
from events.requests import InferenceRequest, Origin, ReplyAddress, parse_request
from functions.router.refusals import (
    ReplyRules,
    build_terminal,
    check_reply,
    find_reply,
    fits,
    make_failure,
    refuse_event,
)
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import PromptFeatures, extract_features
from router_model.routing.candidates import Patience
from router_model.routing.constraints import Constraints
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.no_route import NoRoute
from router_model.routing.select import OPEN_REASONS, decide
from router_model.service_registry import Registry

_CORE_HEADERS: Final = 8
_CORE_BYTES: Final = 3072
"""Room for id, source, type, subject, time and content type: at most one long URI among them."""
_HEADER_BYTES: Final = 3
"""The `ce_` before each name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRules(ReplyRules):
    """What does not change from event to event.

    `background_wait_s` is the deadline of a request that states none. `max_hops` bounds how often one request may come
    round.
    """

    max_hops: int = 4
    background_wait_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Handled:
    """What follows from one event: records to append, in order, and the decision where one was made."""

    outgoing: tuple[Outgoing, ...]
    decision: Decision | None = None


def handle(
    event: Event, context: RoutingContext, *, rules: RouterRules, body: bytes | None = None
) -> Handled:
    """Everything that follows from one event, in the order in which it is to be appended.

    `body` is what the event's `dataref` stands for, resolved by the caller; None where there is none. A request whose
    decision is known (`registry.decisions`) goes to the same service again, with the same event ids.
    """
    now = context.now
    try:
        request = _accept(event, rules, now, body)
        if now >= request.deadline:
            message = "the deadline passed in the queue"
            return Handled(_end(request, "deadline_exceeded", message, rules, now))
        return _route(request, context, rules)
    except NoRoute as refusal:
        failure = make_failure(refusal.code, refusal.message, refusal.param)
        address = find_reply(event, rules)
        return Handled(build_terminal(Origin.of(event), failure, address, rules, now))
    except EventRejected as rejection:
        return Handled(refuse_event(event, rejection, rules, now))


def _accept(
    event: Event, rules: RouterRules, now: datetime, body: bytes | None
) -> InferenceRequest:
    request = parse_request(
        event, default_wait_s=rules.background_wait_s, body=body, received_at=now
    )
    if request.hops > rules.max_hops:
        raise EventRejected("invalid_event", "the request went round too often", names.HOPS)
    check_reply(request.reply, rules)
    return request


def _route(request: InferenceRequest, context: RoutingContext, rules: RouterRules) -> Handled:
    catalogue, now = context.catalogue, context.now
    patience: Patience = "short" if is_waited_for(request.reply, rules.topics) else "long"
    asked = route_request(request, context.registry, patience)
    decision = decide(asked, context)
    request = _within_task(request, catalogue)
    if now >= request.deadline:
        message = "the task's time passed in the queue"
        return Handled(_end(request, "deadline_exceeded", message, rules, now))
    event = _build_routed(request, decision, catalogue, now)
    routed = builders.routed_outgoing(event, request, rules.topics)
    if not fits(routed, rules):
        raise EventRejected("request_too_large", "the request does not fit a record when routed")
    if not _is_readable(event):
        raise EventRejected("header_too_large", "too many attributes, or too many bytes of them")
    progress = ProgressData(
        state="routed",
        service=decision.service,
        model=decision.model,
        eta_s=round(decision.chosen.start_eta_s, 3),
        decision=decision.info,
    )
    told = builders.build_progress(request.origin, progress, source=builders.ROUTER, now=now)
    remembered = builders.build_decision(request.request_id, decision.service, now=now)
    outgoing = (
        routed,
        *builders.progress_outgoing(
            told, topics=rules.topics, reply=_own_partition(request, rules)
        ),
        builders.decision_outgoing(remembered, topics=rules.topics),
    )
    session = _session_of(request, asked.features)
    if session is not None and decision.reason in OPEN_REASONS and asked.home != decision.service:
        # Where `auto` or a task has sent it, when that is news.
        kept = builders.build_decision(session, decision.service, now=now)
        outgoing = (*outgoing, builders.decision_outgoing(kept, topics=rules.topics))
    return Handled(outgoing, decision)


def _session_of(request: InferenceRequest, features: PromptFeatures) -> str | None:
    """Under what is remembered where a session goes, or without one a conversation; None: neither."""
    name = request.session or features.conversation
    return None if name is None else ids.of_session(request.tenant, name)


def route_request(
    request: InferenceRequest, registry: Registry, patience: Patience = "none"
) -> RouteRequest:
    """What a request wants of Pick; a decision about it that the registry knows is to be repeated."""
    features = extract_features(request.operation, request.body)
    session = _session_of(request, features)
    return RouteRequest(
        model=request.asked_model,
        features=features,
        tenant=request.tenant,
        profile=request.profile,
        limits=Constraints(
            max_cost_usd=request.max_cost_usd,
            max_latency_s=request.max_latency_s,
            min_quality=request.min_quality,
        ),
        repeat=registry.decisions.get(request.request_id),
        session=request.session,
        home=None if session is None else registry.decisions.get(session),
        fallback=request.fallback,
        patience=patience,
    )


def _within_task(request: InferenceRequest, catalogue: Catalogue) -> InferenceRequest:
    """A task's own time limit and, where the request names no lane, its lane."""
    task = catalogue.tasks.get(request.asked_model)
    if task is None:
        return request
    limit = request.accepted_at + timedelta(seconds=task.timeout_s)
    lane = request.priority
    if request.event.get(names.PRIORITY) is None:
        lane = Priority(task.priority)
    return replace(request, deadline=min(request.deadline, limit), priority=lane)


def _build_routed(
    request: InferenceRequest, decision: Decision, catalogue: Catalogue, now: datetime
) -> Event:
    """The routed event with what the router alone may say: hops, lane, the task's limit."""
    event = builders.build_routed(
        request,
        decision.info,
        service=decision.service,
        model=decision.model,
        cascade=decision.cascade,
        now=now,
    )
    task = catalogue.tasks.get(request.asked_model)
    stamps = {
        names.HOPS: str(request.hops + 1),
        names.PRIORITY: request.priority.value,
        names.MAX_TOKENS: None if task is None else str(task.max_tokens),
    }
    every = {**event.extensions, **stamps}
    return replace(event, extensions={n: v for n, v in every.items() if v is not None})


def _own_partition(request: InferenceRequest, rules: RouterRules) -> ReplyAddress | None:
    """Progress goes to a reply partition; readers of whole topics get final replies only."""
    return request.reply if is_waited_for(request.reply, rules.topics) else None


def _end(
    request: InferenceRequest, code: str, message: str, rules: RouterRules, now: datetime
) -> tuple[Outgoing, ...]:
    return build_terminal(
        request.origin, make_failure(code, message, None), request.reply, rules, now
    )


def _is_readable(event: Event) -> bool:
    """Whether the next reader's limits hold what the request brought plus what routing added."""
    size = sum(len(name) + len(value) + _HEADER_BYTES for name, value in event.extensions.items())
    size += len(event.get(names.CASCADE) or "")  # what the steps used is added on the way
    return (
        len(event.extensions) + _CORE_HEADERS <= DEFAULT_LIMITS.max_headers
        and size + _CORE_BYTES <= DEFAULT_LIMITS.max_header_bytes
    )
