"""The local scaler against a log in memory: what it reads, whom it starts, what it tells the status topic."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from events.codecs.kafka_codec import from_record
from events.event import PartitionId, Record
from events.names import BreakerState, ReplicaState, Topics
from events.parsers import parse_status
from events.payloads import StatusData
from functions.local.local_scaler import BLIND_AFTER, NO_HABIT, LocalScaler, ScalerDependencies
from functions.local.progress_output import ChangeJournal
from functions.local.worker_pool import Replica, StartHistory
from functions.ports.kafka import Commit
from functions.runtime.settings import SpinSettings
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog
from router_model.catalogue.model import Catalogue, Model, Service, WarmHours
from router_model.service_registry import Registry

TOPICS = Topics()
TINY = Service(
    model="Tiny", slug="tiny", concurrency=1, max_replicas=3, idle_s=60.0, cold_start_s=4.0
)
CATALOGUE = Catalogue(models=(Model(id="Tiny"),), services=(TINY,))


class PaperPool:
    """Workers on paper: every scale is carried out at once."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.replicas: list[Replica] = []
        self.the_fate = StartHistory()
        self.is_failed = False

    async def scale(self, service: Service, wanted: int) -> None:
        while len(self.replicas) < wanted:
            started_s = self.clock.monotonic_s()
            self.replicas.append(Replica(f"r{len(self.replicas)}", service, None, started_s))
        del self.replicas[wanted:]

    def of(self, slug: str) -> list[Replica]:
        return list(self.replicas)

    def draining(self, slug: str) -> int:
        return 0

    def fate(self, slug: str) -> StartHistory:
        return self.the_fate

    def has_failed(self, slug: str) -> bool:
        return self.is_failed

    def breaker(self, slug: str) -> tuple[BreakerState, float | None]:
        return (BreakerState.OPEN, 20.0) if self.is_failed else (BreakerState.CLOSED, None)

    def note_ready(self, registry: Registry) -> None:
        for replica in self.replicas:
            status = registry.entries.get(("tiny", replica.id))
            replica.is_ready = status is not None and status.state is ReplicaState.READY


class World:
    """A scaler with a log, a registry and a clock that the test moves."""

    def __init__(self, journal: ChangeJournal, catalogue: Catalogue = CATALOGUE) -> None:
        self.log, self.clock = MemoryLog(partitions=2), FakeClock()
        self.pool, self.registry = PaperPool(self.clock), Registry()
        self.scaler = LocalScaler(
            ScalerDependencies(
                log=self.log,
                topics=TOPICS,
                catalogue=catalogue,
                registry=lambda: self.registry,
                pool=self.pool,
                clock=self.clock,
                journal=journal,
                settings=SpinSettings(),
            )
        )

    def enqueue(self, count: int = 1, topic: str = TOPICS.model("tiny")) -> None:
        for _ in range(count):
            self.log.store(Record(topic=topic, value=b"{}", key=b"k"))

    def finish_all(self) -> None:
        """The workers' group commits everything there is."""
        consumer = self.log.group(
            group=TOPICS.worker_group("tiny"), topics=TOPICS.of_service("tiny"), client="w"
        )
        consumer.poll(0.0)
        ends = {tp: Commit(self.log.end(tp)) for tp in consumer.assignment()}
        assert consumer.commit(ends)
        consumer.close()

    def report(self, state: ReplicaState, in_flight: int = 0) -> None:
        status = StatusData(
            service="tiny", replica="r0", state=state, at=self.clock.now(), in_flight=in_flight
        )
        self.registry = self.registry.apply(status)

    def told(self) -> list[StatusData]:
        return [parse_status(from_record(record)) for record in self.log.records(TOPICS.status)]

    async def round(self, after_s: float = 0.0) -> int:
        self.clock.advance(after_s)
        await self.scaler._round()
        return len(self.pool.replicas)


@pytest.fixture
def world(journal: ChangeJournal) -> World:
    return World(journal)


def play(world: World, scenario: Callable[[], Iterator[None]]) -> None:
    async def run() -> None:
        try:
            await scenario()
        finally:
            await world.scaler.close()

    asyncio.run(run())


def test_an_enqueued_request_wakes_the_service_in_the_next_round(world: World, heard) -> None:
    async def scenario() -> None:
        assert await world.round() == 0
        world.enqueue()
        assert await world.round(0.1) == 1

    play(world, scenario)

    scaled = next(change for change in heard.changes if change.state == "scaled")
    assert "0 -> 1 (activation" in scaled.detail


def test_batch_work_wakes_it_too(world: World) -> None:
    async def scenario() -> None:
        world.enqueue(topic=TOPICS.model_batch("tiny"))
        assert await world.round() == 1

    play(world, scenario)


def test_it_sleeps_after_the_idle_time_and_not_while_anything_is_uncommitted(
    world: World,
) -> None:
    async def scenario() -> None:
        world.enqueue()
        assert await world.round() == 1
        assert await world.round(3600.0) == 1
        world.finish_all()
        assert await world.round(1.0) == 1
        assert await world.round(58.0) == 1
        assert await world.round(2.0) == 0

    play(world, scenario)


