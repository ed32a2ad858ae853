"""A decision as text, tables and plain data. Pure: what was decided is not judged again, only shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from events.classifier_stages import stage_in_words, why_not_judged
from events.payloads import DECISION_WORDS
from functions.local.columns import format_rows, make_columns, wrap_text
from router_model.catalogue.model import Catalogue, Model
from router_model.classifier.features import PromptFeatures
from router_model.replay.replayed_decisions import Readiness
from router_model.routing.context import RouteRequest
from router_model.routing.decision import CandidateTerms, Decision, Dropped
from router_model.routing.estimates import Basis
from router_model.routing.model_names import filter_fitting, resolve
from router_model.routing.no_route import NoRoute
from router_model.routing.scoring import ScoreWeights, normalise_weights

BASES: dict[Basis, str] = {
    "learned": "learned of the model",
    "stated": "stated in the catalogue",
    "tier": "learned of its tier",
    "default": "default of its tier",
}
_IN_SENTENCES: Final = {"route_class", "score", "catalogue", "reason", "stage", "asked_model"}
"""Words of a decision that `short_lines` tells."""
CHOSEN: Final = "> "
OTHER: Final = ""
_NUMBERS: Final = ("score", "R", "T^", "C^", "T s", "queue", "cold", "prefill", "first", "decode",
                   "tokens", "C USD")  # fmt: skip
CANDIDATE: Final = make_columns(("service", *_NUMBERS[:2], "from", *_NUMBERS[2:]), numbers=_NUMBERS)
_DROPPED: dict[str, str] = {
    "unhealthy": "its starts or its calls fail",
    "no_capacity": "it has no slots",
    "unsupported": "its server cannot do what is asked",
    "queue": "seconds are expected in its queue",
    "max_cost": "USD expected",
    "max_latency": "seconds expected",
    "min_quality": "chance of a good answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedDecision:
    """A decision and what it was made from. Times are milliseconds: median of warm decisions, and the first one."""

    request: RouteRequest
    catalogue: Catalogue
    decision: Decision
    readiness: Readiness
    decision_ms: float
    first_ms: float

    @property
    def weights(self) -> ScoreWeights:
        return normalise_weights(self.catalogue.profiles[self.decision.profile])


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A service of the catalogue that was never a candidate."""

    service: str
    model: str
    reason: str


def short_lines(explained: ExplainedDecision) -> Iterator[str]:
    """Service, class, stage, score, and why."""
    decision, chosen = explained.decision, explained.decision.chosen
    yield f"{decision.service}  (model {decision.model}, score {decision.score:.3f})"
    not_judged = why_not_judged(decision.stage, decision.route_class)
    if not_judged is not None:
        yield not_judged
    by = "" if not_judged else f" by {decision.stage or 'an unnamed stage'}"
    yield (
        f"class {decision.route_class}{by}, which asks for tier {decision.tier}; "
        f"{_named(explained)}; profile {decision.profile}, catalogue {decision.catalogue}"
    )
    yield (
        f"{chosen.relevance:.2f} chance of a good answer ({BASES[chosen.basis]}), {chosen.finish_s:.2f} s, "
        f"{chosen.cost_usd:.6f} USD expected; every model {_assumed(explained.readiness)}"
    )
    if decision.policy_fault is not None:
        yield f"policy {decision.policy} failed, equation 2 ranked: {decision.policy_fault}"
    elif decision.policy is not None:
        yield f"ranked by policy {decision.policy}; scores are those of equation 2"
    if decision.cascade is not None:
        is_cascade = decision.cascade.on == "unsure"
        # The first place of a plan is the chosen service: nobody takes over from itself.
        places = decision.cascade.plan if is_cascade else decision.cascade.plan[1:]
        plan = ", then ".join(place.service for place in places)
        yield f"cascade {decision.cascade.name}: {plan}" if is_cascade else f"if it fails: {plan}"


