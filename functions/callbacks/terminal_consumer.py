"""The enqueueing loop: terminals with a callback become deliveries, committed only once they are in the store.

No record holds it up, whatever it holds: what cannot be used is passed over, counted and said.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from events import names
from events.builders import Terminal, parse_terminal
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Event, PartitionId, Record
from functions.callbacks.payload import EndedRequest, build_delivery
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import Commit, GroupConsumer
from functions.ports.store import CallbackStore, RequestRow
from functions.runtime.errors import BlobMissing, StoreFailed
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics

POLL_S: Final = 0.25
GATHER_S: Final = 0.1
"""Between two polls: answers of this moment share one commit."""
RETRY_S: Final = 0.5
MAX_BLOB_BYTES: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class DeliveryStore(CallbackStore, Protocol):
    """Targets and deliveries, and the requests that they are about."""

    def request(self, request_id: str) -> RequestRow | None: ...


class TerminalConsumer:
    """One member of the callbacks group. `wake` is called after something was enqueued, from this thread."""

    def __init__(
        self,
        *,
        consumer: GroupConsumer,
        store: DeliveryStore,
        blobs: BlobStore,
        clock: Clock,
        metrics: Metrics,
        wake: Callable[[], object],
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._metrics = metrics
        self._wake = wake

    def run(self, stop: StopFlag) -> None:
        """Enqueues until `stop` is set."""
        while not stop.is_set():
            self.step(stop, POLL_S)
            stop.wait(GATHER_S)

    def step(self, stop: StopFlag, timeout_s: float) -> int:
        """One poll, enqueued and committed; returns how many deliveries are new."""
        records = self._consumer.poll(timeout_s).records
        done: dict[PartitionId, Commit] = {}
        new = 0
        for record in records:
            added = self._take(record, stop)
            if added is None:
                break
            new += added
            done[record.partition_id] = Commit(record.offset + 1)
        if new:
            self._wake()
        if done:
            self._consumer.commit(done)
        return new

    def _take(self, record: Record, stop: StopFlag) -> int | None:
        try:
            return self._enqueue(record, stop)
        except Exception:
            # The boundary of one record: whatever it holds, the others go on.
            self._metrics.skipped_records.labels(reader="callbacks").inc()
            log.exception(
                "record not read",
                extra={
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                },
            )
            return 0

    def _enqueue(self, record: Record, stop: StopFlag) -> int | None:
        """How many deliveries are new (0 or 1); None: stopped before the store could take it."""
        try:
            event = from_record(record)
            if event.type not in names.TERMINAL_TYPES or event.get(names.CALLBACK_ID) is None:
                return 0
            data = self._data(event)
            terminal = parse_terminal(_add_data(event, data))
        except EventRejected as error:
            log.warning(
                "terminal not read", extra={"offset": record.offset, "reason": error.reason}
            )
            return 0
        while True:
            try:
                return self._add(event, terminal, data)
            except StoreFailed as error:
                if not error.is_transient:
                    raise
                log.warning("store out of reach", extra={"reason": str(error)})
                if stop.wait(RETRY_S):
                    return None

    def _add(self, event: Event, terminal: Terminal, data: bytes | None) -> int:
        target = self._store.target(terminal.callback_id or "")
        if target is None:
            log.warning("callback target unknown", extra={"request_id": terminal.request_id})
            return 0
        row = self._store.request(terminal.request_id)
        end = EndedRequest(event=event, terminal=terminal, data=data, row=row)
        delivery = build_delivery(end, target, self._clock.now())
        return 0 if delivery is None else int(self._store.enqueue_delivery(delivery))

    def _data(self, event: Event) -> bytes | None:
        ref = event.get(names.DATA_REF)
        if ref is None or event.data is not None:
            return event.data
        try:
            return self._blobs.get(ref, limit_bytes=MAX_BLOB_BYTES)
        except BlobMissing as error:
            log.warning("blob missing", extra={"event_id": event.id, "reason": str(error)})
            return None


def _add_data(event: Event, data: bytes | None) -> Event:
    return Event(
        id=event.id,
        source=event.source,
        type=event.type,
        time=event.time,
        data=data,
        extensions=event.extensions,
    )
