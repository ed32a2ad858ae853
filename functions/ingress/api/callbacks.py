"""Callback targets at the door: registered ids, allowed URLs, and their secrets."""

import base64
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events import ids
from events.codecs.json_codec import loads_object
from functions.callbacks.url_policy import CallbackPolicy, judge_url
from functions.ingress import request_body
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer
from functions.ingress.key_claims import read_key_use, resolve_claim
from functions.ingress.list_pages import listed, parse_page
from functions.ingress.tenant_access import authenticate, not_found
from functions.ports.store import CallbackTarget
from functions.runtime.errors import ApiError

SECRET_BYTES: Final = 24


def routes(deps: Dependencies) -> list[Route]:
    """`/v1/callbacks`: register, list, look at, disable."""

    async def register(request: Request) -> Response:
        tenant = authenticate(deps, request)
        request_body.require_media_type(request)
        raw = await request_body.read_body(request, deps.settings.ingress)
        url = _url(await deps.run_in_turn(tenant, raw, partial(loads_object, raw)))
        judge_url(url, CallbackPolicy.of(deps.settings.ingress))
        key = read_key_use(deps, request, tenant, ids.body_hash("callbacks", raw))
        mine = f"cb_{deps.entropy(12).hex()}"
        target = CallbackTarget(id=mine, tenant=tenant, url=url, secret=_new_secret(deps))
        target_id = resolve_claim(await deps.offload(deps.store.add_target, target, key=key))
        first = None if target_id == mine else await deps.offload(deps.store.target, target_id)
        target = first or target
        return answer(shown(target), 201, {"location": f"/v1/callbacks/{target.id}"})

    async def listing(request: Request) -> Response:
        page = parse_page(request)
        read = deps.offload(deps.store.targets, authenticate(deps, request), page)
        return await listed(read, _shown_again, lambda target: target.id)

    async def one(request: Request) -> Response:
        return answer(_shown_again(await _own(deps, request)))

    async def delete(request: Request) -> Response:
        target = await _own(deps, request)
        await deps.offload(deps.store.disable_target, target.id)
        return answer({"id": target.id, "object": "callback.deleted", "deleted": True})

    return [
        Route("/v1/callbacks", register, methods=["POST"]),
        Route("/v1/callbacks", listing, methods=["GET"]),
        Route("/v1/callbacks/{target_id}", one, methods=["GET"]),
        Route("/v1/callbacks/{target_id}", delete, methods=["DELETE"]),
    ]


async def resolve(deps: Dependencies, tenant: str, callback: str) -> CallbackTarget:
    """The target that a request names: a registered id of this tenant, or a URL that may be called.

    A URL becomes a target of its own, the same for the same tenant and URL, so that its secret stays; named again after
    it was disabled, it is enabled again.

    Raises:
        ApiError: `callback_url_refused`.
    """
    if ":" not in callback and "/" not in callback:
        target = await deps.offload(deps.store.target, callback)
        if target is None or target.tenant != tenant or target.is_disabled:
            raise ApiError(
                "callback_url_refused", "No such callback is registered.", param="callback"
            )
        return target
    judge_url(callback, CallbackPolicy.of(deps.settings.ingress))
    target = CallbackTarget(
        id=f"cb_{ids.content_hash(f'{tenant} {callback}'.encode())[:32]}",
        tenant=tenant,
        url=callback,
        secret=_new_secret(deps),
        is_ad_hoc=True,
    )
    return await deps.offload(deps.store.named_target, target)


async def require_registered(deps: Dependencies, tenant: str, target_id: str) -> None:
    """Raises ApiError `callback_url_refused` unless that id is registered to the tenant."""
    if ":" in target_id or "/" in target_id:
        raise ApiError("callback_url_refused", "Name a registered callback.", param="callbackid")
    await resolve(deps, tenant, target_id)


def shown(target: CallbackTarget) -> dict[str, object]:
    """A target with its secret: shown to whoever hands the URL in."""
    return {
        "id": target.id,
        "object": "callback",
        "url": target.url,
        "enabled": not target.is_disabled,
        "secret": target.secret,
    }


def _shown_again(target: CallbackTarget) -> dict[str, object]:
    """A target to whoever only knows its id, or has the key: its secret was shown once."""
    return {key: value for key, value in shown(target).items() if key != "secret"}


async def _own(deps: Dependencies, request: Request) -> CallbackTarget:
    tenant = authenticate(deps, request)
    target_id = request.path_params["target_id"]
    target = (
        await deps.offload(deps.store.target, target_id) if ids.is_valid_id(target_id) else None
    )
    if target is None or target.tenant != tenant:
        raise not_found()
    return target


def _url(fields: dict[str, object]) -> str:
    url = fields.get("url")
    if not isinstance(url, str):
        raise ApiError("invalid_value", "url must be a string.", param="url")
    return url


def _new_secret(deps: Dependencies) -> str:
    return "whsec_" + base64.b64encode(deps.entropy(SECRET_BYTES)).decode()
