"""The workers of every service on this machine: started, watched and drained for the local scaler."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from events.names import BreakerState, ReplicaState
from functions.autoscaling.start_policy import START_BACKOFF, StartPolicy
from functions.local.child_process import Child, ChildSpec, process_command, read_last_line
from functions.local.progress_output import ChangeJournal
from functions.ports.clock import Clock
from functions.runtime.process_environment import child_environ
from functions.runtime.settings import Settings
from router_model.catalogue.model import Service
from router_model.service_registry import Registry

KILL_AFTER_DRAIN_S: Final = 3.0
STUCK_START_FACTOR: Final = 2.0
"""A replica that is not ready after this many start timeouts is killed: its own timeout has failed."""


@dataclass(slots=True)
class Replica:
    """One worker process."""

    id: str
    service: Service
    child: Child
    started_s: float
    is_ready: bool = False
    said: str | None = None
    """Its own words on why its start failed."""

    @property
    def name(self) -> str:
        """As the status topic's keys: `<slug>/<replica>`."""
        return f"{self.service.slug}/{self.id}"


@dataclass(slots=True)
class StartHistory:
    """What starts of one service have come to."""

    failures: int = 0
    """Starts in a row that ended before the replica was ready."""
    message: str | None = None
    failed_s: float = 0.0
    """When the last one did."""
    not_before_s: float = 0.0
    cold_start_s: float | None = None
    """The last measured one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLaunch:
    """What every worker of this stack is started with."""

    settings: Settings
    logs: Path
    stack_id: str
    """Keeps replica ids of two runs on one cluster apart."""


class WorkerPool:
    """Worker processes by service. Call from the main thread's event loop only."""

    def __init__(
        self,
        launch: WorkerLaunch,
        clock: Clock,
        journal: ChangeJournal,
        on_gone: Callable[[str, str], None],
    ) -> None:
        self._launch, self._clock, self._journal, self._on_gone = launch, clock, journal, on_gone
        self._replicas: dict[str, Replica] = {}
        self._fates: dict[str, StartHistory] = {}
        self._started = 0
        self._watching: set[asyncio.Task[None]] = set()
        worker = launch.settings.worker
        self._rule = StartPolicy.of(worker)

    def of(self, slug: str) -> list[Replica]:
        """Replicas that are wanted, oldest first."""
        return [r for r in self.all() if r.service.slug == slug and not r.child.is_stopping]

    def draining(self, slug: str) -> int:
        """Replicas that are stopping."""
        return sum(r.service.slug == slug and r.child.is_stopping for r in self.all())

    def all(self) -> list[Replica]:
        """Every process there is, draining ones included."""
        return list(self._replicas.values())

    def fate(self, slug: str) -> StartHistory:
        """How starts of that service have gone."""
        return self._fates.setdefault(slug, StartHistory())

    def has_failed(self, slug: str) -> bool:
        """Whether its last start failed: until a replica is ready, or nothing was tried for a while."""
        fate = self.fate(slug)
        is_recent = self._since_failure_s(fate) < self._rule.hold(fate.failures)
        return fate.failures > 0 and (is_recent or bool(self.of(slug)))

    def breaker(self, slug: str) -> tuple[BreakerState, float | None]:
        """That of its starts, and in how many seconds an open one becomes half open."""
        fate = self.fate(slug)
        passed_s = self._since_failure_s(fate)
        state = self._rule.breaker(fate.failures, passed_s)
        left_s = self._rule.hold(fate.failures) - passed_s
        return state, left_s if state is BreakerState.OPEN else None

    def _since_failure_s(self, fate: StartHistory) -> float:
        return self._clock.monotonic_s() - fate.failed_s

    async def scale(self, service: Service, wanted: int) -> None:
        """Starts or drains replicas until `wanted` remain; starts nothing while a failed start backs off."""
        current = self.of(service.slug)
        if (
            len(current) < wanted
            and self._clock.monotonic_s() >= self.fate(service.slug).not_before_s
        ):
            for _ in range(wanted - len(current)):
                await self._start(service)
        for replica in current[wanted:][::-1]:
            self._watch(self._drain(replica))

    def note_ready(self, registry: Registry) -> None:
        """Learns from the registry which replicas became ready, and kills those that never will."""
        now_s = self._clock.monotonic_s()
        for replica in self.all():
            if replica.is_ready:
                continue
            status = registry.entries.get((replica.service.slug, replica.id))
            age_s = now_s - replica.started_s
            if status is not None and status.state is ReplicaState.FAILED:
                replica.said = status.message
            if status is not None and status.state is ReplicaState.READY:
                replica.is_ready = True
                fate = self.fate(replica.service.slug)
                fate.failures, fate.message, fate.cold_start_s = 0, None, age_s
            elif age_s > STUCK_START_FACTOR * replica.service.start_timeout_s:
                replica.child.kill()

    async def stop(self) -> None:
        """Drains every replica side by side."""
        for replica in self.all():
            if not replica.child.is_stopping:
                self._watch(self._drain(replica))
        while self._watching:
            await asyncio.wait(set(self._watching))

    def kill(self) -> None:
        """Ends every replica at once."""
        for replica in self.all():
            replica.child.kill()

    async def _start(self, service: Service) -> None:
        self._started += 1
        replica_id = f"{self._launch.stack_id}-{self._started}"
        child = await Child.start(self._spec(service, replica_id))
        replica = Replica(replica_id, service, child, self._clock.monotonic_s())
        self._replicas[replica_id] = replica
        self._journal.write("process", replica.name, "running", pid=child.pid)
        self._watch(self._outlive(replica))

    def _spec(self, service: Service, replica_id: str) -> ChildSpec:
        settings = self._launch.settings
        mine = msgspec.structs.replace(settings.worker, service=service.slug, replica=replica_id)
        return ChildSpec(
            name=f"worker-{service.slug}",
            command=process_command("worker"),
            environ=child_environ(msgspec.structs.replace(settings, worker=mine)),
            logs=self._launch.logs,
            stop_s=settings.worker.drain_s + KILL_AFTER_DRAIN_S,
        )

    async def _drain(self, replica: Replica) -> None:
        await replica.child.stop()

    async def _outlive(self, replica: Replica) -> None:
        status = await replica.child.exited
        self._replicas.pop(replica.id, None)
        self._on_gone(replica.service.slug, replica.id)
        self._journal.write("process", replica.name, "stopped", describe_exit(status))
        if not replica.child.is_stopping or (status == -signal.SIGKILL and not replica.is_ready):
            self._note_crash(replica, status)

    def _note_crash(self, replica: Replica, status: int) -> None:
        fate, slug = self.fate(replica.service.slug), replica.service.slug
        log = replica.child.spec.log
        fate.failures = 0 if replica.is_ready else fate.failures + 1
        if fate.failures:
            fate.failed_s = self._clock.monotonic_s()
            fate.not_before_s = fate.failed_s + START_BACKOFF.delay_s(fate.failures)
            said = replica.said or read_last_line(log) or describe_exit(status)
            fate.message = f"start {fate.failures} failed: {said}"
        self._journal.write(
            "model",
            slug,
            "crashed",
            f"{describe_exit(status)}: {read_last_line(log)} ({log})",
            pid=replica.child.pid,
        )

    def _watch(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)


def describe_exit(status: int) -> str:
    """An exit status in words: `status 1`, `SIGKILL`."""
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
