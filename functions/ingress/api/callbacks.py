"""`/v1/callbacks`: registered targets, and their secrets."""

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from events import ids
from events.codecs.json_codec import loads_object
from functions.callbacks.url_policy import CallbackPolicy, judge_url
from functions.ingress import request_body
from functions.ingress.callback_targets import make_target, show_target
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer
from functions.ingress.idempotency import read_key_use, resolve_claim
from functions.ingress.list_pages import QUERY, answer_page, parse_page
from functions.ingress.tenant_access import authenticate, load_own
from functions.ports.store import CallbackTarget
from functions.runtime.errors import ApiError


async def register(deps: Dependencies, request: Request) -> Response:
    tenant = authenticate(deps, request)
    request_body.require_media_type(request)
    raw = await request_body.read_body(request, deps.settings.ingress)
    url = _url(await deps.run_in_turn(tenant, raw, partial(loads_object, raw)))
    judge_url(url, CallbackPolicy.of(deps.settings.ingress))
    key = read_key_use(deps, request, tenant, ids.body_hash("callbacks", raw))
    mine = f"cb_{deps.entropy(12).hex()}"
    target = make_target(deps, mine, tenant, url)
    target_id = resolve_claim(await deps.offload(deps.store.add_target, target, key=key))
    first = None if target_id == mine else await deps.offload(deps.store.target, target_id)
    target = first or target
    return answer(show_target(target), 201, {"location": f"/v1/callbacks/{target.id}"})


async def list_callbacks(deps: Dependencies, request: Request) -> Response:
    page = parse_page(request)
    read = deps.offload(deps.store.targets, authenticate(deps, request), page)
    return await answer_page(read, _show_without_secret, lambda target: target.id)


async def retrieve(deps: Dependencies, request: Request) -> Response:
    return answer(_show_without_secret(await _own(deps, request)))


async def delete(deps: Dependencies, request: Request) -> Response:
    target = await _own(deps, request)
    await deps.offload(deps.store.disable_target, target.id)
    return answer({"id": target.id, "object": "callback.deleted", "deleted": True})


def _show_without_secret(target: CallbackTarget) -> dict[str, object]:
    """A target without its secret, which was shown once."""
    return {key: value for key, value in show_target(target).items() if key != "secret"}


async def _own(deps: Dependencies, request: Request) -> CallbackTarget:
    tenant = authenticate(deps, request)
    return await load_own(deps, tenant, deps.store.target, request.path_params["target_id"])


def _url(fields: dict[str, object]) -> str:
    url = fields.get("url")
    if not isinstance(url, str):
        raise ApiError("invalid_value", "url must be a string.", param="url")
    return url


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/callbacks", register, "Registers a callback; shows its secret once.",
        takes="CallbackBody", gives="Callback", statuses=(201,), headers=("Idempotency-Key",)
    ),
    Endpoint(
        "GET", "/v1/callbacks", list_callbacks, "Callbacks of this key that are enabled.",
        gives="CallbackList", query=QUERY
    ),
    Endpoint("GET", "/v1/callbacks/{target_id}", retrieve, "One callback.", gives="Callback"),
    Endpoint(
        "DELETE", "/v1/callbacks/{target_id}", delete, "Disables a callback.", gives="Deleted"
    ),
)  # fmt: skip
