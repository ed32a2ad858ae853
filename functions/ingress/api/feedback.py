"""`/v1/requests/{id}/feedback`: ratings of an answer, by users or judges.

They are written straight into the store, like files and callback targets.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from events.codecs.json_codec import loads_object
from events.ids import is_valid_id
from events.limits import Limits
from events.names import State
from events.openai.body_validation import convert_body
from events.timestamps import to_rfc3339
from functions.ingress import request_body
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer, id_headers
from functions.ingress.tenant_access import authenticate, load_own_request
from functions.ports.store import FeedbackRow, RequestRow
from functions.runtime.errors import ApiError
from router_model.catalogue.model import Catalogue

PATH: Final = "/v1/requests/{request_id}/feedback"
MAX_FEEDBACK: Final = 64
"""Opinions about one request."""
MAX_COMMENT_CHARS: Final = 2000
BODY_LIMITS: Final = Limits(max_bytes=16 * 1024)
RECORDED_WAIT_S: Final = 1.5
"""The recorder may be this far behind an answer that its caller has already."""
POLL_S: Final = 0.05
RATINGS: Final[Mapping[str, float]] = {"up": 1.0, "down": 0.0}


class FeedbackBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a rating. `model` None: the model that answered."""

    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    rating: Literal["up", "down"] | None = None
    source: Literal["user", "judge"] = "user"
    judge: str | None = None
    model: str | None = None
    comment: Annotated[str, msgspec.Meta(max_length=MAX_COMMENT_CHARS)] | None = None


async def add(deps: Dependencies, request: Request) -> Response:
    authenticate(deps, request)
    request_body.require_media_type(request)
    raw = await request_body.read_body(request, deps.settings.ingress)
    opinion = parse_opinion(loads_object(raw, BODY_LIMITS))
    row = await _ended(deps, request)
    made = _row(deps, row, opinion)
    if not await deps.offload(deps.store.add_feedback, made, limit=MAX_FEEDBACK):
        raise ApiError("not_rateable", f"A request has at most {MAX_FEEDBACK} opinions.")
    return answer(show(made), headers=id_headers(row.id))


async def list_feedback(deps: Dependencies, request: Request) -> Response:
    row = await load_own_request(deps, request)
    shown = [show(one) for one in await deps.offload(deps.store.feedback, row.id)]
    return answer({"object": "list", "data": shown, "has_more": False}, headers=id_headers(row.id))


def parse_opinion(fields: Mapping[str, object]) -> FeedbackBody:
    """The opinion in a body, with its score. Pure.

    Raises:
        ApiError, EventRejected: `unsupported_parameter` for an unknown field, `invalid_value` for a bad one.
    """
    for name in fields.keys() - set(FeedbackBody.__struct_fields__):
        raise ApiError("unsupported_parameter", "There is no such field.", param=name[:64])
    opinion = convert_body(fields, FeedbackBody)
    if ("score" in fields) == ("rating" in fields):
        raise ApiError("invalid_value", "Send either score or rating.", param="score")
    score = opinion.score if opinion.rating is None else RATINGS[opinion.rating]
    if score is None:
        raise ApiError("invalid_value", "score is a number from 0 to 1.", param="score")
    if (opinion.source == "judge") != (opinion.judge is not None):
        raise ApiError("invalid_value", "A judge, and only a judge, has a name.", param="judge")
    if opinion.source == "user" and opinion.model is not None:
        raise ApiError("invalid_value", "Only a judge may rate another model.", param="model")
    for param, value in (("judge", opinion.judge), ("model", opinion.model)):
        if value is not None and not is_valid_id(value):
            raise ApiError("invalid_value", f"{param} is 1 to 128 visible characters.", param=param)
    if "\0" in (opinion.comment or ""):
        raise ApiError("invalid_value", "comment must not hold a null character.", param="comment")
    return msgspec.structs.replace(opinion, score=score)


def show(row: FeedbackRow) -> dict[str, object]:
    """One opinion as it is shown."""
    return {
        "object": "request.feedback",
        "request_id": row.request_id,
        "source": row.source,
        "judge": row.judge or None,
        "model": row.model,
        "score": row.score,
        "comment": row.comment,
        "created_at": to_rfc3339(row.at),
    }


async def _ended(deps: Dependencies, request: Request) -> RequestRow:
    """The row of an answer that may be rated, when it was recorded within `RECORDED_WAIT_S`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + RECORDED_WAIT_S
    while True:
        is_late = loop.time() >= until
        try:
            row = await load_own_request(deps, request)
        except ApiError as error:
            if is_late or error.code != "not_found":
                raise
        else:
            if row.state.is_terminal:
                break
            if is_late:
                raise ApiError("not_finished", "The request has not ended yet.")
        await asyncio.sleep(POLL_S)
    if row.state is not State.COMPLETED:
        raise ApiError("not_rateable", f"There is no answer to rate: {row.state.value}.")
    if not row.is_stored:
        raise ApiError("not_rateable", "Nothing of a call with store: false is kept.")
    return row


def _row(deps: Dependencies, row: RequestRow, opinion: FeedbackBody) -> FeedbackRow:
    return FeedbackRow(
        request_id=row.id,
        source=opinion.source,
        judge=opinion.judge or "",
        model=_rated_model(row, opinion, deps.catalogue),
        score=opinion.score or 0.0,
        comment=opinion.comment,
        at=deps.clock.now(),
    )


def _rated_model(row: RequestRow, opinion: FeedbackBody, catalogue: Catalogue) -> str:
    model = opinion.model or row.model
    if model is None:
        raise ApiError("not_rateable", "It is not on record which model answered.")
    if model != row.model and catalogue.model(model) is None:
        raise ApiError("model_not_found", "The catalogue has no such model.", param="model")
    return model


ENDPOINTS: Final = (
    Endpoint(
        "POST", PATH, add, "Says how good an answer was.", takes=FeedbackBody, gives="Feedback"
    ),
    Endpoint("GET", PATH, list_feedback, "What was said about an answer.", gives="FeedbackList"),
)  # fmt: skip
