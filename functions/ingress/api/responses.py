"""`/v1/responses`: OpenAI's Responses API, in one piece or in the background."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from events import ids
from events.codecs.json_codec import dumps, loads_object
from events.errors import EventRejected
from events.names import Operation, State
from events.parsers import parse_pickspin
from functions.ingress import pipeline, request_body
from functions.ingress.api import requests
from functions.ingress.callback_targets import show_target
from functions.ingress.deadlines import Preference
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer, answer_headers, id_headers
from functions.ingress.list_pages import QUERY
from functions.ingress.parse_call import (
    CALL_HEADERS,
    InferenceCall,
    make_call,
    read_body,
    with_deadline,
)
from functions.ingress.responses_input import (
    list_references,
    rename_error,
    to_callers_path,
    to_chat,
)
from functions.ingress.results import Result, to_response
from functions.ingress.stored_responses import answer_input_items, load_referenced_items, too_large
from functions.ingress.tenant_access import load_own_request, not_found
from functions.ports.store import CallbackTarget, RequestRow
from functions.response_objects import build_meta, build_response_object
from functions.runtime.errors import ApiError

PATH: Final = "/v1/responses/{request_id}"
Items = Mapping[str, Mapping[str, object]]


class ResponsesApi:
    """The Responses API as a dialect of chat."""

    async def parse(self, deps: Dependencies, request: Request, tenant: str) -> InferenceCall:
        return await _read(deps, request, tenant)

    def show_accepted(
        self,
        call: InferenceCall,
        row: RequestRow,
        target: CallbackTarget | None,
    ) -> Response:
        body = build_response_object(row) | (
            {} if target is None else {"callback": show_target(target)}
        )
        return answer(body, 202, id_headers(row.id) | {"location": f"/v1/responses/{row.id}"})

    def show_result(self, call: InferenceCall, row: RequestRow, result: Result) -> Response:
        """The response object, or the failure as the other APIs give it, in the caller's own paths."""
        if result.state is not State.COMPLETED:
            return to_response(_in_callers_paths(result, call.paths))
        done = replace(row, state=result.state, status=result.status, result=result.data)
        headers = id_headers(row.id) | answer_headers(parse_pickspin(result.data))
        return answer(build_response_object(done), headers=headers)


class TokenCountApi(ResponsesApi):
    """Counts an input's tokens by the model's own server, which generates one token for it."""

    async def parse(self, deps: Dependencies, request: Request, tenant: str) -> InferenceCall:
        call = await _read(deps, request, tenant, {"max_tokens": 1, "store": False})
        if call.is_background:
            raise ApiError("invalid_value", "Tokens are counted at once.", param="background")
        call = replace(call, key=None, preference=Preference(), is_always_kept=False)
        return with_deadline(deps, call, request.headers)

    def show_result(self, call: InferenceCall, row: RequestRow, result: Result) -> Response:
        """The count.

        Raises:
            ApiError: `capability_missing` where the server does not say what it counted.
        """
        if result.state is not State.COMPLETED:
            return super().show_result(call, row, result)
        tokens = msgspec.json.decode(result.data).get("usage", {}).get("prompt_tokens")
        if not tokens:
            raise ApiError("capability_missing", "The model's server does not say what it counted.")
        headers = id_headers(row.id) | answer_headers(parse_pickspin(result.data))
        return answer({"object": "response.input_tokens", "input_tokens": tokens}, headers=headers)


async def create(deps: Dependencies, request: Request) -> Response:
    return await pipeline.run(deps, request, ResponsesApi())


async def retrieve(deps: Dependencies, request: Request) -> Response:
    row = _chat_row(await load_own_request(deps, request))
    row = await requests.wait_for_end(deps, request, row)
    response = answer(build_response_object(row), headers=id_headers(row.id))
    await requests.forget_delivered(deps, row)
    return response


async def cancel(deps: Dependencies, request: Request) -> Response:
    row = await requests.cancel_row(deps, _chat_row(await load_own_request(deps, request)))
    return answer(build_response_object(row), headers=id_headers(row.id))


