"""`POST /`: a CloudEvent, binary or structured, becomes a request.

Tenant, source and id say which one, so sending it twice is safe (`events.request_identity`).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from events import ids, names
from events.codecs import http_codec
from events.event import Event
from events.limits import DEFAULT_LIMITS
from events.names import Topics
from events.request_identity import SentEvent
from events.requests import InferenceRequest, parse_request
from events.timestamps import from_rfc3339, to_rfc3339
from functions.ingress import pipeline, request_body
from functions.ingress.callback_targets import is_target_id
from functions.ingress.deadlines import Preference
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.held_bodies import get_body
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.parse_call import (
    InferenceCall,
    parse_model_name,
    parse_trace_parent,
    parse_trace_state,
    read_body,
)
from functions.ingress.results import Result
from functions.ports.store import CallbackTarget, RequestRow
from functions.runtime.errors import ApiError
from functions.runtime.settings import Settings

_EVENTS: Final = "application/cloudevents"


class CloudEventsApi:
    """An event is background work under the id that its tenant, source and id make."""

    async def parse(self, deps: Dependencies, request: Request, tenant: str) -> InferenceCall:
        _require_media_type(request)
        body = await read_body(deps, request, tenant)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.scope["headers"]]
        limits = replace(DEFAULT_LIMITS, max_bytes=deps.settings.ingress.max_body_bytes)

        def read() -> InferenceRequest:
            event = clean_event(deps, http_codec.from_http(headers, body, limits), tenant)
            return parse_request(event, default_wait_s=deps.settings.ingress.background_wait_s)

        parsed = await deps.run_in_turn(tenant, body, read)
        await _check(deps, parsed)
        return _make_call(deps, request, parsed)

    def show_accepted(
        self,
        call: InferenceCall,
        row: RequestRow,
        target: CallbackTarget | None,
    ) -> Response:
        # By its request id, which is this one's alone and fits into any URL.
        url = f"/v1/requests/{row.id}"
        body = {"id": row.public_id, "object": "request", "state": row.state, "urls": {"self": url}}
        return answer(body, 202, id_headers(row.id) | {"location": url})

    def show_result(self, call: InferenceCall, row: RequestRow, result: Result) -> Response:
        raise NotImplementedError("nobody waits for the end of an event")


async def accept(deps: Dependencies, request: Request) -> Response:
    return await pipeline.run(deps, request, CloudEventsApi())


def _make_call(deps: Dependencies, request: Request, parsed: InferenceRequest) -> InferenceCall:
    sent = SentEvent.of(parsed.event)
    body = get_body(request.scope["state"])
    body.raw = parsed.event.data or b""
    return InferenceCall(
        request_id=parsed.request_id,
        tenant=parsed.tenant,
        operation=parsed.operation,
        body=body,
        asked_model=parsed.asked_model,
        accepted_at=parsed.accepted_at,
        accepted_s=deps.clock.monotonic_s(),
        deadline=parsed.deadline,
        preference=Preference(),
        is_stored=parsed.is_stored,
        callback=parsed.callback_id,
        is_background=True,
        reply=parsed.reply,
        event=parsed.event,
        meta={} if sent is None else sent.meta,
    )


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


def clean_event(deps: Dependencies, event: Event, tenant: str) -> Event:
    """The event for Kafka: identity from the key, bounded deadline, none of our own attributes.

    Raises:
        ApiError, EventRejected: another type, a reply topic that is not allowed, a malformed `expirytime`.
    """
    if event.type != names.REQUEST:
        raise ApiError("invalid_event", f"Only {names.REQUEST} is taken here.", param="type")
    now = deps.clock.now()
    kept = {name: value for name, value in event.extensions.items() if name not in names.INTERNAL}
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
    for name, check in (
        (names.TRACE_PARENT, parse_trace_parent),
        (names.TRACE_STATE, parse_trace_state),
    ):
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
    return (settings.ingress.further_reply_topics | {topics.responses}) - {topics.replies}


async def _check(deps: Dependencies, request: InferenceRequest) -> None:
    """Refuses what the catalogue does not know, a callback that is no id, and a reply partition that is not there.

    Raises:
        ApiError: the refusal.
    """
    parse_model_name(deps.catalogue, request.asked_model, request.operation, request.tenant)
    if request.profile is not None and request.profile not in deps.catalogue.profiles:
        raise ApiError("invalid_value", "There is no such profile.", param=names.PROFILE)
    if request.callback_id is not None and not is_target_id(request.callback_id):
        raise ApiError(
            "callback_url_refused", "Name a registered callback.", param=names.CALLBACK_ID
        )
    address = request.reply
    if address is None or address.partition is None:
        return
    if not await deps.offload(deps.reply_partitions.has, address.topic, address.partition):
        raise ApiError(
            "invalid_event", "The replytopic has no such partition.", param=names.REPLY_PARTITION
        )


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/", accept, f"A CloudEvent of type {names.REQUEST}.", takes="CloudEvent",
        takes_type=names.STRUCTURED_JSON, gives="Request", statuses=(202,)
    ),
)  # fmt: skip
