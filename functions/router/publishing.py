"""Puts what follows from an event into the log, and ends every record: an address that cannot be told costs its caller
the reply and nobody else anything, what does not fit is refused, and only a broker that is away is waited for.

Shared by the router, whichever way its events come, and by the source.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from events.errors import EventRejected
from events.kafka_codec import outgoing_record
from events.record import Event, Outgoing, PartitionId, Record
from events.salvaging import salvaged
from events.types import DEAD_LETTER_REASON, ROUTED, TERMINAL_TYPES
from functions.dead_lettering import DeadLetters
from functions.errors import AppendFailed
from functions.ports import Clock, RecordAppender
from functions.router.refusing import (
    ReplyPolicy,
    given_up,
    is_addressed,
    refused,
    unroutable,
)
from functions.telemetry import Metrics

log = logging.getLogger(__name__)

GIVEN_UP: Final = "given_up"
"""Why a record is a dead letter that was tried too often."""

Instead = Callable[[AppendFailed], Sequence[Outgoing]]
"""What is published instead, where a record can never be appended."""


class Publisher:
    """Thread-safe. Futures resolve when everything is durable, and fail with `AppendFailed` where the same call may
    succeed later.
    """

    def __init__(
        self, *, appender: RecordAppender, policy: ReplyPolicy, clock: Clock, metrics: Metrics
    ) -> None:
        self._appender = appender
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._dead_letters = DeadLetters(
            appender, topic=policy.topics.dlq, max_bytes=policy.max_record_bytes, metrics=metrics
        )

    def publish(self, event: Event, outgoing: Sequence[Outgoing]) -> "Future[None]":
        """Appends all that follows from `event`. Where one of it can never be, the event ends as refused."""

        def instead(error: AppendFailed) -> Sequence[Outgoing]:
            now = self._clock.now()
            if error.is_unroutable:
                return unroutable(event, self._policy, now)
            rejection = EventRejected("request_too_large", "the request does not fit a record")
            return refused(replace(event, data=None), rejection, self._policy, now)

        try:
            return self._published(event, outgoing, instead)
        except Exception as error:
            # The loop boundary: what cannot be written is a fault of ours, and ends this one event.
            log.exception("an event of our own cannot be written")
            return self.give_up(event, type(error).__name__)

    def give_up(self, event: Event, reason: str) -> "Future[None]":
        """After a fault of our own (a class name): the request fails as `internal`, the event is kept."""
        bare = Event(id=event.id, source=event.source, type=event.type)
        for known in (event, bare):
            try:
                outgoing = given_up(known, reason, self._policy, self._clock.now())
                return self._published(known, outgoing, None)
            except Exception:
                log.exception("an event cannot be given up")
        return self._keep_place(event, f"internal:{reason}")

    def reject(self, record: Record, rejection: EventRejected) -> "Future[None]":
        """Puts a record that holds no event on the dead letter topic; a request with a usable id fails besides, so that
        its caller need not wait for its deadline.
        """
        return self._keep_and_tell(
            record,
            rejection.reason,
            lambda event: refused(event, rejection, self._policy, self._clock.now()),
        )

    def abandon(self, record: Record, reason: str) -> "Future[None]":
        """As `reject`, for a record that may well be an event, and that is tried no longer: it fails as `internal`."""
        return self._keep_and_tell(
            record,
            reason,
            lambda event: given_up(event, reason, self._policy, self._clock.now()),
            is_last=True,
        )

    def _keep_and_tell(
        self,
        record: Record,
        reason: str,
        told: Callable[[Event], Sequence[Outgoing]],
        *,
        is_last: bool = False,
    ) -> "Future[None]":
        every = [self._dead_letters.keep(record, reason)]
        event = salvaged(record)
        if event is not None:
            outgoing = [out for out in told(event) if out.topic != self._policy.topics.dlq]
            every.append(self._published(event, outgoing, None, is_last=is_last))
        return gathered(every)

    def keep(self, record: Record, reason: str) -> "Future[None]":
        """Puts a record that cannot be handled on the dead letter topic."""
        return self._dead_letters.keep(record, reason)

    def _published(
        self,
        event: Event,
        outgoing: Sequence[Outgoing],
        instead: Instead | None,
        *,
        is_last: bool = False,
    ) -> "Future[None]":
        """`is_last`: no further try follows, whatever it is that the caller's address lacks."""
        records = [(out, outgoing_record(out)) for out in outgoing]
        every = gathered([self._appended(out, record, is_last=is_last) for out, record in records])
        outer: Future[None] = Future()

        def settle(inner: "Future[None]") -> None:
            error = inner.exception()
            if not isinstance(error, AppendFailed) or not error.is_final:
                _copy(inner, outer)
                return
            try:
                last = (
                    self._keep_place(event, "unwritable")
                    if instead is None
                    else self._published(event, instead(error), None)
                )
            except Exception as bug:
                log.exception("an event cannot be refused")
                last = self._keep_place(event, f"internal:{type(bug).__name__}")
            last.add_done_callback(lambda done: _copy(done, outer))

        every.add_done_callback(settle)
        return outer

    def _appended(self, out: Outgoing, record: Record, *, is_last: bool) -> "Future[None]":
        """One record. It fails for good only where the event itself has to end another way."""
        is_spared = is_last or out.event.type not in TERMINAL_TYPES
        if out.topic == self._policy.topics.dlq:
            return self._kept_letter(out, record)
        outer: Future[None] = Future()

        def settle(inner: "Future[PartitionId]") -> None:
            error = inner.exception()
            if error is None:
                outer.set_result(None)
                return
            self._metrics.append_failures.labels(out.topic).inc()
            is_final = isinstance(error, AppendFailed) and error.is_final
            if is_addressed(out, self._policy) and (is_final or is_spared):
                self._untold(out, record).add_done_callback(lambda done: _copy(done, outer))
            elif not isinstance(error, AppendFailed):
                outer.set_exception(AppendFailed(type(error).__name__, is_unknown=True))
            elif error.is_unroutable and out.event.type != ROUTED:
                # A topic of our own is missing: that is the installation, not this event.
                outer.set_exception(AppendFailed(error.reason))
            else:
                outer.set_exception(error)

        self._appender.append(record).add_done_callback(settle)
        return outer

    def _untold(self, out: Outgoing, record: Record) -> "Future[None]":
        """The caller named an address that takes nothing: an end is kept, what is only on the way is not."""
        self._metrics.replies_dropped.labels("undeliverable").inc()
        if out.event.type in TERMINAL_TYPES:
            return self._dead_letters.keep(record, "undeliverable")
        return _done()

    def _kept_letter(self, out: Outgoing, record: Record) -> "Future[None]":
        reason = out.event.get(DEAD_LETTER_REASON) or ""
        return self._dead_letters.keep(replace(record, topic=self._policy.topics.requests), reason)

    def _keep_place(self, event: Event, reason: str) -> "Future[None]":
        """The last resort: that there was such an event."""
        header = ("ce_id", event.id.encode("utf-8", "replace"))
        bare = Record(topic=self._policy.topics.requests, value=None, headers=(header,))
        return self._dead_letters.keep(bare, reason)


def gathered(every: Sequence["Future[None]"]) -> "Future[None]":
    """One future over several: done when all are; failed with the first failure that another try may mend, else with
    the first.
    """
    future: Future[None] = Future()
    left, lock = [len(every)], threading.Lock()
    errors: list[BaseException] = []
    if not every:
        return _done()

    def one_done(done: "Future[None]") -> None:
        error = done.exception()
        with lock:
            left[0] -= 1
            if error is not None:
                errors.append(error)
            is_last = left[0] == 0
        if is_last and errors:
            passing = (e for e in errors if not (isinstance(e, AppendFailed) and e.is_final))
            future.set_exception(next(passing, errors[0]))
        elif is_last:
            future.set_result(None)

    for one in every:
        one.add_done_callback(one_done)
    return future


def _copy(done: "Future[None]", outer: "Future[None]") -> None:
    error = done.exception()
    if error is None:
        outer.set_result(None)
    else:
        outer.set_exception(error)


def _done() -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None)
    return future
