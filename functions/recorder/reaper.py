"""The reaper: ends requests that nothing else can end, and publishes lost ones again.

Its decisions are pure (`recorder.expiry_rules`). This module reads rows and appends terminals. It
never writes a state: the terminals come back through `infer.responses`, whose order decides which
of two came first. So every API agrees, also if an answer and the deadline meet.

Running requests are left to their worker for a moment. Nothing ends before the recorder has read
Kafka up to its deadline, because its end may be there already.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from events.builders import terminal_outgoing
from events.codecs.kafka_codec import outgoing_record
from events.event import PartitionId, Record
from events.names import Topics
from functions.ports.clock import Clock
from functions.ports.kafka import LagReader, RecordAppender
from functions.ports.store import RequestRow, RequestStore
from functions.recorder.event_recorder import recorded_topics
from functions.recorder.expiry_rules import (
    LogPositions,
    build_terminal,
    find_reply_address,
    hold_s,
    is_read,
    judge_row,
    was_dropped,
)
from functions.recorder.recorded_until import RecordedUntil
from functions.runtime.dead_letter_writer import DeadLetterWriter
from functions.runtime.errors import ApiError, AppendFailed
from functions.runtime.telemetry import Metrics

REPEAT_S: Final = 5.0
"""A terminal that has not come back from the log after this long is appended again."""
ROUND: Final = 500
"""Requests that are ended in one round."""
CHECK_S: Final = 2.0
"""Lags are read at most this often while something waits to be routed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaperLimits:
    """`route_bound_s`: accepted and not routed for this long is suspect. `append_s`: longest wait for the log."""

    route_bound_s: float
    append_s: float
    further_reply_topics: frozenset[str] = frozenset()
    max_record_bytes: int = 900 * 1024


class Reaper:
    """Call `tick` every `settings.store.reap_s`, from one thread."""

    def __init__(
        self,
        *,
        store: RequestStore,
        appender: RecordAppender,
        clock: Clock,
        topics: Topics,
        limits: ReaperLimits,
        metrics: Metrics,
        recorded: RecordedUntil,
    ) -> None:
        self._store = store
        self._appender = appender
        self._clock = clock
        self._topics = topics
        self._limits = limits
        self._metrics = metrics
        self._recorded = recorded
        self._seen: dict[str, datetime] = {}
        self._emitted: dict[str, float] = {}
        self._dead_letters = DeadLetterWriter(
            appender, topic=topics.dlq, max_bytes=limits.max_record_bytes, metrics=metrics
        )

    def tick(self) -> int:
        """Ends what is due; returns how many terminals the log has taken."""
        now = self._clock.now()
        due = [
            (row, error)
            for row in self._store.lost()
            if (error := judge_row(row, now, is_lost=True)) is not None
        ]
        overdue = self._overdue(now)
        if overdue:
            # Its end may be on the log already: nothing is ended that the recorder has not read up to that moment.
            until = self._recorded.look()
            due += [(row, error) for row, error, from_ in overdue if from_ <= until]
        self._forget_emitted()
        return self._emit(due)

    def _overdue(self, now: datetime) -> list[tuple[RequestRow, ApiError, datetime]]:
        """What may end by now, and since when it may."""
        # Those whose end is on its way, or never comes back, must not hide the others.
        rows = self._store.overdue(now, ROUND + len(self._emitted))
        self._seen = {row.id: self._seen.get(row.id, now) for row in rows}
        overdue: list[tuple[RequestRow, ApiError, datetime]] = []
        for row in rows:
            error = judge_row(row, now)
            due_at = row.deadline if row.deadline <= now else self._seen[row.id]
            from_ = due_at + timedelta(seconds=hold_s(row, now))
            if error is not None and from_ <= now:
                overdue.append((row, error, from_))
        return overdue

    def _forget_emitted(self) -> None:
        limit = self._clock.monotonic_s() - REPEAT_S
        self._emitted = {key: at for key, at in self._emitted.items() if at > limit}

    def _emit(self, due: Iterable[tuple[RequestRow, ApiError]]) -> int:
        appended: list[tuple[RequestRow, ApiError, Future[PartitionId]]] = []
        for row, error in due:
            if row.id in self._emitted:
                continue
            self._emitted[row.id] = self._clock.monotonic_s()
            try:
                appended.append((row, error, self._append(row, error)))
            except Exception:
                # The boundary of one row: whatever it holds, the others end.
                self._metrics.failed_rounds.labels(part="reaper").inc()
                log.exception("request not ended", extra={"request_id": row.id})
        return sum(self._has_landed(row, error, future) for row, error, future in appended)

    def _append(self, row: RequestRow, error: ApiError) -> "Future[PartitionId]":
        """Of the terminal on `infer.responses`: a caller that is gone must not hold up the others."""
        event = build_terminal(row, error, self._clock.now())
        reply = find_reply_address(row, self._topics, self._limits.further_reply_topics)
        outgoing = terminal_outgoing(event, topics=self._topics, reply=reply)
        public, *addressed = map(outgoing_record, outgoing)
        for record in addressed:
            told = self._appender.append(record)
            told.add_done_callback(partial(self._keep_untold, record))
        return self._appender.append(public)

    def _keep_untold(self, record: Record, told: "Future[PartitionId]") -> None:
        error = told.exception()
        if isinstance(error, AppendFailed) and error.is_final:
            self._metrics.replies_dropped.labels("undeliverable").inc()
            self._dead_letters.keep(record, "undeliverable")

    def _has_landed(self, row: RequestRow, error: ApiError, future: "Future[PartitionId]") -> bool:
        try:
            future.result(self._limits.append_s)
        except (AppendFailed, TimeoutError) as failure:
            self._emitted.pop(row.id, None)
            log.warning(
                "terminal not appended", extra={"request_id": row.id, "reason": str(failure)}
            )
            return False
        self._metrics.reaped.labels(state=error.code).inc()
        log.info("request ended", extra={"request_id": row.id, "code": error.code})
        return True


