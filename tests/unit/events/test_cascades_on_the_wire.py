"""The attribute `cascade`: it survives the log, is read strictly, and no caller can bring one along."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from events import builders, cascade_attribute, ids, names
from events.codecs import kafka_codec
from events.errors import EventRejected
from events.event import Event
from events.payloads import CascadePlace, CascadeState, CascadeUsed, Cost, DecisionInfo
from events.requests import InferenceRequest, parse_request, parse_routed

USED = CascadeUsed(
    service="small", model="Org/Small", outcome="unsure", confidence=0.3, cost=Cost(usd=0.1)
)
STATE = CascadeState(
    name="frugal",
    plan=(
        CascadePlace(service="small", model="Org/Small", min_confidence=0.7),
        CascadePlace(service="large", model="Org/Large"),
    ),
)


def routed(request: InferenceRequest, now: datetime, state: CascadeState | None = STATE) -> Event:
    decision = DecisionInfo(route_class="low", score=0.5, reason="cascade", catalogue="v1")
    return builders.build_routed(
        request, decision, service="small", model="Org/Small", cascade=state, now=now
    )


def through_the_log(event: Event, request: InferenceRequest) -> Event:
    out = builders.routed_outgoing(event, request, names.Topics())
    return kafka_codec.from_record(kafka_codec.outgoing_record(out))


def test_the_steps_and_what_they_used_survive_the_log(
    request_: InferenceRequest, now: datetime
) -> None:
    first = through_the_log(routed(request_, now), request_)
    assert parse_routed(first).cascade == STATE
    second = through_the_log(cascade_attribute.build_next_step(first, USED, now=now), request_)
    read = parse_routed(second)
    assert read.cascade is not None
    assert read.cascade.used == (USED,)
    assert (read.service, read.model, read.request_id) == (
        "large",
        "Org/Large",
        request_.request_id,
    )
    assert (read.deadline, read.reply, read.body) == (
        request_.deadline,
        request_.reply,
        request_.body,
    )
    assert second.get(names.CAUSATION_ID) == first.id
    assert second.id == ids.derive(request_.request_id, "routed", 1)
    assert second.id != first.id


def test_after_the_last_step_there_is_nobody_to_hand_on_to(
    request_: InferenceRequest, now: datetime
) -> None:
    last = cascade_attribute.build_next_step(routed(request_, now), USED, now=now)
    for event in (last, routed(request_, now, None)):
        with pytest.raises(EventRejected):
            cascade_attribute.build_next_step(event, USED, now=now)


def test_a_caller_cannot_bring_a_cascade_along(request_: InferenceRequest, now: datetime) -> None:
    forged = cascade_attribute.attribute(STATE)
    extensions = {**request_.event.extensions, names.CASCADE: forged}
    event = replace(request_.event, extensions=extensions)
    request = parse_request(event, default_wait_s=60)
    assert names.CASCADE not in routed(request, now, None).extensions


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        '{"name": "f", "plan": []}',
        '{"name": "f", "plan": [{"service": "other", "model": "m"}]}',
        '{"name": "f", "plan": [{"service": "small", "model": "m", "min_confidence": 2}]}',
        '{"name":"f","plan":[{"service":"small","model":"m"}],"used":[{"service":"small","model":"m","outcome":"unsure"}]}',
    ],
)
def test_a_cascade_that_is_none_is_refused(
    request_: InferenceRequest, now: datetime, text: str
) -> None:
    event = routed(request_, now, None)
    changed: dict[str, Any] = {**event.extensions, names.CASCADE: text}
    with pytest.raises(EventRejected) as refused:
        parse_routed(replace(event, extensions=changed))
    assert (refused.value.code, refused.value.attribute) == ("invalid_event", names.CASCADE)
