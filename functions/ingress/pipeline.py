"""The path of an inference request, top to bottom. Every API calls `run`.

An API defines how a call is read and how its answers look. The rest is here, so that metrics,
limits and idempotency are the same for all. The stages return; none calls the next one.
"""

from contextlib import ExitStack
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from events.names import State
from functions.ingress.admission import open_waiter
from functions.ingress.await_reply import abandon, await_early_failure, await_result, stream_reply
from functions.ingress.callback_targets import name_callback
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer_headers
from functions.ingress.idempotency import await_first, find_first, load_first, stream_first
from functions.ingress.parse_call import InferenceCall
from functions.ingress.pending_requests import Waiter
from functions.ingress.results import Result, read_result
from functions.ingress.sse_response import EventStream, unless_gone
from functions.ingress.submit import make_row, submit
from functions.ingress.tenant_access import authenticate
from functions.ports.store import CallbackTarget, RequestRow


class Api(Protocol):
    """What differs between the APIs."""

    async def parse(self, deps: Dependencies, request: Request, tenant: str) -> InferenceCall:
        """Reads and checks a call; nothing is written anywhere.

        Raises:
            ApiError, EventRejected: a refusal.
            ClientGone: the client left before the body was complete.
        """
        ...

    def show_accepted(
        self, call: InferenceCall, row: RequestRow, target: CallbackTarget | None
    ) -> Response:
        """202 with where to ask. `target`: the callback that this call has named."""
        ...

    def show_result(self, call: InferenceCall, row: RequestRow, result: Result) -> Response:
        """The answer in one piece, or its failure. `row` is that of the request, as far as it is known."""
        ...


async def run(deps: Dependencies, request: Request, api: Api) -> Response:
    """Takes one request from its first byte to the answer.

    Raises:
        ApiError, EventRejected, StoreFailed: a refusal, or a failure that callers are told of.
        ClientGone: the caller has left.
    """
    tenant = authenticate(deps, request)
    call = await api.parse(deps, request, tenant)
    first_id = await find_first(deps, call)
    if first_id is not None:
        return await _join(deps, request, api, call, first_id)
    call, target = await name_callback(deps, call)
    with ExitStack() as opened:
        waiter = None if call.is_background else opened.enter_context(open_waiter(deps, call))
        first_id = await submit(deps, call)
        if first_id is None:
            opened.callback(_count, deps, call, waiter)
            if waiter is None:
                return api.show_accepted(call, make_row(call), target)
            if call.is_stream:
                early = await await_early_failure(deps, waiter)
                return early or _open_stream(deps, call, waiter, opened.pop_all())
            result = await await_result(deps, call, waiter, request.receive)
            if result is None:
                return api.show_accepted(call, make_row(call), None)
            return api.show_result(call, make_row(call), result)
    return await _join(deps, request, api, call, first_id)


async def _join(
    deps: Dependencies, request: Request, api: Api, call: InferenceCall, first_id: str
) -> Response:
    """The answer to a call whose work an earlier request does, or has done."""
    call.body.release()
    if call.is_background:
        return api.show_accepted(call, await load_first(deps, call, first_id), None)
    if call.is_stream:
        frames, write_s = stream_first(deps, call, first_id), deps.settings.ingress.stream_idle_s
        return EventStream(frames, first_id, write_s=write_s)
    row = await unless_gone(request.receive, await_first(deps, call, first_id))
    return api.show_result(call, row, read_result(row))


def _open_stream(
    deps: Dependencies, call: InferenceCall, waiter: Waiter, opened: ExitStack
) -> Response:
    return EventStream(
        stream_reply(deps, call, waiter),
        call.request_id,
        answer_headers(waiter.progress),
        gone=lambda: abandon(deps, call, waiter),
        finished=opened.close,
        write_s=deps.settings.ingress.stream_idle_s,
    )


def _count(deps: Dependencies, call: InferenceCall, waiter: Waiter | None) -> None:
    """Counts a request that was accepted, once: when it was, or at the end of the wait for its answer."""
    if waiter is None:
        door, outcome = ("background" if call.event is None else "events"), State.ACCEPTED.value
    else:
        door = "stream" if waiter.is_stream else "sync"
        outcome = "none" if waiter.terminal is None else waiter.terminal.state.value
        passed_s = deps.clock.monotonic_s() - call.accepted_s
        deps.metrics.e2e_latency.labels(operation=call.operation).observe(max(0.0, passed_s))
    deps.metrics.requests.labels(door=door, operation=call.operation, outcome=outcome).inc()
