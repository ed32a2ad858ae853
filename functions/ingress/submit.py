"""Submitting: an admitted call becomes a request event and is appended.

A request is accepted as soon as the append has returned (acks=all).
"""

import asyncio
import logging
from concurrent.futures import Future

from events import builders, names
from events.codecs import kafka_codec
from events.event import Event, PartitionId, Record
from events.names import State
from events.timestamps import to_rfc3339
from functions.ingress.admission import (
    hold_bytes,
    queue_is_full,
    read_tenant_limits,
    require_room,
    require_writable,
)
from functions.ingress.dependencies import Dependencies
from functions.ingress.idempotency import resolve_claim
from functions.ingress.parse_call import InferenceCall
from functions.ports.store import RequestRow
from functions.runtime.errors import ApiError, AppendFailed

log = logging.getLogger(__name__)


async def submit(deps: Dependencies, call: InferenceCall) -> str | None:
    """Appends the request of an admitted call; on return it is accepted.

    Row and key are written in one transaction before the append, or neither is.
    A process that is killed in between leaves the row with its record: the reaper publishes it.

    Returns:
        None; or the id of an earlier request with the same key, or of the same event. Then nothing was written.

    Raises:
        ApiError: a refusal. A claimed key is free again, unless the request may yet appear in the log: then the key
            keeps it, and another try joins it.
    """
    require_writable(deps)
    if call.is_background:
        await require_room(deps, call)
    record = await _make_record(deps, call.event or make_event(deps, call))
    call.body.release()
    is_held, is_ours = hold_bytes(deps, call, record), False
    try:
        earlier_id = await _claim(deps, call, record) if call.is_kept else None
        is_ours = earlier_id is None
    finally:
        if is_held and not is_ours:
            deps.broker_room.release(call.request_id)
    if is_ours:
        await _append(deps, call, record)
        extra = {"request_id": call.request_id, "operation": call.operation, "tenant": call.tenant}
        log.info("accepted", extra=extra | {"asked_model": call.asked_model})
    return earlier_id


def make_event(deps: Dependencies, call: InferenceCall) -> Event:
    """The request event of a call. The reply comes to this replica if a waiter is here."""
    extensions: dict[str, str | None] = {
        names.OPERATION: call.operation,
        names.EXPIRY_TIME: to_rfc3339(call.deadline),
        names.TENANT: call.tenant,
        names.PRIORITY: call.priority,
        names.PARTITION_KEY: call.session,
        names.PROFILE: call.profile,
        names.FALLBACK: call.fallback,
        **call.limits,
        names.CALLBACK_ID: call.callback_id,
        names.TRACE_PARENT: call.trace_parent or _new_trace(deps),
        names.TRACE_STATE: call.trace_state if call.trace_parent else None,
    }
    if call.reply is not None:
        extensions[names.REPLY_TOPIC] = call.reply.topic
        extensions[names.REPLY_PARTITION] = str(call.reply.partition)
        extensions[names.REPLY_EPOCH] = call.reply.epoch
    return Event(
        id=call.request_id,
        source=f"/ingress/{deps.instance}",
        type=names.REQUEST,
        subject=call.asked_model,
        time=to_rfc3339(call.accepted_at),
        data=call.body.raw,
        extensions={name: value for name, value in extensions.items() if value is not None},
    )


def make_row(call: InferenceCall) -> RequestRow:
    """The store's row of a call."""
    reply = call.reply
    return RequestRow(
        id=call.request_id,
        tenant=call.tenant,
        operation=call.operation,
        state=State.ACCEPTED,
        asked_model=call.asked_model,
        accepted_at=call.accepted_at,
        deadline=call.deadline,
        is_background=call.is_background,
        is_stored=call.is_stored,
        callback_id=call.callback_id,
        reply_topic=None if reply is None else reply.topic,
        reply_partition=None if reply is None else reply.partition,
        reply_epoch=None if reply is None else reply.epoch,
        meta=call.meta,
    )


async def await_append(future: Future[PartitionId]) -> PartitionId:
    """Waits for an append. A caller that is cancelled leaves the append alone: it belongs to the appender's thread."""
    appended = asyncio.wrap_future(future)
    # Of a caller that is gone nobody asks how it ended, and asyncio complains of errors that nobody asked for.
    appended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return await asyncio.shield(appended)


def to_append_refusal(error: AppendFailed) -> ApiError:
    """The answer to a call whose record could not be written. The reason stays in our logs."""
    log.warning(
        "a request was not accepted", extra={"reason": error.reason, "unknown": error.is_unknown}
    )
    if error.is_too_large:
        return ApiError("request_too_large", "The request does not fit into one record.")
    return ApiError("not_accepted", "The request could not be written down; try again.")


async def _make_record(deps: Dependencies, event: Event) -> Record:
    """The record of a request event; a large body goes to the blob store and travels by reference."""
    data = event.data or b""
    if len(data) > deps.settings.broker.inline_bytes:
        ref = await deps.offload(deps.blobs.put, data)
        event = builders.by_reference(event, ref)
    key = event.get(names.PARTITION_KEY) or event.id
    return kafka_codec.to_record(event, topic=deps.topics.requests, key=key)


async def _claim(deps: Dependencies, call: InferenceCall, record: Record) -> str | None:
    """Writes key, place in the tenant's queue and row: all of them or none. Returns the id of an earlier request."""
    queue = read_tenant_limits(deps, call.tenant).tenant_queue
    claim = await deps.offload(
        deps.store.accept,
        make_row(call),
        record,
        key=call.key,
        limit=queue if call.is_background else None,
    )
    first_id = resolve_claim(claim, full=queue_is_full(queue), is_event=call.event is not None)
    return None if claim.kind == "new" else first_id


async def _append(deps: Dependencies, call: InferenceCall, record: Record) -> None:
    try:
        await await_append(deps.appender.append(record))
    except AppendFailed as error:
        if not error.is_too_large:
            deps.health.note_failure()
        deps.metrics.append_failures.labels(topic=record.topic).inc()
        if not error.is_unknown:
            deps.broker_room.release(call.request_id)
            # The row of an event stays: its sender sends the same id again, or the reaper publishes the record.
            if call.is_kept and call.event is None:
                await deps.offload(deps.store.withdraw, call.request_id, call.key)
        raise to_append_refusal(error) from error
    deps.health.note_append()


def _new_trace(deps: Dependencies) -> str:
    random = deps.entropy(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"
