"""A model that cannot be started or reached is known at once, in its own words; after some tries nobody waits."""

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from events import builders
from events.codecs import kafka_codec
from events.names import BreakerState, ReplicaState, Topics
from events.payloads import CascadePlace, CascadeState, DecisionInfo, StatusData
from events.requests import parse_request
from functions.runtime.settings import Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.worker.failed_starts import FORGET_AFTER, FailedStarts
from functions.worker.main import WorkerDependencies, build_worker
from functions.worker.replica import Worker
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights

TOPICS = Topics()
PATIENCE_S = 20.0
SENTENCE = "connection refused"


@pytest.fixture
def closed_url() -> str:
    """A loopback address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def catalogue(weights: Weights, **args: float) -> Catalogue:
    kind = "fake" if args else "openai" if weights.url else "llamacpp"
    backend = Backend(kind=kind, args=args)
    service = Service(model="small", slug="small", backend=backend, start_timeout_s=60.0)
    return Catalogue(
        models=(Model(id="small", simulated=bool(args), weights=weights),), services=(service,)
    )


async def run_once(found: Any, models: Catalogue, **settings: Any) -> int:
    """One start of a worker, to its end."""
    worker = await built(found, models, **settings)
    return await asyncio.wait_for(worker.run(), PATIENCE_S)


async def built(found: Any, models: Catalogue, **settings: Any) -> Worker:
    own = {"service": "small", "replica": "r1", "drain_s": 1.0, "unreachable_s": 0.2} | settings
    dependencies = WorkerDependencies(
        log=found.log, blobs=found.blobs, clock=SystemClock(), data_dir=found.data_dir
    )
    return await build_worker(Settings(worker=WorkerSettings(**own)), models, dependencies)


def said(found: Any) -> list[StatusData]:
    return [builders.parse_status(event) for event in found.events(TOPICS.status)]


def test_a_server_that_refuses_connections_is_not_loading(stand: Any, closed_url: str) -> None:
    """Its start fails long before `start_timeout_s`; what waits goes on waiting for the next one."""

    async def scenario() -> None:
        async with stand() as found:
            waiting = found.send(wait_s=60.0)
            assert await run_once(found, catalogue(Weights(url=closed_url))) == 1
            last = said(found)[-1]
            assert (last.state, last.failed_starts) == (ReplicaState.FAILED, 1)
            assert last.breaker is BreakerState.CLOSED
            assert SENTENCE in (last.message or "")
            assert "127.0.0.1" not in (last.message or "")
            assert not found.terminals(waiting)
            assert found.lag() == 1

    asyncio.run(scenario())


def test_a_server_beside_the_worker_may_refuse_while_it_starts(
    stand: Any, closed_url: str, wait_until: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            worker = await built(found, catalogue(Weights(url=closed_url)), unreachable_s=0.0)
            running = asyncio.create_task(worker.run())
            await wait_until(lambda: len(said(found)) > 4)
            assert said(found)[-1].state is ReplicaState.LOADING
            worker.stop()
            assert await asyncio.wait_for(running, PATIENCE_S) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (catalogue(Weights(), no_such_flag=1.0), "unrecognized arguments: --no-such-flag"),
        (catalogue(Weights(path="/nowhere/model.gguf")), "/nowhere/model.gguf"),
    ],
    ids=["argument", "weights"],
)
def test_a_failed_start_is_told_in_the_servers_own_last_sentence(
    stand: Any, models: Catalogue, words: str
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            assert await run_once(found, models) == 1
            last = said(found)[-1]
            assert last.state is ReplicaState.FAILED
            assert words in (last.message or "")

    asyncio.run(scenario())


def test_after_too_many_failed_starts_what_waits_is_told_why_and_leaves_the_lag(
    stand: Any, closed_url: str
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            waiting = [found.send(wait_s=600.0) for _ in range(5)]
            models = catalogue(Weights(url=closed_url))
            before = datetime.now(UTC)
            assert await run_once(found, models, failed_starts=2) == 1
            assert not found.terminals(waiting[0])
            assert await run_once(found, models, failed_starts=2) == 1
            for request_id in waiting:
                _, data = await found.terminal(request_id)
                assert (data["error"]["code"], data["status"]) == ("no_healthy_service", 503)
                assert SENTENCE in data["error"]["message"]
                assert data["error"]["src"] == "model"
            assert found.lag() == 0
            last = said(found)[-1]
            assert (last.failed_starts, last.breaker) == (2, BreakerState.OPEN)
            assert last.retry_at is not None
            assert last.retry_at > before + timedelta(seconds=20)

    asyncio.run(scenario())


def test_who_stands_by_takes_over_what_waits(stand: Any, closed_url: str) -> None:
    async def scenario() -> None:
        async with stand() as found:
            event = found.request(wait_s=600.0)
            plan = tuple(CascadePlace(service=name, model=name) for name in ("small", "other"))
            decision = DecisionInfo(route_class="low", score=0.5, reason="auto", catalogue="v1")
            request = parse_request(event, default_wait_s=10)
            routed = builders.build_routed(
                request,
                decision,
                service="small",
                model="small",
                cascade=CascadeState(name="fallback", plan=plan, on="failure"),
                now=datetime.now(UTC),
            )
            out = builders.routed_outgoing(routed, request, TOPICS)
            found.log.store(kafka_codec.outgoing_record(out))
            staying = found.send(wait_s=600.0)
            models = catalogue(Weights(url=closed_url))
            assert await run_once(found, models, failed_starts=2) == 1
            assert not found.terminals(event.id)
            (handed,) = found.events(TOPICS.model("other"), event.id)
            assert json.loads(handed.extensions["cascade"])["used"][0]["reason"] == (
                "no_healthy_service"
            )
            assert not found.terminals(staying)
            assert found.lag() > 0, "what has nowhere else to go waits for the next start"
            assert await run_once(found, models, failed_starts=2) == 1
            _, data = await found.terminal(staying)
            assert data["error"]["code"] == "no_healthy_service"
            assert len(found.events(TOPICS.model("other"), event.id)) == 1
            assert found.lag() == 0

    asyncio.run(scenario())


def test_a_start_that_failed_is_no_attempt(stand: Any, closed_url: str) -> None:
    async def scenario() -> None:
        async with stand() as found:
            waiting = found.send(wait_s=600.0)
            for _ in range(3):
                models = catalogue(Weights(url=closed_url))
                assert await run_once(found, models, failed_starts=9, max_attempts=2) == 1
            async with found.worker(max_attempts=2):
                _, data = await found.terminal(waiting)
            assert data["pickspin"]["state"] == "completed"
            assert data["pickspin"]["attempt"] == 1

    asyncio.run(scenario())


def test_work_that_another_replica_does_is_not_turned_away(stand: Any, closed_url: str) -> None:
    async def scenario() -> None:
        async with stand() as found:
            well = StatusData(
                service="small", replica="r0", state=ReplicaState.READY, at=datetime.now(UTC)
            )
            out = builders.status_outgoing(builders.build_status(well), topics=TOPICS, replica="r0")
            found.log.store(kafka_codec.outgoing_record(out))
            waiting = found.send(wait_s=600.0)
            models = catalogue(Weights(url=closed_url))
            assert await run_once(found, models, failed_starts=1) == 1
            assert not found.terminals(waiting)
            assert found.lag() == 1

    asyncio.run(scenario())


def test_a_start_that_succeeds_ends_the_row(stand: Any, closed_url: str) -> None:
    async def scenario() -> None:
        async with stand() as found:
            assert await run_once(found, catalogue(Weights(url=closed_url))) == 1
            async with found.worker(failed_starts=1):
                states = [s for s in said(found) if s.replica == "0"]
                assert (states[0].failed_starts, states[0].breaker) == (1, BreakerState.HALF_OPEN)
                assert (states[-1].failed_starts, states[-1].breaker) == (0, BreakerState.CLOSED)
            starts = FailedStarts(found.data_dir / "failed_starts" / "small.json")
            assert starts.count(datetime.now(UTC)) == 0

    asyncio.run(scenario())


def test_failed_starts_are_counted_across_processes_and_forgotten(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    path = tmp_path / "deep" / "m.json"
    assert FailedStarts(path).count(now) == 0
    assert [FailedStarts(path).add(now) for _ in range(3)] == [1, 2, 3]
    assert FailedStarts(path).count(now + FORGET_AFTER - timedelta(seconds=1)) == 3
    assert FailedStarts(path).count(now + FORGET_AFTER) == 0
    for junk in ("", "[]", '{"failures": "x"}', '{"failures": 2, "at": "soon"}'):
        path.write_text(junk)
        assert FailedStarts(path).count(now) == 0
    FailedStarts(path).clear()
    assert not path.exists()
