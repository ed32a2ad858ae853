"""Idempotency keys: the first call with a key does the work; the same call again waits for it or replays its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive

from events.names import State
from functions.ingress import key_claims, results, sync_requests
from functions.ingress.dependencies import Dependencies, cancelling
from functions.ingress.http_responses import id_headers
from functions.ingress.parse_call import InferenceCall
from functions.ingress.request_body import ClientGone
from functions.ingress.results import Result
from functions.ingress.sse_response import (
    DONE,
    EventStream,
    data_frame,
    error_frame,
    status_comment,
    until_disconnect,
)
from functions.ports.store import Mark, RequestRow
from functions.runtime.errors import ApiError


async def join(deps: Dependencies, call: InferenceCall, first_id: str, receive: Receive) -> Result:
    """Waits for the first request's outcome.

    Raises:
        ApiError: the deadline of *this* call passed, or the answer was not kept. The work goes on.
        ClientGone: the caller left.
    """
    gone = asyncio.Event()
    async with cancelling(asyncio.create_task(until_disconnect(receive, gone.set))):
        async for outcome in _watch(deps, call, first_id, gone):
            if isinstance(outcome, Result):
                return outcome
    if gone.is_set():
        raise ClientGone
    raise sync_requests.deadline_exceeded()


async def join_as_stream(deps: Dependencies, call: InferenceCall, first_id: str) -> Response:
    """The first request's answer in the form of a stream: comments until it is there, then all of it."""
    gone = asyncio.Event()

    async def finished() -> None:
        return None

    return EventStream(
        _joined_frames(deps, call, first_id, gone),
        id_headers(first_id),
        gone=gone.set,
        finished=finished,
        write_s=deps.settings.ingress.stream_idle_s,
    )


async def _joined_frames(
    deps: Dependencies, call: InferenceCall, first_id: str, gone: asyncio.Event
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    beats = sync_requests.heartbeats(deps, loop.time())
    try:
        async for found in _watch(deps, call, first_id, gone):
            if isinstance(found, Result):
                yield beats.data(_whole(call, found), loop.time())
                return
            if beats.is_due(loop.time()):
                view = found.service and deps.registry().view(found.service, deps.clock.now())
                yield beats.comment(status_comment(found.state, view or None), loop.time())
        if not gone.is_set():
            last = error_frame(sync_requests.deadline_exceeded().body(first_id))
            yield beats.data(last, loop.time())
    except ApiError as error:
        yield beats.data(error_frame(error.body(first_id)), loop.time())


def _whole(call: InferenceCall, outcome: Result) -> bytes:
    """All events of a stream whose answer is there."""
    if outcome.state is not State.COMPLETED:
        return data_frame(outcome.data)
    return b"".join(map(data_frame, sync_requests.chunks_of_outcome(call, outcome))) + DONE


async def _watch(
    deps: Dependencies, call: InferenceCall, first_id: str, gone: asyncio.Event
) -> AsyncIterator[Result | RequestRow]:
    """The row of a request at every look, then its outcome; ends early at the deadline or when the caller is gone.

    Raises:
        ApiError: the request is not there any more, or its answer was not kept.
    """
    while not gone.is_set() and sync_requests.remaining_s(deps, call) > 0:
        row = await deps.offload(deps.store.request, first_id)
        if row is None:
            raise await key_claims.missing(deps, call)
        outcome = results.of_row(row)
        if outcome is not None:
            yield outcome
            return
        yield row
        while not await deps.changed(first_id, _news_after(row), sync_requests.look_s(deps)):
            if gone.is_set() or sync_requests.remaining_s(deps, call) <= 0:
                return
            yield row


def _news_after(row: RequestRow) -> Callable[[Mark | None], bool]:
    """Whether a mark says more than the row that was seen."""
    return lambda mark: mark is None or mark.state is not row.state
