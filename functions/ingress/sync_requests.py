"""Waiting for an answer while the caller holds the line: in one piece, or as a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from events.names import Operation, State
from functions.ingress.dependencies import Dependencies, cancelling
from functions.ingress.heartbeats import Heartbeats
from functions.ingress.http_responses import decision_headers, id_headers, refusal
from functions.ingress.parse_call import InferenceCall
from functions.ingress.pending_requests import Waiter
from functions.ingress.request_body import ClientGone
from functions.ingress.results import Result, of_terminal, to_response
from functions.ingress.sse_response import (
    DONE,
    EventStream,
    chunks_of,
    data_frame,
    derived_state,
    error_frame,
    status_comment,
    until_disconnect,
)
from functions.ingress.submit import accept, admit_waiting, send_cancel
from functions.ports.store import RequestRow
from functions.runtime.errors import ApiError
from router_model.service_registry import ServiceView

FIRST_STATUS_S: Final = 0.25
"""A stream's first line waits this long for an early refusal, which then gets a real HTTP status."""
LOOK_S: Final = 0.5
"""The longest between two looks of whoever waits for a change in the store."""


async def wait_in_one_piece(
    deps: Dependencies, call: InferenceCall, receive: Receive, row: RequestRow | None = None
) -> Result | None:
    """Accepts the call and waits for its outcome. None: `Prefer: wait` ran out and the work goes on.

    Raises:
        ApiError: a refusal, the deadline, or shutdown.
        ClientGone: the caller left; the work is cancelled unless somebody may come back for it.
    """
    admit_waiting(deps, call.tenant, is_stream=False)
    waiter = deps.waiters.open(call.request_id, call.tenant, is_stream=False)
    try:
        await accept(deps, call, replies_here=True, row=row)
        limit_s = remaining_s(deps, call)
        if call.preference.wait_s is not None:
            limit_s = min(limit_s, call.preference.wait_s)
        async with cancelling(asyncio.create_task(until_disconnect(receive, waiter.disconnect))):
            if not await waiter.ended(limit_s) and remaining_s(deps, call) <= 0:
                await _await_verdict(deps, call, waiter)
        return await _conclude(deps, call, waiter)
    finally:
        _close(deps, call, waiter)


