"""The OpenAI doors for chat, completions and embeddings: in one piece, streamed, in the background, by key."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.names import Operation
from functions.ingress import async_requests, idempotency, key_claims, sync_requests
from functions.ingress.dependencies import Dependencies
from functions.ingress.parse_call import InferenceCall, read_call
from functions.ingress.results import to_response
from functions.ingress.submit import make_row

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(deps: Dependencies) -> list[Route]:
    """The three paths."""
    paths = {
        "/v1/chat/completions": Operation.CHAT,
        "/v1/completions": Operation.COMPLETIONS,
        "/v1/embeddings": Operation.EMBEDDINGS,
    }
    return [
        Route(path, _endpoint(deps, operation), methods=["POST"], name=operation)
        for path, operation in paths.items()
    ]


def _endpoint(deps: Dependencies, operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await _answer(deps, await read_call(deps, request, operation), request)

    return endpoint


async def _answer(deps: Dependencies, call: InferenceCall, request: Request) -> Response:
    first_id = await key_claims.first_of(deps, call)
    if first_id is None:
        try:
            return await _first(deps, call, request)
        except key_claims.MadeBefore as made:
            first_id = made.request_id
    call.body.release()
    if call.is_background:
        return await async_requests.accepted_before(deps, call, first_id)
    if call.is_stream:
        return await idempotency.join_as_stream(deps, call, first_id)
    return to_response(await idempotency.join(deps, call, first_id, request.receive))


async def _first(deps: Dependencies, call: InferenceCall, request: Request) -> Response:
    """The call is the first, or only, one with its key."""
    if call.is_background:
        return await async_requests.accept_in_background(deps, call)
    is_asked_for_later = call.key is not None or call.preference.wait_s is not None
    row = make_row(deps, call, replies_here=True) if is_asked_for_later else None
    if call.is_stream:
        return await sync_requests.wait_as_stream(deps, call, row)
    outcome = await sync_requests.wait_in_one_piece(deps, call, request.receive, row)
    if outcome is None:
        return async_requests.accepted(deps, call)
    return to_response(outcome)
