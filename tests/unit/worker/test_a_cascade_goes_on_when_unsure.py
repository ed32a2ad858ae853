"""A step of a cascade answers when it is sure; otherwise the request goes on, and the caller sees one request."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from events import builders, ids
from events.cascade_attribute import parse_cascade
from events.codecs import kafka_codec
from events.event import Event
from events.names import (
    CAUSATION_ID,
    COMPLETED,
    EXPIRY_TIME,
    FAILED,
    GENERATION,
    PROGRESS,
    ROUTED,
    SERVICE,
    Topics,
)
from events.payloads import CascadePlace, CascadeState, DecisionInfo
from events.requests import parse_request
from events.timestamps import from_rfc3339
from router_model.catalogue.model import Backend, Cascade, Catalogue, Model, Service, Weights

TOPICS = Topics()
SURE, UNSURE = "[[fake:logprob=-0.01]]", "[[fake:logprob=-3]]"
PRICE = 3600.0


class Steps:
    """Two services, `small` and `large`, on one fake model; `send` publishes a request routed to the first."""

    def __init__(self, stand: Any, **cascade: Any) -> None:
        self.stand = stand
        self.cascade = Cascade(steps=("small", "large"), **({"min_confidence": 0.7} | cascade))

    def catalogue(self) -> Catalogue:
        names = ("small", "large")
        weights = Weights(url=self.stand.url)
        return Catalogue(
            models=tuple(Model(id=name, weights=weights, simulated=True) for name in names),
            services=tuple(
                Service(
                    model=name,
                    slug=name,
                    backend=Backend(kind="fake"),
                    concurrency=1,
                    gpu_share=1.0,
                    price_per_hour_usd=PRICE * place,
                    start_timeout_s=5.0,
                )
                for place, name in enumerate(names, 1)
            ),
            cascades={"frugal": self.cascade},
        )

    def worker(self, slug: str) -> AbstractAsyncContextManager[Any]:
        found: AbstractAsyncContextManager[Any] = self.stand.worker(self.catalogue(), service=slug)
        return found

    def send(self, text: str, body: dict[str, Any] | None = None, **more: Any) -> str:
        given = None if body is None else {"messages": [{"role": "user", "content": text}], **body}
        event = self.stand.request(text, body=given, **more)
        self.stand.log.store(self.record(event))
        return str(event.id)

    def record(self, event: Event) -> Any:
        state = CascadeState(
            name="frugal",
            plan=(
                CascadePlace(
                    service="small", model="small", min_confidence=self.cascade.min_confidence
                ),
                CascadePlace(service="large", model="large"),
            ),
        )
        decision = DecisionInfo(route_class="low", score=0.5, reason="cascade", catalogue="v1")
        request = parse_request(event, default_wait_s=10)
        routed = builders.build_routed(
            request,
            decision,
            service="small",
            model="small",
            cascade=state,
            now=datetime.now(UTC),
        )
        return kafka_codec.outgoing_record(builders.routed_outgoing(routed, request, TOPICS))

    def handed_on(self, request_id: str) -> list[Event]:
        return list(self.stand.events(TOPICS.model("large"), request_id))

    async def escalated(self, request_id: str) -> Event:
        await wait(lambda: self.handed_on(request_id))
        return self.handed_on(request_id)[0]


async def wait(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited are records, not our own events
            await asyncio.sleep(0.005)


def text_of(data: dict[str, Any]) -> str:
    return str(data["choices"][0]["message"]["content"])


def test_a_sure_answer_of_the_first_step_is_the_answer(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                request_id = steps.send(SURE)
                event, data = await found.terminal(request_id)
                await found.drained()
            assert (event.type, data["model"]) == (COMPLETED, "small")
            assert data["choices"][0]["logprobs"] is None
            told = data["pickspin"]["cascade"]
            assert (told["name"], told["escalated"]) == ("frugal", False)
            assert told["confidence"] == pytest.approx(0.99, abs=0.01)
            (step,) = told["steps"]
            assert (step["service"], step["outcome"]) == ("small", "answered")
            assert step["completion_tokens"] == data["usage"]["completion_tokens"]
            assert not steps.handed_on(request_id)

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_unsure_answer_goes_on_and_the_caller_sees_one_request(stand: Any, stream: bool) -> None:
    async def scenario() -> None:
        async with stand("--ttft-s", "0.05") as found:
            steps = Steps(found)
            async with steps.worker("small"):
                request_id = steps.send(UNSURE, {"stream": stream}, priority="batch")
                await wait(lambda: found.events(TOPICS.model_batch("large"), request_id))
                await found.drained()
                assert not found.terminals(request_id)
                assert not found.chunks(request_id)
            async with steps.worker("large"):
                event, data = await found.terminal(request_id)
            assert (event.type, data["model"]) == (COMPLETED, "large")
            known = data["pickspin"]
            assert (known["service"], known["decision"]["reason"]) == ("large", "cascade")
            assert known["attempt"] == 2
            told = known["cascade"]
            assert told["escalated"]
            assert told["confidence"] is None
            small, large = told["steps"]
            assert (small["service"], small["outcome"]) == ("small", "unsure")
            assert small["confidence"] == pytest.approx(0.0498, abs=1e-3)
            assert (large["service"], large["outcome"]) == ("large", "answered")
            assert data["usage"]["completion_tokens"] == large["completion_tokens"]
            assert small["completion_tokens"] == 4
            assert small["cost"]["usd"] >= 0.05
            total = small["cost"]["usd"] + large["cost"]["usd"]
            assert known["cost"]["usd"] == pytest.approx(total)
            assert large["cost"]["usd"] == pytest.approx(2 * large["model_ms"] / 1000, rel=0.01)
            assert len({e.get(GENERATION) for e in found.chunks(request_id)}) == int(stream)
            assert len(found.terminals(request_id)) == 1

    asyncio.run(scenario())


def test_what_is_handed_on_is_caused_by_this_step_and_keeps_what_the_request_had(
    stand: Any,
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                request_id = steps.send(UNSURE, partitionkey="session-1")
                event = await steps.escalated(request_id)
            (first,) = found.events(TOPICS.model("small"), request_id)
            assert event.type == ROUTED
            assert event.id == ids.derive(request_id, "routed", 1)
            assert event.get(CAUSATION_ID) == first.id
            assert event.source == "/models/small"
            assert (event.subject, event.get(SERVICE)) == ("large", "large")
            assert event.data == first.data
            assert event.get(EXPIRY_TIME) == first.get(EXPIRY_TIME)
            assert event.get("replyepoch") == "e1"
            (record,) = found.log.records(TOPICS.model("large"))
            assert record.key == b"session-1"
            state = parse_cascade(event)
            assert state is not None
            (used,) = state.used
            assert (used.outcome, used.attempts) == ("unsure", 1)
            told = [
                json.loads(e.data or b"")
                for e in found.events(TOPICS.replies, request_id)
                if e.type == PROGRESS
            ]
            assert [(one["state"], one["service"]) for one in told] == [("routed", "large")]

    asyncio.run(scenario())


def test_a_step_that_is_run_again_hands_on_under_the_same_id(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            event = found.request(UNSURE)
            found.log.store(steps.record(event))
            async with steps.worker("small"):
                await steps.escalated(event.id)
                await found.drained()
            # As after a kill between the append and the commit: another process gets the record again.
            found.log.store(steps.record(event))
            async with steps.worker("small"):
                await wait(lambda: len(steps.handed_on(event.id)) == 2)
            assert len({one.id for one in steps.handed_on(event.id)}) == 1
            async with steps.worker("large"):
                await found.terminal(event.id)
                await found.drained()
            assert len(found.terminals(event.id)) == 1

    asyncio.run(scenario())


def test_without_log_probabilities_the_next_step_answers(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                state = parse_cascade(
                    await steps.escalated(steps.send("[[fake:no-logprobs]]", {"stream": True}))
                )
            assert state is not None
            assert (state.used[0].outcome, state.used[0].confidence) == ("unsure", None)

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_step_that_fails_is_followed_by_the_next(stand: Any, stream: bool) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                event = await steps.escalated(
                    steps.send(f"{SURE}[[fake:error500]]", {"stream": stream})
                )
                await found.drained()
            state = parse_cascade(event)
            assert state is not None
            assert (state.used[0].outcome, state.used[0].reason) == ("failed", "http_500")

    asyncio.run(scenario())


def test_the_last_step_always_answers_and_is_asked_for_nothing_more(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found, min_confidence=1.0)
            async with steps.worker("small"):
                request_id = steps.send(UNSURE, {"logprobs": True})
                await steps.escalated(request_id)
            async with steps.worker("large"):
                _, data = await found.terminal(request_id)
            content = data["choices"][0]["logprobs"]["content"]
            assert {entry["logprob"] for entry in content} == {-3}

    asyncio.run(scenario())


def test_a_failure_of_the_last_step_still_tells_what_all_steps_cost(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                request_id = steps.send("[[fake:error400]]")
                await steps.escalated(request_id)
            async with steps.worker("large"):
                event, data = await found.terminal(request_id)
            assert event.type == FAILED
            told = data["pickspin"]["cascade"]
            assert [step["outcome"] for step in told["steps"]] == ["failed", "failed"]
            total = sum(step["cost"]["usd"] for step in told["steps"])
            assert data["pickspin"]["cost"]["usd"] == pytest.approx(total)

    asyncio.run(scenario())


def test_a_request_that_expires_before_its_second_step_tells_what_the_first_cost(
    stand: Any,
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found)
            async with steps.worker("small"):
                request_id = steps.send(UNSURE, wait_s=0.5)
                event = await steps.escalated(request_id)
            deadline = from_rfc3339(event.extensions[EXPIRY_TIME], EXPIRY_TIME)
            await wait(lambda: datetime.now(UTC) > deadline)
            async with steps.worker("large"):
                _, data = await found.terminal(request_id)
            assert data["error"]["code"] == "deadline_exceeded"
            assert data["pickspin"]["cost"]["usd"] > 0
            assert [step["service"] for step in data["pickspin"]["cascade"]["steps"]] == ["small"]

    asyncio.run(scenario())


def test_a_stream_that_is_sure_is_let_through_before_it_is_complete(stand: Any) -> None:
    async def scenario() -> None:
        flags = ("--tokens", "40", "--tokens-per-s", "100")
        async with stand(*flags) as found:
            steps = Steps(found, hold_tokens=5)
            async with steps.worker("small"):
                request_id = steps.send(SURE, {"stream": True})
                await wait(lambda: found.chunks(request_id))
                assert not found.terminals(request_id)
                _, data = await found.terminal(request_id)
            parts = [
                p for e in found.chunks(request_id) for p in json.loads(e.data or b"")["chunks"]
            ]
            text = "".join(p["choices"][0]["delta"].get("content", "") for p in parts)
            assert text == text_of(data)
            assert {p["choices"][0]["logprobs"] for p in parts} == {None}
            assert data["pickspin"]["cascade"]["confidence"] > 0.9

    asyncio.run(scenario())


@pytest.mark.parametrize(("hold_tokens", "is_handed_on"), [(1, False), (None, True)])
def test_a_stream_that_breaks_is_handed_on_unless_a_reader_has_seen_of_it(
    stand: Any, hold_tokens: int | None, is_handed_on: bool
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            steps = Steps(found, hold_tokens=hold_tokens)
            async with steps.worker("small"):
                request_id = steps.send(f"{SURE}[[fake:error-mid]]", {"stream": True})
                await found.drained()
            assert bool(steps.handed_on(request_id)) is is_handed_on
            assert bool(found.chunks(request_id)) is not is_handed_on
            assert bool(found.terminals(request_id)) is not is_handed_on

    asyncio.run(scenario())


def test_no_more_is_held_than_the_setting_says(stand: Any) -> None:
    async def scenario() -> None:
        flags = ("--tokens", "100000", "--tokens-per-s", "2000")
        async with stand(*flags, hold_bytes=4000) as found:
            steps = Steps(found)
            async with steps.worker("small"):
                event = await steps.escalated(steps.send(UNSURE, {"stream": True}))
                state = parse_cascade(event)
                await wait(lambda: found.calls(event="aborted"))
            assert state is not None
            assert 4 <= state.used[0].completion_tokens <= 8

    asyncio.run(scenario())
