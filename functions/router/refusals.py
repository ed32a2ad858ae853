"""What an unroutable event becomes: a failed reply, a dead letter, or both. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from events import builders, ids, names
from events.builders import Failure
from events.codecs.kafka_codec import outgoing_record
from events.errors import EventRejected
from events.event import Event, Outgoing
from events.names import Operation, Topics
from events.requests import Origin, ReplyAddress, is_reply_topic_allowed, reply_address
from functions.runtime.errors import CODES

NOT_DEAD_LETTERED: Final = frozenset({"invalid_value", "unsupported_parameter"})
"""A well-formed request with a bad field is the caller's own affair: it gets a reply and nothing is kept."""
_TRACE: Final = frozenset({names.TRACE_PARENT, names.TRACE_STATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRules:
    """Where replies may go and how large a record may be.

    `reply_topics` are topics beyond `infer.replies` and `infer.responses` that a reply may go to. `has_partition` says
    whether a reply topic has a partition; True where that is not known: then the broker will tell.
    """

    topics: Topics
    reply_topics: frozenset[str] = frozenset()
    has_partition: Callable[[str, int], bool] = lambda _topic, _partition: True
    max_record_bytes: int = 900 * 1024


def refuse_event(
    event: Event, rejection: EventRejected, rules: ReplyRules, now: datetime
) -> tuple[Outgoing, ...]:
    """A failed reply where the event is a request with a usable id; a dead letter unless only a field was wrong."""
    out: tuple[Outgoing, ...] = ()
    if event.type == names.REQUEST and ids.is_event_id(event.id):
        failure = make_failure(rejection.code, rejection.message, rejection.attribute)
        out = build_terminal(_clean_origin(event), failure, find_reply(event, rules), rules, now)
        if rejection.code in NOT_DEAD_LETTERED:
            return out
    return (*out, build_dead_letter(event, rejection.reason, rules))


def give_up_event(
    event: Event, reason: str, rules: ReplyRules, now: datetime
) -> tuple[Outgoing, ...]:
    """After a fault of our own: the request fails as `internal`, the event is kept with `reason` (a class name)."""
    out: tuple[Outgoing, ...] = ()
    if event.type == names.REQUEST and ids.is_event_id(event.id):
        failure = make_failure("internal", "the router failed on this request", None)
        out = build_terminal(_clean_origin(event), failure, find_reply(event, rules), rules, now)
    return (*out, build_dead_letter(event, f"internal:{reason}", rules))


def build_dead_letter(event: Event, reason: str, rules: ReplyRules) -> Outgoing:
    """The event as it was, plus `deadletterreason`; without its data where that would not fit a record."""
    kept = replace(event, extensions={**event.extensions, names.DEAD_LETTER_REASON: reason})
    out = Outgoing(
        topic=rules.topics.dlq, key=event.get(names.PARTITION_KEY) or event.id, event=kept
    )
    return out if fits(out, rules) else replace(out, event=replace(kept, data=None))


def refuse_unroutable(event: Event, rules: ReplyRules, now: datetime) -> tuple[Outgoing, ...]:
    """The chosen service's topic is not there: the request fails now, and is kept."""
    failure = make_failure(
        "no_healthy_service", "the service of this model cannot be reached", None
    )
    out = build_terminal(_clean_origin(event), failure, find_reply(event, rules), rules, now)
    return (*out, build_dead_letter(event, "unroutable", rules))


def is_addressed(out: Outgoing, rules: ReplyRules) -> bool:
    """Whether an event goes to an address that its caller named: whatever is wrong with that is the caller's affair."""
    topics = rules.topics
    return (
        out.topic == topics.replies
        or out.topic in rules.reply_topics
        or (out.topic == topics.responses and out.partition is not None)
    )


def build_terminal(
    origin: Origin,
    failure: Failure,
    address: ReplyAddress | None,
    rules: ReplyRules,
    now: datetime,
) -> tuple[Outgoing, ...]:
    event = builders.build_failed(origin, failure, source=builders.ROUTER, now=now)
    return builders.terminal_outgoing(event, topics=rules.topics, reply=address)


def make_failure(code: str, message: str, param: str | None) -> Failure:
    row = CODES[code]
    return Failure(code=code, message=message, type=row.type, status=row.status, param=param)


def find_reply(event: Event, rules: ReplyRules) -> ReplyAddress | None:
    """The reply address where it may be used; an impossible or foreign one counts as none."""
    try:
        address = reply_address(event)
        check_reply(address, rules)
    except EventRejected:
        return None
    return address


def check_reply(address: ReplyAddress | None, rules: ReplyRules) -> None:
    """Raises EventRejected where replies may not go there, or the topic is known not to have that partition."""
    if address is None:
        return
    if not is_reply_topic_allowed(address.topic, rules.topics, rules.reply_topics):
        raise EventRejected("invalid_event", "replies may not go to this topic", names.REPLY_TOPIC)
    if address.partition is not None and not rules.has_partition(address.topic, address.partition):
        raise EventRejected(
            "invalid_event", "the reply topic has no such partition", names.REPLY_PARTITION
        )


def _clean_origin(event: Event) -> Origin:
    """The origin without attributes that a reader of the reply would refuse."""
    origin = Origin.of(event)
    carried = {name: value for name, value in origin.carried.items() if _is_usable(name, value)}
    return replace(origin, carried=carried)


def _is_usable(name: str, value: str) -> bool:
    if name == names.OPERATION:
        return value in tuple(Operation)
    return name in _TRACE or ids.is_valid_id(value)


def fits(out: Outgoing, rules: ReplyRules) -> bool:
    if len(out.event.data or b"") < rules.max_record_bytes // 2:
        return True
    return outgoing_record(out).size_bytes <= rules.max_record_bytes


def summarise_outgoing(outgoing: tuple[Outgoing, ...], topics: Topics) -> Mapping[str, str]:
    """Labels for logs and metrics: `kind` (routed, failed, dead_letter), and where routed `service`, `model`,
    `route_class`, `stage`, `score`, `reason`, else `code`, which may be empty.
    """
    for out in outgoing:
        event = out.event
        if event.type == names.ROUTED and out.topic != topics.dlq:
            return {
                "kind": "routed",
                "service": event.extensions[names.SERVICE],
                "route_class": event.extensions[names.ROUTE_CLASS],
                "reason": event.extensions[names.ROUTE_REASON],
                "model": event.subject or "",
                "stage": event.extensions.get(names.ROUTE_STAGE, ""),
                "score": event.extensions[names.ROUTE_SCORE],
            }
    is_kept = any(out.topic == topics.dlq for out in outgoing)
    code = next((code for out in outgoing if (code := _code_of(out.event))), "")
    return {"kind": "dead_letter" if is_kept else "failed", "code": code}


def _code_of(event: Event) -> str:
    """Of a failed terminal: why."""
    if event.type != names.FAILED:
        return ""
    error = msgspec.json.decode(event.data or b"{}", type=dict[str, Any]).get("error") or {}
    return str(error.get("code", ""))
