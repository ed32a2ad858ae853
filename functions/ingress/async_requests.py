"""Background work: accepted with 202 at once, asked for later under `/v1/requests/{id}`."""

from collections.abc import Mapping
from dataclasses import replace

from starlette.responses import Response

from events.names import State
from events.timestamps import to_rfc3339
from functions.ingress import key_claims
from functions.ingress.api import callbacks
from functions.ingress.dependencies import Dependencies
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.parse_call import InferenceCall
from functions.ingress.submit import accept, make_row
from functions.ports.store import RequestRow


async def accept_in_background(deps: Dependencies, call: InferenceCall) -> Response:
    """Writes the row, appends the request, answers 202: a poll right afterwards finds it.

    Raises:
        ApiError: a refusal; nothing was accepted.
        MadeBefore: another call with the same key was quicker.
    """
    target = None
    if call.callback is not None:
        target = await callbacks.resolve(deps, call.tenant, call.callback)
        call = replace(call, callback_id=target.id)
    await accept(deps, call, replies_here=False, row=make_row(deps, call, replies_here=False))
    deps.metrics.requests.labels(
        door="background", operation=call.operation, outcome=State.ACCEPTED.value
    ).inc()
    more = {} if target is None else {"callback": callbacks.shown(target)}
    return accepted(deps, call, more)


def accepted(
    deps: Dependencies, call: InferenceCall, more: Mapping[str, object] | None = None
) -> Response:
    """202 with where to ask."""
    return _accepted(make_row(deps, call, replies_here=False), call, more or {})


async def accepted_before(deps: Dependencies, call: InferenceCall, first_id: str) -> Response:
    """202 for the same key again: the first request's id and its state by now.

    Raises:
        ApiError: it is not there any more.
    """
    row = await deps.offload(deps.store.request, first_id)
    if row is None:
        raise await key_claims.missing(deps, call)
    return _accepted(row, call, {})


def _accepted(row: RequestRow, call: InferenceCall, more: Mapping[str, object]) -> Response:
    url = f"/v1/requests/{row.id}"
    body = {
        "id": row.id,
        "object": "request",
        "state": row.state,
        "operation": row.operation,
        "model": row.asked_model,
        "accepted_at": to_rfc3339(row.accepted_at),
        "deadline": to_rfc3339(row.deadline),
        "urls": {"self": url, "events": f"{url}/events", "cancel": f"{url}/cancel"},
        **more,
    }
    headers = id_headers(row.id) | {"location": url}
    if call.preference.is_async:
        headers["preference-applied"] = "respond-async"
    elif call.preference.wait_s is not None:
        headers["preference-applied"] = f"wait={call.preference.wait_s:g}"
    return answer(body, 202, headers)