def test_it_stays_awake_while_a_call_is_in_flight_without_lag(world: World) -> None:
    async def scenario() -> None:
        world.enqueue()
        await world.round()
        world.finish_all()
        for _ in range(20):
            world.report(ReplicaState.READY, in_flight=1)
            assert await world.round(10.0) == 1

    play(world, scenario)


def test_a_backlog_asks_for_more_replicas_up_to_the_limit(world: World) -> None:
    async def scenario() -> None:
        world.enqueue(500)
        assert await world.round() == TINY.max_replicas

    play(world, scenario)


def test_the_status_says_cold_then_starting_then_ready_with_eta(world: World) -> None:
    async def scenario() -> None:
        await world.round()
        world.enqueue()
        await world.round(0.1)
        await world.round(3.0)
        world.report(ReplicaState.READY)
        await world.round(1.0)

    play(world, scenario)

    told = world.told()
    assert [(s.state, s.eta_s) for s in told] == [
        (ReplicaState.COLD, 4.0),
        (ReplicaState.STARTING, 4.0),
        (ReplicaState.STARTING, pytest.approx(1.0)),
        (ReplicaState.READY, 0.0),
    ]
    assert (told[1].lag, told[1].desired, told[1].replicas) == (1, 1, 1)


def test_an_unchanged_status_is_repeated_every_two_seconds(world: World) -> None:
    async def scenario() -> None:
        for _ in range(101):
            await world.round(0.1)

    play(world, scenario)

    assert 5 <= len(world.told()) <= 6


def test_a_service_that_is_tried_again_is_told_as_half_open(world: World) -> None:
    """Cold, so that one request may wake it, and not well yet."""

    async def scenario() -> None:
        world.pool.the_fate = StartHistory(failures=3, message="start 3 failed: no weights")
        world.pool.breaker = lambda slug: (BreakerState.HALF_OPEN, None)
        await world.round()

    play(world, scenario)

    told = world.told()[0]
    assert (told.state, told.breaker, told.failed_starts) == (
        ReplicaState.COLD,
        BreakerState.HALF_OPEN,
        3,
    )
    assert told.message == "start 3 failed: no weights"


def test_a_service_whose_start_failed_is_told_as_failed_with_the_reason(world: World) -> None:
    async def scenario() -> None:
        world.pool.is_failed, world.pool.the_fate.message = True, "start 1 ended with status 1"
        await world.round()

    play(world, scenario)

    assert world.told()[0].state is ReplicaState.FAILED
    assert world.told()[0].message == "start 1 ended with status 1"
    assert world.told()[0].eta_s is None


def test_a_measured_cold_start_replaces_the_catalogue_s_estimate(world: World) -> None:
    async def scenario() -> None:
        world.pool.the_fate.cold_start_s = 2.5
        await world.round()

    play(world, scenario)

    assert world.told()[0].eta_s == pytest.approx(2.5)


def test_an_ended_replica_is_taken_out_of_the_registry(world: World) -> None:
    async def scenario() -> None:
        await world.round()
        world.scaler.publish_stopped("tiny", "r7")

    play(world, scenario)

    gone = world.told()[-1]
    assert (gone.replica, gone.state) == ("r7", ReplicaState.STOPPED)


def test_a_lost_broker_changes_nothing_and_is_said_once(world: World, heard) -> None:
    class Broken:
        def lags(self, groups):
            raise ConnectionError("no broker")

        def close(self) -> None:
            pass

    async def scenario() -> None:
        world.enqueue()
        await world.round()
        world.scaler._reader = Broken()
        world.log.lag_reader = lambda client: Broken()
        for _ in range(BLIND_AFTER + 5):
            with pytest.raises(ConnectionError):
                await world.round(600.0)
            world.scaler._see("ConnectionError: no broker")
        assert len(world.pool.replicas) == 1

    play(world, scenario)

    assert heard.states_of("scaler") == ["blind"]


def test_a_partition_without_any_commit_counts_from_its_start() -> None:
    log = MemoryLog(partitions=1)
    log.store(Record(topic="t", value=b"1", key=b"k"))

    found = log.lag_reader(client="x").lags({"g": ("t",)})

    assert found["g"][PartitionId("t", 0)].lag == 1


async def _rounds(world: World) -> list[int]:
    """Replicas at midnight UTC, in the window, and after it."""
    return [await world.round(), await world.round(9 * 3600.0), await world.round(9 * 3600.0)]


def test_warm_hours_keep_one_replica(journal: ChangeJournal) -> None:
    hours = WarmHours(start="0 8 * * *", end="0 17 * * *")
    service = msgspec.structs.replace(TINY, warm_hours=(hours,))
    world = World(journal, msgspec.structs.replace(CATALOGUE, services=(service,)))

    assert asyncio.run(_rounds(world)) == [0, 1, 0]


def test_what_is_not_done_here_is_said(journal: ChangeJournal, heard: Any) -> None:
    service = msgspec.structs.replace(TINY, warm_by_habit=True)
    world = World(journal, msgspec.structs.replace(CATALOGUE, services=(service,)))

    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(world.scaler.run(), 0.05)
        await world.scaler.close()

    asyncio.run(run())

    assert [(c.name, c.detail) for c in heard.changes if c.state == "note"] == [("tiny", NO_HABIT)]
