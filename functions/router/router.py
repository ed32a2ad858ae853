"""The router around its pure handler: loads large bodies, decides, appends, reports durability.

Both bindings use it, so that the same event gives the same records.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from events import names
from events.errors import EventRejected
from events.event import Event, Outgoing, Record
from events.limits import MAX_BODY_BYTES
from events.request_identity import request_id_of
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.router.handler import Handled, RouterPolicy, handled
from functions.router.publisher import Publisher
from functions.router.refusals import outcome, refused
from functions.runtime.errors import BlobMissing
from functions.runtime.telemetry import Metrics
from router_model.catalogue.model import Catalogue
from router_model.routing.decision import Decision
from router_model.routing.estimate_history import NO_HISTORY, History
from router_model.service_registry import Registry

LARGE_AT_ONCE: Final = 2
"""Bodies behind a `dataref` that are in memory at once, however many threads there are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterParts:
    """What a router is put together from. `registry` is asked anew for every event."""

    catalogue: Catalogue
    registry: Callable[[], Registry]
    clock: Clock
    policy: RouterPolicy
    appender: RecordAppender
    blobs: BlobStore
    metrics: Metrics
    history: History = NO_HISTORY
    """Empty, with the limit that applies; the router folds its decisions into it."""


class Router:
    """Thread-safe; never raises for what an event holds."""

    def __init__(self, parts: RouterParts) -> None:
        self._parts = parts
        self._history = parts.history
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)
        self._publisher = Publisher(
            appender=parts.appender, policy=parts.policy, clock=parts.clock, metrics=parts.metrics
        )

    def route(self, event: Event) -> "Future[None]":
        """Routes one event. Resolves when every record that follows from it is durable; fails with `AppendFailed`
        where that is not known: then the event is to be brought again, and gives the same ids.
        """
        return self._ended(event, lambda: self.decide(event))

    def refuse(self, event: Event, rejection: EventRejected) -> "Future[None]":
        """Ends a request that cannot be routed, for a reason found outside the handler."""
        return self._ended(event, lambda: self._refused(event, rejection))

    def reject(self, record: Record, rejection: EventRejected) -> "Future[None]":
        """Puts a record that holds no event on the dead letter topic; where it is a request that can be told, it
        fails.
        """
        return self._publisher.reject(record, rejection)

    def abandon(self, record: Record) -> "Future[None]":
        """Ends a record that fails again and again while others get through."""
        return self._publisher.abandon(record)

    def _ended(self, event: Event, decide: Callable[[], tuple[Outgoing, ...]]) -> "Future[None]":
        """Deciding, counting and publishing under one roof: whatever fails in them ends this event alone."""
        try:
            return self._publisher.publish(event, decide())
        except Exception as error:
            # The loop boundary: a fault of ours ends this one request and is kept for inspection.
            log.exception("routing failed", extra={"event_id": event.id})
            return self._publisher.give_up(event, type(error).__name__)

    def _refused(self, event: Event, rejection: EventRejected) -> tuple[Outgoing, ...]:
        parts = self._parts
        outgoing = refused(event, rejection, parts.policy, parts.clock.now())
        self._count(event, outgoing, 0.0)
        return outgoing

    def decide(self, event: Event) -> tuple[Outgoing, ...]:
        """The handler's answer, with the body behind a `dataref` resolved."""
        parts = self._parts
        now, started = parts.clock.now(), time.perf_counter()
        try:
            found = self._handled(event, now)
            outgoing = found.outgoing
            self._remember(found.decision)
        except BlobMissing:
            missing = EventRejected("invalid_event", "the data cannot be found", names.DATA_REF)
            outgoing = refused(event, missing, parts.policy, now)
        self._count(event, outgoing, time.perf_counter() - started)
        return outgoing

    def _remember(self, decision: Decision | None) -> None:
        """Threads may overwrite each other's step: history is a sample, one decision more or less is the same."""
        if decision is not None:
            self._history = self._history.observe(decision.candidates)
            self._parts.metrics.unusable_scores.inc(decision.unusable)

    def _handled(self, event: Event, now: datetime) -> Handled:
        ref = event.get(names.DATA_REF)
        if ref is None or event.data is not None:
            return self._handle(event, now, None)
        with self._large:
            body = self._parts.blobs.get(ref, limit_bytes=MAX_BODY_BYTES)
            return self._handle(event, now, body)

    def _handle(self, event: Event, now: datetime, body: bytes | None) -> Handled:
        parts = self._parts
        return handled(
            event, parts.catalogue, parts.registry(), now,
            policy=parts.policy, body=body, history=self._history,
        )  # fmt: skip

    def _count(self, event: Event, outgoing: tuple[Outgoing, ...], seconds: float) -> None:
        metrics, found = self._parts.metrics, outcome(outgoing, self._parts.policy.topics)
        metrics.decision_seconds.observe(seconds)
        log.info("%s", found["kind"], extra=_story(event, found, seconds))
        if found["kind"] == "routed":
            labels = (found["service"], found["route_class"], found["reason"])
            metrics.decisions.labels(*labels).inc()


def _story(event: Event, found: Mapping[str, str], seconds: float) -> dict[str, object]:
    """What the log says of a decision: where the request goes, and why; never what it asks."""
    said = {name: value for name, value in found.items() if name != "kind"}
    return {"request_id": request_id_of(event), **said, "decision_ms": round(seconds * 1000, 3)}
