"""One event in, all that follows out: routed, progress, decision; or one terminal."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as replace_in

from events import ids, names
from events.builders import parse_progress, parse_terminal
from events.codecs.kafka_codec import outgoing_record
from events.event import Event, Outgoing
from events.names import Priority, ReplicaState, State, Topics
from events.parsers import parse_decision
from events.payloads import StatusData
from events.requests import parse_routed
from functions.router.handler import RouterRules
from router_model.catalogue.model import Catalogue
from router_model.service_registry import Registry
from tests.unit.router.conftest import handle

Make = Callable[..., Event]
Handle = Callable[..., tuple[Outgoing, ...]]


@pytest.fixture
def routed(catalogue: Catalogue, now: datetime, rules: RouterRules) -> Handle:
    def run(
        event: Event, registry: Registry | None = None, at: datetime = now
    ) -> tuple[Outgoing, ...]:
        return handle(event, catalogue, registry or Registry(), at, rules=rules)

    return run


def destinations(outgoing: tuple[Outgoing, ...]) -> list[tuple[str, str | None, int | None]]:
    return [(out.topic, out.key, out.partition) for out in outgoing]


def test_a_request_gives_routed_progress_and_decision(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    out = routed(request_event(model="real"))
    assert destinations(out) == [
        (topics.model("real"), "req_1", None),
        (topics.progress, "req_1", None),
        (topics.replies, "req_1", 1),
        (topics.status, "decision/req_1", None),
    ]


def test_the_routed_event_is_the_contracts(
    request_event: Make, routed: Handle, catalogue: Catalogue, now: datetime
) -> None:
    event = request_event(model="real")
    made = routed(event)[0].event
    request = parse_routed(made)
    assert made.id == ids.derive("req_1", "routed")
    assert made.source == "/router"
    assert made.data == event.data
    assert (request.request_id, request.service, request.model) == ("req_1", "real", "real")
    assert (request.decision.route_class, request.decision.reason) == ("medium", "explicit")
    assert request.decision.catalogue == catalogue.version
    assert request.routed_at == now
    assert request.reply is not None
    assert (request.reply.partition, request.reply.epoch) == (1, "e1")
    assert request.tenant == "acme"
    assert made.get(names.CAUSATION_ID) == "req_1"


def test_progress_says_where_and_when(request_event: Make, routed: Handle, now: datetime) -> None:
    cold = parse_progress(routed(request_event(model="sim-large"))[1].event).data
    assert (cold.state, cold.service, cold.attempt, cold.eta_s) == ("routed", "sim-large", 0, 2.2)
    ready = StatusData(service="sim-large", replica="0", state=ReplicaState.READY, at=now)
    warm = parse_progress(
        routed(request_event(model="sim-large"), Registry().apply(ready))[1].event
    )
    assert warm.data.eta_s == 0.0
    assert warm.epoch == "e1"


def test_a_session_keeps_its_key(request_event: Make, routed: Handle) -> None:
    out = routed(request_event(model="real", ext={names.PARTITION_KEY: "session-7"}))
    assert out[0].key == "session-7"
    assert out[1].key == "req_1"


def test_a_request_without_reply_partition_tells_only_the_progress_topic(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    ext = {names.REPLY_TOPIC: None, names.REPLY_PARTITION: None, names.REPLY_EPOCH: None}
    assert topics.replies not in {out.topic for out in routed(request_event(ext=ext))}


def test_batch_work_takes_the_batch_lane(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    out = routed(request_event(model="real", ext={names.PRIORITY: "batch"}))
    assert out[0].topic == topics.model_batch("real")


def test_a_task_sets_lane_and_time_where_the_request_does_not(
    request_event: Make, routed: Handle, topics: Topics, now: datetime
) -> None:
    first = routed(request_event(model="nightly"))[0]
    assert first.topic == topics.model_batch("real")
    request = parse_routed(first.event)
    assert request.deadline == now + timedelta(seconds=60)
    assert request.priority is Priority.BATCH
    urgent = routed(request_event(model="nightly", ext={names.PRIORITY: "interactive"}))[0]
    assert urgent.topic == topics.model("real")


def test_a_task_caps_the_answer_and_nobody_else_does(request_event: Make, routed: Handle) -> None:
    """The body goes on as sent: the cap is an attribute."""
    event = request_event(model="nightly", ext={names.MAX_TOKENS: "9999"})
    made = routed(event)[0].event
    assert parse_routed(made).max_tokens == 1024
    assert made.data == event.data
    explicit = routed(request_event(model="real", ext={names.MAX_TOKENS: "1"}))[0].event
    assert parse_routed(explicit).max_tokens is None


def reported(now: datetime, **status: Any) -> Registry:
    """What is known when every service of the model says the same."""
    registry = Registry()
    for slug in ("real", "real--vllm"):
        registry = registry.apply(StatusData(service=slug, replica="0", at=now, **status))
    return registry


@pytest.fixture
def failing(now: datetime) -> Registry:
    return reported(
        now,
        state=ReplicaState.FAILED,
        failed_starts=3,
        breaker=names.BreakerState.OPEN,
        message="the weights are gone",
    )


def test_a_stand_in_says_for_whom(
    request_event: Make,
    catalogue: Catalogue,
    now: datetime,
    rules: RouterRules,
    failing: Registry,
) -> None:
    chained = replace_in(catalogue, fallbacks={"real": ("sim-large", "sim-small")})
    event = request_event(model="nick", ext={names.ASKED_MODEL: "forged"})
    out = handle(event, chained, failing, now, rules=rules)
    request = parse_routed(out[0].event)
    assert (request.service, request.model) == ("sim-large",) * 2
    assert (request.decision.asked_model, request.decision.reason) == ("real", "fallback")
    told = parse_progress(out[1].event).data.decision
    assert told is not None
    assert (told.reason, told.asked_model) == ("fallback", "real")
    healthy = handle(event, chained, Registry(), now, rules=rules)
    assert parse_routed(healthy[0].event).decision.asked_model is msgspec.UNSET
    assert b"asked_model" not in (healthy[1].event.data or b"")


@pytest.mark.parametrize(("attribute", "status"), [("none", 503), (None, 503), ("allow", None)])
def test_a_request_says_whether_another_model_may_answer(
    request_event: Make,
    routed: Handle,
    failing: Registry,
    attribute: str | None,
    status: int | None,
) -> None:
    out = routed(request_event(model="real", ext={names.FALLBACK: attribute}), failing)
    if status is None:
        assert parse_routed(out[0].event).decision.reason == "fallback"
    else:
        assert parse_terminal(out[0].event).status == status


def test_requests_of_one_session_go_to_one_service(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    wide = replace_in(catalogue, affinity_margin=1.0)

    def service(session: str, request_id: str) -> str | None:
        event = request_event(model="real", id=request_id, ext={names.PARTITION_KEY: session})
        made = handle(event, wide, Registry(), now, rules=rules)
        return made[0].event.get(names.SERVICE)

    first = {f"s{n}": service(f"s{n}", f"req_{n}") for n in range(20)}
    assert {"real", "real--vllm"} == set(first.values())
    assert first == {session: service(session, "another") for session in first}


def test_where_auto_sent_a_session_is_remembered_once(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    event = request_event(ext={names.PARTITION_KEY: "s1"})
    *_, remembered = routed(event)
    session = ids.of_session("acme", "s1")
    assert (remembered.topic, remembered.key) == (topics.status, f"decision/{session}")
    assert parse_decision(remembered.event)[0] == session
    known = Registry(decisions=dict([parse_decision(remembered.event)]))
    again = routed(replace(event, id="req_2"), known)
    assert [out.key for out in again if out.topic == topics.status] == ["decision/req_2"]
    named = routed(request_event(model="real", ext={names.PARTITION_KEY: "s1"}))
    assert [out.key for out in named if out.topic == topics.status] == ["decision/req_1"]


def test_a_conversation_without_a_session_is_remembered_from_its_second_turn(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    def turn(number: int) -> Event:
        texts = [("user", "Name a colour."), ("assistant", "Red."), ("user", "Prove it."),
                 ("assistant", "No."), ("user", "Name another.")][:number]  # fmt: skip
        messages = [{"role": role, "content": text} for role, text in texts]
        return request_event(data=json.dumps({"model": "auto", "messages": messages}).encode())

    def remembered(out: tuple[Outgoing, ...]) -> dict[str, str]:
        kept = [each for each in out if each.topic == topics.status]
        return dict(parse_decision(each.event) for each in kept if each.key != "decision/req_1")

    assert remembered(routed(turn(1))) == {}
    second = remembered(routed(turn(3)))
    assert len(second) == 1
    (name,) = second
    third = routed(turn(5), Registry(decisions={name: "sim-large"}))
    assert third[0].event.get(names.SERVICE) == "sim-large"
    assert remembered(third) == {}


def test_a_turn_of_a_remembered_session_goes_where_the_last_one_went(
    request_event: Make, routed: Handle
) -> None:
    turns = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Name another."},
    ]
    event = request_event(
        data=json.dumps({"model": "auto", "messages": turns}).encode(),
        ext={names.PARTITION_KEY: "s1"},
    )
    gone = {
        slug: routed(event, Registry(decisions={ids.of_session("acme", "s1"): slug}))
        for slug in ("real", "sim-large", "sim-small")
    }
    assert {slug: out[0].event.get(names.SERVICE) for slug, out in gone.items()} == {
        "real": "real", "sim-large": "sim-large", "sim-small": "sim-small",
    }  # fmt: skip


def test_a_body_that_asks_for_tools_is_refused_by_a_model_that_lists_traits_without_them(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    body = (
        b'{"model":"real","messages":[{"role":"user","content":"hi"}],'
        b'"tools":[{"type":"function","function":{"name":"f"}}]}'
    )
    passed = handle(request_event(data=body), catalogue, Registry(), now, rules=rules)
    assert passed[0].event.data == body
    models = tuple(
        replace_in(model, capabilities=("chat", "code")) if model.id == "real" else model
        for model in catalogue.models
    )
    strict = replace_in(catalogue, models=models)
    out = handle(request_event(data=body), strict, Registry(), now, rules=rules)
    error = json.loads(out[0].event.data or b"")["error"]
    assert (error["code"], error["param"]) == ("capability_missing", "model")
    assert "tools" in error["message"]


def test_an_absent_deadline_is_set(request_event: Make, routed: Handle, now: datetime) -> None:
    made = routed(request_event(ext={names.EXPIRY_TIME: None}))[0].event
    assert parse_routed(made).deadline == now + timedelta(seconds=3600)


def test_a_foreign_producer_needs_no_time_operation_or_tenant(
    request_event: Make, routed: Handle
) -> None:
    event = Event(id="order-7", source="urn:shop", type=names.REQUEST, data=request_event().data)
    assert parse_routed(routed(event)[0].event).origin.correlation_id == "order-7"


def test_identical_input_gives_identical_bytes(request_event: Make, routed: Handle) -> None:
    first, second = routed(request_event()), routed(request_event())
    assert [outgoing_record(out) for out in first] == [outgoing_record(out) for out in second]


def test_a_replay_repeats_the_decision_with_the_same_ids(
    request_event: Make, routed: Handle, now: datetime
) -> None:
    first = routed(request_event())
    chosen = first[0].event.get(names.SERVICE)
    other = "sim-small" if chosen != "sim-small" else "sim-medium"
    again = routed(request_event(), replace(Registry(), decisions={"req_1": other}))
    assert again[0].event.get(names.SERVICE) == other
    assert again[0].event.get(names.ROUTE_REASON) == "replay"
    assert [out.event.id for out in again] == [out.event.id for out in first]


def test_a_replay_goes_to_its_service_even_when_that_is_unhealthy(
    request_event: Make, routed: Handle, now: datetime
) -> None:
    failed = StatusData(service="real", replica="0", state=ReplicaState.FAILED, at=now)
    registry = replace(Registry().apply(failed), decisions={"req_1": "real"})
    assert routed(request_event(model="real"), registry)[0].event.get(names.SERVICE) == "real"


def test_a_profile_changes_the_choice(request_event: Make, routed: Handle) -> None:
    hard = b'{"model":"auto","messages":[{"role":"user","content":"prove it"}]}'
    chosen = {
        profile: routed(request_event(data=hard, ext={names.PROFILE: profile}))[0].event.subject
        for profile in ("quality", "cost")
    }
    assert chosen["quality"] == "sim-large"
    assert chosen["cost"] == "sim-small"


def test_a_passed_deadline_ends_expired(
    request_event: Make, routed: Handle, now: datetime, topics: Topics
) -> None:
    out = routed(request_event(), at=now + timedelta(seconds=101))
    assert destinations(out) == [(topics.responses, "req_1", None), (topics.replies, "req_1", 1)]
    terminal = parse_terminal(out[0].event)
    assert (terminal.state, terminal.status) == (State.EXPIRED, 504)
    assert out[0].event.id == ids.derive("req_1", "terminal", "expired")


@pytest.mark.parametrize(
    ("model", "ext", "status", "code"),
    [
        ("nobody", {}, 404, "model_not_found"),
        ("../etc", {}, 404, "model_not_found"),
        ("vectors", {}, 400, "capability_missing"),
        ("auto", {names.PROFILE: "best"}, 400, "invalid_value"),
    ],
)
def test_what_cannot_be_routed_gets_a_failed_reply_and_no_dead_letter(
    request_event: Make,
    routed: Handle,
    topics: Topics,
    model: str,
    ext: dict[str, str],
    status: int,
    code: str,
) -> None:
    out = routed(request_event(model=model, ext=ext))
    assert [found.topic for found in out] == [topics.responses, topics.replies]
    terminal = parse_terminal(out[1].event)
    assert (terminal.state, terminal.status, terminal.epoch) == (State.FAILED, status, "e1")
    assert json.loads(terminal.data or b"")["error"]["code"] == code


def test_no_healthy_service_is_a_failed_reply(
    request_event: Make, routed: Handle, failing: Registry
) -> None:
    out = routed(request_event(model="real"), failing)
    terminal = parse_terminal(out[0].event)
    assert terminal.status == 503
    assert "the weights are gone" in json.loads(terminal.data or b"")["error"]["message"]


def test_what_nobody_waits_for_at_the_line_waits_for_a_model_that_recovers(
    request_event: Make, routed: Handle, now: datetime
) -> None:
    registry = reported(
        now,
        state=ReplicaState.READY,
        breaker=names.BreakerState.OPEN,
        retry_at=now + timedelta(seconds=20),
    )
    named = {"model": "real"}
    assert parse_terminal(routed(request_event(**named), registry)[0].event).status == 503
    background = {names.REPLY_TOPIC: None, names.REPLY_PARTITION: None}
    out = routed(request_event(**named, ext=background), registry)
    assert out[0].event.type == names.ROUTED


def test_a_reply_that_listens_on_the_response_topic_is_sent_once(
    request_event: Make, routed: Handle, topics: Topics
) -> None:
    ext = {names.REPLY_TOPIC: topics.responses, names.REPLY_PARTITION: None}
    out = routed(request_event(model="nobody", ext=ext))
    assert [found.topic for found in out] == [topics.responses]


def test_an_allowed_further_reply_topic_is_used(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    ext = {names.REPLY_TOPIC: "shop.answers", names.REPLY_PARTITION: None}
    event = request_event(model="nobody", ext=ext)
    allowing = replace(rules, reply_topics=frozenset({"shop.answers"}))
    out = handle(event, catalogue, Registry(), now, rules=allowing)
    assert [found.topic for found in out] == ["t.infer.responses", "shop.answers"]


def test_each_routing_counts_one_hop(request_event: Make, routed: Handle) -> None:
    assert routed(request_event(ext={names.HOPS: "2"}))[0].event.get(names.HOPS) == "3"


def test_a_resolved_body_is_decided_on_but_not_copied(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    body = request_event(model="real").data
    ext = {
        names.DATA_REF: f"blob:{ids.content_hash(body)}",
        names.DATA_HASH: ids.content_hash(body),
    }
    event = request_event(data=None, ext=ext)
    made = handle(event, catalogue, Registry(), now, rules=rules, body=body)[0].event
    assert made.subject == "real"
    assert made.data is None
    assert made.get(names.DATA_REF) == ext[names.DATA_REF]
