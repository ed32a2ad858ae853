"""Callback targets of a call: a registered one, or a URL that becomes one."""

import base64
from dataclasses import replace
from typing import Final

from events import ids
from functions.callbacks.url_policy import CallbackPolicy, judge_url
from functions.ingress.dependencies import Dependencies
from functions.ingress.parse_call import InferenceCall
from functions.ports.store import CallbackTarget
from functions.runtime.errors import ApiError

SECRET_BYTES: Final = 32


async def name_callback(
    deps: Dependencies, call: InferenceCall
) -> tuple[InferenceCall, CallbackTarget | None]:
    """The call with the id of the target that it names, and the target; None: it names none.

    A URL becomes a target of its own, the same for the same tenant and URL, so that its secret stays.
    Named again after it was disabled, it is enabled again.

    Raises:
        ApiError: `callback_url_refused`.
    """
    if call.callback is None:
        return call, None
    named = call.callback
    if is_target_id(named):
        target = await deps.offload(deps.store.target, named)
        if target is None or target.tenant != call.tenant or target.is_disabled:
            raise ApiError(
                "callback_url_refused", "No such callback is registered.", param="callback"
            )
    else:
        judge_url(named, CallbackPolicy.of(deps.settings.ingress))
        target_id = f"cb_{ids.content_hash(f'{call.tenant} {named}'.encode())[:32]}"
        made = make_target(deps, target_id, call.tenant, named, is_ad_hoc=True)
        target = await deps.offload(deps.store.named_target, made)
    return replace(call, callback_id=target.id), target


def is_target_id(text: str) -> bool:
    """Whether a callback is named by its id, not by a URL."""
    return ":" not in text and "/" not in text


def make_target(
    deps: Dependencies, target_id: str, tenant: str, url: str, *, is_ad_hoc: bool = False
) -> CallbackTarget:
    """A target with a secret of its own."""
    secret = "whsec_" + base64.b64encode(deps.entropy(SECRET_BYTES)).decode()
    return CallbackTarget(id=target_id, tenant=tenant, url=url, secret=secret, is_ad_hoc=is_ad_hoc)


def show_target(target: CallbackTarget) -> dict[str, object]:
    """A target with its secret, for the caller that named the URL."""
    return {
        "id": target.id,
        "object": "callback",
        "url": target.url,
        "enabled": not target.is_disabled,
        "secret": target.secret,
    }
