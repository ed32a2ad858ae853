"""Writes dead letters, for every consumer. It ends for every record.

A record that cannot be kept whole is kept by reference. It waits only if Kafka takes nothing at
all.
"""

import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Final

from events.dead_letters import dead_letter_record, dead_letter_reference
from events.event import PartitionId, Record
from functions.ports.kafka import RecordAppender
from functions.runtime.errors import AppendFailed
from functions.runtime.telemetry import Metrics

TRIES: Final = 3
"""Appends of a whole record that may fail for an unknown reason; then its reference is tried: it may be the record."""
_MOST_REMEMBERED: Final = 1000

log = logging.getLogger(__name__)


class DeadLetterWriter:
    """Thread-safe. `max_bytes`: records whose dead letter would be larger are kept by reference at once."""

    def __init__(
        self, appender: RecordAppender, *, topic: str, max_bytes: int, metrics: Metrics
    ) -> None:
        self._appender = appender
        self._topic = topic
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._failures: OrderedDict[int, int] = OrderedDict()

    def keep(self, record: Record, reason: str) -> "Future[None]":
        """Resolves when the record is on the dead letter topic, whole or by reference.

        Fails with `AppendFailed` while the log takes neither: keep it again later. A dead letter topic that can never
        take a record (there is none) ends it too: what is lost then is logged as an error and counted.
        """
        letter = dead_letter_record(record, reason, topic=self._topic, max_bytes=self._max_bytes)
        reference = dead_letter_reference(record, reason, topic=self._topic)
        kept: Future[None] = Future()
        # From here on it cannot be cancelled: whoever settles it must not fail because its caller has gone.
        kept.set_running_or_notify_cancel()
        if letter == reference:
            self._append_reference(record, reference, reason, kept)
            return kept

        def settle(done: "Future[PartitionId]") -> None:
            error = done.exception()
            if error is None:
                self._kept(record, reason, kept)
            elif _is_final(error) or self._count_failures(record) >= TRIES:
                self._append_reference(record, reference, reason, kept)
            else:
                kept.set_exception(_as_append_failed(error))

        self._append(letter).add_done_callback(settle)
        return kept

    def _append_reference(
        self, record: Record, reference: Record, reason: str, kept: "Future[None]"
    ) -> None:
        def settle(done: "Future[PartitionId]") -> None:
            error = done.exception()
            if error is None:
                self._kept(record, reason, kept)
            elif _is_final(error):
                place = {"topic": record.topic, "partition": record.partition}
                lost = place | {"offset": record.offset, "reason": reason, "why": str(error)}
                log.error("a dead letter is lost", extra=lost)
                self._kept(record, "lost", kept)
            else:
                kept.set_exception(_as_append_failed(error))

        self._append(reference).add_done_callback(settle)

    def _append(self, record: Record) -> "Future[PartitionId]":
        try:
            return self._appender.append(record)
        except Exception as error:
            # The boundary of whoever keeps records: what a client library makes of odd bytes ends nobody's loop.
            log.exception("an appender raised")
            failed: Future[PartitionId] = Future()
            failed.set_exception(AppendFailed(type(error).__name__))
            return failed

    def _kept(self, record: Record, reason: str, kept: "Future[None]") -> None:
        with self._lock:
            self._failures.pop(_place(record), None)
        self._metrics.dead_letters.labels(reason.partition(":")[0]).inc()
        kept.set_result(None)

    def _count_failures(self, record: Record) -> int:
        """How often the whole record has failed, this time included."""
        with self._lock:
            count = self._failures[_place(record)] = self._failures.get(_place(record), 0) + 1
            if len(self._failures) > _MOST_REMEMBERED:
                self._failures.popitem(last=False)
        return count


def _is_final(error: BaseException) -> bool:
    return isinstance(error, AppendFailed) and error.is_final


def _place(record: Record) -> int:
    """What tells records apart: where they lie, or what came over HTTP and lies nowhere."""
    what = record.offset if record.offset >= 0 else (record.headers, record.value)
    return hash((record.topic, record.partition, what))


def _as_append_failed(error: BaseException) -> AppendFailed:
    if isinstance(error, AppendFailed):
        return error
    return AppendFailed(type(error).__name__, is_unknown=True)
