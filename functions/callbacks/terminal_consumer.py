"""The consumer that turns terminals with a callback into deliveries.

It commits once they are in the store. A record that cannot be used is skipped, counted and logged.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from events import names
from events.builders import parse_terminal
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Event, Record
from functions.callbacks.payload import EndedRequest, build_delivery
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import GroupConsumer
from functions.ports.store import CallbackStore, RequestRow
from functions.runtime.errors import BlobMissing
from functions.runtime.log_consumer import LogConsumer
from functions.runtime.telemetry import Metrics

MAX_BLOB_BYTES: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class DeliveryStore(CallbackStore, Protocol):
    """Targets and deliveries, and the requests that they are about."""

    def request(self, request_id: str) -> RequestRow | None: ...


def make_terminal_consumer(
    *,
    consumer: GroupConsumer,
    store: DeliveryStore,
    blobs: BlobStore,
    clock: Clock,
    metrics: Metrics,
    wake: Callable[[], object],
) -> LogConsumer[Event]:
    """One member of the callbacks group. `wake` is called after something was enqueued, from its thread."""

    def write(events: Sequence[Event]) -> None:
        new = 0
        try:
            for event in events:
                new += _enqueue(event, store, blobs, clock)
        finally:
            if new:
                wake()

    return LogConsumer(
        consumer=consumer, read=read_terminal, write=write, metrics=metrics, reader="callbacks"
    )


def read_terminal(record: Record) -> Event | None:
    """The event of a record where it ends a request that has a callback."""
    try:
        event = from_record(record)
    except EventRejected as error:
        log.warning("terminal not read", extra={"offset": record.offset, "reason": error.reason})
        return None
    is_wanted = event.type in names.TERMINAL_TYPES and event.get(names.CALLBACK_ID) is not None
    return event if is_wanted else None


def _enqueue(event: Event, store: DeliveryStore, blobs: BlobStore, clock: Clock) -> int:
    """How many deliveries are new: 0 or 1."""
    data = _read_data(event, blobs)
    try:
        terminal = parse_terminal(replace(event, data=data))
    except EventRejected as error:
        log.warning("terminal not read", extra={"event_id": event.id, "reason": error.reason})
        return 0
    target = store.target(terminal.callback_id or "")
    if target is None:
        log.warning("callback target unknown", extra={"request_id": terminal.request_id})
        return 0
    row = store.request(terminal.request_id)
    end = EndedRequest(event=event, terminal=terminal, data=data, row=row)
    delivery = build_delivery(end, target, clock.now())
    return 0 if delivery is None else int(store.enqueue_delivery(delivery))


def _read_data(event: Event, blobs: BlobStore) -> bytes | None:
    ref = event.get(names.DATA_REF)
    if ref is None or event.data is not None:
        return event.data
    try:
        return blobs.get(ref, limit_bytes=MAX_BLOB_BYTES)
    except BlobMissing as error:
        log.warning("blob missing", extra={"event_id": event.id, "reason": str(error)})
        return None
