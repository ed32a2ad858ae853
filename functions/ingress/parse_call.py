"""Reads and checks one HTTP call, the same way for every inference API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from starlette.requests import Request

from events import ids, names
from events.codecs.json_codec import dumps, loads_object
from events.decimal_text import read_amount
from events.event import Event
from events.names import Operation, Priority
from events.openai.body_validation import check_body
from events.requests import Fallback, ReplyAddress
from functions.ingress import deadlines, request_body
from functions.ingress.dependencies import Dependencies
from functions.ingress.held_bodies import HeldBody, attach_body, get_body
from functions.ports.store import KeyUse
from functions.runtime.errors import ApiError
from router_model.catalogue.model import Catalogue
from router_model.routing.model_names import AUTO, filter_allowed, resolve
from router_model.routing.no_route import NoRoute

T = TypeVar("T")
CALLBACK_FIELD: Final = "callback"
LIMIT_HEADERS: Final[Mapping[str, tuple[str, float | None]]] = {
    # header: (event attribute, the most it may be)
    "x-pickspin-max-cost": (names.MAX_COST, None),
    "x-pickspin-max-latency": (names.MAX_LATENCY, None),
    "x-pickspin-min-quality": (names.MIN_QUALITY, 1.0),
}
"""Limits of one request: US dollars, seconds to the whole answer, chance of a good one."""
CALL_HEADERS: Final = (
    "Prefer", "X-Pickspin-Deadline-S", "X-Pickspin-Callback", "Idempotency-Key", "X-Pickspin-Session",
    "X-Pickspin-Profile", "X-Pickspin-Priority", "X-Pickspin-Fallback", "traceparent", "tracestate",
    "X-Pickspin-Max-Cost", "X-Pickspin-Max-Latency", "X-Pickspin-Min-Quality",
)  # fmt: skip
"""Headers that say something about a call, as the document lists them."""
_PRIORITIES: Final = {priority.value: priority for priority in Priority}
_FALLBACKS: Final[Mapping[str, Fallback]] = {"none": "none", "allow": "allow"}
_TRACE_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_MAX_TRACE_STATE_CHARS: Final = 512
_MAX_TRACE_STATE_ITEMS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCall:
    """One inference call of any API. `body`: its bytes until they are on Kafka."""

    request_id: str
    tenant: str
    operation: Operation
    body: HeldBody
    asked_model: str
    accepted_at: datetime
    accepted_s: float
    """The same instant by the clock that never jumps."""
    deadline: datetime
    preference: deadlines.Preference
    is_stream: bool = False
    has_usage: bool = False
    """Whether a stream is to end with its usage."""
    is_stored: bool = True
    grace_s: float = 0.0
    """How long after its deadline it may still be told its end."""
    key: KeyUse | None = None
    """Its idempotency key, bound to operation and body as sent."""
    callback: str | None = None
    """A registered callback's id, or a URL."""
    callback_id: str | None = None
    is_background: bool = False
    priority: Priority = Priority.INTERACTIVE
    session: str | None = None
    profile: str | None = None
    fallback: Fallback | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    """Limits on cost, latency and quality, as sent, by event attribute."""
    trace_parent: str | None = None
    trace_state: str | None = None
    reply: ReplyAddress | None = None
    """Where its answer is to go: to this replica unless nobody waits for it here."""
    event: Event | None = None
    """The event that it came in as; None: one is made of it."""
    is_always_kept: bool = False
    """Whether it has a row in the store even if its caller cannot come back for it with a key."""
    meta: Mapping[str, object] = field(default_factory=dict)
    """What is kept with its row."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where the caller wrote what the body has elsewhere."""

    @property
    def may_come_back(self) -> bool:
        """Whether its caller may ask again for the answer after leaving."""
        return self.key is not None or self.preference.wait_s is not None

    @property
    def is_kept(self) -> bool:
        """Whether it has a row in the store."""
        return self.is_background or self.is_always_kept or self.may_come_back

    @property
    def wait_s(self) -> float:
        return (self.deadline - self.accepted_at).total_seconds()


async def read_call(
    deps: Dependencies, request: Request, operation: Operation, tenant: str
) -> InferenceCall:
    """Reads and checks an OpenAI call.

    Raises:
        ApiError, EventRejected: a refusal; nothing was written anywhere.
        ClientGone: the client left before the body was complete.
    """
    request_body.require_media_type(request)
    raw = await read_body(deps, request, tenant)
    return await deps.run_in_turn(
        tenant,
        raw,
        lambda: make_call(deps, request, operation, raw, loads_object(raw), tenant),
    )


async def read_body(deps: Dependencies, request: Request, tenant: str) -> bytes:
    """The body of a call, which may be large."""
    held = attach_body(request.scope["state"], deps.hold_body(tenant))
    return await request_body.read_body(request, deps.settings.ingress, held.reserve)


