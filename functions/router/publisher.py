"""Appends the records that follow from an event. It ends for every record.

An address that takes nothing costs only its caller the reply. A record that does not fit is
refused. It waits only while the broker is down. Used by both bindings and by the source.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from events.codecs.kafka_codec import outgoing_record
from events.errors import EventRejected
from events.event import Event, Outgoing, PartitionId, Record
from events.names import DEAD_LETTER_REASON, REQUEST_ID, ROUTED, TENANT, TERMINAL_TYPES
from events.salvage import salvage
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.router.refusals import (
    ReplyRules,
    give_up_event,
    is_addressed,
    refuse_event,
    refuse_unroutable,
)
from functions.runtime.dead_letter_writer import DeadLetterWriter
from functions.runtime.errors import AppendFailed
from functions.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

_GIVEN_UP: Final = "given_up"
"""Why a record is a dead letter that was tried too often."""

_IDENTITY: Final = (TENANT, REQUEST_ID)
"""With id and source: which request it is."""

Instead = Callable[[AppendFailed], Sequence[Outgoing]]
"""What is published instead, where a record can never be appended."""


Then = Callable[[BaseException | None], None]
"""Hears how one append ended; None: well."""


class RouterPublisher:
    """Thread-safe. Futures resolve when everything is durable, and fail with `AppendFailed` where the same call may
    succeed later.
    """

    def __init__(
        self, *, appender: RecordAppender, rules: ReplyRules, clock: Clock, metrics: Metrics
    ) -> None:
        self._appender = appender
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._dead_letters = DeadLetterWriter(
            appender, topic=rules.topics.dlq, max_bytes=rules.max_record_bytes, metrics=metrics
        )

    def publish(self, event: Event, outgoing: Sequence[Outgoing]) -> "Future[None]":
        """Appends all that follows from `event`. Where one of it can never be, the event ends as refused."""

        def instead(error: AppendFailed) -> Sequence[Outgoing]:
            now = self._clock.now()
            if error.is_unroutable:
                return refuse_unroutable(event, self._rules, now)
            rejection = EventRejected("request_too_large", "the request does not fit a record")
            return refuse_event(replace(event, data=None), rejection, self._rules, now)

        try:
            return self._publish(event, outgoing, instead)
        except Exception as error:
            # The loop boundary: what cannot be written is a fault of ours, and ends this one event.
            log.exception("an event of our own cannot be written")
            return self.give_up(event, type(error).__name__)

    def give_up(self, event: Event, reason: str) -> "Future[None]":
        """After a fault of our own (a class name): the request fails as `internal`, the event is kept."""
        kept = {name: value for name in _IDENTITY if (value := event.get(name)) is not None}
        bare = Event(id=event.id, source=event.source, type=event.type, extensions=kept)
        for known in (event, bare):
            try:
                outgoing = give_up_event(known, reason, self._rules, self._clock.now())
                return self._publish(known, outgoing, None)
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
            lambda event: refuse_event(event, rejection, self._rules, self._clock.now()),
        )

    def abandon(self, record: Record) -> "Future[None]":
        """As `reject`, for a record that may well be an event, and that is tried no longer: it fails as `internal`."""
        return self._keep_and_tell(
            record,
            _GIVEN_UP,
            lambda event: give_up_event(event, _GIVEN_UP, self._rules, self._clock.now()),
            is_last=True,
        )

    def _keep_and_tell(
        self,
        record: Record,
        reason: str,
        tell: Callable[[Event], Sequence[Outgoing]],
        *,
        is_last: bool = False,
    ) -> "Future[None]":
        every = [self._dead_letters.keep(record, reason)]
        event = salvage(record)
        if event is not None:
            outgoing = [out for out in tell(event) if out.topic != self._rules.topics.dlq]
            every.append(self._publish(event, outgoing, None, is_last=is_last))
        return gather_futures(every)

    def keep(self, record: Record, reason: str) -> "Future[None]":
        """Puts a record that cannot be handled on the dead letter topic."""
        return self._dead_letters.keep(record, reason)

    def _publish(
        self,
        event: Event,
        outgoing: Sequence[Outgoing],
        instead: Instead | None,
        *,
        is_last: bool = False,
    ) -> "Future[None]":
        """`is_last`: no further try follows, whatever it is that the caller's address lacks."""
        records = [(out, outgoing_record(out)) for out in outgoing]
        outer: Future[None] = Future()

        def settle(error: BaseException | None) -> None:
            if not isinstance(error, AppendFailed) or not error.is_final:
                _end(outer, error)
                return
            try:
                last = (
                    self._keep_place(event, "unwritable")
                    if instead is None
                    else self._publish(event, instead(error), None)
                )
            except Exception as bug:
                log.exception("an event cannot be refused")
                last = self._keep_place(event, f"internal:{type(bug).__name__}")
            last.add_done_callback(lambda done: _end(outer, done.exception()))

        ends = Gathering(len(records), settle)
        for out, record in records:
            self._append(out, record, ends.one_ended, is_last=is_last)
        return outer

    def _append(self, out: Outgoing, record: Record, then: Then, *, is_last: bool) -> None:
        """One record. It fails for good only where the event itself has to end another way."""
        if out.topic == self._rules.topics.dlq:
            kept = self._kept_letter(out, record)
            kept.add_done_callback(lambda done: then(done.exception()))
            return
        is_spared = is_last or out.event.type not in TERMINAL_TYPES

        def settle(done: "Future[PartitionId]") -> None:
            error = done.exception()
            if error is None:
                then(None)
                return
            self._metrics.append_failures.labels(out.topic).inc()
            is_final = isinstance(error, AppendFailed) and error.is_final
            if is_addressed(out, self._rules) and (is_final or is_spared):
                self._keep_untold(out, record, then)
            elif not isinstance(error, AppendFailed):
                then(AppendFailed(type(error).__name__, is_unknown=True))
            elif error.is_unroutable and out.event.type != ROUTED:
                # A topic of our own is missing: that is the installation, not this event.
                then(AppendFailed(error.reason))
            else:
                then(error)

        self._appender.append(record).add_done_callback(settle)

    def _keep_untold(self, out: Outgoing, record: Record, then: Then) -> None:
        """The caller named an address that takes nothing: an end is kept, what is only on the way is not."""
        self._metrics.replies_dropped.labels("undeliverable").inc()
        if out.event.type not in TERMINAL_TYPES:
            then(None)
            return
        kept = self._dead_letters.keep(record, "undeliverable")
        kept.add_done_callback(lambda done: then(done.exception()))

    def _kept_letter(self, out: Outgoing, record: Record) -> "Future[None]":
        reason = out.event.get(DEAD_LETTER_REASON) or ""
        return self._dead_letters.keep(replace(record, topic=self._rules.topics.requests), reason)

    def _keep_place(self, event: Event, reason: str) -> "Future[None]":
        """The last resort: that there was such an event."""
        header = ("ce_id", event.id.encode("utf-8", "replace"))
        bare = Record(topic=self._rules.topics.requests, value=None, headers=(header,))
        return self._dead_letters.keep(bare, reason)


class Gathering:
    """The ends of several appends, as one: none, the first failure that another try may mend, else the first."""

    def __init__(self, count: int, then: Then) -> None:
        self._left = count
        self._then = then
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        if not count:
            then(None)

    def one_ended(self, error: BaseException | None) -> None:
        """From any thread, once for each."""
        with self._lock:
            self._left -= 1
            if error is not None:
                self._errors.append(error)
            if self._left:
                return
        passing = (e for e in self._errors if not (isinstance(e, AppendFailed) and e.is_final))
        self._then(next(passing, self._errors[0]) if self._errors else None)


def gather_futures(every: Sequence["Future[None]"]) -> "Future[None]":
    """One future over several."""
    future: Future[None] = Future()
    ends = Gathering(len(every), lambda error: _end(future, error))
    for one in every:
        one.add_done_callback(lambda done: ends.one_ended(done.exception()))
    return future


def _end(future: "Future[None]", error: BaseException | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
