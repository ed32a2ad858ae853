"""`/v1/requests/{id}/events`: states, chunks and the end of a request as server-sent events, resumable by cursor."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import id_headers
from functions.ingress.request_body import whole_number
from functions.ingress.sse_response import EventStream, status_comment
from functions.ingress.submit import read_tenant_limits
from functions.ingress.sync_requests import heartbeats, look_s
from functions.ingress.tenant_access import load_own_request
from functions.ports.store import Mark, RequestEvent, RequestRow
from functions.runtime.errors import ApiError

PAGE: Final = 256
AFTER_DEADLINE_S: Final = 60.0
"""A request whose end is still missing this long after its deadline will not be followed further."""


class RequestEvents:
    """The endpoint, and how many each tenant follows at once."""

    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps
        self._open: Counter[str] = Counter()

    async def stream(self, request: Request) -> Response:
        """Everything after the cursor in `?after=` or `Last-Event-ID` (absent: from the start), then what follows.

        Raises:
            ApiError: `not_found`, `invalid_value` (cursor), `tenant_rate` (too many streams).
        """
        row = await load_own_request(self._deps, request)
        cursor = cursor_of(request)
        tenant = row.tenant
        if self._open[tenant] >= read_tenant_limits(self._deps, tenant).tenant_streams:
            raise ApiError("tenant_rate", "Too many event streams are open for this key.")
        self._open[tenant] += 1
        gone = asyncio.Event()

        async def finished() -> None:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

        return EventStream(
            self._frames(row, cursor, gone),
            id_headers(row.id),
            gone=gone.set,
            finished=finished,
            write_s=self._deps.settings.ingress.stream_idle_s,
        )

    async def _frames(
        self, row: RequestRow, cursor: int, gone: asyncio.Event
    ) -> AsyncIterator[bytes]:
        deps = self._deps
        loop = asyncio.get_running_loop()
        until_s = (row.deadline - deps.clock.now()).total_seconds() + AFTER_DEADLINE_S
        until = loop.time() + max(until_s, AFTER_DEADLINE_S)
        beats = heartbeats(deps, loop.time())
        while not gone.is_set() and loop.time() < until:
            found = await deps.offload(deps.store.events_after, row.id, cursor, PAGE)
            if found:
                cursor = found[-1].cursor
                yield beats.data(b"".join(map(event_frame, found)), loop.time())
                if found[-1].kind == "terminal":
                    return
                continue
            fresh = await deps.offload(deps.store.request, row.id)
            if fresh is None or (fresh.state.is_terminal and row.state.is_terminal):
                return  # deleted meanwhile, or the end was before the cursor
            row = fresh
            if beats.is_due(loop.time()):
                yield beats.comment(self._comment(row), loop.time())
            while not await deps.changed(row.id, _news_after(row, cursor), look_s(deps)):
                if gone.is_set() or loop.time() >= until:
                    return
                if beats.is_due(loop.time()):
                    yield beats.comment(self._comment(row), loop.time())

    def _comment(self, row: RequestRow) -> bytes:
        deps = self._deps
        view = None if row.service is None else deps.registry().view(row.service, deps.clock.now())
        return status_comment(row.state, view)


def _news_after(row: RequestRow, cursor: int) -> Callable[[Mark | None], bool]:
    """Whether a mark says more than the row and the events that were seen."""
    return lambda mark: mark is None or mark.state is not row.state or mark.next_cursor > cursor + 1


def event_frame(event: RequestEvent) -> bytes:
    """One entry as a server-sent event; its id is the cursor to come back with."""
    data = event.data.replace(b"\r", b"").replace(b"\n", b" ")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.kind.encode(), data)


def cursor_of(request: Request) -> int:
    """The cursor that the caller has seen; 0 for none.

    Raises:
        ApiError: `invalid_value`.
    """
    text = request.query_params.get("after") or request.headers.get("last-event-id") or "0"
    cursor = whole_number(text, digits=12)
    if cursor is None:
        raise ApiError(
            "invalid_value", "The cursor is the id of an event of this stream.", param="after"
        )
    return cursor