async def delete(deps: Dependencies, request: Request) -> Response:
    row = _chat_row(await load_own_request(deps, request))
    await requests.delete_row(deps, row)
    return answer({"id": row.id, "object": "response", "deleted": True})


async def list_input_items(deps: Dependencies, request: Request) -> Response:
    row = _chat_row(await load_own_request(deps, request))
    return await answer_input_items(deps, request, row)


async def count_input_tokens(deps: Dependencies, request: Request) -> Response:
    return await pipeline.run(deps, request, TokenCountApi())


async def _read(
    deps: Dependencies,
    request: Request,
    tenant: str,
    changes: Mapping[str, object] | None = None,
) -> InferenceCall:
    """Reads and checks a call; what its input only refers to is looked up first. `changes` are of its chat body."""
    request_body.require_media_type(request)
    raw = await read_body(deps, request, tenant)

    def make(body: dict[str, object], items: Items) -> InferenceCall:
        return _make(deps, request, tenant, _Body(raw, body, items, changes or {}))

    def read() -> tuple[dict[str, object], dict[str, str], InferenceCall | None]:
        body = loads_object(raw)
        named = list_references(body)
        return body, named, None if named else make(body, {})

    body, named, call = await deps.run_in_turn(tenant, raw, read)
    if call is not None:
        return call
    items = await load_referenced_items(deps, tenant, named)
    return await deps.run_in_turn(tenant, raw, lambda: make(body, items))


@dataclass(frozen=True, slots=True)
class _Body:
    """A body as sent and parsed, the items that it refers to, and what its chat body is to have besides."""

    raw: bytes
    fields: dict[str, object]
    items: Items
    changes: Mapping[str, object]


def _make(deps: Dependencies, request: Request, tenant: str, body: _Body) -> InferenceCall:
    if not isinstance(body.fields.get("background"), bool | None):
        raise ApiError("invalid_value", "background is true or false.", param="background")
    converted = to_chat(body.fields, body.items)
    chat = {**converted.chat, **body.changes}
    if body.fields.get("callback") is not None:
        chat["callback"] = body.fields["callback"]
    try:
        sent = dumps(chat)
        if len(sent) > deps.settings.ingress.max_body_bytes:
            raise too_large(deps, "input")
        call = make_call(deps, request, Operation.CHAT, sent, chat, tenant)
    except EventRejected as error:
        raise rename_error(error, converted.paths) from error
    if body.fields.get("background"):
        call = with_deadline(deps, call, request.headers, is_background=True)
    if call.key is not None:
        digest = ids.body_hash("responses", body.raw)
        call = replace(call, key=replace(call.key, body_hash=digest))
    meta = build_meta(body.fields, is_background=call.is_background)
    return replace(call, meta=meta, paths=converted.paths, is_always_kept=True)


def _in_callers_paths(result: Result, paths: Mapping[str, str]) -> Result:
    data = msgspec.json.decode(result.data)
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("param"), str):
        return result
    error["param"] = to_callers_path(error["param"], paths)
    return replace(result, data=dumps(data))


def _chat_row(row: RequestRow) -> RequestRow:
    if row.operation != Operation.CHAT:
        raise not_found()
    return row


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/responses", create, "A response, in one piece or `background: true`.",
        takes="ResponseBody", gives="Response", statuses=(200, 202), headers=CALL_HEADERS
    ),
    Endpoint("GET", PATH, retrieve, "A response by id.", gives="Response", headers=("Prefer",)),
    Endpoint("DELETE", PATH, delete, "Deletes a response.", gives="Deleted"),
    Endpoint("POST", f"{PATH}/cancel", cancel, "Cancels a response.", gives="Response"),
    Endpoint(
        "GET", f"{PATH}/input_items", list_input_items, "What a response was asked with.",
        gives="ItemList", query=QUERY
    ),
    Endpoint(
        "POST", "/v1/responses/input_tokens", count_input_tokens, "How many tokens an input has.",
        takes="ResponseBody", gives="InputTokens"
    ),
)  # fmt: skip
