"""The router around its pure handler: resolves large bodies, decides, appends everything, reports when it is durable.

Both bindings use it, so that the same event gives the same records whichever way it came.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

from events import types
from events.errors import EventRejected
from events.kafka_codec import dead_letter_record, outgoing_record
from events.record import Event, Outgoing, PartitionId, Record
from functions.errors import AppendFailed, BlobMissing
from functions.ports import BlobStore, Clock, RecordAppender
from functions.router.handler import RouterPolicy, given_up, handled, outcome, refused
from functions.telemetry import Metrics
from router_model.catalogue import Catalogue
from router_model.decision import Decision
from router_model.history import NO_HISTORY, History
from router_model.registry import Registry

log = logging.getLogger(__name__)

MAX_BLOB_BYTES: Final = 8 * 1024 * 1024
"""Largest body behind a `dataref` that the router reads to decide."""


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

    def route(self, event: Event) -> "Future[None]":
        """Routes one event. Resolves when every record that follows from it is durable; fails with `AppendFailed`
        where that is not known: then the event is to be brought again, and gives the same ids.
        """
        return self._publish(event, self.decide(event))

    def refuse(self, event: Event, rejection: EventRejected) -> "Future[None]":
        """Ends a request that cannot be routed, for a reason found outside the handler."""
        return self._publish(event, self._refused(event, rejection))

    def decide(self, event: Event) -> tuple[Outgoing, ...]:
        """The handler's answer, with the body behind a `dataref` resolved."""
        parts = self._parts
        now, started = parts.clock.now(), time.perf_counter()
        try:
            body = self._resolved(event)
            found = handled(
                event, parts.catalogue, parts.registry(), now,
                policy=parts.policy, body=body, history=self._history,
            )  # fmt: skip
            outgoing = found.outgoing
            self._remember(found.decision)
        except BlobMissing:
            missing = EventRejected("invalid_event", "the data cannot be found", types.DATA_REF)
            outgoing = refused(event, missing, parts.policy, now)
        except Exception as error:
            # The loop boundary: a fault of ours ends this one request and is kept for inspection.
            log.exception("routing failed", extra={"event_id": event.id})
            outgoing = given_up(event, type(error).__name__, parts.policy, now)
        self._count(outgoing, time.perf_counter() - started)
        return outgoing

    def _remember(self, decision: Decision | None) -> None:
        """Threads may overwrite each other's step: history is a sample, one decision more or less is the same."""
        if decision is not None:
            self._history = self._history.observe(decision.candidates)
            self._parts.metrics.unusable_scores.inc(decision.unusable)

    def reject(self, record: Record, reason: str) -> "Future[None]":
        """Puts a record that holds no event on the dead letter topic, as it was; its content is left out where that
        does not fit.
        """
        self._parts.metrics.dead_letters.labels(reason.partition(":")[0]).inc()
        dlq = self._parts.policy.topics.dlq
        bare = Record(topic=record.topic, value=None)
        shortened = dead_letter_record(bare, f"{reason} (too large to keep)", topic=dlq)
        letter = dead_letter_record(record, reason, topic=dlq)
        return self._append([letter], lambda: [shortened])

    def _publish(self, event: Event, outgoing: tuple[Outgoing, ...]) -> "Future[None]":
        try:
            records = [outgoing_record(out) for out in outgoing]
        except EventRejected as error:
            log.exception("an event of our own is not valid", extra={"reason": error.reason})
            records = self._records_of_fault(event, "EventRejected")
        return self._append(records, lambda: self._records_of_too_large(event))

    def _refused(self, event: Event, rejection: EventRejected) -> tuple[Outgoing, ...]:
        parts = self._parts
        outgoing = refused(event, rejection, parts.policy, parts.clock.now())
        self._count(outgoing, 0.0)
        return outgoing

    def _records_of_too_large(self, event: Event) -> list[Record]:
        rejection = EventRejected("request_too_large", "the request does not fit a record")
        return [outgoing_record(out) for out in self._refused(replace(event, data=None), rejection)]

    def _resolved(self, event: Event) -> bytes | None:
        ref = event.get(types.DATA_REF)
        if ref is None or event.data is not None:
            return None
        return self._parts.blobs.get(ref, limit_bytes=MAX_BLOB_BYTES)

    def _records_of_fault(self, event: Event, reason: str) -> list[Record]:
        parts = self._parts
        bare = Event(id=event.id, source=event.source, type=event.type)
        return [
            outgoing_record(out) for out in given_up(bare, reason, parts.policy, parts.clock.now())
        ]

    def _append(
        self, records: list[Record], instead: Callable[[], list[Record]] | None
    ) -> "Future[None]":
        """Appends all. Where one is too large for good, `instead` is appended: trying again would never end."""
        gathered = Gathered(len(records))
        for record in records:
            gathered.add(self._parts.appender.append(record), self._failed_on(record.topic))
        if instead is None:
            return gathered.future
        outer: Future[None] = Future()

        def settle(inner: "Future[None]") -> None:
            error = inner.exception()
            if isinstance(error, AppendFailed) and error.is_too_large:
                self._append(instead(), None).add_done_callback(lambda last: _copy(last, outer))
            else:
                _copy(inner, outer)

        gathered.future.add_done_callback(settle)
        return outer

    def _failed_on(self, topic: str) -> Callable[[], None]:
        return self._parts.metrics.append_failures.labels(topic).inc

    def _count(self, outgoing: tuple[Outgoing, ...], seconds: float) -> None:
        metrics, found = self._parts.metrics, outcome(outgoing)
        metrics.decision_seconds.observe(seconds)
        if found["kind"] == "routed":
            labels = (found["service"], found["route_class"], found["reason"])
            metrics.decisions.labels(*labels).inc()
        elif found["kind"] == "dead_letter":
            metrics.dead_letters.labels(found["reason"].partition(":")[0]).inc()


class Gathered:
    """One future over several appends: done when all are, failed with the first failure."""

    def __init__(self, count: int) -> None:
        self.future: Future[None] = Future()
        self._left = count
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        if not count:
            self.future.set_result(None)

    def add(self, append: "Future[PartitionId]", on_failure: Callable[[], None]) -> None:
        append.add_done_callback(lambda done: self._one_done(done, on_failure))

    def _one_done(self, done: "Future[PartitionId]", on_failure: Callable[[], None]) -> None:
        error = done.exception()
        if error is not None:
            on_failure()
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            is_last = self._left == 0
        if not is_last:
            return
        if self._error is None:
            self.future.set_result(None)
        elif isinstance(self._error, AppendFailed):
            self.future.set_exception(self._error)
        else:
            self.future.set_exception(AppendFailed(type(self._error).__name__, is_unknown=True))


def _copy(done: "Future[None]", outer: "Future[None]") -> None:
    error = done.exception()
    if error is None:
        outer.set_result(None)
    else:
        outer.set_exception(error)
