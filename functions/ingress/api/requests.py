"""`/v1/requests`: state and result of a request, its cancellation and its deletion."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from events.names import State
from events.timestamps import to_rfc3339
from functions.ingress import deadlines
from functions.ingress.admission import require_writable
from functions.ingress.cancel import send_cancel
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.list_pages import QUERY, answer_page, parse_page
from functions.ingress.results import read_error
from functions.ingress.sse_response import derived_state, unless_gone
from functions.ingress.submit import await_append, to_append_refusal
from functions.ingress.tenant_access import authenticate, load_own_request
from functions.ports.paging import PageQuery
from functions.ports.store import Mark, RequestRow
from functions.runtime.errors import ApiError, AppendFailed
from router_model.service_registry import ServiceView

PATH: Final = "/v1/requests/{request_id}"
CANCEL_WAIT_S: Final = 2.0
"""A cancel waits this long for the request's end, so that its answer can say `cancelled`."""
ASK_AGAIN_S: Final = 1


async def list_requests(deps: Dependencies, request: Request) -> Response:
    tenant, states = authenticate(deps, request), _states(request.query_params.get("state"))
    page = await _by_request_ids(deps, tenant, parse_page(request))
    read = deps.offload(deps.store.requests, page, tenant=tenant, states=states)
    return await answer_page(read, lambda row: show(row, view_of(deps, row)), lambda row: row.id)


async def retrieve(deps: Dependencies, request: Request) -> Response:
    row = await wait_for_end(deps, request, await load_own_request(deps, request))
    return await _answer_row(deps, row)


async def cancel(deps: Dependencies, request: Request) -> Response:
    return await _answer_row(deps, await cancel_row(deps, await load_own_request(deps, request)))


async def delete(deps: Dependencies, request: Request) -> Response:
    row = await load_own_request(deps, request)
    await delete_row(deps, row)
    return answer({"id": row.id, "object": "request.deleted", "deleted": True})


async def _by_request_ids(deps: Dependencies, tenant: str, page: PageQuery) -> PageQuery:
    """The page, with requests named by their own ids where it names them by those of their events."""

    async def known_as(name: str | None) -> str | None:
        sent = None if name is None else await deps.offload(deps.store.find_sent, tenant, name)
        return name if sent is None else sent

    return replace(page, after=await known_as(page.after), before=await known_as(page.before))


async def wait_for_end(deps: Dependencies, request: Request, row: RequestRow) -> RequestRow:
    """The row, at the latest after the N seconds of `Prefer: wait=N`.

    Raises:
        ClientGone: the client left meanwhile.
    """
    longest_s = deps.settings.ingress.reply_wait_s
    wait_s = deadlines.parse_preference(request.headers.get("prefer"), longest_s=longest_s).wait_s
    if wait_s is None or row.state.is_terminal:
        return row
    return await unless_gone(request.receive, until_ended(deps, row, wait_s))


async def cancel_row(deps: Dependencies, row: RequestRow) -> RequestRow:
    """Cancels an unfinished request and waits a moment for its end. Cancelling twice is fine.

    Raises:
        ApiError: `not_cancellable` when it has ended otherwise, `not_accepted` when the log takes no writes.
    """
    if row.state is State.CANCELLED:
        return row
    if row.state.is_terminal:
        raise ApiError("not_cancellable", f"The request has ended already: {row.state.value}.")
    require_writable(deps)
    try:
        await await_append(send_cancel(deps, row.id, "client", row.tenant))
    except AppendFailed as error:
        raise to_append_refusal(error) from error
    return await until_ended(deps, row, CANCEL_WAIT_S)


async def delete_row(deps: Dependencies, row: RequestRow) -> None:
    """Deletes prompt, answer and events, then cancels unfinished work.

    In this order, so that waiting calls report the deletion, not the cancellation.
    """
    await deps.offload(deps.store.forget, row.id)
    if not row.state.is_terminal:
        send_cancel(deps, row.id, "client", row.tenant)


def view_of(deps: Dependencies, row: RequestRow) -> ServiceView | None:
    """What is known of the service of an unfinished request."""
    return None if row.state.is_terminal else deps.view(row.service)


def show(row: RequestRow, view: ServiceView | None) -> dict[str, object]:
    """A request as every API shows it. Pure. `response`: the OpenAI object. `error`: OpenAI's
    error.
    """
    is_over = row.state.is_terminal
    is_good = row.state is State.COMPLETED
    result = None if row.result is None else msgspec.Raw(row.result)
    usage = {"prompt_tokens": row.usage_prompt, "completion_tokens": row.usage_completion}
    return {
        "id": row.public_id,
        "object": "request",
        "source": None if row.event is None else row.event.source,
        "urls": {"self": f"/v1/requests/{row.id}"},
        "state": derived_state(row.state, view),
        "operation": row.operation,
        "asked_model": row.asked_model,
        "model": row.model,
        "service": row.service,
        "attempt": row.attempt,
        "accepted_at": to_rfc3339(row.accepted_at),
        "routed_at": _time(row.routed_at),
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
        "deadline": to_rfc3339(row.deadline),
        "eta_s": None if view is None else view.eta_s,
        "progress": None if view is None else view.progress,
        "decision": None if row.decision is None else msgspec.Raw(row.decision),
        "usage": usage if is_good else None,
        "cost_usd": row.cost_usd,
        "callback_id": row.callback_id,
        "batch_id": row.batch_id,
        "status": row.status,
        "response": result if is_good else None,
        "error": read_error(row.result) if is_over and not is_good else None,
    }


async def _answer_row(deps: Dependencies, row: RequestRow) -> Response:
    headers = id_headers(row.id)
    if not row.state.is_terminal:
        headers["retry-after"] = str(ASK_AGAIN_S)
    response = answer(show(row, view_of(deps, row)), headers=headers)
    await forget_delivered(deps, row)
    return response


async def forget_delivered(deps: Dependencies, row: RequestRow) -> None:
    """`store: false`: what was fetched is not kept."""
    if row.state.is_terminal and not row.is_stored and row.result is not None:
        await deps.offload(deps.store.forget, row.id)


async def until_ended(deps: Dependencies, row: RequestRow, wait_s: float) -> RequestRow:
    """The row as it is when the request has ended, or after `wait_s`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s

    def is_news(mark: Mark | None) -> bool:
        # Whoever polls is told at once where the request stands when this replica is going.
        return mark is None or mark.state.is_terminal or deps.health.is_draining

    while not (row.state.is_terminal or deps.health.is_draining) and loop.time() < until:
        await deps.wait_for_change(row.id, is_news, until - loop.time())
        now = await deps.offload(deps.store.request, row.id)
        if now is None:
            return row
        row = now
    return row


def _states(text: str | None) -> list[State] | None:
    if text is None:
        return None
    try:
        return [State(part.strip()) for part in text.split(",")]
    except ValueError:
        allowed = ", ".join(State)
        raise ApiError("invalid_value", f"state is any of: {allowed}.", param="state") from None


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else to_rfc3339(instant)


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/requests", list_requests, "The newest requests of this key.",
        gives="RequestList", query=("state", *QUERY)
    ),
    Endpoint(
        "GET", PATH, retrieve, "What became of a request.", gives="Request", headers=("Prefer",)
    ),
    Endpoint("DELETE", PATH, delete, "Deletes prompt, answer and events.", gives="Deleted"),
    Endpoint("POST", f"{PATH}/cancel", cancel, "Cancels a request.", gives="Request"),
)  # fmt: skip
