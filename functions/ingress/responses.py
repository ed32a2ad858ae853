"""`/v1/responses`: OpenAI's Responses API, in one piece or in the background, and asked for again by id."""

from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events import ids
from events.json_codec import dumps, loads_object
from events.types import Operation, State
from functions.errors import ApiError
from functions.ingress import claims, keyed, reading, requests, targets, waited
from functions.ingress.accepting import accept, row_of
from functions.ingress.answering import answer, id_headers, info_headers, read_info
from functions.ingress.calls import Call, make_call, with_deadline
from functions.ingress.deps import Deps
from functions.ingress.outcomes import Outcome, to_response
from functions.ingress.owned import not_found, own_row, tenant_of
from functions.ingress.responses_shape import echo_of, shape, to_chat
from functions.store import RequestRow


def routes(deps: Deps) -> list[Route]:
    """Create, retrieve, cancel, delete."""

    async def create(request: Request) -> Response:
        return await _create(deps, request)

    async def retrieve(request: Request) -> Response:
        row = _chat_row(await own_row(deps, request))
        row = await requests.wait_for_end(deps, request, row)
        response = answer(of_row(row), headers=id_headers(row.id))
        await requests.forget_delivered(deps, row)
        return response

    async def cancel(request: Request) -> Response:
        row = await requests.cancel_row(deps, _chat_row(await own_row(deps, request)))
        return answer(of_row(row), headers=id_headers(row.id))

    async def delete(request: Request) -> Response:
        row = _chat_row(await own_row(deps, request))
        await requests.delete_row(deps, row)
        return answer({"id": row.id, "object": "response", "deleted": True})

    path = "/v1/responses/{request_id}"
    return [
        Route("/v1/responses", create, methods=["POST"]),
        Route(path, retrieve, methods=["GET"]),
        Route(path, delete, methods=["DELETE"]),
        Route(f"{path}/cancel", cancel, methods=["POST"]),
    ]


async def _create(deps: Deps, request: Request) -> Response:
    tenant = tenant_of(deps, request)
    reading.require_media_type(request)
    raw = await reading.read_body(request, deps.settings.ingress)

    def read() -> tuple[dict[str, object], Call]:
        body = loads_object(raw)
        return body, _call(deps, request, body, raw, tenant)

    body, call = await deps.in_turn(tenant, raw, read)
    meta = {"door": "responses", "echo": echo_of(body), "background": call.is_background}
    first_id = await claims.first_of(deps, call)
    if first_id is not None:
        return await _again(deps, call, first_id, request)
    try:
        if call.is_background:
            return await _in_background(deps, call, meta)
        row = row_of(deps, call, replies_here=True, meta=meta)
        outcome = await waited.wait_in_one_piece(deps, call, request.receive, row)
    except claims.MadeBefore as made:
        return await _again(deps, call, made.request_id, request)
    if outcome is None:
        return _accepted(row)
    return _answered(row, outcome)


def _call(deps: Deps, request: Request, body: dict[str, object], raw: bytes, tenant: str) -> Call:
    if not isinstance(body.get("background"), bool | None):
        raise ApiError("invalid_value", "background is true or false.", param="background")
    chat = to_chat(body)
    if body.get("callback") is not None:
        chat["callback"] = body["callback"]
    call = make_call(deps, request, Operation.CHAT, dumps(chat), chat, tenant)
    if body.get("background"):
        call = with_deadline(deps, call, request.headers, is_background=True)
    return call if call.key is None else replace(call, key_hash=ids.body_hash("responses", raw))


async def _in_background(deps: Deps, call: Call, meta: dict[str, object]) -> Response:
    if call.callback is not None:
        target = await targets.resolve(deps, call.tenant, call.callback)
        call = replace(call, callback_id=target.id)
    row = row_of(deps, call, replies_here=False, meta=meta)
    await accept(deps, call, replies_here=False, row=row)
    return _accepted(row)


async def _again(deps: Deps, call: Call, first_id: str, request: Request) -> Response:
    """The same key again: the same response, finished where the caller waits for it."""
    if not call.is_background:
        await keyed.join(deps, call, first_id, request.receive)
    row = await deps.offload(deps.store.request, first_id)
    if row is None:
        raise await claims.missing(deps, call)
    return _accepted(row) if call.is_background else answer(of_row(row), headers=id_headers(row.id))


def _accepted(row: RequestRow) -> Response:
    return answer(of_row(row), 202, id_headers(row.id) | {"location": f"/v1/responses/{row.id}"})


def _answered(row: RequestRow, outcome: Outcome) -> Response:
    """A finished call: the response object, or the refusal as the other doors give it."""
    if outcome.state is not State.COMPLETED:
        return to_response(outcome)
    done = replace(row, state=outcome.state, status=outcome.status, result=outcome.data)
    headers = id_headers(row.id) | info_headers(read_info(outcome.data))
    return answer(of_row(done), headers=headers)


def of_row(row: RequestRow) -> dict[str, object]:
    """The response object of a request."""
    echo = row.meta.get("echo")
    return shape(
        request_id=row.id,
        state=row.state,
        model=row.model or row.asked_model,
        created_at=row.accepted_at,
        echo=echo if isinstance(echo, dict) else {},
        is_background=row.meta.get("background") is True,
        data=None if row.result is None else msgspec.json.decode(row.result),
    )


def _chat_row(row: RequestRow) -> RequestRow:
    if row.operation != Operation.CHAT:
        raise not_found()
    return row
