"""What the scaler says of each service: to the status topic (one replica alone writes), to metrics and to the log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from events.names import ReplicaState
from events.payloads import StatusData
from functions.autoscaling.status_producer import StatusTeller
from functions.ports.kafka import Clock
from functions.runtime.telemetry import ScalerMetrics
from functions.scaler.latest_decisions import Verdict
from router_model.catalogue.model import Service
from router_model.service_registry import SCALER

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Start:
    """When a service was last asked to start, and how long the last start took."""

    asked_s: float | None = None
    took_s: float | None = None


class Reporter:
    """Belongs to the watching thread. `is_writer` says whether this replica writes to the status topic now."""

    def __init__(
        self,
        teller: StatusTeller,
        is_writer: Callable[[], bool],
        clock: Clock,
        metrics: ScalerMetrics,
    ) -> None:
        self._teller, self._is_writer, self._clock = teller, is_writer, clock
        self._metrics = metrics
        self._starts: dict[str, _Start] = {}
        self._wished: dict[str, int] = {}

    def report(self, service: Service, verdict: Verdict) -> None:
        """Tells one verdict; the log hears of it only when the wish changed."""
        self._time_start(verdict)
        self._measure(verdict)
        if self._wished.get(verdict.slug, 0) != verdict.wish.replicas:
            self._log(verdict)
        self._wished[verdict.slug] = verdict.wish.replicas
        if self._is_writer():
            self._teller.tell(self._status(service, verdict))

    def forget_others(self, slugs: frozenset[str]) -> None:
        """Drops what is kept of services that are gone."""
        for slug in self._wished.keys() - slugs:
            self._metrics.forget(slug)
            del self._wished[slug]
            self._starts.pop(slug, None)

    def _time_start(self, verdict: Verdict) -> None:
        start = self._starts.setdefault(verdict.slug, _Start())
        if verdict.ready:
            if start.asked_s is not None:
                start.took_s = self._clock.monotonic_s() - start.asked_s
            start.asked_s = None
        elif verdict.wish.replicas == 0:
            start.asked_s = None
        elif start.asked_s is None:
            start.asked_s = self._clock.monotonic_s()

    def _measure(self, verdict: Verdict) -> None:
        decision, slug = verdict.wish.decision, verdict.slug
        self._metrics.lag.labels(slug).set(verdict.lag)
        self._metrics.rate_target.labels(slug).set(decision.rate_target)
        self._metrics.backlog_target.labels(slug).set(decision.backlog_target)
        self._metrics.desired.labels(slug).set(verdict.wish.replicas)

    def _log(self, verdict: Verdict) -> None:
        decision = verdict.wish.decision
        log.info(
            "replicas wished",
            extra={
                "service": verdict.slug,
                "replicas": verdict.wish.replicas,
                "before": self._wished.get(verdict.slug, 0),
                "reason": decision.reason.value,
                "rate_target": decision.rate_target,
                "backlog_target": decision.backlog_target,
                "lag": verdict.lag,
                "in_flight": verdict.in_flight,
                "rate_per_s": round(verdict.rate_per_s, 3),
            },
        )

    def _status(self, service: Service, verdict: Verdict) -> StatusData:
        state = _state(verdict)
        return StatusData(
            service=service.slug,
            replica=SCALER,
            state=state,
            at=self._clock.now(),
            eta_s=self._eta_s(service, state),
            concurrency=service.concurrency,
            lag=verdict.lag,
            replicas=verdict.seen,
            desired=verdict.wish.replicas,
        )

    def _eta_s(self, service: Service, state: ReplicaState) -> float:
        """Seconds until a replica is ready: the last start's time (else the catalogue's), less what passed."""
        if state is ReplicaState.READY:
            return 0.0
        start = self._starts[service.slug]
        expected_s = service.cold_start_s if start.took_s is None else start.took_s
        if start.asked_s is None:
            return expected_s
        return max(0.0, expected_s - (self._clock.monotonic_s() - start.asked_s))


def _state(verdict: Verdict) -> ReplicaState:
    if verdict.ready:
        return ReplicaState.READY
    return ReplicaState.STARTING if verdict.wish.replicas or verdict.seen else ReplicaState.COLD
