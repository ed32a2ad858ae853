"""Answers: refusals in OpenAI's envelope, JSON, and the `x-pickspin-*` headers. No decision is made here."""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from events.codecs.json_codec import dumps
from events.errors import EventRejected
from functions.ingress.reply_events import Decision
from functions.runtime.errors import CODES, ApiError, StoreFailed


class Timings(msgspec.Struct, frozen=True):
    queue_ms: float | None = None
    load_ms: float | None = None


class Cost(msgspec.Struct, frozen=True):
    usd: float | None = None


class CascadeStep(msgspec.Struct, frozen=True):
    service: str = ""


class CascadeSteps(msgspec.Struct, frozen=True):
    steps: tuple[CascadeStep, ...] = ()
    confidence: float | None = None


class PickspinInfo(msgspec.Struct, frozen=True):
    """What a terminal's `pickspin` object says that is repeated in headers."""

    state: str | None = None
    service: str | None = None
    model: str | None = None
    decision: Decision | None = None
    timings: Timings | None = None
    cost: Cost | None = None
    cascade: CascadeSteps | None = None


class _Envelope(msgspec.Struct, frozen=True):
    pickspin: PickspinInfo | None = None


_DECODER: Final = msgspec.json.Decoder(_Envelope)


def as_refusal(error: Exception) -> ApiError | None:
    """The typed refusal behind an exception; None for what nobody foresaw.

    A store that is locked or out of reach and a disk that is full are foreseen: nothing was accepted, try again.
    """
    match error:
        case ApiError():
            return error
        case EventRejected():
            return _of_rejected(error)
        case StoreFailed(is_transient=True):
            return storage_unavailable()
        case ConnectionError() | TimeoutError():
            return None
        case OSError():
            return storage_unavailable()
        case _:
            return None


def storage_unavailable() -> ApiError:
    return ApiError("storage_unavailable", "What is kept here is out of reach just now; try again.")


def _of_rejected(rejected: EventRejected) -> ApiError:
    code = rejected.code if rejected.code in CODES else "invalid_body"
    return ApiError(code, rejected.message, param=rejected.attribute)


def refusal(error: ApiError, request_id: str | None) -> Response:
    """The HTTP answer of an error."""
    headers = id_headers(request_id) | error.headers()
    if error.code == "invalid_api_key":
        headers["www-authenticate"] = "Bearer"
    return Response(dumps(error.body(request_id)), error.status, headers, "application/json")


def answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer; bytes are taken as JSON already."""
    body = content if isinstance(content, bytes) else dumps(content)
    return Response(body, status, dict(headers or {}), "application/json")


def id_headers(request_id: str | None) -> dict[str, str]:
    """`x-pickspin-request-id`, and `x-request-id` where the official client looks for it."""
    return (
        {}
        if request_id is None
        else {"x-pickspin-request-id": request_id, "x-request-id": request_id}
    )


def read_info(data: bytes) -> PickspinInfo:
    """The `pickspin` object of a terminal's data; empty where there is none."""
    try:
        return _DECODER.decode(data).pickspin or PickspinInfo()
    except (msgspec.MsgspecError, ValueError):
        return PickspinInfo()


def info_headers(info: PickspinInfo) -> dict[str, str]:
    """The `x-pickspin-*` headers of a decision and its timings; what is not known is left out."""
    timings, cost = info.timings or Timings(), info.cost or Cost()
    cascade = info.cascade or CascadeSteps()
    found = {
        "x-pickspin-cascade": ",".join(step.service for step in cascade.steps),
        "x-pickspin-confidence": _number(cascade.confidence),
        "x-pickspin-queue-ms": _number(timings.queue_ms),
        "x-pickspin-load-ms": _number(timings.load_ms),
        "x-pickspin-cost": _number(cost.usd),
    }
    return decision_headers(info.service, info.model, info.decision) | _present(found)


def decision_headers(
    service: str | None, model: str | None, decision: Decision | None
) -> dict[str, str]:
    """The `x-pickspin-*` headers that say who answers and why; what is not known is left out."""
    known = decision or Decision()
    return _present(
        {
            "x-pickspin-model": model,
            "x-pickspin-service": service,
            "x-pickspin-reason": known.reason,
            "x-pickspin-class": known.route_class,
            "x-pickspin-stage": known.stage,
            "x-pickspin-score": _number(known.score),
        }
    )


def header_safe(text: str) -> str:
    """Text without what a header must not carry: control characters, and anything beyond ASCII."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:256]


def _present(found: Mapping[str, str | None]) -> dict[str, str]:
    return {name: header_safe(value) for name, value in found.items() if value}


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.9f}".rstrip("0").rstrip(".") or "0"
