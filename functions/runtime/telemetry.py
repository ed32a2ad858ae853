"""Logs and metrics. Every metric name of the product is declared here and nowhere else.

Rules: unit in the name, state as a label, no label with unbounded values (no request ids, tenants only where
limited by the catalogue), counters end in `_total`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
LATENCY_S: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; user text is escaped, so that it can never forge a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=True)


def setup_logging(process: str, level: str, file: Path | None = None) -> None:
    """JSON lines on stderr, or in a file, for this process. Client libraries speak only from WARNING up, kafka-python
    only from ERROR up: what it warns of is a broker that is away, which its owner says once.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else logging.FileHandler(file)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kafka", "httpx", "httpcore", "uvicorn.access", "sqlalchemy"):
        least = logging.ERROR if noisy == "kafka" else logging.WARNING
        logging.getLogger(noisy).setLevel(max(least, logging.getLogger().level))


def _with_process(registry: CollectorRegistry | None) -> CollectorRegistry:
    """A registry (None: a new one) that has the process's own figures too: memory, CPU time, open files."""
    metrics = registry or CollectorRegistry()
    ProcessCollector(registry=metrics)
    return metrics


class Metrics:
    """All metrics of one process on a registry of its own (None: a new one)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        r = self.registry = _with_process(registry)
        self.requests = Counter(
            "pickspin_requests",
            "Requests by door, operation and outcome.",
            ["door", "operation", "outcome"],
            registry=r,
        )
        self.refusals = Counter("pickspin_refusals", "Refusals by code.", ["code"], registry=r)
        self.waiters = Gauge("pickspin_waiters", "Open synchronous calls and streams.", registry=r)
        self.e2e_latency = Histogram(
            "pickspin_e2e_latency_seconds",
            "Accepted to answered.",
            ["operation"],
            buckets=LATENCY_S,
            registry=r,
        )
        self.ttft = Histogram(
            "pickspin_ttft_seconds",
            "Accepted to the first streamed token.",
            ["service"],
            buckets=LATENCY_S,
            registry=r,
        )
        self.replies_dropped = Counter(
            "pickspin_replies_dropped",
            "Reply events not delivered, by reason.",
            ["reason"],
            registry=r,
        )
        self.decisions = Counter(
            "pickspin_decisions",
            "Routing decisions.",
            ["service", "route_class", "reason"],
            registry=r,
        )
        self.unusable_scores = Counter(
            "pickspin_unusable_scores",
            "Values of the classifier that were no chance or length, and counted as unknown.",
            registry=r,
        )
        self.policy_failures = Counter(
            "pickspin_policy_failures",
            "Decisions that Equation 2 made because the catalogue's policy failed.",
            ["policy"],
            registry=r,
        )
        self.classifier_fallbacks = Counter(
            "pickspin_classifier_fallbacks",
            "Starts on which the keyword rule stood in for weights that cannot be used.",
            registry=r,
        )
        self.decision_seconds = Histogram(
            "pickspin_decision_seconds",
            "Time of one routing decision.",
            buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
            registry=r,
        )
        self.dead_letters = Counter(
            "pickspin_dead_letters",
            "Records sent to the dead letter topic.",
            ["reason"],
            registry=r,
        )
        self.skipped_records = Counter(
            "pickspin_skipped_records",
            "Records that a reader could not use and passed over.",
            ["reader"],
            registry=r,
        )
        self.failed_rounds = Counter(
            "pickspin_failed_rounds",
            "Rounds of a process's part that failed for a reason of our own.",
            ["part"],
            registry=r,
        )
        self.append_failures = Counter(
            "pickspin_append_failures", "Appends that failed or are unknown.", ["topic"], registry=r
        )
        self.stalled = Gauge(
            "pickspin_stalled_partitions",
            "Partitions with lag whose commits have not moved for broker.stalled_s.",
            ["group"],
            registry=r,
        )
        self.blob_failures = Counter(
            "pickspin_blob_failures", "Answers that the blob store did not take.", registry=r
        )
        self.attempts = Counter(
            "pickspin_attempts", "Model calls by outcome.", ["service", "outcome"], registry=r
        )
        self.in_flight = Gauge(
            "pickspin_in_flight", "Model calls running.", ["service"], registry=r
        )
        self.engine = Gauge(
            "pickspin_engine",
            "What the model server says of itself, whatever its kind calls it: running, waiting, cache (0 to 1).",
            ["service", "what"],
            registry=r,
        )
        self.breaker = Gauge(
            "pickspin_breaker",
            "1 for the state of a service's circuit breaker: closed, half_open, open.",
            ["service", "state"],
            registry=r,
        )
        self.model_seconds = Histogram(
            "pickspin_model_seconds",
            "Duration of model calls.",
            ["service"],
            buckets=LATENCY_S,
            registry=r,
        )
        self.cold_start_seconds = Histogram(
            "pickspin_cold_start_seconds",
            "Replica start to ready.",
            ["service"],
            buckets=LATENCY_S,
            registry=r,
        )
        self.reaped = Counter(
            "pickspin_reaped", "Requests ended by the reaper.", ["state"], registry=r
        )
        self.other_ends = Counter(
            "pickspin_other_ends",
            "Ends of requests that had another one before, by what differs: state, or the answer. The first counts.",
            ["differs"],
            registry=r,
        )
        self.callbacks = Counter(
            "pickspin_callback_attempts", "Callback attempts by outcome.", ["outcome"], registry=r
        )


class ScalerMetrics:
    """Metrics of the scaler, on a registry of their own. One time series a service, dropped with it."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = _with_process(registry)

        def of_service(name: str, what: str) -> Gauge:
            return Gauge(name, what, ["service"], registry=self.registry)

        self.lag = of_service("pickspin_scaler_lag", "Records not committed.")
        self.rate_target = of_service(
            "pickspin_scaler_rate_target", "Replicas by Little's law over the window."
        )
        self.backlog_target = of_service(
            "pickspin_scaler_backlog_target", "Replicas that drain the backlog within the goal."
        )
        self.desired = of_service("pickspin_scaler_desired_replicas", "Replicas asked for.")
        self.readings = Counter(
            "pickspin_scaler_readings",
            "Readings of offsets by kind: ends and starts are one request a broker, commits one a coordinator.",
            ["kind"],
            registry=self.registry,
        )
        self.failures = Counter(
            "pickspin_scaler_failed_rounds", "Rounds that read nothing.", registry=self.registry
        )
        self.round_seconds = Histogram(
            "pickspin_scaler_round_seconds",
            "Reading and deciding, all services.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            registry=self.registry,
        )
        self.pushes = Counter(
            "pickspin_scaler_pushes", "Messages pushed to KEDA.", ["active"], registry=self.registry
        )
        self.streams = Gauge("pickspin_scaler_streams", "Open streams.", registry=self.registry)
        self.is_writer = Gauge(
            "pickspin_scaler_is_writer",
            "1 at the replica that writes to the status topic.",
            registry=self.registry,
        )

    def forget(self, slug: str) -> None:
        """Drops the series of a service that is gone."""
        for gauge in (self.lag, self.rate_target, self.backlog_target, self.desired):
            gauge.remove(slug)


