"""What builders write, readers read, and where it goes: docs/reference/wire.md, hop by hop."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from events import builders, ids
from events import names as types
from events.codecs import json_codec
from events.errors import EventRejected
from events.event import Event
from events.names import Operation, Priority, State, Topics
from events.payloads import CancelData, DecisionInfo
from events.requests import InferenceRequest, Origin, ReplyAddress, parse_request, parse_routed

TOPICS = Topics("dev.")


def without(event: Event, *names: str) -> Event:
    return replace(event, extensions={k: v for k, v in event.extensions.items() if k not in names})


def having(event: Event, **extensions: str) -> Event:
    return replace(event, extensions={**event.extensions, **extensions})


def test_a_request_is_read_with_everything_it_asks_for(
    request_: InferenceRequest, now: datetime
) -> None:
    assert request_.request_id == request_.event.id
    assert request_.operation is Operation.CHAT
    assert (request_.asked_model, request_.stream, request_.is_stored) == ("auto", False, True)
    assert request_.accepted_at == now
    assert request_.deadline == now + timedelta(seconds=115)
    assert (request_.tenant, request_.priority, request_.callback_id) == (
        "acme",
        Priority.INTERACTIVE,
        "cb_1",
    )
    assert request_.reply == ReplyAddress(topic="infer.replies", partition=0, epoch="5c1d0f")
    assert request_.key == request_.request_id


@pytest.mark.parametrize(
    ("data", "operation"),
    [
        (b'{"messages":[{"role":"user","content":"a"}]}', Operation.CHAT),
        (b'{"prompt":"a","messages":null}', Operation.COMPLETIONS),
        (b'{"input":"a"}', Operation.EMBEDDINGS),
    ],
)
def test_the_operation_is_inferred_from_the_body(
    data: bytes, operation: Operation, request_event: Event
) -> None:
    event = replace(without(request_event, types.OPERATION), data=data)
    found = parse_request(event, default_wait_s=1)
    assert found.operation is operation
    assert found.origin.carried[types.OPERATION] == operation.value


def test_a_body_without_any_known_field_is_refused(request_event: Event) -> None:
    with pytest.raises(EventRejected) as caught:
        parse_request(
            replace(without(request_event, types.OPERATION), data=b'{"model":"a"}'),
            default_wait_s=1,
        )
    assert caught.value.code == "invalid_body"


@pytest.mark.parametrize(
    ("data", "subject", "asked"),
    [
        (b'{"input":"a","model":"mini"}', "auto", "mini"),
        (b'{"input":"a","model":null}', "mini", "mini"),
        (b'{"input":"a"}', None, "auto"),
        (b'{"input":"a"}', "order 17", "auto"),
        (b'{"input":"a"}', "Grüße", "auto"),
    ],
)
def test_the_model_asked_for_is_the_bodys_then_the_subject_then_auto(
    data: bytes, subject: str | None, asked: str, request_event: Event
) -> None:
    event = replace(without(request_event, types.OPERATION), data=data, subject=subject)
    assert parse_request(event, default_wait_s=1).asked_model == asked


def test_a_body_that_was_encoded_twice_is_the_body(request_event: Event) -> None:
    data = b'{"messages":[{"role":"user","content":"a"}]}'
    twice = json.dumps(data.decode()).encode()
    found = parse_request(replace(request_event, data=twice), default_wait_s=1)
    assert found.body == parse_request(replace(request_event, data=data), default_wait_s=1).body
    for bad in (b'"[1]"', b'"hello"', json.dumps(twice.decode()).encode()):
        with pytest.raises(EventRejected) as caught:
            parse_request(replace(request_event, data=bad), default_wait_s=1)
        assert caught.value.code == "invalid_body"


def test_stream_and_store_are_read_from_the_body(request_event: Event) -> None:
    data = b'{"messages":[{"role":"user","content":"a"}],"stream":true,"store":false}'
    found = parse_request(replace(request_event, data=data), default_wait_s=1)
    assert (found.stream, found.is_stored) == (True, False)


def test_a_foreign_request_has_defaults() -> None:
    event = Event(
        id="x", source="/p", type=types.REQUEST, time="2026-11-21T12:00:00Z", data=b'{"input":"a"}'
    )
    found = parse_request(event, default_wait_s=2.5)
    assert (found.tenant, found.priority, found.reply, found.session) == (
        "default",
        Priority.INTERACTIVE,
        None,
        None,
    )
    assert found.deadline - found.accepted_at == timedelta(seconds=2.5)


def test_a_resolved_body_replaces_the_data(request_event: Event) -> None:
    body = b'{"messages":[{"role":"user","content":"long"}]}'
    event = builders.by_reference(
        replace(request_event, data=body), "blob:" + ids.content_hash(body)
    )
    assert event.data is None
    found = parse_request(event, default_wait_s=1, body=body)
    assert found.body == json_codec.loads(body)


def test_a_routed_event_carries_the_request_its_bytes_and_the_decision(
    request_: InferenceRequest, decision: DecisionInfo, now: datetime
) -> None:
    event = builders.build_routed(request_, decision, service="s", model="m", now=now)
    found = parse_routed(event)
    assert event.data == request_.event.data
    assert event.id == ids.derive(request_.request_id, "routed")
    assert event.get(types.CAUSATION_ID) == request_.event.id
    assert (found.request_id, found.accepted_at, found.deadline) == (
        request_.request_id,
        request_.accepted_at,
        request_.deadline,
    )
    assert (found.reply, found.tenant, found.operation) == (
        request_.reply,
        request_.tenant,
        request_.operation,
    )
    assert (found.service, found.model) == ("s", "m")
    assert found.decision == decision
    assert (found.decision.route_class, found.decision.score) == ("low", 0.8125)
    assert (found.decision.reason, found.decision.catalogue) == (decision.reason, "0123456789ab")
    assert found.asked_model == "auto"
    assert found.origin == request_.origin


def test_the_same_request_is_routed_to_the_same_bytes(
    request_: InferenceRequest, decision: DecisionInfo, now: datetime
) -> None:
    first, second = (
        builders.build_routed(request_, decision, service="s", model="m", now=now) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    "missing",
    [types.SERVICE, types.EXPIRY_TIME, types.REQUEST_TIME, types.ROUTED_TIME, types.CORRELATION_ID],
)
def test_a_routed_event_that_lacks_something_is_refused(
    missing: str, samples: Mapping[str, Event]
) -> None:
    with pytest.raises(EventRejected) as caught:
        parse_routed(without(samples[types.ROUTED], missing))
    assert caught.value.attribute == missing


def test_batch_work_has_its_own_lane(
    request_: InferenceRequest, samples: Mapping[str, Event]
) -> None:
    event = samples[types.ROUTED]
    found = builders.routed_outgoing(event, request_, TOPICS)
    assert (found.topic, found.key) == ("dev.infer.model.smollm2-135m", request_.request_id)
    batch = replace(request_, priority=Priority.BATCH, session="s")
    found = builders.routed_outgoing(event, batch, TOPICS)
    assert (found.topic, found.key) == ("dev.infer.model.smollm2-135m.batch", "s")


def test_a_completed_terminal_is_read(
    samples: Mapping[str, Event], request_: InferenceRequest
) -> None:
    found = builders.parse_terminal(samples[types.COMPLETED])
    assert (found.request_id, found.state, found.status) == (
        request_.request_id,
        State.COMPLETED,
        200,
    )
    assert (found.tenant, found.callback_id, found.epoch) == ("acme", "cb_1", "5c1d0f")
    assert (found.attempt, found.service, found.operation) == (1, "smollm2-135m", Operation.CHAT)
    document = json_codec.loads_object(found.data or b"")
    assert document["object"] == "chat.completion"
    assert document["pickspin"]["decision"]["class"] == "low"  # type: ignore[index]


@pytest.mark.parametrize(
    ("code", "status", "state"),
    [
        ("deadline_exceeded", 504, State.EXPIRED),
        ("cancelled", 409, State.CANCELLED),
        ("backend_failed", 502, State.FAILED),
    ],
)
def test_the_code_of_a_failure_decides_its_state(
    code: str, status: int, state: State, request_: InferenceRequest, now: datetime
) -> None:
    failure = builders.Failure(
        code=code, message="m", type="server_error", status=status, param="model"
    )
    event = builders.build_failed(request_.origin, failure, source="/router", now=now)
    found = builders.parse_terminal(event)
    assert (found.state, found.status, found.attempt, found.generation) == (state, status, 0, None)
    assert event.id == ids.derive(request_.request_id, "terminal", state.value)
    error = json_codec.loads_object(event.data or b"")["error"]
    assert error == {
        "message": "m",
        "type": "server_error",
        "code": code,
        "param": "model",
        "src": "gateway",
        "request_id": request_.request_id,
    }


def test_whoever_writes_a_terminal_gives_it_the_same_id(
    request_: InferenceRequest, now: datetime
) -> None:
    failure = builders.Failure(
        code="deadline_exceeded", message="m", type="timeout_error", status=504
    )
    events = [
        builders.build_failed(
            request_.origin, failure, source=source, now=now + timedelta(seconds=n)
        )
        for n, source in enumerate(("/recorder", "/models/a"))
    ]
    assert events[0].id == events[1].id


def test_a_large_answer_goes_by_reference(samples: Mapping[str, Event]) -> None:
    event = samples[types.COMPLETED]
    found = builders.parse_terminal(builders.by_reference(event, "blob:" + "0" * 64))
    assert (found.data, found.dataref) == (None, "blob:" + "0" * 64)
    assert found.datahash == ids.content_hash(event.data or b"")


def test_chunks_sort_as_text_and_keep_their_objects(samples: Mapping[str, Event]) -> None:
    event = samples[types.CHUNK]
    assert event.get(types.SEQUENCE) == "00000041"
    found = builders.parse_chunk(event)
    assert (found.sequence, found.attempt) == (41, 1)
    assert json_codec.loads(bytes(found.chunks[0]))["id"] == "chatcmpl-1"  # type: ignore[index,call-overload]


def test_progress_cancel_status_and_decision_are_read(
    samples: Mapping[str, Event], request_: InferenceRequest
) -> None:
    progress = builders.parse_progress(samples[types.PROGRESS])
    assert (progress.data.state, progress.data.eta_s, progress.epoch) == ("routed", 4.5, "5c1d0f")
    cancel = builders.parse_cancel(samples[types.CANCEL])
    assert (cancel.request_id, cancel.reason) == (request_.request_id, "client")
    assert builders.parse_status(samples[types.STATUS]).progress == 0.25
    assert builders.parse_decision(samples[types.DECISION]) == (request_.request_id, "smollm2-135m")


@pytest.mark.parametrize(
    "event_type", [types.PROGRESS, types.CHUNK, types.FAILED, types.CANCEL, types.STATUS]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"state":5,"status":"x","chunks":1,"reason":"x"}'],
)
def test_data_of_another_form_is_refused(
    event_type: str, data: bytes, samples: Mapping[str, Event]
) -> None:
    readers = (
        builders.parse_progress,
        builders.parse_chunk,
        builders.parse_terminal,
        builders.parse_cancel,
        builders.parse_status,
    )
    reader = dict(
        zip(
            (types.PROGRESS, types.CHUNK, types.FAILED, types.CANCEL, types.STATUS),
            readers,
            strict=True,
        )
    )
    with pytest.raises(EventRejected):
        reader[event_type](replace(samples[event_type], data=data))


def test_readers_accept_fields_and_attributes_of_later_versions(
    samples: Mapping[str, Event],
) -> None:
    event = samples[types.PROGRESS]
    data = json_codec.dumps({**json_codec.loads_object(event.data or b""), "later": {"a": 1}})
    assert (
        builders.parse_progress(having(replace(event, data=data), later="x")).data.state == "routed"
    )


def test_a_status_without_time_zone_is_refused(samples: Mapping[str, Event]) -> None:
    event = samples[types.STATUS]
    data = (event.data or b"").replace(b'.123Z"', b'.123"')
    with pytest.raises(EventRejected):
        builders.parse_status(replace(event, data=data))


@pytest.mark.parametrize(
    ("event_type", "attribute", "value"),
    [
        (types.COMPLETED, types.CORRELATION_ID, "a\nb"),
        (types.COMPLETED, types.OPERATION, "images"),
        (types.CHUNK, types.GENERATION, ""),
        (types.CHUNK, types.SEQUENCE, "x"),
    ],
)
def test_a_malformed_attribute_of_a_reply_is_refused(
    event_type: str, attribute: str, value: str, samples: Mapping[str, Event]
) -> None:
    reader = builders.parse_terminal if event_type == types.COMPLETED else builders.parse_chunk
    with pytest.raises(EventRejected) as caught:
        reader(having(samples[event_type], **{attribute: value}))
    assert caught.value.attribute == attribute


def test_a_failure_without_data_is_an_internal_one(samples: Mapping[str, Event]) -> None:
    found = builders.parse_terminal(replace(samples[types.FAILED], data=None))
    assert (found.state, found.status) == (State.FAILED, 500)


def test_a_failure_that_calls_itself_completed_is_refused(samples: Mapping[str, Event]) -> None:
    event = replace(
        samples[types.FAILED], data=b'{"status": 502, "pickspin": {"state": "completed"}}'
    )
    with pytest.raises(EventRejected):
        builders.parse_terminal(event)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (types.CORRELATION_ID, "a\nb"),
        (types.ROUTE_SCORE, "high"),
        (types.ROUTE_SCORE, "nan"),
        (types.OPERATION, "images"),
    ],
)
def test_a_malformed_attribute_of_a_routed_event_is_refused(
    attribute: str, value: str, samples: Mapping[str, Event]
) -> None:
    with pytest.raises(EventRejected) as caught:
        parse_routed(having(samples[types.ROUTED], **{attribute: value}))
    assert caught.value.attribute == attribute


def test_a_deadline_beyond_the_calendar_is_refused() -> None:
    event = Event(
        id="x", source="/p", type=types.REQUEST, time="9999-12-31T23:59:59Z", data=b'{"input":"a"}'
    )
    with pytest.raises(EventRejected) as caught:
        parse_request(event, default_wait_s=60)
    assert caught.value.attribute == "time"


def test_every_reader_refuses_other_types(samples: Mapping[str, Event]) -> None:
    other = Event(id="a", source="/a", type="t", extensions={types.CORRELATION_ID: "x"})
    for reader in (
        builders.parse_progress,
        builders.parse_chunk,
        builders.parse_terminal,
        builders.parse_cancel,
        builders.parse_status,
        builders.parse_decision,
        parse_routed,
    ):
        with pytest.raises(EventRejected) as caught:
            reader(other)
        assert caught.value.attribute == "type"


def test_a_terminal_goes_to_the_responses_and_to_who_waits(samples: Mapping[str, Event]) -> None:
    event = samples[types.COMPLETED]
    (only,) = builders.terminal_outgoing(event, topics=TOPICS, reply=None)
    assert (only.topic, only.key, only.partition) == (
        "dev.infer.responses",
        event.get(types.CORRELATION_ID),
        None,
    )
    waiting = ReplyAddress(topic="dev.infer.replies", partition=2, epoch="e")
    first, second = builders.terminal_outgoing(event, topics=TOPICS, reply=waiting)
    assert (first, second.topic, second.partition) == (only, "dev.infer.replies", 2)
    public = ReplyAddress(topic="dev.infer.responses")
    assert builders.terminal_outgoing(event, topics=TOPICS, reply=public) == (only,)


def test_progress_and_chunks_go_to_who_waits_or_to_the_public_topic(
    samples: Mapping[str, Event],
) -> None:
    waiting = ReplyAddress(topic="dev.infer.replies", partition=2)
    chunk, progress = samples[types.CHUNK], samples[types.PROGRESS]
    assert builders.chunk_outgoing(chunk, topics=TOPICS, reply=waiting).topic == "dev.infer.replies"
    assert builders.chunk_outgoing(chunk, topics=TOPICS, reply=None).topic == "dev.infer.progress"
    topics = [
        out.topic for out in builders.progress_outgoing(progress, topics=TOPICS, reply=waiting)
    ]
    assert topics == ["dev.infer.progress", "dev.infer.replies"]
    assert len(builders.progress_outgoing(progress, topics=TOPICS, reply=None)) == 1


def test_status_decision_and_cancel_have_their_keys(samples: Mapping[str, Event]) -> None:
    status = builders.status_outgoing(samples[types.STATUS], topics=TOPICS, replica="0")
    assert (status.topic, status.key) == ("dev.infer.status", "smollm2-135m/0")
    decision = builders.decision_outgoing(samples[types.DECISION], topics=TOPICS)
    assert decision.key == f"decision/{samples[types.REQUEST].id}"
    cancel = builders.cancel_outgoing(samples[types.CANCEL], topics=TOPICS)
    assert (cancel.topic, cancel.key) == ("dev.infer.control", samples[types.REQUEST].id)
    revision = builders.revision_outgoing(samples[types.REVISION], topics=TOPICS)
    assert (revision.topic, revision.key) == ("dev.infer.control", "smollm2-135m")


def test_an_origin_is_found_in_any_event_of_a_request(samples: Mapping[str, Event]) -> None:
    of_services = {types.STATUS, types.REVISION, types.PROBE}
    ids_ = {Origin.of(samples[t]).request_id for t in types.EVENT_TYPES - of_services}
    assert ids_ == {samples[types.REQUEST].id}


def test_a_cancel_has_the_same_id_however_often_it_is_asked(
    request_: InferenceRequest, now: datetime
) -> None:
    first, second = (
        builders.build_cancel(
            request_.origin, CancelData(reason=reason), source="/ingress/0", now=now
        )
        for reason in ("client", "deadline")  # type: ignore[arg-type]
    )
    assert first.id == second.id
