"""Tenant, source and id of an event say which request it is; its sender goes on knowing it by its own id."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import pytest

from events import builders, names
from events.errors import EventRejected
from events.event import Event
from events.payloads import CancelData, DecisionInfo
from events.request_identity import content_of, read_request_id
from events.requests import InferenceRequest, Origin, parse_request, parse_routed


def sent(event_id: str = "order-7", source: str = "/shop", **extensions: str) -> Event:
    return Event(
        id=event_id,
        source=source,
        type=names.REQUEST,
        time="2026-11-21T12:00:00.123Z",
        data=b'{"messages":[{"role":"user","content":"hi"}]}',
        extensions=extensions,
    )


def test_an_event_that_is_sent_again_is_the_same_request() -> None:
    assert read_request_id(sent(tenant="a")) == read_request_id(sent(tenant="a", priority="batch"))


def test_another_tenant_source_or_id_is_another_request() -> None:
    found = [
        sent(),
        sent(tenant="a"),
        sent(tenant="b"),
        sent(source="/other"),
        sent(event_id="order-8"),
        sent(event_id="order-7/shop", source="/"),
        sent(event_id="shop", source="/order-7"),
    ]
    assert len({read_request_id(event) for event in found}) == len(found)
    assert all(read_request_id(event).startswith("req_") for event in found)


@pytest.mark.parametrize("source", ["/ingress/0", "/batches"])
def test_ids_of_our_own_doors_are_request_ids(source: str) -> None:
    event = sent(event_id="req_1", source=source)
    assert read_request_id(event) == "req_1"
    assert Origin.of(event).event_id is None


def test_what_the_door_says_counts_whatever_the_source() -> None:
    event = sent(source="/ingress/0", requestid="req_9")
    assert parse_request(event, default_wait_s=60).request_id == "req_9"


def test_a_request_id_that_is_none_is_refused() -> None:
    with pytest.raises(EventRejected) as refused:
        parse_request(sent(requestid="a b"), default_wait_s=60)
    assert refused.value.attribute == "requestid"
    assert read_request_id(sent(requestid="a b")) == read_request_id(sent())


def following(request: InferenceRequest, decision: DecisionInfo, now: datetime) -> list[Event]:
    """An event of every type that follows from a request."""
    origin = request.origin
    failure = builders.Failure(code="backend_failed", message="m", type="server_error", status=502)
    about = builders.ProgressData(state="routed", service="s", model="m")
    pickspin = builders.PickspinData(request_id=request.request_id, state="completed")
    return [
        builders.build_routed(request, decision, service="s", model="m", now=now),
        builders.build_progress(origin, about, source="/router", now=now),
        builders.build_chunk(
            origin, [{}], generation="g", sequence=0, attempt=1, service="s", now=now
        ),
        builders.build_completed(origin, {}, pickspin, source="/models/s", generation="g", now=now),
        builders.build_failed(origin, failure, source="/models/s", now=now),
        builders.build_cancel(origin, CancelData(reason="client"), source="/x", now=now),
    ]


def test_everything_that_follows_has_the_senders_id_and_the_requests(
    decision: DecisionInfo, now: datetime
) -> None:
    request = parse_request(sent(tenant="a"), default_wait_s=60)
    for event in following(request, decision, now):
        assert event.get("correlationid") == "order-7", event.type
        assert event.get("requestid") == request.request_id, event.type
        assert Origin.of(event) == request.origin, event.type


def test_what_follows_from_our_own_doors_names_one_id_only(samples: Mapping[str, Event]) -> None:
    assert [event.type for event in samples.values() if event.get("requestid")] == []


def test_two_requests_of_one_id_have_no_event_in_common(
    decision: DecisionInfo, now: datetime
) -> None:
    first, second = (
        {event.id for event in following(parse_request(found, default_wait_s=60), decision, now)}
        for found in (sent(), sent(source="/other"))
    )
    assert first.isdisjoint(second)


def test_readers_of_ends_and_of_routed_requests_know_both_ids(
    decision: DecisionInfo, now: datetime
) -> None:
    request = parse_request(sent(), default_wait_s=60)
    made = {event.type: event for event in following(request, decision, now)}
    for kind in names.TERMINAL_TYPES:
        terminal = builders.parse_terminal(made[kind])
        assert (terminal.request_id, terminal.correlation_id) == (request.request_id, "order-7")
        assert b'"request_id":"order-7"' in (terminal.data or b"")
    routed = parse_routed(made[names.ROUTED])
    assert (routed.request_id, routed.origin) == (request.request_id, request.origin)
    assert builders.parse_cancel(made[names.CANCEL]).request_id == request.request_id


def test_content_is_the_same_inline_and_by_reference() -> None:
    event = sent()
    assert content_of(event) == content_of(builders.by_reference(event, "blob:" + "0" * 64))
    assert content_of(event) != content_of(replace(event, data=b"{}"))
    assert content_of(event) != content_of(replace(event, subject="smol"))