def make_call(
    deps: Dependencies,
    request: Request,
    operation: Operation,
    raw: bytes,
    fields: dict[str, object],
    tenant: str,
) -> InferenceCall:
    """The call of a body from `read_body`, with its headers."""
    callback = _callback(request, fields)
    body = get_body(request.scope["state"])
    body.raw = raw if CALLBACK_FIELD not in fields else dumps(_without_callback(fields))
    fields = _without_callback(fields)
    asked = parse_model_name(deps.catalogue, fields.get("model"), operation, tenant)
    check_body(operation, fields)
    key = parse_idempotency_key(request)
    now = deps.clock.now()
    task = deps.catalogue.tasks.get(asked)
    usual = Priority.INTERACTIVE if task is None else Priority(task.priority)
    profiles = {name: name for name in sorted(deps.catalogue.profiles)}
    bare = InferenceCall(
        request_id=request.scope["state"]["request_id"],
        tenant=tenant,
        operation=operation,
        body=body,
        is_stream=fields.get("stream") is True,
        has_usage=_has_usage(fields.get("stream_options")),
        is_stored=fields.get("store") is not False,
        asked_model=asked,
        accepted_at=now,
        accepted_s=deps.clock.monotonic_s(),
        deadline=now,
        key=None
        if key is None
        else KeyUse(tenant=tenant, key=key, body_hash=ids.body_hash(operation, raw), at=now),
        callback=callback,
        priority=_choice(request, "x-pickspin-priority", _PRIORITIES) or usual,
        session=_id_header(request, "x-pickspin-session"),
        profile=_choice(request, "x-pickspin-profile", profiles),
        fallback=_choice(request, "x-pickspin-fallback", _FALLBACKS),
        limits=_limits(request),
        trace_parent=parse_trace_parent(request.headers.get("traceparent")),
        trace_state=parse_trace_state(request.headers.get("tracestate")),
        preference=deadlines.parse_preference(
            request.headers.get("prefer"), longest_s=deps.settings.ingress.reply_wait_s
        ),
    )
    return with_deadline(deps, bare, request.headers)


def with_deadline(
    deps: Dependencies,
    call: InferenceCall,
    headers: Mapping[str, str],
    *,
    is_background: bool = False,
) -> InferenceCall:
    """The call with its deadline: which bound applies depends on how the caller waits."""
    settings = deps.settings.ingress
    background = is_background or call.preference.is_async or call.callback is not None
    outlives = background or call.preference.wait_s is not None
    ours_s = settings.reply_wait_s
    if outlives:
        ours_s = settings.background_wait_s
    elif call.is_stream:
        ours_s = settings.stream_wait_s
    task = deps.catalogue.tasks.get(call.asked_model)
    if task is not None:
        # The router has the same rule; here everyone who waits knows it, also while the service sleeps.
        ours_s = min(ours_s, task.timeout_s)
    at_once = not (outlives or call.is_stream)
    wait_s = deadlines.choose_wait_s(headers, ours_s=ours_s, reads_at_once=at_once)
    return replace(
        call,
        deadline=call.accepted_at + timedelta(seconds=wait_s),
        grace_s=deadlines.choose_grace_s(
            headers, wait_s=wait_s, most_s=settings.deadline_grace_s, reads_at_once=at_once
        ),
        is_background=background,
        reply=None if background else _own_address(deps),
    )


def _own_address(deps: Dependencies) -> ReplyAddress:
    """The reply partition of this replica, in this life of it."""
    return ReplyAddress(
        topic=deps.topics.replies, partition=deps.settings.ingress.partition, epoch=deps.epoch
    )


def parse_model_name(catalogue: Catalogue, name: object, operation: Operation, tenant: str) -> str:
    """The model, alias, task or `auto` that a body names; an absent one means `auto`. The router has the same rule.

    Raises:
        ApiError: `invalid_value`, `model_not_found`, or `model_not_allowed` for this tenant.
    """
    if name is None:
        return AUTO
    if not isinstance(name, str) or not name or any(char < " " for char in name):
        raise ApiError("invalid_value", "model must be a name.", param="model")
    try:
        filter_allowed(resolve(catalogue, name, operation).models, catalogue, tenant)
    except NoRoute as refused:
        raise ApiError(refused.code, refused.message, param=refused.param) from None
    return name


def parse_idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key` header.

    Raises:
        ApiError: `invalid_value` when it is empty, too long or not visible ASCII.
    """
    return _id_header(request, "idempotency-key")


def parse_trace_parent(text: str | None) -> str | None:
    """A valid W3C `traceparent`, else None (a new trace begins)."""
    return text if text is not None and _TRACE_PARENT.fullmatch(text) else None


def parse_trace_state(text: str | None) -> str | None:
    """A `tracestate` of reasonable size in visible ASCII, else None."""
    if not text or len(text) > _MAX_TRACE_STATE_CHARS or text.count(",") >= _MAX_TRACE_STATE_ITEMS:
        return None
    return text if all(" " <= char <= "~" for char in text) else None


def _has_usage(options: object) -> bool:
    return isinstance(options, dict) and options.get("include_usage") is True


def _without_callback(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name != CALLBACK_FIELD}


def _callback(request: Request, fields: Mapping[str, object]) -> str | None:
    header = request_body.single_header(request, "x-pickspin-callback")
    named = fields.get(CALLBACK_FIELD)
    if named is None:
        return header
    if not isinstance(named, str) or (header is not None and header != named):
        raise ApiError("invalid_value", "callback must be one id or URL.", param=CALLBACK_FIELD)
    return named


def _id_header(request: Request, name: str) -> str | None:
    text = request_body.single_header(request, name)
    if text is not None and not ids.is_valid_id(text):
        raise ApiError(
            "invalid_value", f"{name} must be 1 to 128 visible ASCII characters.", param=name
        )
    return text


def _choice(request: Request, name: str, choices: Mapping[str, T]) -> T | None:
    text = request_body.single_header(request, name)
    if text is not None and text not in choices:
        raise ApiError("invalid_value", f"{name} is one of: {', '.join(choices)}.", param=name)
    return None if text is None else choices[text]


def _limits(request: Request) -> dict[str, str]:
    """Raises EventRejected `invalid_value`, naming the header, where a limit is no plain decimal number."""
    limits: dict[str, str] = {}
    for header, (attribute, most) in LIMIT_HEADERS.items():
        text = request_body.single_header(request, header)
        if text is not None:
            read_amount(text, header, most=most)
            limits[attribute] = text
    return limits
