"""T and C of a candidate: expected seconds to the whole answer, and expected dollars, from what the registry knows."""

from dataclasses import dataclass
from typing import Final

from router_model.catalogue import Model, Service, Tier
from router_model.classifier import RouteClass
from router_model.features import PromptFeatures
from router_model.registry import ServiceView

SECONDS_PER_HOUR: Final = 3600.0
DEFAULT_QUALITY: Final[dict[Tier, dict[RouteClass, float]]] = {
    "L1": {"low": 0.80, "medium": 0.50, "high": 0.25},
    "L2": {"low": 0.85, "medium": 0.75, "high": 0.50},
    "L3": {"low": 0.90, "medium": 0.85, "high": 0.80},
}
"""Priors of R where the catalogue states none: a larger tier is better at everything, most at what is hard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishEstimate:
    """Parts of T, in seconds, and the work ahead of the request (records)."""

    queue_s: float
    cold_s: float
    first_token_s: float
    decode_s: float
    ahead: int

    @property
    def total_s(self) -> float:
        return self.queue_s + self.cold_s + self.first_token_s + self.decode_s

    @property
    def start_eta_s(self) -> float:
        """Until the model starts on this request."""
        return self.queue_s + self.cold_s


def expected_finish(
    service: Service, view: ServiceView, features: PromptFeatures
) -> FinishEstimate:
    """T: queue + cold start + first token + decoding.

    Cold is healthy: a service without a ready replica costs its ETA where it reports one, else the catalogue's
    estimate. The queue is what exceeds the free slots, at the measured (else expected) time of one call.
    """
    speed = view.tokens_per_s or service.tokens_per_s
    decode_s = features.answer_tokens / speed
    call_s = view.service_s or service.ttft_s + decode_s
    slots = max(1, view.capacity if view.is_warm else service.concurrency)
    ahead = max(view.lag, view.in_flight)
    return FinishEstimate(
        queue_s=max(0, ahead + 1 - slots) / slots * call_s,
        cold_s=0.0 if view.is_warm else _cold_s(service, view),
        first_token_s=service.ttft_s,
        decode_s=decode_s,
        ahead=ahead,
    )


def expected_cost_usd(service: Service, finish: FinishEstimate) -> float:
    """C: replica seconds x price. The cold start is shared by everything that waits for it."""
    shared_cold_s = finish.cold_s / (finish.ahead + 1)
    busy_s = finish.first_token_s + finish.decode_s + shared_cold_s
    return busy_s * service.price_per_hour_usd / SECONDS_PER_HOUR


def relevance(model: Model, route_class: RouteClass) -> float:
    """R^: the chance in [0, 1] that this model answers a prompt of that class well; the catalogue's prior."""
    stated = model.quality.get(route_class)
    return DEFAULT_QUALITY[model.tier][route_class] if stated is None else stated


def _cold_s(service: Service, view: ServiceView) -> float:
    return service.cold_start_s if view.eta_s is None else max(0.0, view.eta_s)
