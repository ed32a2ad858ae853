"""Worker processes of a service: started, noticed as ready, drained, and backed off when they cannot start."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from events.names import BreakerState, ReplicaState
from events.payloads import StatusData
from functions.autoscaling.start_policy import START_BACKOFF
from functions.local import worker_pool
from functions.local.progress_output import ChangeJournal
from functions.local.worker_pool import WorkerLaunch, WorkerPool, describe_exit
from functions.runtime.settings import Settings, WorkerSettings
from functions.testing.fake_clock import FakeClock
from router_model.catalogue.model import Service
from router_model.service_registry import Registry

pytestmark = pytest.mark.process
TINY = Service(model="Tiny", slug="tiny", start_timeout_s=10.0)
WAIT = "import signal; signal.pause()"
CRASH = "import sys; sys.stderr.write('no weights\\n'); sys.exit(3)"


class Scene:
    """A pool whose workers run `program` instead of a worker."""

    def __init__(self, tmp_path: Path, journal: ChangeJournal, command: list[str]) -> None:
        self.clock, self.gone = FakeClock(), []
        self._command = command
        launch = WorkerLaunch(settings=Settings(), logs=tmp_path, stack_id="life")
        self.pool = WorkerPool(
            launch, self.clock, journal, lambda slug, replica: self.gone.append((slug, replica))
        )

    def becomes(self, program: str) -> None:
        self._command[-1] = program

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10.0):
            while not condition():  # noqa: ASYNC110 - another process brings it about
                await asyncio.sleep(0.005)

    def report_ready(self) -> None:
        registry = Registry()
        for replica in self.pool.of("tiny"):
            status = StatusData(
                service="tiny", replica=replica.id, state=ReplicaState.READY, at=self.clock.now()
            )
            registry = registry.apply(status)
        self.pool.note_ready(registry)


@pytest.fixture
def scene(tmp_path: Path, journal: ChangeJournal, monkeypatch: pytest.MonkeyPatch) -> Scene:
    command = [sys.executable, "-S", "-c", WAIT]
    monkeypatch.setattr(worker_pool, "process_command", lambda verb: tuple(command))
    return Scene(tmp_path, journal, command)


def play(scene: Scene, scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await scenario()
        finally:
            await scene.pool.stop()
        assert scene.pool.all() == []

    asyncio.run(run())


def test_replicas_are_started_and_drained_to_the_wanted_number(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 3)
        first, *others = scene.pool.of("tiny")
        await scene.pool.scale(TINY, 1)
        await scene.until(lambda: len(scene.pool.all()) == 1)
        assert scene.pool.of("tiny") == [first]
        assert sorted(scene.gone) == [("tiny", replica.id) for replica in others]

    play(scene, scenario)


def test_a_draining_replica_no_longer_counts(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 1)
        await scene.pool.scale(TINY, 0)
        await asyncio.sleep(0)
        assert scene.pool.of("tiny") == []

    play(scene, scenario)


def test_the_worker_is_told_its_service_and_replica(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 1)
        (replica,) = scene.pool.of("tiny")
        assert replica.child.spec.environ["PICKSPIN_WORKER_SERVICE"] == "tiny"
        assert replica.child.spec.environ["PICKSPIN_WORKER_REPLICA"] == replica.id == "life-1"

    play(scene, scenario)


def test_a_start_that_fails_backs_off_and_says_why(scene: Scene, heard) -> None:
    async def scenario() -> None:
        scene.becomes(CRASH)
        await scene.pool.scale(TINY, 1)
        await scene.until(lambda: scene.pool.fate("tiny").failures)
        assert scene.pool.has_failed("tiny")
        await scene.pool.scale(TINY, 1)
        assert scene.pool.all() == [], "started again before its pause was over"
        scene.clock.advance(START_BACKOFF.delay_s(1))
        await scene.pool.scale(TINY, 1)
        assert len(scene.pool.all()) == 1
        await scene.until(lambda: scene.pool.fate("tiny").failures == 2)

    play(scene, scenario)

    crash = next(change for change in heard.changes if change.state == "crashed")
    assert "status 3: no weights" in crash.detail
    assert scene.pool.fate("tiny").message == "start 2 failed: no weights"


def test_a_failed_service_may_be_tried_again_after_a_while(scene: Scene) -> None:
    async def scenario() -> None:
        scene.becomes(CRASH)
        await scene.pool.scale(TINY, 1)
        await scene.until(lambda: scene.pool.fate("tiny").failures)
        scene.clock.advance(WorkerSettings().failed_hold_s)
        assert not scene.pool.has_failed("tiny")

    play(scene, scenario)


def test_a_ready_replica_that_dies_is_replaced_without_a_pause(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 1)
        scene.clock.advance(2.0)
        scene.report_ready()
        assert scene.pool.fate("tiny").cold_start_s == pytest.approx(2.0)
        (replica,) = scene.pool.of("tiny")
        os.kill(replica.child.pid, 9)
        await scene.until(lambda: not scene.pool.all())
        assert not scene.pool.has_failed("tiny")
        await scene.pool.scale(TINY, 1)
        assert len(scene.pool.of("tiny")) == 1

    play(scene, scenario)


def test_becoming_ready_ends_a_row_of_failures(scene: Scene) -> None:
    async def scenario() -> None:
        scene.becomes(CRASH)
        await scene.pool.scale(TINY, 1)
        await scene.until(lambda: scene.pool.fate("tiny").failures)
        scene.becomes(WAIT)
        scene.clock.advance(60.0)
        await scene.pool.scale(TINY, 1)
        scene.report_ready()
        assert scene.pool.fate("tiny").failures == 0
        assert scene.pool.fate("tiny").message is None

    play(scene, scenario)


def test_a_replica_that_never_becomes_ready_is_killed_and_counts_as_failed(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 1)
        scene.clock.advance(2 * TINY.start_timeout_s + 1)
        scene.pool.note_ready(Registry())
        await scene.until(lambda: scene.pool.fate("tiny").failures)

    play(scene, scenario)


def test_the_workers_own_words_say_why_its_start_failed(scene: Scene) -> None:
    async def scenario() -> None:
        await scene.pool.scale(TINY, 1)
        (replica,) = scene.pool.of("tiny")
        status = StatusData(
            service="tiny",
            replica=replica.id,
            state=ReplicaState.FAILED,
            at=scene.clock.now(),
            message="the weights are gone",
        )
        scene.pool.note_ready(Registry().apply(status))
        os.kill(replica.child.pid, 9)
        await scene.until(lambda: scene.pool.fate("tiny").failures)
        assert scene.pool.fate("tiny").message == "start 1 failed: the weights are gone"

    play(scene, scenario)


def test_after_too_many_failed_starts_a_service_is_left_alone_then_tried_again(
    scene: Scene,
) -> None:
    async def scenario() -> None:
        settings = WorkerSettings()
        scene.becomes(CRASH)
        for failed in range(1, settings.failed_starts + 1):
            assert scene.pool.breaker("tiny") == (BreakerState.CLOSED, None)
            scene.clock.advance(60.0)
            await scene.pool.scale(TINY, 1)
            await scene.until(lambda failed=failed: scene.pool.fate("tiny").failures == failed)
        assert scene.pool.breaker("tiny") == (BreakerState.OPEN, settings.failed_hold_s)
        scene.clock.advance(settings.failed_hold_s)
        assert scene.pool.breaker("tiny") == (BreakerState.HALF_OPEN, None)
        assert not scene.pool.has_failed("tiny")

    play(scene, scenario)


def test_exit_statuses_are_words() -> None:
    assert [describe_exit(3), describe_exit(-9)] == ["status 3", "SIGKILL"]
