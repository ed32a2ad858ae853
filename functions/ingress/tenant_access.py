"""Access by tenant: rows are only found by their own tenant. For others they are 404."""

from collections.abc import Callable
from typing import Final, TypeVar

from starlette.requests import Request

from events.ids import is_event_id, is_valid_id
from functions.ingress.dependencies import Dependencies
from functions.ingress.request_body import header_values
from functions.ports.store import BatchRow, CallbackTarget, FileRow, RequestRow
from functions.runtime.errors import ApiError

SLASH_WITHIN: Final = "\x1f"
"""Stands for a quoted slash within a part of a path: ids may hold one, and never this."""


Row = TypeVar("Row", FileRow, BatchRow, CallbackTarget)


def authenticate(deps: Dependencies, request: Request) -> str:
    """The calling tenant, looked up once for each call.

    Raises:
        ApiError: `invalid_api_key`.
    """
    state: dict[str, str] = request.scope["state"]
    if "tenant" not in state:
        state["tenant"] = deps.keys.find_tenant(header_values(request, b"authorization"))
    return state["tenant"]


async def load_own_request(deps: Dependencies, request: Request) -> RequestRow:
    """The row of the request in the path, by its id or by its event's id.

    If several sources used that id, it is the first one's, or that of `?source=`.

    Raises:
        ApiError: `not_found`: unknown, malformed, deleted or another tenant's.
    """
    tenant = authenticate(deps, request)
    name = request.path_params["request_id"].replace(SLASH_WITHIN, "/")
    if not is_event_id(name):
        raise not_found()
    row = await deps.offload(deps.store.request, name)
    if row is None or row.tenant != tenant:
        source = request.query_params.get("source")
        request_id = await deps.offload(deps.store.find_sent, tenant, name, source)
        row = await deps.offload(deps.store.request, request_id) if request_id is not None else None
    if row is None:
        raise not_found()
    return row


async def load_own(
    deps: Dependencies, tenant: str, load: Callable[[str], Row | None], row_id: str
) -> Row:
    """The row with that id, which is to be the tenant's. `load` asks the store for it.

    Raises:
        ApiError: `not_found`.
    """
    row = await deps.offload(load, row_id) if is_valid_id(row_id) else None
    if row is None or row.tenant != tenant:
        raise not_found()
    return row


def not_found() -> ApiError:
    return ApiError("not_found", "There is nothing with that id.")
