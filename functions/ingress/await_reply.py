"""Waits for the reply of a submitted call, in one piece or as a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive

from events.names import State
from functions.ingress.cancel import send_cancel
from functions.ingress.dependencies import Dependencies
from functions.ingress.heartbeats import Heartbeats
from functions.ingress.http_responses import refusal
from functions.ingress.parse_call import InferenceCall
from functions.ingress.pending_requests import Waiter
from functions.ingress.request_body import ClientGone
from functions.ingress.results import (
    Result,
    deadline_exceeded,
    load_result,
    to_response,
    whole_stream,
)
from functions.ingress.sse_response import (
    DONE,
    data_frame,
    derived_state,
    status_comment,
    unless_gone,
)

FIRST_STATUS_S: Final = 0.25
"""A stream's first line waits this long for an early refusal, which then gets a real HTTP status."""


async def await_result(
    deps: Dependencies, call: InferenceCall, waiter: Waiter, receive: Receive
) -> Result | None:
    """The result of a call. None: `Prefer: wait` ran out and the work continues.

    Raises:
        ApiError: the deadline, or shutdown.
        ClientGone: the caller left; the work is cancelled unless somebody may come back for it.
    """
    try:
        await unless_gone(receive, _await_end(deps, call, waiter))
    except ClientGone:
        abandon(deps, call, waiter)
        raise
    if waiter.terminal is not None:
        return await load_result(deps, waiter.terminal)
    if waiter.failure is not None:
        abandon(deps, call, waiter)
        raise waiter.failure
    if call.preference.wait_s is not None and remaining_s(deps, call) > 0:
        return None
    raise deadline_exceeded()


async def await_early_failure(deps: Dependencies, waiter: Waiter) -> Response | None:
    """A failure within a stream's first moment; None: the stream may begin.

    Nothing is waited for once it is known that the model is cold.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + FIRST_STATUS_S
    while not waiter.is_over and not waiter.has_parts and (left := until - loop.time()) > 0:
        view = deps.view(waiter.service)
        if view is not None and not view.is_warm:
            break
        await waiter.wait_for_news(left)
    if waiter.has_parts:
        return None
    if waiter.terminal is not None and waiter.terminal.state is not State.COMPLETED:
        return to_response(await load_result(deps, waiter.terminal))
    if waiter.failure is not None:
        return refusal(waiter.failure, waiter.request_id)
    return None


async def stream_reply(
    deps: Dependencies, call: InferenceCall, waiter: Waiter
) -> AsyncIterator[bytes]:
    """The frames of a stream: comments until the first part is there, the parts, the end.

    Raises:
        ApiError: the stream ended without a terminal.
    """
    loop = asyncio.get_running_loop()
    beats = make_heartbeats(deps, loop.time())
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
        view = deps.view(waiter.service)
        news = (derived_state(waiter.state, view), waiter.service)
        if beats.is_due(loop.time(), has_news=news != said and not has_spoken):
            said = news
            yield beats.comment(status_comment(waiter.state, view), loop.time())
            continue
        await waiter.wait_for_news(min(beats.wait_s(loop.time()), left_s))
    if waiter.failure is not None:
        abandon(deps, call, waiter)
        raise waiter.failure
    if waiter.terminal is None:
        raise deadline_exceeded()
    result = await load_result(deps, waiter.terminal)
    # A model server that answered in one piece all the same has not spoken.
    is_whole = has_spoken and result.state is State.COMPLETED
    yield beats.data(DONE if is_whole else whole_stream(call, result), loop.time())


def abandon(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    """Cancels the work of a call without a caller, unless it has ended or the caller may come back."""
    if waiter.terminal is None and not call.may_come_back:
        send_cancel(deps, call.request_id, "disconnected", call.tenant)


def make_heartbeats(deps: Dependencies, now_s: float) -> Heartbeats:
    """The rhythm of a stream that begins now."""
    settings = deps.settings.ingress
    return Heartbeats(first_s=settings.heartbeat_s, most_s=settings.heartbeat_most_s, now_s=now_s)


def remaining_s(deps: Dependencies, call: InferenceCall) -> float:
    """Seconds until the deadline, by the clock that never jumps."""
    return call.wait_s - (deps.clock.monotonic_s() - call.accepted_s)


async def _await_end(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    limit_s = remaining_s(deps, call)
    if call.preference.wait_s is not None:
        limit_s = min(limit_s, call.preference.wait_s)
    if not await waiter.wait_for_end(limit_s) and remaining_s(deps, call) <= 0:
        await _await_verdict(deps, call, waiter)


async def _await_verdict(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    """At the deadline: cancels, and waits a moment for the recorded end, so that caller and store
    agree.

    An answer may be on its way. Otherwise the worker or the reaper ends the request now.
    """
    send_cancel(deps, call.request_id, "deadline", call.tenant)
    await waiter.wait_for_end(call.grace_s)


def _observe_first_token(deps: Dependencies, call: InferenceCall, waiter: Waiter) -> None:
    passed_s = deps.clock.monotonic_s() - call.accepted_s
    deps.metrics.ttft.labels(service=waiter.service or "unknown").observe(max(0.0, passed_s))
