"""A service that has failed for good is replaced by one that stands by; the caller sees one request."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from events import builders
from events.codecs import kafka_codec
from events.event import Event
from events.names import COMPLETED, FAILED, BreakerState, ReplicaState, Topics
from events.payloads import CascadePlace, CascadeState, DecisionInfo
from events.requests import parse_request
from functions.runtime.errors import ApiError
from functions.worker.cascade_step import judge_failure
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights

TOPICS = Topics()
NAMES = ("first", "second")


class Standing:
    """Two services on one fake model; `send` publishes a request routed to the first, the second standing by."""

    def __init__(self, stand: Any) -> None:
        self.stand = stand

    def worker(self, slug: str, **more: Any) -> AbstractAsyncContextManager[Any]:
        settings = {"service": slug, "max_attempts": 2} | more
        found: AbstractAsyncContextManager[Any] = self.stand.worker(self.catalogue(), **settings)
        return found

    def catalogue(self) -> Catalogue:
        weights = Weights(url=self.stand.url)
        return Catalogue(
            models=tuple(Model(id=name, weights=weights, simulated=True) for name in NAMES),
            services=tuple(
                Service(model=name, slug=name, backend=Backend(kind="fake"), concurrency=1)
                for name in NAMES
            ),
        )

    def send(self, text: str, *, stream: bool = False) -> str:
        body = {"messages": [{"role": "user", "content": text}], "stream": stream}
        event = self.stand.request(text, body=body)
        plan = tuple(CascadePlace(service=name, model=name) for name in NAMES)
        decision = DecisionInfo(route_class="low", score=0.5, reason="explicit", catalogue="v1")
        request = parse_request(event, default_wait_s=10)
        routed = builders.build_routed(
            request,
            decision,
            service="first",
            model="first",
            cascade=CascadeState(name="fallback", plan=plan, on="failure"),
            now=datetime.now(UTC),
        )
        outgoing = builders.routed_outgoing(routed, request, TOPICS)
        self.stand.log.store(kafka_codec.outgoing_record(outgoing))
        return str(event.id)

    def handed_on(self, request_id: str) -> list[Event]:
        return list(self.stand.events(TOPICS.model("second"), request_id))


async def wait(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited are records, not our own events
            await asyncio.sleep(0.005)


def test_a_service_that_answers_is_never_replaced_and_says_nothing_of_it(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first"):
                request_id = standing.send("hello [[fake:logprob=-9]]")
                event, data = await found.terminal(request_id)
            assert (event.type, data["model"]) == (COMPLETED, "first")
            assert "cascade" not in data["pickspin"]
            assert not standing.handed_on(request_id)

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_after_its_last_attempt_the_next_service_answers(stand: Any, stream: bool) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first"):
                request_id = standing.send("[[fake:error500]]", stream=stream)
                await wait(lambda: standing.handed_on(request_id))
                await found.drained()
            assert not found.terminals(request_id)
            async with standing.worker("second"):
                event, data = await found.terminal(request_id)
            # The fake fails whoever asks: what counts is who was asked, and that the caller hears once.
            assert event.type == FAILED
            known = data["pickspin"]
            assert (known["service"], known["decision"]["reason"]) == ("second", "fallback")
            assert known["decision"]["asked_model"] == "first"
            first, second = known["cascade"]["steps"]
            assert (first["service"], first["outcome"], first["attempts"]) == ("first", "failed", 2)
            assert first["reason"] == "http_500"
            assert (second["service"], second["attempts"]) == ("second", 2)
            assert len(found.terminals(request_id)) == 1

    asyncio.run(scenario())


def test_a_request_at_fault_itself_is_not_sent_to_another(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first"):
                request_id = standing.send("[[fake:error400]]")
                event, data = await found.terminal(request_id)
            assert event.type == FAILED
            assert data["error"]["code"] == "invalid_value"
            assert not standing.handed_on(request_id)

    asyncio.run(scenario())


def test_once_a_reader_has_seen_a_part_nobody_takes_over(stand: Any) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first"):
                request_id = standing.send("hello there [[fake:reset-mid]]", stream=True)
                event, _ = await found.terminal(request_id)
            assert found.chunks(request_id)
            assert event.type == FAILED
            assert not standing.handed_on(request_id)

    asyncio.run(scenario())


@pytest.mark.parametrize(("max_calls", "called"), [(2, [1, 1]), (4, [3, 1]), (6, [3, 3])])
def test_calls_of_all_services_together_are_bounded_and_each_has_its_turn(
    stand: Any, max_calls: int, called: list[int]
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            bounds = {"max_attempts": 3, "max_calls": max_calls, "breaker_calls": 100}
            async with standing.worker("first", **bounds):
                request_id = standing.send("[[fake:error500]]")
                await wait(lambda: standing.handed_on(request_id))
            async with standing.worker("second", **bounds):
                event, data = await found.terminal(request_id)
            assert event.type == FAILED
            assert [step["attempts"] for step in data["pickspin"]["cascade"]["steps"]] == called
            assert len(found.calls(request_id)) == sum(called) <= max_calls

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["error429", "error503"])
def test_a_server_that_is_busy_for_long_is_left_to_who_stands_by(stand: Any, mode: str) -> None:
    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first", busy_s=0.5):
                request_id = standing.send(f"[[fake:{mode}]]")
                await wait(lambda: standing.handed_on(request_id))
                assert len(found.calls(request_id)) > 1
            assert not found.terminals(request_id)

    asyncio.run(scenario())


def test_a_service_that_fails_most_calls_is_not_asked_first_three_times(stand: Any) -> None:
    """The breaker opens: it is said, and who stands by answers without the rest of the attempts."""

    async def scenario() -> None:
        async with stand() as found:
            standing = Standing(found)
            async with standing.worker("first", max_attempts=3, breaker_calls=2) as worker:
                failing = [standing.send("[[fake:error500]]") for _ in range(2)]
                await wait(lambda: all(map(standing.handed_on, failing)))
                assert sum(len(found.calls(one)) for one in failing) < 6
                last = builders.parse_status(found.events(TOPICS.status)[-1])
                assert (last.state, last.breaker) == (ReplicaState.READY, BreakerState.OPEN)
                assert last.retry_at is not None
                samples = worker._parts.metrics.registry.get_sample_value
                labels = {"service": "first", "state": "open"}
                assert samples("pickspin_breaker", labels) == 1.0
                calls = len(found.calls())
                healthy = standing.send("hello")
                await wait(lambda: standing.handed_on(healthy))
                assert len(found.calls()) == calls

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "is_handed_on"),
    [("capability_missing", True), ("context_length_exceeded", True), ("invalid_value", False)],
)
def test_what_one_model_cannot_do_another_may(code: str, is_handed_on: bool) -> None:
    plan = tuple(CascadePlace(service=name, model=name) for name in NAMES)
    state = CascadeState(name="fallback", plan=plan, on="failure")
    end = judge_failure(ApiError(code, "no", src="model"), None, state)
    assert (end is not None) == is_handed_on
