"""Request and routed events as typed, frozen requests: what router, ingress, recorder and workers decide on."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from events import names
from events.cascade_attribute import parse_cascade
from events.classifier_stages import explain_decision
from events.codecs import json_codec
from events.codecs.attributes import is_json
from events.decimal_text import read_amount
from events.errors import EventRejected
from events.event import NO_EXTENSIONS, Event
from events.ids import content_hash, is_event_id, is_valid_id
from events.limits import MAX_PARTITION
from events.names import Operation, Priority, Topics
from events.openai.body_validation import as_typed, check_body, without_nulls
from events.openai.operations import infer_operation
from events.payloads import DECISION_WORDS, CascadeState, DecisionInfo
from events.request_identity import read_correlation_id, read_request_id
from events.timestamps import from_rfc3339

__all__ = [
    "AUTO",
    "Fallback",
    "InferenceRequest",
    "Origin",
    "ReplyAddress",
    "RoutedRequest",
    "check_body",
    "is_reply_topic_allowed",
    "parse_request",
    "parse_routed",
    "reply_address",
    "without_nulls",
]

Fallback = Literal["none", "allow"]
"""Whether another model may answer for one that was named: never; or, after the catalogue's chain, any."""
AUTO: Final = "auto"
"""The asked model when a request names none."""
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_WHOLE: Final = re.compile(r"\d{1,9}", re.ASCII)
_DATA_REF: Final = re.compile(r"blob:[0-9a-f]{64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyAddress:
    """Where a caller listens. `partition` None: the request id chooses. `epoch` tells lives of one listener apart."""

    topic: str
    partition: int | None = None
    epoch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What every event that follows from a request carries on: its id and the attributes readers correlate by.

    `event_id` is the id of the sender's event where the request has another one (`events.request_identity`).
    `carried` holds any of `names.CARRIED`.
    """

    request_id: str
    carried: Mapping[str, str] = field(default_factory=lambda: NO_EXTENSIONS)
    event_id: str | None = None

    @property
    def correlation_id(self) -> str:
        """The sender's id of the request."""
        return self.request_id if self.event_id is None else self.event_id

    @classmethod
    def of(cls, event: Event, request_id: str | None = None) -> "Origin":
        """From a request event, or any event that follows from one. Never raises. `request_id`: where it is known."""
        request_id, named = request_id or read_request_id(event), read_correlation_id(event)
        carried = {n: v for n in names.CARRIED if (v := event.extensions.get(n)) is not None}
        event_id = None if named == request_id else named
        return cls(request_id=request_id, carried=carried, event_id=event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """A valid request. Instants are aware UTC; `body` is the parsed OpenAI body as sent, nulls included."""

    event: Event
    request_id: str
    operation: Operation
    body: Mapping[str, object] = field(repr=False)
    asked_model: str
    """`model` of the body, else the subject where that can be a name, else `auto`."""
    stream: bool
    deadline: datetime
    accepted_at: datetime
    tenant: str = names.DEFAULT_TENANT
    priority: Priority = Priority.INTERACTIVE
    session: str | None = None
    """`partitionkey`: requests of one session stay in order and near their cache."""
    callback_id: str | None = None
    reply: ReplyAddress | None = None
    """As asked for; `is_reply_topic_allowed` judges it."""
    is_stored: bool = True
    profile: str | None = None
    max_cost_usd: float | None = None
    """What the answer may cost, `max_latency_s` how long the whole of it may take, `min_quality` the least chance in
    [0, 1] of a good one, all as expected when it is routed."""
    max_latency_s: float | None = None
    min_quality: float | None = None
    fallback: Fallback | None = None
    """None: the catalogue's chain, where it has one."""
    batch_id: str | None = None
    hops: int = 0

    @property
    def origin(self) -> Origin:
        """What events that follow carry on (the operation included, also when it was inferred)."""
        origin = Origin.of(self.event, self.request_id)
        carried = {
            **origin.carried,
            names.OPERATION: self.operation.value,
            names.TENANT: self.tenant,
        }
        return replace(origin, carried=carried)

    @property
    def key(self) -> str:
        """The record key of the request and of what is routed: the session, else the request id."""
        return self.request_id if self.session is None else self.session


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedRequest(InferenceRequest):
    """A request with the router's choice. `event` is the routed event."""

    service: str
    model: str
    decision: DecisionInfo
    routed_at: datetime
    max_tokens: int | None = None
    """Limit of answer tokens that the task sets; None: no task was named."""
    cascade: CascadeState | None = None
    """The cascade that this is a step of."""


def parse_request(
    event: Event,
    *,
    default_wait_s: float,
    body: bytes | None = None,
    received_at: datetime | None = None,
) -> InferenceRequest:
    """The request of a request event, its body checked.

    `default_wait_s` (seconds) sets the deadline where `expirytime` is absent. `body` replaces the event's data after
    its `dataref` was resolved, and must have its `datahash`. `received_at` stands in for an absent `time` (the record's
    timestamp, for example); with neither, the event is refused.

    Raises:
        EventRejected: another type or version, a malformed attribute or body, or a `dataref` that was not resolved.
    """
    _check_type(event, names.REQUEST)
    _id(event, names.REQUEST_ID)
    accepted_at = received_at if event.time is None else from_rfc3339(event.time, "time")
    if accepted_at is None:
        raise EventRejected("invalid_event", "the attribute time is missing", "time")
    deadline = _instant(event, names.EXPIRY_TIME)
    if deadline is None:
        deadline = _later(accepted_at, default_wait_s)
    parsed = _parse_body(event, body)
    operation = _operation(event, parsed)
    check_body(operation, parsed)
    return InferenceRequest(
        event=event,
        request_id=read_request_id(event),
        accepted_at=accepted_at,
        deadline=deadline,
        **_shared(event, operation, parsed),  # type: ignore[arg-type]
    )


def parse_routed(event: Event, body: bytes | None = None) -> RoutedRequest:
    """The routed request of a routed event. The body was checked by the router and is only parsed here.

    Raises:
        EventRejected: another type or version, a missing or malformed attribute, or an unresolved `dataref`.
    """
    _check_type(event, names.ROUTED)
    if not is_event_id(_required(event, names.CORRELATION_ID)):
        raise EventRejected("invalid_event", "not a request id", names.CORRELATION_ID)
    _id(event, names.REQUEST_ID)
    if event.subject is None:
        raise EventRejected("invalid_event", "the attribute subject is missing", "subject")
    parsed = _parse_body(event, body)
    return RoutedRequest(
        event=event,
        request_id=read_request_id(event),
        accepted_at=_required_instant(event, names.REQUEST_TIME),
        deadline=_required_instant(event, names.EXPIRY_TIME),
        routed_at=_required_instant(event, names.ROUTED_TIME),
        service=_required(event, names.SERVICE),
        model=event.subject,
        decision=_decision(event),
        max_tokens=_whole(event, names.MAX_TOKENS) or None,
        cascade=parse_cascade(event),
        **_shared(event, _operation(event, parsed), parsed),  # type: ignore[arg-type]
    )


def reply_address(event: Event) -> ReplyAddress | None:
    """The reply address that an event asks for; None where it asks for none.

    Raises:
        EventRejected: it asks for an impossible one.
    """
    topic = event.get(names.REPLY_TOPIC)
    if topic is None:
        return None
    if _TOPIC.fullmatch(topic) is None or topic.startswith("__"):
        raise EventRejected("invalid_event", "not a topic for replies", names.REPLY_TOPIC)
    partition = _whole(event, names.REPLY_PARTITION)
    if partition is not None and partition > MAX_PARTITION:
        raise EventRejected("invalid_event", "not a partition", names.REPLY_PARTITION)
    return ReplyAddress(topic=topic, partition=partition, epoch=_id(event, names.REPLY_EPOCH))


def is_reply_topic_allowed(topic: str, topics: Topics, further: Collection[str] = ()) -> bool:
    """True where replies may go: `infer.replies`, `infer.responses`, and what the settings add (`further`)."""
    return topic in {topics.replies, topics.responses} or topic in further


def _check_type(event: Event, expected: str) -> None:
    if event.type != expected:
        raise EventRejected("invalid_event", f"the type is not {expected}", "type")


def _shared(event: Event, operation: Operation, body: dict[str, object]) -> dict[str, object]:
    """Fields that a request and a routed request have in common."""
    asked = body.get("model")
    if not isinstance(asked, str):
        asked = _named(event.subject) if event.type == names.REQUEST else AUTO
    return {
        "operation": operation,
        "body": as_typed(operation, body),
        "asked_model": asked,
        "stream": body.get("stream") is True,
        "tenant": _id(event, names.TENANT) or names.DEFAULT_TENANT,
        "priority": _priority(event),
        "session": _id(event, names.PARTITION_KEY),
        "callback_id": _id(event, names.CALLBACK_ID),
        "reply": reply_address(event),
        "is_stored": body.get("store") is not False,
        "profile": _id(event, names.PROFILE) or _wished_profile(body),
        "fallback": _fallback(event),
        "max_cost_usd": _amount(event, names.MAX_COST, _wished(body, "max_cost")),
        "max_latency_s": _amount(event, names.MAX_LATENCY, _wished(body, "max_latency")),
        "min_quality": _amount(event, names.MIN_QUALITY, _wished(body, "min_quality"), most=1.0),
        "batch_id": _id(event, names.BATCH_ID),
        "hops": _whole(event, names.HOPS) or 0,
    }


def _named(subject: str | None) -> str:
    """The model that a subject names. What cannot be a name is about something else (an order, a file)."""
    return subject if subject is not None and is_valid_id(subject) else AUTO


def _parse_body(event: Event, body: bytes | None) -> dict[str, object]:
    if not is_json(event.datacontenttype):
        raise EventRejected(
            "unsupported_media_type", "the data must be JSON in UTF-8", "datacontenttype"
        )
    ref = event.get(names.DATA_REF)
    if ref is not None and _DATA_REF.fullmatch(ref) is None:
        raise EventRejected("invalid_event", "not a reference to our blobs", names.DATA_REF)
    hashed = event.get(names.DATA_HASH)
    if hashed is not None and _SHA256.fullmatch(hashed) is None:
        raise EventRejected("invalid_event", "not a SHA-256 in lower-case hex", names.DATA_HASH)
    if body is not None and hashed is not None and content_hash(body) != hashed:
        raise EventRejected("invalid_event", "the data has another hash", names.DATA_HASH)
    raw = event.data if body is None else body
    if raw is None:
        if ref is not None:
            raise EventRejected("invalid_event", "the reference is not resolved", names.DATA_REF)
        raise EventRejected("invalid_body", "the request has no body")
    parsed = json_codec.loads(raw)
    # Some senders encode the object, and then its text again.
    return json_codec.loads_object(parsed.encode() if isinstance(parsed, str) else raw)


def _operation(event: Event, body: Mapping[str, object]) -> Operation:
    text = event.get(names.OPERATION)
    if text is not None:
        try:
            return Operation(text)
        except ValueError:
            raise EventRejected(
                "invalid_event", "not chat, completions or embeddings", names.OPERATION
            ) from None
    operation = infer_operation(body)
    if operation is not None:
        return operation
    raise EventRejected("invalid_body", "one of messages, prompt and input is required", "messages")


def _priority(event: Event) -> Priority:
    try:
        return Priority(event.get(names.PRIORITY) or Priority.INTERACTIVE)
    except ValueError:
        raise EventRejected("invalid_event", "not interactive or batch", names.PRIORITY) from None


def _fallback(event: Event) -> Fallback | None:
    match event.get(names.FALLBACK):
        case None:
            return None
        case "none":
            return "none"
        case "allow":
            return "allow"
        case _:
            raise EventRejected("invalid_event", "not none or allow", names.FALLBACK)


def _required(event: Event, name: str) -> str:
    text = event.get(name)
    if not text:
        raise EventRejected("invalid_event", f"the attribute {name} is missing", name)
    return text


def _instant(event: Event, name: str) -> datetime | None:
    text = event.get(name)
    return None if text is None else from_rfc3339(text, name)


def _required_instant(event: Event, name: str) -> datetime:
    return from_rfc3339(_required(event, name), name)


def _later(instant: datetime, wait_s: float) -> datetime:
    try:
        return instant + timedelta(seconds=wait_s)
    except OverflowError:
        raise EventRejected("invalid_event", "the instant is out of range", "time") from None


def _id(event: Event, name: str) -> str | None:
    text = event.get(name)
    if text is not None and not is_valid_id(text):
        raise EventRejected("invalid_event", "1 to 128 visible ASCII characters", name)
    return text


def _whole(event: Event, name: str) -> int | None:
    text = event.get(name)
    if text is None:
        return None
    if _WHOLE.fullmatch(text) is None:
        raise EventRejected("invalid_event", "must be a whole number", name)
    return int(text)


def _amount(
    event: Event, name: str, wished: float | None, *, most: float | None = None
) -> float | None:
    """The attribute, else what the body wishes."""
    text = event.get(name)
    return wished if text is None else read_amount(text, name, most=most)


def _wished(body: Mapping[str, object], name: str) -> float | None:
    wish = _wishes(body).get(name)
    return float(wish) if isinstance(wish, int | float) else None


def _wished_profile(body: Mapping[str, object]) -> str | None:
    wish = _wishes(body).get("profile")
    return wish if isinstance(wish, str) else None


def _wishes(body: Mapping[str, object]) -> Mapping[str, object]:
    """The body's `pickspin`, which `check_body` has judged."""
    wishes = body.get("pickspin")
    return wishes if isinstance(wishes, dict) else {}


def _decision(event: Event) -> DecisionInfo:
    """What the attributes of a routed event say of the decision. Texts that are not said are empty."""
    said = ((word.field, event.get(word.attribute)) for word in DECISION_WORDS)
    known = {"route_class": "", "reason": "", "catalogue": "", "score": ""}
    known |= {field_name: text for field_name, text in said if text}
    info = DecisionInfo(**{**known, "score": _score(known["score"])})  # type: ignore[arg-type]
    return explain_decision(info)


def _score(text: str) -> float:
    try:
        score = float(text or 0.0)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise EventRejected("invalid_event", "must be a number", names.ROUTE_SCORE)
    return score
