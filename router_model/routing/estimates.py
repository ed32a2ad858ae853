"""R, T and C of a candidate: the chance of a good answer, seconds to the whole of it, dollars for it."""

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from events.openai.operations import OPERATIONS
from router_model.catalogue.model import Model, Service, Tier
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import Classification, RouteClass
from router_model.service_registry import ServiceView

SECONDS_PER_HOUR: Final = 3600.0
DEFAULT_QUALITY: Final[dict[Tier, dict[RouteClass, float]]] = {
    "L1": {"low": 0.80, "medium": 0.50, "high": 0.25},
    "L2": {"low": 0.85, "medium": 0.75, "high": 0.50},
    "L3": {"low": 0.90, "medium": 0.85, "high": 0.80},
}
"""Priors of R where the catalogue states none: a larger tier is better at everything, most at what is hard."""

Basis = Literal["learned", "stated", "tier", "default"]
"""Where an R comes from: the classifier's knowledge of the model, the catalogue's `quality`, the classifier's knowledge
of the tier, `DEFAULT_QUALITY`."""


class Relevance(NamedTuple):
    """R in [0, 1], where it comes from, and how many values of the classifier had to be passed over."""

    chance: float
    basis: Basis
    unusable: int = 0


class AnswerLength(NamedTuple):
    """Expected tokens of an answer, and how many values of the classifier had to be passed over."""

    tokens: float
    unusable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishEstimate:
    """Parts of T, in seconds, the work ahead of the request (records), and the tokens expected of the answer."""

    queue_s: float
    cold_s: float
    prefill_s: float
    first_token_s: float
    decode_s: float
    ahead: int
    answer_tokens: float

    @property
    def total_s(self) -> float:
        return self.queue_s + self.cold_s + self.busy_s

    @property
    def busy_s(self) -> float:
        """While the model works on this request."""
        return self.prefill_s + self.first_token_s + self.decode_s

    @property
    def start_eta_s(self) -> float:
        """Until the model starts on this request."""
        return self.queue_s + self.cold_s


def estimate_finish(
    service: Service, view: ServiceView, features: PromptFeatures, answer_tokens: float
) -> FinishEstimate:
    """T: queue + cold start + prefill + first token + decoding.

    Cold is healthy: a service without a ready replica costs its ETA where it reports one, else the catalogue's
    estimate. The queue is what exceeds the free slots, at the measured (else expected) time of one call.
    """
    prefill_s = features.tokens / service.prefill_tokens_per_s
    decode_s = answer_tokens / (view.tokens_per_s or service.tokens_per_s)
    call_s = view.service_s or service.ttft_s + prefill_s + decode_s
    slots = max(1, view.capacity if view.is_warm else service.concurrency)
    ahead = max(view.lag, view.in_flight)
    return FinishEstimate(
        queue_s=max(0, ahead + 1 - slots) / slots * call_s,
        cold_s=0.0 if view.is_warm else _cold_s(service, view),
        prefill_s=prefill_s,
        first_token_s=service.ttft_s,
        decode_s=decode_s,
        ahead=ahead,
        answer_tokens=answer_tokens,
    )


def estimate_cost_usd(service: Service, finish: FinishEstimate) -> float:
    """C: replica seconds x price. A replica is shared by the calls that it takes at once (as the worker counts the
    cost of an answer), a cold start by everything that waits for it.
    """
    shared_cold_s = finish.cold_s / (finish.ahead + 1)
    return (
        (finish.busy_s / max(1, service.concurrency) + shared_cold_s)
        * service.price_per_hour_usd
        / SECONDS_PER_HOUR
    )


def estimate_relevance(model: Model, found: Classification) -> Relevance:
    """R: what was learned of the model, else what the catalogue states, else what was learned of its tier, else a
    prior.

    A value of the classifier that is no number in [0, 1] counts as unknown.
    """
    unusable = 0
    learned = found.success.get(model.learned_name)
    if learned is not None:
        if 0 <= learned <= 1:
            return Relevance(float(learned), "learned")
        unusable += 1
    stated = model.quality.get(found.route_class)
    if stated is not None:
        return Relevance(stated, "stated", unusable)
    of_tier = found.tier_success.get(model.tier)
    if of_tier is not None:
        if 0 <= of_tier <= 1:
            return Relevance(float(of_tier), "tier", unusable)
        unusable += 1
    return Relevance(DEFAULT_QUALITY[model.tier][found.route_class], "default", unusable)


def estimate_answer_length(
    model: Model, features: PromptFeatures, found: Classification
) -> AnswerLength:
    """Tokens of the answer: predicted for the model, else for any model, else a default; within the caller's and the
    model's limits. 0 for embeddings. A prediction that is no finite number from 0 up counts as unknown.
    """
    if not OPERATIONS[features.operation].is_generative:
        return AnswerLength(0.0)
    unusable = 0
    expected: float = features.answer_tokens
    for predicted in (found.answer_tokens.get(model.learned_name), found.typical_answer_tokens):
        if predicted is None:
            continue
        if 0 <= predicted < math.inf:
            expected = float(predicted)
            break
        unusable += 1
    limit = model.max_tokens if features.answer_limit is None else features.answer_limit
    return AnswerLength(float(min(expected, limit, model.max_tokens)), unusable)


def _cold_s(service: Service, view: ServiceView) -> float:
    return service.cold_start_s if view.eta_s is None else max(0.0, view.eta_s)