class ControllerMetrics:
    """Metrics of the controller, on a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        r = self.registry = _with_process(registry)
        self.calls = Counter(
            "pickspin_kubernetes_calls",
            "Calls of the Kubernetes API by verb, kind and status class (0: no answer).",
            ["verb", "kind", "status"],
            registry=r,
        )
        self.reconciles = Counter(
            "pickspin_controller_reconciles", "Looks at a revision.", ["outcome"], registry=r
        )
        self.writes = Counter(
            "pickspin_controller_writes",
            "Objects written by kind, verb and outcome; Events and the Lease not counted.",
            ["kind", "verb", "outcome"],
            registry=r,
        )
        self.queue = Gauge("pickspin_controller_queue", "Revisions waiting for a look.", registry=r)
        self.is_leader = Gauge(
            "pickspin_controller_leader", "1 on the replica that acts, else 0.", registry=r
        )
        self.recoveries = Counter(
            "pickspin_controller_recoveries",
            "Broken model pods by service and what was done.",
            ["service", "outcome"],
            registry=r,
        )
        self.departures = Counter(
            "pickspin_controller_departures",
            "Members removed from a service's consumer group after their pods were gone.",
            ["service"],
            registry=r,
        )
        self.held_warm = Gauge(
            "pickspin_controller_held_warm",
            "1 where a service is held warm ahead of requests.",
            ["service", "why"],
            registry=r,
        )
        self.offsets = Counter(
            "pickspin_controller_offsets_committed",
            "Missing consumer offsets that were committed.",
            ["group"],
            registry=r,
        )
