"""Reports decisions to the status topic (one replica alone writes), to metrics and the log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from events.names import ReplicaState
from events.payloads import StatusData
from functions.autoscaling.status_producer import StatusProducer
from functions.ports.clock import Clock
from functions.runtime.telemetry import ScalerMetrics
from functions.scaler.latest_decisions import ServiceDecision
from router_model.catalogue.model import Service
from router_model.service_registry import SCALER

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _StartTimes:
    """When a service was last asked to start, and how long the last start took."""

    asked_s: float | None = None
    took_s: float | None = None


class ScalerReporter:
    """Belongs to the watcher's thread. `is_writer`: this replica writes to the topic now."""

    def __init__(
        self,
        producer: StatusProducer,
        is_writer: Callable[[], bool],
        clock: Clock,
        metrics: ScalerMetrics,
    ) -> None:
        self._producer, self._is_writer, self._clock = producer, is_writer, clock
        self._metrics = metrics
        self._starts: dict[str, _StartTimes] = {}
        self._desired: dict[str, int] = {}

    def report(self, service: Service, decision: ServiceDecision) -> None:
        """Reports one decision; the log hears of it only when the number of replicas changed."""
        self._time_start(decision)
        self._measure(decision)
        if self._desired.get(decision.slug, 0) != decision.desired.replicas:
            self._log(decision)
        self._desired[decision.slug] = decision.desired.replicas
        if self._is_writer():
            self._producer.publish(self._build_status(service, decision))

    def forget_others(self, slugs: frozenset[str]) -> None:
        """Drops what is kept of services that are gone."""
        for slug in self._desired.keys() - slugs:
            self._metrics.forget(slug)
            del self._desired[slug]
            self._starts.pop(slug, None)

    def _time_start(self, decision: ServiceDecision) -> None:
        start = self._starts.setdefault(decision.slug, _StartTimes())
        if decision.ready:
            if start.asked_s is not None:
                start.took_s = self._clock.monotonic_s() - start.asked_s
            start.asked_s = None
        elif decision.desired.replicas == 0:
            start.asked_s = None
        elif start.asked_s is None:
            start.asked_s = self._clock.monotonic_s()

    def _measure(self, decision: ServiceDecision) -> None:
        scaling, slug = decision.desired.decision, decision.slug
        self._metrics.lag.labels(slug).set(decision.lag)
        self._metrics.rate_target.labels(slug).set(scaling.rate_target)
        self._metrics.backlog_target.labels(slug).set(scaling.backlog_target)
        self._metrics.desired.labels(slug).set(decision.desired.replicas)

    def _log(self, decision: ServiceDecision) -> None:
        scaling = decision.desired.decision
        log.info(
            "replicas wished",
            extra={
                "service": decision.slug,
                "replicas": decision.desired.replicas,
                "before": self._desired.get(decision.slug, 0),
                "reason": scaling.reason.value,
                "rate_target": scaling.rate_target,
                "backlog_target": scaling.backlog_target,
                "lag": decision.lag,
                "in_flight": decision.in_flight,
                "rate_per_s": round(decision.rate_per_s, 3),
            },
        )

    def _build_status(self, service: Service, decision: ServiceDecision) -> StatusData:
        state = _derive_state(decision)
        return StatusData(
            service=service.slug,
            replica=SCALER,
            state=state,
            at=self._clock.now(),
            eta_s=self._estimate_eta_s(service, state),
            concurrency=service.concurrency,
            lag=decision.lag,
            replicas=decision.seen,
            desired=decision.desired.replicas,
        )

    def _estimate_eta_s(self, service: Service, state: ReplicaState) -> float:
        """Seconds until a replica is ready: the last start's, else the catalogue's, less those passed."""
        if state is ReplicaState.READY:
            return 0.0
        start = self._starts[service.slug]
        expected_s = service.cold_start_s if start.took_s is None else start.took_s
        if start.asked_s is None:
            return expected_s
        return max(0.0, expected_s - (self._clock.monotonic_s() - start.asked_s))


def _derive_state(decision: ServiceDecision) -> ReplicaState:
    if decision.ready:
        return ReplicaState.READY
    return (
        ReplicaState.STARTING if decision.desired.replicas or decision.seen else ReplicaState.COLD
    )