def full_lines(explained: ExplainedDecision, width: int) -> Iterator[str]:
    """Everything: features, weights, candidates with every term, and who was not one; nothing is cut at `width`."""
    features, weights = explained.request.features, explained.weights
    yield ""
    yield from wrap_text(
        f"decided in {explained.decision_ms:.3f} ms (the first time {explained.first_ms:.1f} ms); prompt of about "
        f"{features.tokens} tokens{_wants(features)}; norm {explained.catalogue.norm}",
        width,
    )
    yield f"score = {weights.relevance:.3f} R + {weights.latency:.3f} T^ + {weights.cost:.3f} C^"
    yield ""
    rows = [_candidate(one, explained.decision.service) for one in explained.decision.candidates]
    yield from format_rows(CANDIDATE, rows, width)
    others = [*_dropped_rows(explained.decision.dropped), *_left_out_rows(explained)]
    if others:
        yield ""
        yield from format_rows(make_columns(("not chosen from", "model", "why")), others, width)
    info = explained.decision.info
    for word in DECISION_WORDS:
        value = getattr(info, word.field)
        if word.field not in _IN_SENTENCES and value is not msgspec.UNSET:
            yield from wrap_text(f"{word.field} {value}: {word.meaning}", width)
    if explained.decision.unusable:
        yield f"{explained.decision.unusable} values of the classifier could not be used"


def as_plain(explained: ExplainedDecision) -> dict[str, Any]:
    """The decision and everything around it as plain data."""
    plain: dict[str, Any] = msgspec.to_builtins(explained.decision)
    return plain | {
        "asked_model": explained.request.model,
        "stage_in_words": stage_in_words(explained.decision.stage, explained.decision.route_class),
        "models_are": _assumed(explained.readiness),
        "prompt_tokens": explained.request.features.tokens,
        "needs": list(explained.request.features.needs),
        "limits": msgspec.to_builtins(explained.request.limits),
        "weights": msgspec.to_builtins(explained.weights),
        "norm": explained.catalogue.norm,
        "left_out": [msgspec.to_builtins(one) for one in left_out(explained)],
        "decision_ms": round(explained.decision_ms, 4),
        "first_decision_ms": round(explained.first_ms, 4),
    }


def left_out(explained: ExplainedDecision) -> Iterator[LeftOut]:
    """Every service that was neither scored nor dropped, and why it never came that far."""
    known = {one.service for one in explained.decision.candidates}
    known |= {one.service for one in explained.decision.dropped}
    for service in explained.catalogue.services:
        if service.slug in known:
            continue
        model = explained.catalogue.model(service.model)
        reason = "it is disabled"
        if service.enabled and model is not None:
            reason = _obstacle(model, explained)
        yield LeftOut(service=service.slug, model=service.model, reason=reason)


def _obstacle(model: Model, explained: ExplainedDecision) -> str:
    features = explained.request.features
    if features.operation.value not in model.capabilities:
        return f"it does not offer {features.operation.value}"
    missing = [need for need in features.needs if need not in model.capabilities]
    if missing:
        return f"it does not offer {' and '.join(missing)}"
    try:
        named = resolve(explained.catalogue, explained.request.model, features.operation)
        if model not in named.models:
            return f"{explained.request.model} does not stand for it"
        if model not in filter_fitting((model, *named.models), features, is_named=False):
            return f"its context of {model.context_length} tokens is too short"
    except NoRoute as refusal:
        return refusal.message
    return "others come first"


def _candidate(one: CandidateTerms, chosen: str) -> tuple[str, ...]:
    parts = one.parts
    seconds = (one.finish_s, parts.queue_s, parts.cold_s, parts.prefill_s, parts.first_token_s)
    return (
        f"{CHOSEN if one.service == chosen else OTHER}{one.service}",
        f"{one.score:.3f}",
        f"{one.relevance:.3f}",
        one.basis,
        f"{one.latency:.3f}",
        f"{one.cost:.3f}",
        *(f"{value:.2f}" for value in (*seconds, parts.decode_s)),
        f"{parts.answer_tokens:.0f}",
        f"{one.cost_usd:.6f}",
    )


def _dropped_rows(dropped: tuple[Dropped, ...]) -> Iterator[tuple[str, str, str]]:
    for one in dropped:
        why = one.why or _DROPPED[one.reason]
        if one.value is not None and one.limit is not None:
            why = f"{one.reason} is {one.limit:g}: {one.value:.4g} {why}"
        yield one.service, one.model, why


def _left_out_rows(explained: ExplainedDecision) -> Iterator[tuple[str, str, str]]:
    for one in left_out(explained):
        yield one.service, one.model, one.reason


def _named(explained: ExplainedDecision) -> str:
    stands_in = explained.decision.stands_in_for
    if stands_in is not None:
        return f"stands in for {stands_in} ({explained.decision.reason})"
    return f"asked for as {explained.request.model} ({explained.decision.reason})"


def _wants(features: PromptFeatures) -> str:
    return f", needs {' and '.join(features.needs)}" if features.needs else ""


def _assumed(readiness: Readiness) -> str:
    return "idle" if readiness == "warm" else "asleep"
