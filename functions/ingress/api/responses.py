"""`/v1/responses`: OpenAI's Responses API, in one piece or in the background, and asked for again by id."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events import ids
from events.codecs.json_codec import dumps, loads_object
from events.errors import EventRejected
from events.names import Operation, State
from functions.ingress import idempotency, key_claims, request_body, sync_requests
from functions.ingress.api import callbacks, requests
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer, id_headers, info_headers, read_info
from functions.ingress.parse_call import InferenceCall, make_call, read_body, with_deadline
from functions.ingress.responses_input import (
    ConvertedBody,
    callers_path,
    references,
    renamed,
    to_chat,
)
from functions.ingress.results import Result, to_response
from functions.ingress.stored_responses import items_of_input, referenced_items, too_large
from functions.ingress.submit import accept, make_row
from functions.ingress.tenant_access import authenticate, load_own_request, not_found
from functions.ports.store import RequestRow
from functions.response_objects import build_meta, build_response_object
from functions.runtime.errors import ApiError

Items = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A call as it came: `meta` goes with its row, `paths` says where the caller wrote what its chat body has."""

    call: InferenceCall
    meta: Mapping[str, object]
    paths: Mapping[str, str]


def routes(deps: Dependencies) -> list[Route]:
    """Create, retrieve, cancel, delete; what went in, and how much of it."""

    async def create(request: Request) -> Response:
        return await _create(deps, request)

    async def retrieve(request: Request) -> Response:
        row = _chat_row(await load_own_request(deps, request))
        row = await requests.wait_for_end(deps, request, row)
        response = answer(build_response_object(row), headers=id_headers(row.id))
        await requests.forget_delivered(deps, row)
        return response

    async def cancel(request: Request) -> Response:
        row = await requests.cancel_row(deps, _chat_row(await load_own_request(deps, request)))
        return answer(build_response_object(row), headers=id_headers(row.id))

    async def delete(request: Request) -> Response:
        row = _chat_row(await load_own_request(deps, request))
        await requests.delete_row(deps, row)
        return answer({"id": row.id, "object": "response", "deleted": True})

    async def input_items(request: Request) -> Response:
        row = _chat_row(await load_own_request(deps, request))
        return await items_of_input(deps, request, row)

    async def input_tokens(request: Request) -> Response:
        return await _count(deps, request)

    path = "/v1/responses/{request_id}"
    return [
        Route("/v1/responses", create, methods=["POST"]),
        Route("/v1/responses/input_tokens", input_tokens, methods=["POST"]),
        Route(path, retrieve, methods=["GET"]),
        Route(path, delete, methods=["DELETE"]),
        Route(f"{path}/cancel", cancel, methods=["POST"]),
        Route(f"{path}/input_items", input_items, methods=["GET"]),
    ]


async def _create(deps: Dependencies, request: Request) -> Response:
    made = await _read(deps, request)
    call = made.call
    first_id = await key_claims.first_of(deps, call)
    if first_id is not None:
        call.body.release()
        return await _again(deps, call, first_id, request)
    try:
        if call.is_background:
            return await _in_background(deps, call, made.meta)
        row = make_row(deps, call, replies_here=True, meta=made.meta)
        outcome = await sync_requests.wait_in_one_piece(deps, call, request.receive, row)
    except key_claims.MadeBefore as before:
        return await _again(deps, call, before.request_id, request)
    if outcome is None:
        return _accepted(row)
    return _answered(row, outcome, made.paths)


async def _read(
    deps: Dependencies, request: Request, changes: Mapping[str, object] | None = None
) -> _Made:
    """Reads and checks a call; what its input only refers to is looked up first. `changes` are of its chat body."""
    tenant = authenticate(deps, request)
    request_body.require_media_type(request)
    raw = await read_body(deps, request, tenant)

    def read() -> tuple[dict[str, object], dict[str, str], _Made | None]:
        body = loads_object(raw)
        named = references(body)
        return body, named, None if named else make(body, {})

    def make(body: dict[str, object], items: Items) -> _Made:
        asked = to_chat(body, items)
        asked.chat.update(changes or {})
        return _make(deps, request, body, raw, asked)

    body, named, made = await deps.run_in_turn(tenant, raw, read)
    if made is not None:
        return made
    items = await referenced_items(deps, tenant, named)
    return await deps.run_in_turn(tenant, raw, lambda: make(body, items))


