"""What a call's `Idempotency-Key` and its tenant's limits say to what it wants made: one look-up for every door.

The store looks and makes in one transaction; here its answer becomes an id, or the refusal that the caller gets.
"""

from typing import Final

from starlette.requests import Request

from functions.ingress.dependencies import Dependencies
from functions.ingress.parse_call import InferenceCall, parse_idempotency_key
from functions.ports.store import Claim, KeyUse
from functions.runtime.errors import ApiError

REUSED: Final = "This Idempotency-Key was used with another body."
GONE: Final = "What was made under this key or id was deleted, or was not kept; use a new one."


class MadeBefore(Exception):
    """Another call with the same key was quicker: `request_id` is its request. Nothing was written."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


def key_of_call(call: InferenceCall) -> KeyUse | None:
    """The key of an inference call; None: it has none."""
    if call.key is None:
        return None
    return KeyUse(tenant=call.tenant, key=call.key, body_hash=call.key_hash, at=call.accepted_at)


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


def resolve_claim(claim: Claim, *, full: str = "", reused: str = REUSED) -> str:
    """The id of what this call, or the first one with its key, made. `full` says what the tenant has enough of,
    `reused` what was used for something else.

    Raises:
        ApiError: `key_reused` for another body, `request_gone`, `tenant_queue`.
    """
    match claim.kind:
        case "new" | "joined":
            return claim.id
        case "conflict":
            raise ApiError("key_reused", reused)
        case "gone":
            raise ApiError("request_gone", GONE)
        case "full":
            raise ApiError("tenant_queue", full)


async def first_of(deps: Dependencies, call: InferenceCall) -> str | None:
    """The id of the first request with the call's key; None: there is none, and nothing is claimed yet.

    Raises:
        ApiError: see `resolve_claim`.
    """
    key = key_of_call(call)
    found = None if key is None else await deps.offload(deps.store.claimed, key)
    return None if found is None else resolve_claim(found)


async def missing(deps: Dependencies, call: InferenceCall) -> ApiError:
    """Why the first request with the call's key is not there: deleted, or never accepted after all."""
    try:
        await first_of(deps, call)
    except ApiError as error:
        return error
    return ApiError("not_accepted", "The first request with this key was not accepted; try again.")