async def _conclude(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> Result | None:
    if waiter.terminal is not None:
        return await of_terminal(deps, waiter.terminal)
    may_come_back = call.key is not None or call.preference.wait_s is not None
    if waiter.is_disconnected:
        if not may_come_back:
            send_cancel(deps, call.request_id, "disconnected", call.tenant)
        raise ClientGone
    if waiter.failure is not None:
        if not may_come_back:
            send_cancel(deps, call.request_id, "disconnected", call.tenant)
        raise waiter.failure
    if call.preference.wait_s is not None and remaining_s(deps, call) > 0:
        return None
    raise deadline_exceeded()


async def _await_verdict(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    """At the deadline: tells everybody, and waits a moment for what the log says, so that caller and store agree.

    An answer may be on its way; else the worker that has the request, or the reaper, ends it now.
    """
    send_cancel(deps, call.request_id, "deadline", call.tenant)
    await waiter.ended(call.grace_s)


async def wait_as_stream(
    deps: Dependencies, call: InferenceCall, row: RequestRow | None = None
) -> Response:
    """Accepts the call and answers with its stream, or with a refusal that came before the first byte.

    Raises:
        ApiError: a refusal.
    """
    admit_waiting(deps, call.tenant, is_stream=True)
    waiter = deps.waiters.open(call.request_id, call.tenant, is_stream=True)
    try:
        await accept(deps, call, replies_here=True, row=row)
        early = await _early_failure(deps, waiter)
    except BaseException:
        _close(deps, call, waiter)
        raise
    if early is not None:
        _close(deps, call, waiter)
        return early

    async def finished() -> None:
        if waiter.is_disconnected and waiter.terminal is None and call.key is None:
            send_cancel(deps, call.request_id, "disconnected", call.tenant)
        _close(deps, call, waiter)

    return EventStream(
        _frames(deps, call, waiter),
        id_headers(call.request_id)
        | decision_headers(waiter.service, waiter.model, waiter.decision),
        gone=waiter.disconnect,
        finished=finished,
        write_s=deps.settings.ingress.stream_idle_s,
    )


async def _early_failure(deps: Dependencies, waiter: Waiter) -> Response | None:
    """A failure within the first moment; nothing is waited for once it is known that the model is cold."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FIRST_STATUS_S
    while not waiter.is_over and not waiter.has_parts and (left := until - loop.time()) > 0:
        view = service_view(deps, waiter)
        if view is not None and not view.is_warm:
            break
        await waiter.changed(left)
    if waiter.has_parts:
        return None
    if waiter.terminal is not None and waiter.terminal.state is not State.COMPLETED:
        return to_response(await of_terminal(deps, waiter.terminal))
    if waiter.failure is not None:
        return refusal(waiter.failure, waiter.request_id)
    return None


async def _frames(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    beats = heartbeats(deps, loop.time())
    said: tuple[State, str | None] | None = None
    has_spoken = is_late = False
    while True:
        if parts := waiter.take_parts():
            if not has_spoken:
                _observe_first_token(deps, call, waiter)
            has_spoken = True
            yield beats.data(b"".join(map(data_frame, parts)), loop.time())
            continue
        if waiter.is_over or is_late:
            break
        if (left_s := remaining_s(deps, call)) <= 0:
            is_late = True
            await _await_verdict(deps, call, waiter)
            continue
        view = service_view(deps, waiter)
        news = (derived_state(waiter.state, view), waiter.service)
        if beats.is_due(loop.time(), has_news=news != said and not has_spoken):
            said = news
            yield beats.comment(status_comment(waiter.state, view), loop.time())
            continue
        await waiter.changed(min(beats.wait_s(loop.time()), left_s))
    async for frame in _last_frames(deps, call, waiter, has_spoken=has_spoken):
        yield beats.data(frame, loop.time())


def look_s(deps: Dependencies) -> float:
    """Without news, whoever waits for a change in the store looks this often whether caller or time is gone."""
    return min(LOOK_S, deps.settings.ingress.heartbeat_s)


def heartbeats(deps: Dependencies, now_s: float) -> Heartbeats:
    """The rhythm of a stream that begins now."""
    settings = deps.settings.ingress
    return Heartbeats(first_s=settings.heartbeat_s, most_s=settings.heartbeat_most_s, now_s=now_s)


async def _last_frames(
    deps: Dependencies, call: InferenceCall, waiter: Waiter, *, has_spoken: bool
) -> AsyncIterator[bytes]:
    if waiter.is_disconnected:
        return
    if waiter.terminal is None:
        error = waiter.failure or deadline_exceeded()
        if waiter.failure is not None:
            send_cancel(deps, call.request_id, "disconnected", call.tenant)
        yield error_frame(error.body(call.request_id))
        return
    outcome = await of_terminal(deps, waiter.terminal)
    if outcome.state is not State.COMPLETED:
        yield data_frame(outcome.data)
        return
    if not has_spoken:
        # A model server that answered in one piece all the same.
        for part in chunks_of_outcome(call, outcome):
            yield data_frame(part)
    yield DONE


def chunks_of_outcome(call: InferenceCall, outcome: Result) -> list[bytes]:
    """A finished answer in the form of a stream; the usage only where it was asked for."""
    kind = "chat.completion.chunk" if call.operation is Operation.CHAT else "text_completion"
    body = msgspec.json.decode(outcome.data)
    if not call.has_usage:
        body.pop("usage", None)
    return chunks_of(body, kind)


def remaining_s(deps: Dependencies, call: InferenceCall) -> float:
    """Seconds until the deadline, by the clock that never jumps."""
    return call.wait_s - (deps.clock.monotonic_s() - call.accepted_s)


def deadline_exceeded() -> ApiError:
    return ApiError("deadline_exceeded", "The deadline passed before the answer was complete.")


def service_view(deps: Dependencies, waiter: Waiter) -> ServiceView | None:
    """What is known of the service that the request was routed to; None before that."""
    if waiter.service is None:
        return None
    return deps.registry().view(waiter.service, deps.clock.now())


def _observe_first_token(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    passed_s = deps.clock.monotonic_s() - call.accepted_s
    deps.metrics.ttft.labels(service=waiter.service or "unknown").observe(max(0.0, passed_s))


def _close(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    deps.waiters.close(waiter)
    passed_s = deps.clock.monotonic_s() - call.accepted_s
    deps.metrics.e2e_latency.labels(operation=call.operation).observe(max(0.0, passed_s))
    outcome = "none" if waiter.terminal is None else waiter.terminal.state.value
    door = "stream" if waiter.is_stream else "sync"
    deps.metrics.requests.labels(door=door, operation=call.operation, outcome=outcome).inc()