class Republisher:
    """Publishes dropped requests again. Call `tick` as often as the reaper's, from the same thread."""

    def __init__(
        self,
        *,
        store: RequestStore,
        appender: RecordAppender,
        lags: LagReader,
        clock: Clock,
        topics: Topics,
        limits: ReaperLimits,
    ) -> None:
        self._store = store
        self._appender = appender
        self._lags = lags
        self._clock = clock
        self._topics = topics
        self._limits = limits
        self._then: LogPositions | None = None
        self._checked_s = float("-inf")

    def tick(self) -> int:
        """Publishes again what was dropped; returns how many."""
        elapsed_s = self._clock.monotonic_s() - self._checked_s
        if elapsed_s < CHECK_S:
            return 0
        before = self._clock.now() - timedelta(seconds=self._limits.route_bound_s)
        if not self._store.unrouted(before, limit=1):
            self._then = None
            return 0
        self._checked_s = self._clock.monotonic_s()
        now = self._positions()
        if self._then is None or now is None:
            self._then = now
            return 0
        if not is_read(self._then.recorder, now.recorder):
            return 0
        then, self._then = self._then, now
        return self._publish(then)

    def _positions(self) -> LogPositions | None:
        topics = self._topics
        groups = {
            topics.router_group: (topics.requests,),
            topics.recorder_group: recorded_topics(topics),
        }
        try:
            offsets = self._lags.lags(groups)
        except (RuntimeError, OSError) as error:
            # What Kafka clients raise while a broker is away: asked again at the next check.
            log.warning("lags not read", extra={"reason": type(error).__name__})
            return None
        return LogPositions(
            router=offsets[topics.router_group], recorder=offsets[topics.recorder_group]
        )

    def _publish(self, then: LogPositions) -> int:
        now = self._clock.now()
        before = now - timedelta(seconds=self._limits.route_bound_s)
        landed: list[str] = []
        for row, record in self._store.unrouted(before):
            if row.deadline <= now or not was_dropped(row, record, then):
                continue
            future = self._appender.append(replace(record, partition=None, offset=-1))
            try:
                future.result(self._limits.append_s)
            except (AppendFailed, TimeoutError) as failure:
                log.warning(
                    "request not published again",
                    extra={"request_id": row.id, "reason": str(failure)},
                )
                continue
            landed.append(row.id)
            log.warning("request published again", extra={"request_id": row.id})
        if landed:
            self._store.note_republished(landed, now)
        return len(landed)