def _make(
    deps: Dependencies, request: Request, body: dict[str, object], raw: bytes, asked: ConvertedBody
) -> _Made:
    if not isinstance(body.get("background"), bool | None):
        raise ApiError("invalid_value", "background is true or false.", param="background")
    chat, tenant = asked.chat, authenticate(deps, request)
    if body.get("callback") is not None:
        chat["callback"] = body["callback"]
    try:
        sent = dumps(chat)
        if len(sent) > deps.settings.ingress.max_body_bytes:
            raise too_large(deps, "input")
        call = make_call(deps, request, Operation.CHAT, sent, chat, tenant)
    except EventRejected as error:
        raise renamed(error, asked.paths) from error
    if body.get("background"):
        call = with_deadline(deps, call, request.headers, is_background=True)
    if call.key is not None:
        call = replace(call, key_hash=ids.body_hash("responses", raw))
    meta = build_meta(body, is_background=call.is_background)
    return _Made(call=call, meta=meta, paths=asked.paths)


async def _in_background(
    deps: Dependencies, call: InferenceCall, meta: Mapping[str, object]
) -> Response:
    more: dict[str, object] = {}
    if call.callback is not None:
        target = await callbacks.resolve(deps, call.tenant, call.callback)
        call = replace(call, callback_id=target.id)
        more = {"callback": callbacks.shown(target)}
    row = make_row(deps, call, replies_here=False, meta=meta)
    await accept(deps, call, replies_here=False, row=row)
    return _accepted(row, more)


async def _again(
    deps: Dependencies, call: InferenceCall, first_id: str, request: Request
) -> Response:
    """The same key again: the same response, finished where the caller waits for it."""
    if not call.is_background:
        await idempotency.join(deps, call, first_id, request.receive)
    row = await deps.offload(deps.store.request, first_id)
    if row is None:
        raise await key_claims.missing(deps, call)
    if call.is_background:
        return _accepted(row)
    return answer(build_response_object(row), headers=id_headers(row.id))


def _accepted(row: RequestRow, more: Mapping[str, object] | None = None) -> Response:
    headers = id_headers(row.id) | {"location": f"/v1/responses/{row.id}"}
    return answer({**build_response_object(row), **(more or {})}, 202, headers)


def _answered(row: RequestRow, outcome: Result, paths: Mapping[str, str]) -> Response:
    """A finished call: the response object, or the refusal as the other doors give it, in the caller's own paths."""
    if outcome.state is not State.COMPLETED:
        return to_response(_in_callers_paths(outcome, paths))
    done = replace(row, state=outcome.state, status=outcome.status, result=outcome.data)
    headers = id_headers(row.id) | info_headers(read_info(outcome.data))
    return answer(build_response_object(done), headers=headers)


def _in_callers_paths(outcome: Result, paths: Mapping[str, str]) -> Result:
    found = msgspec.json.decode(outcome.data)
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("param"), str):
        return outcome
    error["param"] = callers_path(error["param"], paths)
    return replace(outcome, data=dumps(found))


async def _count(deps: Dependencies, request: Request) -> Response:
    """How many tokens an input has, as the model's own server counts them: it is asked for one token of an answer.

    Raises:
        ApiError: a refusal, or `capability_missing` where the server does not say what it counted.
    """
    made = await _read(deps, request, {"max_tokens": 1, "store": False})
    call = replace(made.call, key=None)
    if call.is_background:
        raise ApiError("invalid_value", "Tokens are counted at once.", param="background")
    outcome = await sync_requests.wait_in_one_piece(deps, call, request.receive)
    if outcome is None:
        raise sync_requests.deadline_exceeded()
    if outcome.state is not State.COMPLETED:
        return to_response(_in_callers_paths(outcome, made.paths))
    tokens = msgspec.json.decode(outcome.data).get("usage", {}).get("prompt_tokens")
    if not tokens:
        raise ApiError("capability_missing", "The model's server does not say what it counted.")
    headers = id_headers(call.request_id) | info_headers(read_info(outcome.data))
    return answer({"object": "response.input_tokens", "input_tokens": tokens}, headers=headers)


def _chat_row(row: RequestRow) -> RequestRow:
    if row.operation != Operation.CHAT:
        raise not_found()
    return row
