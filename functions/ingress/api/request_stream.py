"""`/v1/requests/{id}/events`: states, chunks and end of a request as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from functions.ingress.admission import read_tenant_limits
from functions.ingress.await_reply import make_heartbeats
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import EVENT_STREAM, Endpoint
from functions.ingress.request_body import parse_whole_number
from functions.ingress.sse_response import EventStream, status_comment
from functions.ingress.tenant_access import load_own_request
from functions.ports.store import Mark, RequestEvent, RequestRow
from functions.runtime.errors import ApiError

PAGE: Final = 256
AFTER_DEADLINE_S: Final = 60.0
"""A request whose end is still missing this long after its deadline will not be followed further."""


async def stream(deps: Dependencies, request: Request) -> Response:
    """Everything after the cursor in `?after=` or `Last-Event-ID` (absent: from the start), then what follows.

    Raises:
        ApiError: `not_found`, `invalid_value` (cursor), `tenant_rate` (too many streams).
    """
    row = await load_own_request(deps, request)
    cursor = parse_cursor(request)
    opened, tenant = deps.event_streams, row.tenant
    if opened[tenant] >= read_tenant_limits(deps, tenant).tenant_streams:
        raise ApiError("tenant_rate", "Too many event streams are open for this key.")
    opened[tenant] += 1

    def finished() -> None:
        opened[tenant] -= 1
        if not opened[tenant]:
            del opened[tenant]

    write_s = deps.settings.ingress.stream_idle_s
    return EventStream(_frames(deps, row, cursor), row.id, finished=finished, write_s=write_s)


async def _frames(deps: Dependencies, row: RequestRow, cursor: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    until_s = (row.deadline - deps.clock.now()).total_seconds() + AFTER_DEADLINE_S
    until = loop.time() + max(until_s, AFTER_DEADLINE_S)
    beats = make_heartbeats(deps, loop.time())
    while loop.time() < until:
        events = await deps.offload(deps.store.events_after, row.id, cursor, PAGE)
        if events:
            cursor = events[-1].cursor
            yield beats.data(b"".join(map(event_frame, events)), loop.time())
            if events[-1].kind == "terminal":
                return
            continue
        fresh = await deps.offload(deps.store.request, row.id)
        if fresh is None or (fresh.state.is_terminal and row.state.is_terminal):
            return  # deleted meanwhile, or the end was before the cursor
        row, has_news = fresh, False
        while not has_news and (left_s := until - loop.time()) > 0:
            if beats.is_due(loop.time()):
                yield beats.comment(status_comment(row.state, deps.view(row.service)), loop.time())
            pause_s = min(left_s, beats.wait_s(loop.time()))
            has_news = await deps.wait_for_change(row.id, _is_news_after(row, cursor), pause_s)


def _is_news_after(row: RequestRow, cursor: int) -> Callable[[Mark | None], bool]:
    """Whether a mark is newer than the row and the events that were sent."""
    return lambda mark: mark is None or mark.state is not row.state or mark.next_cursor > cursor + 1


def event_frame(event: RequestEvent) -> bytes:
    """One entry as a server-sent event; its id is the cursor to come back with."""
    data = event.data.replace(b"\r", b"").replace(b"\n", b" ")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.kind.encode(), data)


def parse_cursor(request: Request) -> int:
    """The cursor that the caller has seen; 0 for none.

    Raises:
        ApiError: `invalid_value`.
    """
    text = request.query_params.get("after") or request.headers.get("last-event-id") or "0"
    cursor = parse_whole_number(text, digits=12)
    if cursor is None:
        raise ApiError(
            "invalid_value", "The cursor is the id of an event of this stream.", param="after"
        )
    return cursor


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/requests/{request_id}/events", stream, "States, chunks and the end, resumable.",
        gives_types=(EVENT_STREAM,), query=("after",), headers=("Last-Event-ID",)
    ),
)  # fmt: skip
