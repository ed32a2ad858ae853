"""`/v1/batches`: rows only. The recorder process runs them; here they are created, shown and cancelled."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from events import ids
from events.codecs.json_codec import loads_object
from events.openai.operations import BY_PATH
from functions.ingress import request_body
from functions.ingress.admission import read_tenant_limits
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer
from functions.ingress.idempotency import read_key_use, resolve_claim
from functions.ingress.list_pages import QUERY, answer_page, parse_page
from functions.ingress.tenant_access import authenticate, load_own
from functions.ports.store import CONCURRENCY, BatchRow
from functions.runtime.errors import ApiError

UNDERWAY: Final = frozenset({"validating", "in_progress"})
MAX_WINDOW: Final = timedelta(days=7)
FIELDS: Final = frozenset({"endpoint", "input_file_id", "completion_window", "metadata"})
MAX_METADATA: Final = 16
CONCURRENCY_HEADER: Final = "x-pickspin-concurrency"
"""How many lines of the new batch run at once; a header, so that it is no part of what an
idempotency key is bound to.
"""
_WINDOW: Final = re.compile(r"([1-9]\d{0,3})([mhd])", re.ASCII)
_UNIT: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


async def create(deps: Dependencies, request: Request) -> Response:
    tenant = authenticate(deps, request)
    request_body.require_media_type(request)
    raw = await request_body.read_body(request, deps.settings.ingress)
    body = await deps.run_in_turn(tenant, raw, partial(loads_object, raw))
    row = parse(body, f"batch_{deps.entropy(12).hex()}", tenant, deps.clock.now())
    row = limit_concurrency(row, request_body.single_header(request, CONCURRENCY_HEADER))
    await load_own(deps, tenant, deps.store.file, row.input_file_id)
    key = read_key_use(deps, request, tenant, ids.body_hash("batches", raw))
    queue = read_tenant_limits(deps, tenant).tenant_queue
    claim = await deps.offload(deps.store.add_batch, row, key=key, limit=queue)
    batch_id = resolve_claim(claim, full=f"More than {queue} batches of this key are open.")
    known = None if batch_id == row.id else await deps.offload(deps.store.batch, batch_id)
    return answer(show(known or row))


async def list_batches(deps: Dependencies, request: Request) -> Response:
    page = parse_page(request)
    read = deps.offload(deps.store.batches, authenticate(deps, request), page)
    return await answer_page(read, show, lambda row: row.id)


async def retrieve(deps: Dependencies, request: Request) -> Response:
    return answer(show(await _own(deps, request)))


async def cancel(deps: Dependencies, request: Request) -> Response:
    row = await _own(deps, request)
    if row.status in UNDERWAY:
        row = replace(row, status="cancelling", cancelled_at=deps.clock.now())
        await deps.offload(deps.store.update_batch, row)
    elif row.status not in {"cancelling", "cancelled"}:
        raise ApiError("not_cancellable", f"The batch has ended already: {row.status}.")
    return answer(show(row))


def parse(body: dict[str, object], batch_id: str, tenant: str, now: datetime) -> BatchRow:
    """The row of a new batch. Pure.

    Raises:
        ApiError: `invalid_value` or `unsupported_parameter` with the field in `param`.
    """
    request_body.refuse_unknown(body, FIELDS)
    endpoint, file_id = body.get("endpoint"), body.get("input_file_id")
    if not isinstance(endpoint, str) or endpoint not in BY_PATH:
        allowed = ", ".join(sorted(BY_PATH))
        raise ApiError("invalid_value", f"endpoint is one of: {allowed}.", param="endpoint")
    if not isinstance(file_id, str):
        raise ApiError("invalid_value", "input_file_id is the id of a file.", param="input_file_id")
    window = body.get("completion_window", "24h")
    return BatchRow(
        id=batch_id,
        tenant=tenant,
        endpoint=endpoint,
        input_file_id=file_id,
        completion_window=str(window),
        status="validating",
        created_at=now,
        deadline=now + parse_window(window),
        metadata=_metadata(body.get("metadata")),
    )


def limit_concurrency(row: BatchRow, text: str | None) -> BatchRow:
    """The row with the concurrency that its caller asks for, which its metadata shows. Pure.

    Raises:
        ApiError: `invalid_value`.
    """
    if text is None:
        return row
    if not request_body.parse_whole_number(text, digits=4):
        message = "The concurrency is a number from 1 to 9999."
        raise ApiError("invalid_value", message, param=CONCURRENCY_HEADER)
    return replace(row, metadata={**row.metadata, CONCURRENCY: text})


def parse_window(text: object) -> timedelta:
    """`24h`, `90m`, `2d`: any window up to seven days is honoured.

    Raises:
        ApiError: `invalid_value`.
    """
    match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    window = None if match is None else int(match[1]) * _UNIT[match[2]]
    if window is None or window > MAX_WINDOW:
        raise ApiError(
            "invalid_value",
            "completion_window reads like 24h, 90m or 2d, up to 7d.",
            param="completion_window",
        )
    return window


def show(row: BatchRow) -> dict[str, object]:
    """A batch in OpenAI's shape."""
    ended = None if row.finished_at is None else int(row.finished_at.timestamp())
    cancelled = None if row.cancelled_at is None else int(row.cancelled_at.timestamp())
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "errors": {"object": "list", "data": list(row.errors)} if row.errors else None,
        "input_file_id": row.input_file_id,
        "completion_window": row.completion_window,
        "status": row.status,
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        "created_at": int(row.created_at.timestamp()),
        "in_progress_at": None if row.status == "validating" else int(row.created_at.timestamp()),
        "expires_at": int(row.deadline.timestamp()),
        "finalizing_at": None,
        "completed_at": ended if row.status == "completed" else None,
        "failed_at": ended if row.status == "failed" else None,
        "expired_at": ended if row.status == "expired" else None,
        "cancelling_at": cancelled,
        "cancelled_at": ended if row.status == "cancelled" else None,
        "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
        "metadata": dict(row.metadata) or None,
    }


async def _own(deps: Dependencies, request: Request) -> BatchRow:
    tenant = authenticate(deps, request)
    return await load_own(deps, tenant, deps.store.batch, request.path_params["batch_id"])


def _metadata(metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if (
        not isinstance(metadata, dict)
        or len(metadata) > MAX_METADATA
        or not all(
            isinstance(v, str) and len(v) <= 512 and len(k) <= 64 for k, v in metadata.items()
        )
    ):
        raise ApiError(
            "invalid_value", f"metadata holds at most {MAX_METADATA} short texts.", param="metadata"
        )
    return dict(metadata)


ENDPOINTS: Final = (
    Endpoint(
        "POST", "/v1/batches", create, "Runs the lines of a file.", takes="BatchBody",
        gives="Batch", headers=("Idempotency-Key", "X-Pickspin-Concurrency")
    ),
    Endpoint(
        "GET", "/v1/batches", list_batches, "Batches of this key.", gives="BatchList", query=QUERY
    ),
    Endpoint("GET", "/v1/batches/{batch_id}", retrieve, "One batch.", gives="Batch"),
    Endpoint("POST", "/v1/batches/{batch_id}/cancel", cancel, "Cancels a batch.", gives="Batch"),
)  # fmt: skip
