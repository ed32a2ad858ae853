"""Idempotency keys: the first call with a key does the work; the same call again waits for it or replays its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive

from events.names import State
from functions.ingress import claims, outcomes, waited
from functions.ingress.answering import id_headers
from functions.ingress.calls import Call
from functions.ingress.deps import Deps, cancelling
from functions.ingress.outcomes import Outcome
from functions.ingress.reading import ClientGone
from functions.ingress.streaming import (
    DONE,
    EventStream,
    data_frame,
    error_frame,
    status_comment,
    until_disconnect,
)
from functions.ports.store import Mark, RequestRow
from functions.runtime.errors import ApiError


async def join(deps: Deps, call: Call, first_id: str, receive: Receive) -> Outcome:
    """Waits for the first request's outcome.

    Raises:
        ApiError: the deadline of *this* call passed, or the answer was not kept. The work goes on.
        ClientGone: the caller left.
    """
    gone = asyncio.Event()
    async with cancelling(asyncio.create_task(until_disconnect(receive, gone.set))):
        async for outcome in _watch(deps, call, first_id, gone):
            if isinstance(outcome, Outcome):
                return outcome
    if gone.is_set():
        raise ClientGone
    raise waited.deadline_exceeded()


async def join_as_stream(deps: Deps, call: Call, first_id: str) -> Response:
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
    deps: Deps, call: Call, first_id: str, gone: asyncio.Event
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    beats = waited.heartbeats(deps, loop.time())
    try:
        async for found in _watch(deps, call, first_id, gone):
            if isinstance(found, Outcome):
                yield beats.data(_whole(call, found), loop.time())
                return
            if beats.is_due(loop.time()):
                view = found.service and deps.registry().view(found.service, deps.clock.now())
                yield beats.comment(status_comment(found.state, view or None), loop.time())
        if not gone.is_set():
            last = error_frame(waited.deadline_exceeded().body(first_id))
            yield beats.data(last, loop.time())
    except ApiError as error:
        yield beats.data(error_frame(error.body(first_id)), loop.time())


def _whole(call: Call, outcome: Outcome) -> bytes:
    """All events of a stream whose answer is there."""
    if outcome.state is not State.COMPLETED:
        return data_frame(outcome.data)
    return b"".join(map(data_frame, waited.chunks_of_outcome(call, outcome))) + DONE


async def _watch(
    deps: Deps, call: Call, first_id: str, gone: asyncio.Event
) -> AsyncIterator[Outcome | RequestRow]:
    """The row of a request at every look, then its outcome; ends early at the deadline or when the caller is gone.

    Raises:
        ApiError: the request is not there any more, or its answer was not kept.
    """
    while not gone.is_set() and waited.remaining_s(deps, call) > 0:
        row = await deps.offload(deps.store.request, first_id)
        if row is None:
            raise await claims.missing(deps, call)
        outcome = outcomes.of_row(row)
        if outcome is not None:
            yield outcome
            return
        yield row
        while not await deps.changed(first_id, _news_after(row), waited.look_s(deps)):
            if gone.is_set() or waited.remaining_s(deps, call) <= 0:
                return
            yield row


def _news_after(row: RequestRow) -> Callable[[Mark | None], bool]:
    """Whether a mark says more than the row that was seen."""
    return lambda mark: mark is None or mark.state is not row.state
