"""Recorded requests decided again under another profile, model or catalogue: what would it have cost, taken, answered.

What was measured and what is expected are never added up. Expected figures of the recorded choice stand beside those
of the new one, made in the same way; a measured figure of the new choice exists only where the recording has one for
that very prompt and model. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from events.names import ReplicaState
from events.payloads import StatusData
from router_model.catalogue.model import Catalogue
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import CandidateTerms, Decision
from router_model.routing.estimate_history import start_history
from router_model.routing.no_route import NoRoute
from router_model.routing.select import decide
from router_model.service_registry import Registry

Readiness = Literal["warm", "cold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Dollars, seconds to the whole answer, and how good it was or the chance that it is good, in [0, 1]. None: not
    known.
    """

    cost_usd: float | None = None
    seconds: float | None = None
    answered: float | None = None


NOTHING: Final = Figures()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one model's answer. Money and time hold for `service` (None: any of the model's)."""

    figures: Figures
    service: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request of the past as it was sent, and what is known of it. `seen` is by model id or learned name."""

    id: str
    request: RouteRequest
    service: str | None = None
    model: str | None = None
    seen: Mapping[str, Measurement] = field(default_factory=dict)
    is_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the requests are decided under. `profile` and `model` None: as each request asked."""

    context: RoutingContext
    profile: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One service, with what was measured of its answer and what is expected of it."""

    service: str
    model: str
    measured: Figures = NOTHING
    expected: Figures = NOTHING

    @property
    def answered(self) -> float | None:
        """How good the answer was where that was measured, else the chance that it is good."""
        measured = self.measured.answered
        return self.expected.answered if measured is None else measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Redecided:
    """One request: what it did (None: not on record), and what it would do (None: refused, see `refusal`)."""

    id: str
    asked_model: str
    was: Choice | None
    would: Choice | None
    refusal: str | None = None
    decision: Decision | None = None
    is_failed: bool = False

    @property
    def is_changed(self) -> bool:
        """Another service than recorded, or refused. A request without a recorded choice has not changed."""
        if self.was is None:
            return False
        return self.would is None or self.would.service != self.was.service


def assume_registry(catalogue: Catalogue, readiness: Readiness, now: datetime) -> Registry:
    """Every service with one idle replica, or every service asleep: the recording does not say how it was then."""
    if readiness == "cold":
        return Registry()
    statuses = [
        StatusData(
            service=service.slug,
            replica="assumed",
            state=ReplicaState.READY,
            at=now,
            concurrency=service.concurrency,
        )
        for service in catalogue.services
        if service.enabled
    ]
    return Registry({(status.service, status.replica): status for status in statuses})


def replay(requests: Iterable[RecordedRequest], scenario: Scenario) -> Iterator[Redecided]:
    """Decides each again, one by one, each as if it were alone; history of the norm grows from one to the next."""
    context = scenario.context
    history = start_history(context.catalogue.norm)
    for recorded in requests:
        context = replace(context, history=history)
        redecided = redecide(recorded, replace(scenario, context=context))
        if redecided.decision is not None:
            history = history.observe(redecided.decision.candidates)
        yield redecided


def redecide(recorded: RecordedRequest, scenario: Scenario) -> Redecided:
    """One request decided again. Never raises: a refusal is a result."""
    request = replace(
        recorded.request,
        model=scenario.model or recorded.request.model,
        profile=scenario.profile or recorded.request.profile,
        repeat=None,
    )
    redecided = Redecided(
        id=recorded.id,
        asked_model=recorded.request.model,
        was=_recorded_choice(recorded, scenario.context),
        would=None,
        is_failed=recorded.is_failed,
    )
    try:
        decision = decide(request, scenario.context)
    except NoRoute as refusal:
        return replace(redecided, refusal=f"{refusal.code}: {refusal.message}")
    chosen = decision.chosen
    would = Choice(
        service=chosen.service,
        model=chosen.model,
        measured=_measured(recorded, scenario.context.catalogue, chosen.service, chosen.model),
        expected=_expected(chosen),
    )
    return replace(redecided, would=would, decision=decision)


def _recorded_choice(recorded: RecordedRequest, context: RoutingContext) -> Choice | None:
    service, model = recorded.service, recorded.model
    if service is None or model is None:
        return None
    measured = _measured(recorded, context.catalogue, service, model)
    expected = NOTHING
    known = context.catalogue.service(service)
    if known is not None and known.model == model and known.enabled:
        # Its own model by name and without limits: it was chosen, whatever would be chosen now.
        request = RouteRequest(model=model, features=recorded.request.features, repeat=service)
        try:
            expected = _expected(decide(request, context).chosen)
        except NoRoute:
            expected = NOTHING
    return Choice(service=service, model=model, measured=measured, expected=expected)


def _measured(recorded: RecordedRequest, catalogue: Catalogue, service: str, model: str) -> Figures:
    known = catalogue.model(model)
    seen = recorded.seen.get(model)
    if seen is None and known is not None:
        seen = recorded.seen.get(known.learned_name)
    if seen is None:
        return NOTHING
    if seen.service in (None, service):
        return seen.figures
    # The same model elsewhere: as good, but neither as dear nor as fast.
    return Figures(answered=seen.figures.answered)


def _expected(terms: CandidateTerms) -> Figures:
    return Figures(cost_usd=terms.cost_usd, seconds=terms.finish_s, answered=terms.relevance)
