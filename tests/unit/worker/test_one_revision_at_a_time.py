"""Two revisions of one service share a consumer group: only the one that the controller names may be in it."""

import asyncio
import functools
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from events import builders
from events.codecs import kafka_codec
from events.names import ReplicaState, Topics
from events.payloads import RevisionData
from functions.runtime.errors import StartupFailed
from functions.worker.control_consumer import ControlConsumer
from functions.worker.model_server import ModelServer

TOPICS, SLUG = Topics(), "small"


def in_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(test(*args, **fixtures))

    return run


def name_revision(found: Any, revision: str, service: str = SLUG) -> None:
    event = builders.build_revision(
        RevisionData(service=service, revision=revision, at=datetime.now(UTC))
    )
    record = kafka_codec.outgoing_record(builders.revision_outgoing(event, topics=TOPICS))
    found.log.store(record)


def of_revision(found: Any, revision: str) -> Any:
    """The same installation as a pod of another revision sees it."""
    worker = msgspec.structs.replace(found.settings.worker, revision=revision, replica=revision)
    return type(found)(
        **{name: getattr(found, name) for name in ("log", "history", "data_dir", "url", "blobs")},
        settings=msgspec.structs.replace(found.settings, worker=worker),
        service=found.service,
    )


def members(found: Any) -> set[str]:
    group = found.log.groups.get(TOPICS.worker_group(SLUG))
    return set() if group is None else {name.rpartition("-")[0] for name in group.topics}


@in_a_loop
async def test_a_revision_that_is_not_named_is_ready_but_not_in_the_group(
    stand: Any, wait_until: Callable[..., Any]
) -> None:
    async with stand() as found:
        name_revision(found, "small-00001")
        async with of_revision(found, "small-00002").worker() as worker:
            assert worker.is_ready(), "Knative hands over only to a revision that is ready"
            request_id = found.send()
            assert members(found) == set()
            name_revision(found, "small-00002")
            await found.terminal(request_id)
            assert worker.is_ready()


@in_a_loop
async def test_a_revision_joins_where_nothing_is_named_or_its_own_is(stand: Any) -> None:
    async with stand() as found:
        async with of_revision(found, "small-00001").worker():
            await found.terminal(found.send())
        name_revision(found, "small-00007", service="another")
        name_revision(found, "small-00001")
        async with of_revision(found, "small-00001").worker():
            await found.terminal(found.send())


@in_a_loop
async def test_a_worker_that_knows_no_revision_is_never_held(stand: Any) -> None:
    async with stand() as found:
        name_revision(found, "small-00001")
        async with found.worker():
            await found.terminal(found.send())


@in_a_loop
async def test_a_superseded_worker_leaves_at_once_and_finishes_what_runs(
    stand: Any, wait_until: Callable[..., Any]
) -> None:
    async with stand("--ttft-s", "0.3") as found:
        name_revision(found, "small-00001")
        async with of_revision(found, "small-00001").worker() as old:
            running = found.send()
            await wait_until(lambda: found.calls(running))
            name_revision(found, "small-00002")
            await wait_until(lambda: not old.is_ready())
            later = found.send()
            await found.terminal(running)
            await wait_until(lambda: members(found) == set())
            assert old.is_live()
            assert not found.calls(later), "no request is served by superseded weights"
            async with of_revision(found, "small-00002").worker():
                await found.terminal(later)
            assert len(found.calls(running)) == 1


@in_a_loop
async def test_no_request_is_lost_under_a_switch(
    stand: Any, wait_until: Callable[..., Any]
) -> None:
    async with stand("--ttft-s", "0.02") as found:
        name_revision(found, "small-00001")
        async with (
            of_revision(found, "small-00001").worker(),
            of_revision(found, "small-00002").worker(),
        ):
            sent = [found.send() for _ in range(10)]
            await wait_until(found.calls)
            name_revision(found, "small-00002")
            sent += [found.send() for _ in range(10)]
            for request_id in sent:
                await found.terminal(request_id)
            await found.drained()


@in_a_loop
async def test_the_topic_that_comes_back_ends_the_worker_for_a_new_start(
    stand: Any, wait_until: Callable[..., Any]
) -> None:
    async with stand() as found:
        name_revision(found, "small-00001")
        mine = of_revision(found, "small-00001")
        async with mine.worker() as worker:
            name_revision(found, "small-00002")
            await wait_until(lambda: not worker.is_ready())
            name_revision(found, "small-00001")
            await wait_until(lambda: state(mine) is ReplicaState.STOPPED)
        assert mine.status == 0


@in_a_loop
async def test_a_held_worker_whose_model_dies_ends(
    stand: Any, wait_until: Callable[..., Any]
) -> None:
    async with stand() as found:
        name_revision(found, "small-00001")
        mine = of_revision(found, "small-00002")
        async with mine.worker() as worker:
            worker._parts.server.is_healthy = never  # the server goes away behind its worker's back

            def has_ended() -> bool:
                name_revision(found, "another-00001", service="another")  # each time it looks up
                return state(mine) is ReplicaState.STOPPED

            await wait_until(has_ended)
        assert mine.status == 1


async def never(*_args: object) -> bool:
    await asyncio.sleep(0)
    return False


def state(found: Any) -> ReplicaState:
    replica = found.settings.worker.replica
    events = [e for e in found.events(TOPICS.status) if e.source.endswith(f"/{replica}")]
    return builders.parse_status(events[-1]).state


async def states_of_a_broken_start(found: Any) -> set[ReplicaState]:
    """What a replica whose model never answers says of itself."""
    broken = of_revision(found, "small-00002")
    broken.url, broken.service = "http://127.0.0.1:1", {"start_timeout_s": 0.4}
    async with broken.worker():
        pass
    assert broken.status == 1
    events = found.events(TOPICS.status)
    return {ReplicaState(json.loads(event.data or b"")["state"]) for event in events}


@in_a_loop
async def test_weights_that_do_not_start_say_nothing_of_a_service_another_revision_serves(
    stand: Any,
) -> None:
    async with stand() as found:
        name_revision(found, "small-00001")
        states = await states_of_a_broken_start(found)
        assert ReplicaState.FAILED not in states, "the old revision still serves, asleep or not"
        assert ReplicaState.STOPPED in states


@in_a_loop
async def test_weights_that_fail_before_the_control_topic_is_read_do_not_fail_the_service_either(
    stand: Any, monkeypatch: Any
) -> None:
    is_awaited = threading.Event()

    async def fail_at_once(*_args: object) -> None:
        raise StartupFailed("broken weights")

    read, wait = ControlConsumer._follow, ControlConsumer.wait_until_caught_up

    def read_when_awaited(control: ControlConsumer, stop: threading.Event) -> None:
        is_awaited.wait(10.0)
        read(control, stop)

    def note_and_wait(control: ControlConsumer, timeout_s: float) -> None:
        is_awaited.set()
        wait(control, timeout_s)

    monkeypatch.setattr(ModelServer, "wait_until_healthy", fail_at_once)
    monkeypatch.setattr(ControlConsumer, "_follow", read_when_awaited)
    monkeypatch.setattr(ControlConsumer, "wait_until_caught_up", note_and_wait)
    async with stand() as found:
        name_revision(found, "small-00001")
        states = await states_of_a_broken_start(found)
        assert ReplicaState.FAILED not in states


@in_a_loop
async def test_weights_that_do_not_start_fail_the_service_where_nobody_else_serves(
    stand: Any,
) -> None:
    async with stand() as found:
        assert ReplicaState.FAILED in await states_of_a_broken_start(found)
