"""Accepting: a call becomes a request event, passes admission and is appended. Accepted means acks=all returned."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final, Literal

from events import builders, names
from events.codecs import kafka_codec
from events.event import Event, PartitionId, Record
from events.names import State
from events.payloads import CancelData
from events.requests import Origin
from events.timestamps import to_rfc3339
from functions.ingress.admission import Load, TenantLimits, admit, queue_is_full
from functions.ingress.dependencies import Dependencies
from functions.ingress.key_claims import MadeBefore, key_of_call, resolve_claim
from functions.ingress.parse_call import InferenceCall
from functions.ports.store import RequestRow
from functions.runtime.errors import ApiError, AppendFailed

log = logging.getLogger(__name__)

CancelReason = Literal["client", "deadline", "duplicate", "disconnected"]
HOLD_SPARE_S: Final = 60.0
"""A request whose end was never seen is no longer counted this long after its deadline."""


def request_event(deps: Dependencies, call: InferenceCall, *, replies_here: bool) -> Event:
    """The request event of a call. `replies_here`: the answer comes to this replica's reply partition."""
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
    if replies_here:
        extensions[names.REPLY_TOPIC] = deps.topics.replies
        extensions[names.REPLY_PARTITION] = str(deps.settings.ingress.partition)
        extensions[names.REPLY_EPOCH] = deps.epoch
    return Event(
        id=call.request_id,
        source=f"/ingress/{deps.instance}",
        type=names.REQUEST,
        subject=call.asked_model,
        time=to_rfc3339(call.accepted_at),
        data=call.body.raw,
        extensions={name: value for name, value in extensions.items() if value is not None},
    )


async def make_record(deps: Dependencies, event: Event) -> Record:
    """The record of a request event; a large body goes to the blob store and travels by reference."""
    data = event.data or b""
    if len(data) > deps.settings.broker.inline_bytes:
        ref = await deps.offload(deps.blobs.put, data)
        event = builders.by_reference(event, ref)
    key = event.get(names.PARTITION_KEY) or event.id
    return kafka_codec.to_record(event, topic=deps.topics.requests, key=key)


def read_tenant_limits(deps: Dependencies, tenant: str) -> TenantLimits:
    """The limits of a tenant: its own where the catalogue has them."""
    settings = deps.settings.ingress
    own = deps.catalogue.tenants.get(tenant)
    streams = settings.tenant_streams if own is None or own.max_streams is None else own.max_streams
    queue = settings.tenant_queue if own is None or own.max_queue is None else own.max_queue
    return TenantLimits(
        max_waiters=settings.max_waiters,
        tenant_streams=streams,
        tenant_queue=queue,
        tenant_share=deps.tenant_share,
    )


def admit_waiting(deps: Dependencies, tenant: str, *, is_stream: bool) -> None:
    """Admits a call that will hold a waiter; counts what is open on this replica only, so no store is asked.

    Raises:
        ApiError: see `admission.admit`.
    """
    waiters = deps.waiters
    load = Load(
        waiters=len(waiters),
        tenant_streams=waiters.streams_of(tenant),
        tenant_queue=waiters.count_of(tenant),
    )
    admit(load, read_tenant_limits(deps, tenant), is_stream=is_stream)


async def accept(
    deps: Dependencies, call: InferenceCall, *, replies_here: bool, row: RequestRow | None = None
) -> None:
    """Appends the request of an admitted call; on return it is accepted. `row` None: nobody will ask the store for it.

    The key is claimed with the row or not at all. Killed before the append, the row is there with its record: the
    reaper publishes it, and another try with the key joins it.

    Raises:
        MadeBefore: another call with the same key was quicker; nothing was written.
        ApiError: a refusal; a claimed key is free again, unless the request may yet appear in the log: then the key
            keeps it, and another try joins it.
    """
    require_writable(deps)
    if not replies_here:
        await require_room(deps, call.tenant, len(call.body.raw))
    record = await make_record(deps, request_event(deps, call, replies_here=replies_here))
    call.body.release()
    try:
        hold(deps, record, call.request_id, call.wait_s)
        if row is not None:
            await _write_row(deps, call, row, record, is_queued=not replies_here)
    except Exception:
        deps.outstanding.release(call.request_id)
        raise
    try:
        await append(deps, record, call.request_id)
    except AppendFailed as error:
        if row is not None and not error.is_unknown:
            await deps.offload(deps.store.withdraw, call.request_id, key_of_call(call))
        raise refused(error) from error
    log_accepted(call.request_id, call.operation, call.asked_model, call.tenant)


def log_accepted(request_id: str, operation: str, asked_model: str, tenant: str) -> None:
    """The first line of a request's story in the logs; never what it asks."""
    extra = {"request_id": request_id, "operation": operation}
    log.info("accepted", extra=extra | {"asked_model": asked_model, "tenant": tenant})


