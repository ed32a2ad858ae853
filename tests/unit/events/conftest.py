"""One valid event of every type, with fixed times and ids: the samples that codecs, schemas and golden files share."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from events import builders, names
from events.event import Event
from events.payloads import CancelData, DecisionInfo
from events.requests import InferenceRequest, parse_request

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
SERVICE, MODEL = "smollm2-135m", "SmolLM2-135M-Instruct"
GENERATION = "7f4df8b2-93f4-4c52-8a0e-0d5f5d1c9c11"
BODY = (
    b'{"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue? \\u00e9"}]}'
)


def _request_event() -> Event:
    return Event(
        id="req_019aa65f2c7b7000a1b2c3d4e5f60718",
        source="/ingress/0",
        type=names.REQUEST,
        subject="auto",
        time="2026-11-21T12:00:00.123Z",
        data=BODY,
        extensions={
            names.OPERATION: "chat",
            names.EXPIRY_TIME: "2026-11-21T12:01:55.123Z",
            names.REPLY_TOPIC: "infer.replies",
            names.REPLY_PARTITION: "0",
            names.REPLY_EPOCH: "5c1d0f",
            names.TENANT: "acme",
            names.PRIORITY: "interactive",
            names.CALLBACK_ID: "cb_1",
            names.TRACE_PARENT: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            names.TRACE_STATE: "vendor=a b,other=1",
        },
    )


def _pickspin(request: InferenceRequest, decision: DecisionInfo) -> builders.PickspinData:
    return builders.PickspinData(
        request_id=request.request_id,
        state="completed",
        service=SERVICE,
        model=MODEL,
        decision=decision,
        timings=builders.Timings(queue_ms=3.5, load_ms=0.0, model_ms=210.25, ttft_ms=40.0),
        cost=builders.Cost(usd=0.0, gpu_s=0.0),
        attempt=1,
    )


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def request_event() -> Event:
    return _request_event()


@pytest.fixture
def request_(request_event: Event) -> InferenceRequest:
    return parse_request(request_event, default_wait_s=60)


@pytest.fixture
def decision() -> DecisionInfo:
    return DecisionInfo(
        route_class="low",
        score=0.8125,
        reason="keyword: low; best of 2 healthy services",
        catalogue="0123456789ab",
    )


@pytest.fixture
def samples(
    request_event: Event, request_: InferenceRequest, decision: DecisionInfo
) -> Mapping[str, Event]:
    """By event type."""
    origin, later = request_.origin, NOW + timedelta(seconds=1)
    failure = builders.Failure(
        code="deadline_exceeded",
        message="No answer by the deadline.",
        type="timeout_error",
        status=504,
    )
    answer: dict[str, object] = {
        "id": f"chatcmpl-{request_.request_id}",
        "object": "chat.completion",
        "created": 1_795_262_400,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Rayleigh é\u2028"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    part: dict[str, object] = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "delta": {"content": "Ray"}}],
    }
    pickspin = _pickspin(request_, decision)
    found = [
        request_event,
        builders.build_routed(request_, decision, service=SERVICE, model=MODEL, now=later),
        builders.build_progress(
            origin,
            builders.ProgressData(
                state="routed",
                service=SERVICE,
                model=MODEL,
                eta_s=4.5,
                decision=decision,
            ),
            source="/router",
            now=later,
        ),
        builders.build_chunk(
            origin,
            [part],
            generation=GENERATION,
            sequence=41,
            attempt=1,
            service=SERVICE,
            now=later,
        ),
        builders.build_completed(
            origin,
            answer,
            pickspin,
            source="/models/smollm2-135m",
            generation=GENERATION,
            now=later,
        ),
        builders.build_failed(origin, failure, source="/recorder", now=later),
        builders.build_cancel(origin, CancelData(reason="client"), source="/ingress/0", now=later),
        builders.build_callback_failed(
            origin,
            builders.CallbackFailedData(
                request_id=request_.request_id,
                target_id="cb_1",
                attempts=10,
                last_outcome="HTTP 500",
            ),
            now=later,
        ),
        builders.build_status(
            builders.StatusData(
                service=SERVICE,
                replica="0",
                state=names.ReplicaState.LOADING,
                at=later,
                progress=0.25,
                eta_s=3.0,
                in_flight=0,
                concurrency=4,
            )
        ),
        builders.build_decision(request_.request_id, SERVICE, now=later),
        builders.build_revision(
            builders.RevisionData(service=SERVICE, revision="tiny-00002", at=later)
        ),
        builders.build_probe("0", "5c1d0f", now=later),
    ]
    return {event.type: event for event in found}
