"""Translates records into changes of the store."""

import logging
from datetime import datetime, timedelta
from typing import Final

from events import names
from events.builders import parse_cancel, parse_chunk, parse_progress, parse_terminal
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Event, Record
from events.limits import MAX_BODY_BYTES
from events.names import State
from events.request_identity import SentEvent
from events.requests import InferenceRequest, parse_request
from events.timestamps import from_unix_ms
from functions.ports.blobs import BlobStore
from functions.ports.store import Change, RequestRow
from functions.runtime.errors import BlobMissing

MAX_AGE: Final = timedelta(days=1)
"""A record that says it was written longer ago says nothing: its producer's clock is wrong."""
_PARSERS: Final = {
    names.PROGRESS: parse_progress,
    names.CHUNK: parse_chunk,
    names.CANCEL: parse_cancel,
}

log = logging.getLogger(__name__)


def build_change(
    record: Record, blobs: BlobStore, *, wait_s: float, now: datetime
) -> Change | None:
    """The change a record makes; None where it makes none or cannot be read.

    What is refused here was or will be answered by the router or worker that reads the same record; nothing is
    invented for it. `wait_s` is the deadline of requests that name none, in seconds after their time; `now` is the time
    of those whose record has no possible one.
    """
    try:
        event = from_record(record)
        if event.type == names.REQUEST:
            return _request(event, record, blobs, wait_s=wait_s, now=now)
        if event.type in names.TERMINAL_TYPES:
            return Change(event=event, result=_answer(event, blobs))
        parse = _PARSERS.get(event.type)
        if parse is None:
            return None
        parse(event)
    except EventRejected as error:
        log.warning(
            "record not recorded",
            extra={"topic": record.topic, "offset": record.offset, "reason": error.reason},
        )
        return None
    return Change(event=event)


def build_row(request: InferenceRequest) -> RequestRow:
    """The row of a request as the log knows it."""
    reply, sent = request.reply, SentEvent.of(request.event)
    return RequestRow(
        id=request.request_id,
        tenant=request.tenant,
        operation=request.operation.value,
        state=State.ACCEPTED,
        asked_model=request.asked_model,
        accepted_at=request.accepted_at,
        deadline=request.deadline,
        is_background=reply is None,
        is_stored=request.is_stored,
        callback_id=request.callback_id,
        batch_id=request.batch_id,
        reply_topic=None if reply is None else reply.topic,
        reply_partition=None if reply is None else reply.partition,
        reply_epoch=None if reply is None else reply.epoch,
        meta={} if sent is None else sent.meta,
    )


def limit_timestamp(timestamp_ms: int, now: datetime) -> datetime:
    """When a record was written, as far as its timestamp can be true: producers set it, and brokers take any number."""
    written = from_unix_ms(timestamp_ms)
    return written if written is not None and now - MAX_AGE <= written <= now else now


def _request(
    event: Event, record: Record, blobs: BlobStore, *, wait_s: float, now: datetime
) -> Change:
    request = parse_request(
        event,
        default_wait_s=wait_s,
        body=_resolve(event, blobs),
        received_at=limit_timestamp(record.timestamp_ms, now),
    )
    return Change(event=event, record=record, row=build_row(request))


def _answer(event: Event, blobs: BlobStore) -> bytes | None:
    result = _resolve(event, blobs)
    data = event.data if result is None else result
    # Checked as it will be read: an answer that is referenced has its state in the blob.
    parse_terminal(
        Event(
            id=event.id,
            source=event.source,
            type=event.type,
            data=data,
            extensions=event.extensions,
        )
    )
    return result


def _resolve(event: Event, blobs: BlobStore) -> bytes | None:
    ref = event.get(names.DATA_REF)
    if ref is None or event.data is not None:
        return None
    try:
        return blobs.get(ref, limit_bytes=MAX_BODY_BYTES)
    except BlobMissing as error:
        log.warning("blob missing", extra={"event_id": event.id, "reason": str(error)})
        return None
