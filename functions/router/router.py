"""The router around its pure handler: loads large bodies, decides, appends, reports durability.

Both bindings use it, so that the same event gives the same records.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from events import names
from events.errors import EventRejected
from events.event import Event, Outgoing, Record
from events.limits import MAX_BODY_BYTES
from events.request_identity import read_request_id
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.router.handler import Handled, RouterRules, handle
from functions.router.publisher import RouterPublisher
from functions.router.refusals import refuse_event, summarise_outgoing
from functions.runtime.errors import BlobMissing
from functions.runtime.telemetry import Metrics
from router_model.routing.context import RoutingContext
from router_model.routing.decision import Decision
from router_model.service_registry import Registry

LARGE_AT_ONCE: Final = 2
"""Bodies behind a `dataref` that are in memory at once, however many threads there are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterDependencies:
    """What a router is put together from.

    `context` is what it starts with: for each event its registry and instant are asked anew, and it folds its decisions
    into the history.
    """

    context: RoutingContext
    registry: Callable[[], Registry]
    clock: Clock
    rules: RouterRules
    appender: RecordAppender
    blobs: BlobStore
    metrics: Metrics


class Router:
    """Thread-safe; never raises for what an event holds."""

    def __init__(self, dependencies: RouterDependencies) -> None:
        self._dependencies = dependencies
        self._history = dependencies.context.history
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)
        self._publisher = RouterPublisher(
            appender=dependencies.appender,
            rules=dependencies.rules,
            clock=dependencies.clock,
            metrics=dependencies.metrics,
        )

    def route(self, event: Event) -> "Future[None]":
        """Routes one event. Resolves when every record that follows from it is durable; fails with `AppendFailed`
        where that is not known: then the event is to be brought again, and gives the same ids.
        """
        return self._decide_and_publish(event, lambda: self.decide(event))

    def refuse(self, event: Event, rejection: EventRejected) -> "Future[None]":
        """Ends a request that cannot be routed, for a reason found outside the handler."""
        return self._decide_and_publish(event, lambda: self._refuse(event, rejection))

    def reject(self, record: Record, rejection: EventRejected) -> "Future[None]":
        """Writes a record without an event to the dead letter topic, and a failed reply if it has
        an address.
        """
        return self._publisher.reject(record, rejection)

    def abandon(self, record: Record) -> "Future[None]":
        """Ends a record that fails again and again while others get through."""
        return self._publisher.abandon(record)

    def _decide_and_publish(
        self, event: Event, decide: Callable[[], tuple[Outgoing, ...]]
    ) -> "Future[None]":
        """Deciding, counting and publishing under one roof: whatever fails in them ends this event alone."""
        try:
            return self._publisher.publish(event, decide())
        except Exception as error:
            # The loop boundary: a fault of ours ends this one request and is kept for inspection.
            log.exception("routing failed", extra={"event_id": event.id})
            return self._publisher.give_up(event, type(error).__name__)

    def _refuse(self, event: Event, rejection: EventRejected) -> tuple[Outgoing, ...]:
        rules, clock = self._dependencies.rules, self._dependencies.clock
        outgoing = refuse_event(event, rejection, rules, clock.now())
        self._count(event, outgoing, 0.0)
        return outgoing

    def decide(self, event: Event) -> tuple[Outgoing, ...]:
        """The handler's answer, with the body behind a `dataref` resolved."""
        now, started = self._dependencies.clock.now(), time.perf_counter()
        try:
            handled = self._resolve_and_handle(event, now)
            outgoing = handled.outgoing
            self._remember(event, handled.decision)
        except BlobMissing:
            missing = EventRejected("invalid_event", "the data cannot be found", names.DATA_REF)
            outgoing = refuse_event(event, missing, self._dependencies.rules, now)
        self._count(event, outgoing, time.perf_counter() - started)
        return outgoing

    def _remember(self, event: Event, decision: Decision | None) -> None:
        """Threads may overwrite each other's step: history is a sample, one decision more or less is the same."""
        if decision is None:
            return
        self._history = self._history.observe(decision.candidates)
        metrics = self._dependencies.metrics
        metrics.unusable_scores.inc(decision.unusable)
        if decision.policy is not None and decision.policy_fault is not None:
            metrics.policy_failures.labels(decision.policy).inc()
            log.error(
                "the policy failed, equation 2 decided",
                extra={
                    "request_id": read_request_id(event),
                    "policy": decision.policy,
                    "reason": decision.policy_fault,
                },
            )

    def _resolve_and_handle(self, event: Event, now: datetime) -> Handled:
        ref = event.get(names.DATA_REF)
        if ref is None or event.data is not None:
            return self._handle(event, now, None)
        with self._large:
            body = self._dependencies.blobs.get(ref, limit_bytes=MAX_BODY_BYTES)
            return self._handle(event, now, body)

    def _handle(self, event: Event, now: datetime, body: bytes | None) -> Handled:
        parts = self._dependencies
        context = replace(parts.context, registry=parts.registry(), now=now, history=self._history)
        return handle(event, context, rules=parts.rules, body=body)

    def _count(self, event: Event, outgoing: tuple[Outgoing, ...], seconds: float) -> None:
        metrics = self._dependencies.metrics
        summary = summarise_outgoing(outgoing, self._dependencies.rules.topics)
        metrics.decision_seconds.observe(seconds)
        log.info("%s", summary["kind"], extra=_story(event, summary, seconds))
        if summary["kind"] == "routed":
            labels = (summary["service"], summary["route_class"], summary["reason"])
            metrics.decisions.labels(*labels).inc()


def _story(event: Event, summary: Mapping[str, str], seconds: float) -> dict[str, object]:
    """What the log says of a decision: where the request goes, and why; never what it asks."""
    said = {name: value for name, value in summary.items() if name != "kind"}
    return {"request_id": read_request_id(event), **said, "decision_ms": round(seconds * 1000, 3)}