async def _write_row(
    deps: Dependencies, call: InferenceCall, row: RequestRow, record: Record, *, is_queued: bool
) -> None:
    """The key, the tenant's place in the queue and the row, in one transaction: all of them or none."""
    queue = read_tenant_limits(deps, call.tenant).tenant_queue
    claim = await deps.offload(
        deps.store.accept,
        row,
        record,
        key=key_of_call(call),
        limit=queue if is_queued else None,
    )
    first_id = resolve_claim(claim, full=queue_is_full(queue))
    if claim.kind == "joined":
        raise MadeBefore(first_id)


async def require_room(deps: Dependencies, tenant: str, size_bytes: int) -> None:
    """Looks for room before a large body goes to the blob store; whether there is room is decided with the row.

    Raises:
        ApiError: `tenant_queue`.
    """
    queue = read_tenant_limits(deps, tenant).tenant_queue
    is_large = size_bytes > deps.settings.broker.inline_bytes
    if is_large and await deps.offload(deps.store.unfinished, tenant=tenant) >= queue:
        raise ApiError("tenant_queue", queue_is_full(queue))


def require_writable(deps: Dependencies) -> None:
    """Raises ApiError `not_accepted` while the cluster is known to take no writes: nobody waits for a timeout."""
    if deps.health.is_down():
        raise ApiError("not_accepted", "The request could not be written down; try again.")


def hold(deps: Dependencies, record: Record, request_id: str, wait_s: float) -> bool:
    """Counts the record against the in-memory broker's room until the request ends; whether it was not before.

    Raises:
        ApiError: `overloaded`.
    """
    now_s = deps.clock.monotonic_s()
    return deps.outstanding.hold(
        request_id,
        record.key or b"",
        record.size_bytes,
        until_s=now_s + wait_s + HOLD_SPARE_S,
        now_s=now_s,
    )


async def append(deps: Dependencies, record: Record, request_id: str) -> None:
    """Appends a request record.

    Raises:
        AppendFailed: it was not, or its fate is unknown. `refused` makes the answer.
    """
    try:
        await acknowledged(deps.appender.append(record))
    except AppendFailed as error:
        if not error.is_too_large:
            deps.health.failed()
        deps.metrics.append_failures.labels(topic=record.topic).inc()
        if not error.is_unknown:
            deps.outstanding.release(request_id)
        raise
    deps.health.appended()


async def acknowledged(future: "Future[PartitionId]") -> PartitionId:
    """Waits for an append. A caller that is cancelled leaves the append alone: it belongs to the appender's thread."""
    appended = asyncio.wrap_future(future)
    # Of a caller that is gone nobody asks how it ended, and asyncio complains of errors that nobody asked for.
    appended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return await asyncio.shield(appended)


def refused(error: AppendFailed) -> ApiError:
    """The answer to a call whose request could not be written. The reason stays in our logs."""
    log.warning(
        "a request was not accepted", extra={"reason": error.reason, "unknown": error.is_unknown}
    )
    if error.is_too_large:
        return ApiError("request_too_large", "The request does not fit into one record.")
    return ApiError("not_accepted", "The request could not be written down; try again.")


def send_cancel(
    deps: Dependencies, request_id: str, reason: CancelReason, tenant: str
) -> "Future[PartitionId]":
    """Tells workers and the reaper that nobody wants this request any more. Never blocks; a failure is logged."""
    event = builders.cancel(
        Origin(request_id=request_id, carried={names.TENANT: tenant}),
        CancelData(reason=reason),
        source=f"/ingress/{deps.instance}",
        now=deps.clock.now(),
    )
    out = builders.cancel_outgoing(event, topics=deps.topics)
    future = deps.appender.append(kafka_codec.outgoing_record(out))
    future.add_done_callback(_log_cancel)
    return future


def _log_cancel(future: "Future[PartitionId]") -> None:
    error = future.exception()
    if error is not None:
        log.warning("a cancel was not written", extra={"reason": str(error)})


def make_row(
    deps: Dependencies,
    call: InferenceCall,
    *,
    replies_here: bool,
    meta: Mapping[str, object] | None = None,
) -> RequestRow:
    """The store's row of a call that somebody may ask for again."""
    return RequestRow(
        id=call.request_id,
        tenant=call.tenant,
        operation=call.operation,
        state=State.ACCEPTED,
        asked_model=call.asked_model,
        accepted_at=call.accepted_at,
        deadline=call.deadline,
        is_background=not replies_here,
        is_stored=call.is_stored,
        callback_id=call.callback_id,
        reply_topic=deps.topics.replies if replies_here else None,
        reply_partition=deps.settings.ingress.partition if replies_here else None,
        reply_epoch=deps.epoch if replies_here else None,
        meta=dict(meta or {}),
    )


def _new_trace(deps: Dependencies) -> str:
    random = deps.entropy(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"
