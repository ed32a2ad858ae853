"""`POST /`: a CloudEvent, binary or structured, becomes a request.

Tenant, source and id say which one, so sending it twice is safe (`events.request_identity`).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events import ids, names
from events.codecs import http_codec
from events.event import Event
from events.limits import DEFAULT_LIMITS
from events.names import Topics
from events.request_identity import SentEvent
from events.requests import InferenceRequest, parse_request
from events.timestamps import from_rfc3339, to_rfc3339
from functions.ingress import request_body
from functions.ingress.admission import queue_is_full
from functions.ingress.api import callbacks
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.key_claims import resolve_claim
from functions.ingress.parse_call import parse_model_name, read_body, trace_parent, trace_state
from functions.ingress.submit import (
    append,
    hold,
    log_accepted,
    make_record,
    read_tenant_limits,
    refused,
    require_room,
    require_writable,
)
from functions.ingress.tenant_access import authenticate
from functions.ports.store import RequestRow
from functions.runtime.errors import ApiError, AppendFailed
from functions.runtime.settings import Settings

_EVENTS: Final = "application/cloudevents"
_OURS: Final = frozenset(
    {
        names.TENANT, names.CORRELATION_ID, names.CAUSATION_ID, names.REPLY_EPOCH, names.ATTEMPT,
        names.GENERATION, names.SEQUENCE, names.SERVICE, names.ROUTE_CLASS, names.ROUTE_SCORE,
        names.ROUTE_VERSION, names.ROUTE_REASON, names.REQUEST_TIME, names.ROUTED_TIME,
        names.BATCH_ID, names.HOPS, names.DEAD_LETTER_REASON, names.DATA_REF, names.DATA_HASH,
        names.ASKED_MODEL, names.MAX_TOKENS, names.ROUTE_STAGE, names.REQUEST_ID,
    }
)  # fmt: skip
"""Attributes that only this product sets: from outside they are dropped."""
_REUSED: Final = "An event of this source and id was sent before, with other data."


def routes(deps: Dependencies) -> list[Route]:
    """The one path."""

    async def accept(request: Request) -> Response:
        tenant = authenticate(deps, request)
        _require_media_type(request)
        body = await read_body(deps, request, tenant)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.scope["headers"]]

        limits = replace(DEFAULT_LIMITS, max_bytes=deps.settings.ingress.max_body_bytes)

        def read() -> InferenceRequest:
            event = cleaned(deps, http_codec.from_http(headers, body, limits), tenant)
            return parse_request(event, default_wait_s=deps.settings.ingress.background_wait_s)

        found = await deps.run_in_turn(tenant, body, read)
        await _check(deps, found)
        return await _accept(deps, found)

    return [Route("/", accept, methods=["POST"])]


def _require_media_type(request: Request) -> None:
    """Structured, or any JSON; in binary mode the content type may be left out, and the data is JSON.

    Raises:
        ApiError: `unsupported_media_type`.
    """
    given = request_body.header_values(request, b"content-type")
    if not given and request_body.header_values(request, b"ce-specversion"):
        return
    essence = (given[0] if given else b"").decode("latin-1").partition(";")[0].strip().lower()
    is_json = essence.endswith("+json") and not essence.startswith(_EVENTS)
    further = (essence,) if is_json else ()
    request_body.require_media_type(request, (names.JSON, names.STRUCTURED_JSON, *further))


def cleaned(deps: Dependencies, event: Event, tenant: str) -> Event:
    """The event as it goes on the log: identity from the key, deadline bounded, nothing of ours from outside.

    Raises:
        ApiError, EventRejected: another type, a reply topic that is not allowed, a malformed `expirytime`.
    """
    if event.type != names.REQUEST:
        raise ApiError("invalid_event", f"Only {names.REQUEST} is taken here.", param="type")
    now = deps.clock.now()
    kept = {name: value for name, value in event.extensions.items() if name not in _OURS}
    latest = now + timedelta(seconds=deps.settings.ingress.background_wait_s)
    asked = kept.get(names.EXPIRY_TIME)
    deadline = latest if asked is None else min(latest, from_rfc3339(asked, names.EXPIRY_TIME))
    if deadline <= now:
        raise ApiError(
            "deadline_exceeded", "The event's expirytime has passed.", param=names.EXPIRY_TIME
        )
    kept[names.EXPIRY_TIME] = to_rfc3339(deadline)
    kept[names.TENANT] = tenant
    # Said here, not left to the rule for sources: from outside, none of them is ours.
    kept[names.REQUEST_ID] = ids.of_event(tenant, event.source, event.id)
    topic = kept.get(names.REPLY_TOPIC)
    if topic is not None and topic not in reply_topics(deps.settings, deps.topics):
        raise ApiError("invalid_event", "This replytopic is not allowed.", param=names.REPLY_TOPIC)
    if topic is None:
        kept.pop(names.REPLY_PARTITION, None)
    for name, check in ((names.TRACE_PARENT, trace_parent), (names.TRACE_STATE, trace_state)):
        if name in kept and check(kept[name]) is None:
            del kept[name]
    return Event(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=to_rfc3339(now),
        datacontenttype=event.datacontenttype,
        data=event.data,
        extensions=kept,
    )


def reply_topics(settings: Settings, topics: Topics) -> frozenset[str]:
    """Where replies to events from outside may go. Reply partitions belong to ingresses, so not there."""
    further = (part.strip() for part in settings.ingress.reply_topics.split(","))
    return frozenset({topics.responses, *filter(None, further)}) - {topics.replies}


async def _check_address(deps: Dependencies, found: InferenceRequest) -> None:
    """Raises ApiError where the reply topic does not have the partition that is named."""
    address = found.reply
    if address is None or address.partition is None:
        return
    if not await deps.offload(deps.reply_partitions.has, address.topic, address.partition):
        raise ApiError(
            "invalid_event", "The replytopic has no such partition.", param=names.REPLY_PARTITION
        )


async def _check(deps: Dependencies, found: InferenceRequest) -> None:
    parse_model_name(deps.catalogue, found.asked_model, found.operation, found.tenant)
    if found.profile is not None and found.profile not in deps.catalogue.profiles:
        raise ApiError("invalid_value", "There is no such profile.", param=names.PROFILE)
    if found.callback_id is not None:
        await callbacks.require_registered(deps, found.tenant, found.callback_id)
    await _check_address(deps, found)
    require_writable(deps)
    await require_room(deps, found.tenant, len(found.event.data or b""))


async def _accept(deps: Dependencies, found: InferenceRequest) -> Response:
    sent = SentEvent.of(found.event)
    row = RequestRow(
        id=found.request_id,
        tenant=found.tenant,
        operation=found.operation,
        state=names.State.ACCEPTED,
        asked_model=found.asked_model,
        accepted_at=found.accepted_at,
        deadline=found.deadline,
        is_background=True,
        is_stored=found.is_stored,
        callback_id=found.callback_id,
        reply_topic=None if found.reply is None else found.reply.topic,
        reply_partition=None if found.reply is None else found.reply.partition,
        meta={} if sent is None else sent.meta,
    )
    record = await make_record(deps, found.event)
    is_new = hold(deps, record, row.id, (row.deadline - row.accepted_at).total_seconds())
    queue = read_tenant_limits(deps, row.tenant).tenant_queue
    is_ours = False
    try:
        claim = await deps.offload(deps.store.accept, row, record, limit=queue)
        resolve_claim(claim, full=queue_is_full(queue), reused=_REUSED)
        is_ours = claim.kind == "new"
    finally:
        if is_new and not is_ours:
            deps.outstanding.release(row.id)
    if not is_ours:
        return await _known_already(deps, row)
    try:
        await append(deps, record, row.id)
    except AppendFailed as error:
        # The row stays: the sender will send the same id again, or the reaper publishes the record.
        raise refused(error) from error
    log_accepted(row.id, row.operation, row.asked_model, row.tenant)
    deps.metrics.requests.labels(
        door="events", operation=found.operation, outcome=names.State.ACCEPTED.value
    ).inc()
    return _accepted(row)


async def _known_already(deps: Dependencies, row: RequestRow) -> Response:
    """The event was sent before: the first one counts."""
    first = await deps.offload(deps.store.request, row.id)
    return _accepted(row if first is None else first)


def _accepted(row: RequestRow) -> Response:
    # By its request id, which is this one's alone and fits into any URL.
    url = f"/v1/requests/{row.id}"
    body = {"id": row.public_id, "object": "request", "state": row.state, "urls": {"self": url}}
    return answer(body, 202, id_headers(row.id) | {"location": url})
