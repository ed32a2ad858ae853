"""Idempotency keys: the first call does the work; later ones wait for it or replay its answer.

The store looks up and makes in one transaction. This module turns its claim into an id or a
refusal.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request

from functions.ingress.await_reply import make_heartbeats, remaining_s
from functions.ingress.dependencies import Dependencies
from functions.ingress.parse_call import InferenceCall, parse_idempotency_key
from functions.ingress.results import deadline_exceeded, read_result, whole_stream
from functions.ingress.sse_response import status_comment
from functions.ports.store import Claim, KeyUse, Mark, RequestRow
from functions.runtime.errors import ApiError

KEY_REUSED: Final = "This Idempotency-Key was used with another body."
EVENT_REUSED: Final = "An event of this source and id was sent before, with other data."
GONE: Final = "What was made under this key or id was deleted, or was not kept; use a new one."


def read_key_use(
    deps: Dependencies, request: Request, tenant: str, body_hash: str
) -> KeyUse | None:
    """The key of a call that makes a file, a batch or a callback target.

    Raises:
        ApiError: `invalid_value` for a malformed key.
    """
    key = parse_idempotency_key(request)
    if key is None:
        return None
    return KeyUse(tenant=tenant, key=key, body_hash=body_hash, at=deps.clock.now())


def resolve_claim(claim: Claim, *, full: str = "", is_event: bool = False) -> str:
    """The id that this call, or the first one with its key, made. `full`: what the tenant has too
    many of.

    Raises:
        ApiError: `key_reused` for another body, `request_gone`, `tenant_queue`.
    """
    match claim.kind:
        case "new" | "joined":
            return claim.id
        case "conflict":
            raise ApiError("key_reused", EVENT_REUSED if is_event else KEY_REUSED)
        case "gone":
            raise ApiError("request_gone", GONE)
        case "full":
            raise ApiError("tenant_queue", full)


async def find_first(deps: Dependencies, call: InferenceCall) -> str | None:
    """The id of the first request with the call's key; None: there is none, and nothing is claimed yet.

    Raises:
        ApiError: see `resolve_claim`.
    """
    claim = None if call.key is None else await deps.offload(deps.store.find_claim, call.key)
    return None if claim is None else resolve_claim(claim)


async def load_first(deps: Dependencies, call: InferenceCall, first_id: str) -> RequestRow:
    """The row of the first request with the call's key.

    Raises:
        ApiError: `request_gone` where it was deleted, `not_accepted` where it was never accepted after all.
    """
    row = await deps.offload(deps.store.request, first_id)
    if row is None:
        await find_first(deps, call)
        raise ApiError(
            "not_accepted", "The first request with this key was not accepted; try again."
        )
    return row


async def await_first(deps: Dependencies, call: InferenceCall, first_id: str) -> RequestRow:
    """The row of the first request once it has ended.

    Raises:
        ApiError: the deadline of *this* call passed, or the request is not there any more. The work goes on.
    """
    while (left_s := remaining_s(deps, call)) > 0:
        row = await load_first(deps, call, first_id)
        if row.state.is_terminal:
            return row
        await deps.wait_for_change(first_id, _is_news_after(row), left_s)
    raise deadline_exceeded()


async def stream_first(
    deps: Dependencies, call: InferenceCall, first_id: str
) -> AsyncIterator[bytes]:
    """The first request's answer as frames of a stream: comments until it is there, then all of it.

    Raises:
        ApiError: as `await_first`, or the answer was not kept.
    """
    loop = asyncio.get_running_loop()
    beats = make_heartbeats(deps, loop.time())
    row: RequestRow | None = None
    while (left_s := remaining_s(deps, call)) > 0:
        row = row or await load_first(deps, call, first_id)
        if row.state.is_terminal:
            yield beats.data(whole_stream(call, read_result(row)), loop.time())
            return
        if beats.is_due(loop.time()):
            yield beats.comment(status_comment(row.state, deps.view(row.service)), loop.time())
        pause_s = min(left_s, beats.wait_s(loop.time()))
        if await deps.wait_for_change(first_id, _is_news_after(row), pause_s):
            row = None
    raise deadline_exceeded()


def _is_news_after(row: RequestRow) -> Callable[[Mark | None], bool]:
    """Whether a mark is newer than the row."""
    return lambda mark: mark is None or mark.state is not row.state
