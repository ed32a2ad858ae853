"""What Algorithm 1 remembers of a service between two readings: a pure reducer."""

from dataclasses import dataclass, replace

from functions.autoscaling.algorithm1 import ScalingDecision, ScalingLimits, ServiceLoad, decide
from functions.autoscaling.rate_window import RateWindow
from router_model.catalogue.model import Catalogue, Service

TYPICAL_TOKENS = 128
"""Output tokens of a call while nothing is measured yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """One look at a service. `arrived` counts all records ever appended to its topics."""

    now_s: float
    arrived: int
    lag: int
    in_flight: int
    replicas: int
    service_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingState:
    """Frozen state of one service's scaling; `step` returns the next state and the decision."""

    window: RateWindow
    started_s: float
    """When the scaler began to know the service: its idle time counts from here at the earliest."""
    last_busy_s: float | None = None
    last_scale_up_s: float | None = None

    def step(
        self, reading: LoadReading, limits: ScalingLimits
    ) -> tuple["ScalingState", ScalingDecision]:
        """Folds a reading in and decides. A scale-up is assumed to be carried out."""
        window = self.window.observe(reading.now_s, reading.arrived)
        is_busy = reading.lag > 0 or reading.in_flight > 0
        last_busy = reading.now_s if is_busy else self.last_busy_s
        decision = decide(
            ServiceLoad(
                now_s=reading.now_s,
                rate_per_s=window.rate_per_s(reading.now_s),
                service_s=reading.service_s,
                lag=reading.lag,
                in_flight=reading.in_flight,
                replicas=reading.replicas,
                last_busy_s=self.started_s if last_busy is None else last_busy,
                last_scale_up_s=self.last_scale_up_s,
            ),
            limits,
        )
        has_grown = decision.replicas > reading.replicas
        following = replace(
            self,
            window=window,
            last_busy_s=last_busy,
            last_scale_up_s=reading.now_s if has_grown else self.last_scale_up_s,
        )
        return following, decision


def build_limits(
    service: Service, catalogue: Catalogue, *, idle_s: float | None, drain_goal_s: float
) -> ScalingLimits:
    """The service's limits; `idle_s` None leaves the catalogue's own idle time."""
    return ScalingLimits(
        concurrency=max(1, service.concurrency),
        min_warm=catalogue.min_warm(service),
        max_replicas=service.max_replicas,
        cooldown_s=service.cooldown_s,
        idle_s=service.idle_s if idle_s is None else idle_s,
        drain_goal_s=drain_goal_s,
    )


def assume_service_s(service: Service) -> float:
    """Service time until one is measured: first token, then a typical answer's decoding."""
    return service.ttft_s + TYPICAL_TOKENS / max(service.tokens_per_s, 1e-6)
