"""The life of a worker: start the model, warm it up, join the group, watch, drain."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from events.names import BreakerState, ReplicaState
from functions.autoscaling.start_policy import StartPolicy
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.runtime.errors import StartupFailed
from functions.runtime.probe_server import ProbeServer
from functions.runtime.telemetry import Metrics
from functions.worker.backend_request import choose_model_name
from functions.worker.consumer_thread import ConsumerThread
from functions.worker.control_consumer import ControlConsumer
from functions.worker.failed_starts import FailedStarts
from functions.worker.handover import Handover
from functions.worker.idle_sleep import IdleSleep
from functions.worker.job_runner import JobRunner
from functions.worker.lost_jobs import LostJobs
from functions.worker.model_server import ModelServer
from functions.worker.replica_stats import ReplicaStats
from functions.worker.replica_status import StatusReporter
from functions.worker.revision_gate import RevisionGate
from functions.worker.server_description import describe, find_model_name
from router_model.catalogue.model import Model, Service

log = logging.getLogger(__name__)

HEALTH_EVERY_S: Final = 5.0
MOST_UNHEALTHY: Final = 3
FAILURES_BEFORE_PROBE: Final = 3
_PROBE_TIMEOUT_S: Final = 60.0
_CONTROL_WAIT_S: Final = 5.0
_DEAD_DRAIN_S: Final = 2.0
_JOIN_S: Final = 5.0
_ASSIGNED_S: Final = 10.0
_APPENDER_CLOSE_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class WorkerParts:
    """Everything a worker consists of, wired in `main`."""

    service: Service
    model: Model
    server: ModelServer
    http: httpx.AsyncClient
    appender: RecordAppender
    poll: ConsumerThread
    control: ControlConsumer
    gate: RevisionGate
    runner: JobRunner
    dozing: IdleSleep
    status: StatusReporter
    measured: ReplicaStats
    metrics: Metrics
    clock: Clock
    cold_start_file: Path
    failed_starts: FailedStarts
    start_rule: StartPolicy
    is_ours: Callable[[], bool]
    """Whether no other replica of the service is ready; blocks."""
    lag: Callable[[], int]
    """Records of the service that are not committed; blocks."""
    drain_s: float
    stuck_s: float
    host: str
    port: int


class Worker:
    """One replica, from start to end. `stop` asks it to drain."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._stop = asyncio.Event()
        self._joined = asyncio.Event()
        self._poll_ended = asyncio.Event()
        self._started_s = time.monotonic()
        self._is_holding = False
        self._is_superseded = False
        self._unhealthy = 0
        self._missing = LostJobs(
            lambda: parts.poll.owed, lambda: parts.runner.in_flight, after_s=parts.stuck_s
        )
        self._beside: tuple[asyncio.Task[None], ...] = ()
        self.port = 0
        self._probes = ProbeServer(
            is_ready=self.is_ready, is_live=self.is_live, registry=parts.metrics.registry
        )

    def stop(self) -> None:
        """Asks for a drain; called from the event loop."""
        self._stop.set()

    def is_ready(self) -> bool:
        """A request can succeed now: warm, in the group, not draining.

        So can one once the topic is handed over, where another revision has it still: Knative hands over only to a
        revision that is ready.
        """
        is_polling = self._parts.poll.is_alive() and not self._is_stuck()
        is_warm = self._parts.status.state is ReplicaState.READY or self._is_holding
        return is_warm and is_polling

    def is_live(self) -> bool:
        """False only if a restart helps: a dead or stuck consumer thread, or slots held by no task."""
        return (
            self._parts.poll.failure is None
            and not self._is_stuck()
            and not self._missing.look(time.monotonic())
        )

    async def run(self, listener: socket.socket | None = None) -> int:
        """Runs to the end; returns the exit status. Probes come to `listener`; None: to the port of the settings."""
        parts = self._parts
        loop = asyncio.get_running_loop()

        def tell(event: asyncio.Event) -> Callable[[], None]:
            return lambda: _in_loop(loop, event.set)

        parts.poll.on_joined, parts.poll.on_end = tell(self._joined), tell(self._poll_ended)
        self.port = await self._probes.start(parts.host, parts.port, listener)
        parts.control.start()
        parts.poll.start()
        self._beside = tuple(
            asyncio.create_task(work, name=name)
            for name, work in (
                ("status", parts.status.repeat()),
                ("dozing", self._dozing_when_open()),
            )
        )
        failure: str | None = None
        try:
            failure = await self._live()
        finally:
            for task in self._beside:
                task.cancel()
            await self._end(failure)
        return 0 if failure is None else 1

    async def _live(self) -> str | None:
        """Runs until it is stopped (None) or fails (the reason)."""
        try:
            await self._until_stop(self._warm())
        except StartupFailed as error:
            # Whose failure it is: the service's, or this revision's alone.
            await self._read_control()
            await self._note_failed_start(str(error))
            return str(error)
        failure = None if self._stop.is_set() else await self._until_stop(self._serve())
        if failure is None:
            self._parts.status.become(ReplicaState.DRAINING)
            await self._drain(self._parts.drain_s)
        else:
            self._parts.status.become(self._failed_state(), failure)
            await self._drain(_DEAD_DRAIN_S)
        return failure

    async def _note_failed_start(self, why: str) -> None:
        """Reports a failed start at once. After too many in a row, nothing waits for another."""
        parts = self._parts
        if not parts.gate.is_open():
            return
        now = parts.clock.now()
        failures = parts.failed_starts.add(now)
        status, rule = parts.status, parts.start_rule
        status.failed_starts, status.breaker = failures, rule.breaker(failures, 0.0)
        if status.breaker is BreakerState.OPEN:
            status.retry_at = now + timedelta(seconds=rule.hold(failures))
        status.become(self._failed_state(), why)
        turning = Handover(
            poll=parts.poll,
            runner=parts.runner,
            joined=self._joined,
            is_ours=parts.is_ours,
            lag=parts.lag,
        )
        is_final = status.breaker is BreakerState.OPEN
        await self._until_stop(turning.turn_away(why, is_final=is_final))
        await self._drain(_DEAD_DRAIN_S)

    async def _until_stop(self, work: Coroutine[Any, Any, str | None]) -> str | None:
        """What `work` returns, or None when the stop comes first."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError, StartupFailed):
            await task
        return None

    async def _warm(self) -> None:
        parts = self._parts
        timeout_s = parts.service.start_timeout_s
        deadline_s = self._started_s + timeout_s
        parts.status.become(ReplicaState.LOADING)
        await parts.server.wait_until_healthy(parts.http, deadline_s - time.monotonic())
        parts.status.become(ReplicaState.WARMING)
        left_s = max(1.0, deadline_s - time.monotonic())
        name = await find_model_name(parts.server, parts.http, parts.service, parts.model)
        await parts.server.generate_once(parts.http, parts.model, name, left_s)
        info = await describe(parts.server, parts.http, parts.service.backend.kind, name)
        parts.server.info = parts.status.server = info
        await self._read_control()

    async def _read_control(self) -> None:
        """Cancels that came while this replica slept must be known before the first call, if they can be had."""
        await asyncio.to_thread(self._parts.control.wait_until_caught_up, _CONTROL_WAIT_S)

    async def _serve(self) -> str | None:
        """Waits for the topic, joins, watches; returns why this replica cannot go on."""
        failure = await self._hold()
        if failure is not None:
            return failure
        await self._open()
        return await self._watch()

    async def _hold(self) -> str | None:
        """Returns when the topic is this revision's, or why this replica cannot go on."""
        parts = self._parts
        if parts.gate.is_open():
            return None
        log.info("another revision holds the topic", extra={"service": parts.service.slug})
        parts.status.become(ReplicaState.WARMING, "another revision holds the topic")
        self._is_holding = True
        try:
            while not parts.gate.is_open():
                await parts.gate.wait(HEALTH_EVERY_S)
                failure = await self._server_failure()
                if failure is not None:
                    return failure
        finally:
            self._is_holding = False
        return None

    async def _stand_down(self) -> None:
        """Another revision holds the topic now: what runs may finish, nothing new begins.

        Returns when the topic comes back to this revision: only a new start joins the group again.
        """
        parts = self._parts
        log.info("superseded", extra={"service": parts.service.slug})
        self._is_superseded = True
        parts.status.become(ReplicaState.DRAINING, "another revision holds the topic")
        await self._drain(parts.drain_s)
        while not parts.gate.is_open():
            await parts.gate.wait(HEALTH_EVERY_S)

    async def _open(self) -> None:
        """Joins the group. It is ready with partitions, or after a long wait without any."""
        parts = self._parts
        parts.poll.join_group()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASSIGNED_S):
                await self._joined.wait()
        parts.measured.ready_at = parts.clock.now()
        seconds = time.monotonic() - self._started_s
        parts.metrics.cold_start_seconds.labels(parts.service.slug).observe(seconds)
        remember_cold_start(parts.cold_start_file, seconds)
        parts.failed_starts.clear()
        parts.status.failed_starts, parts.status.breaker = 0, BreakerState.CLOSED
        parts.status.become(ReplicaState.READY)
        log.info("ready", extra={"service": parts.service.slug, "seconds": round(seconds, 3)})

    async def _watch(self) -> str | None:
        """Returns why this replica cannot go on."""
        parts = self._parts
        while True:
            await self._wait_for_an_end(HEALTH_EVERY_S)
            if self._poll_ended.is_set() or not parts.poll.is_alive():
                return "the model server ended" if _has_ended(parts) else "the poll thread ended"
            if not parts.gate.is_open():
                await self._stand_down()
                return None
            if (dead := self._dead_beside()) is not None:
                return f"the part {dead} died"
            if missing := self._missing.look(time.monotonic()):
                return f"{missing} jobs are counted as running and nobody runs them"
            failure = await self._server_failure()
            if failure is not None:
                return failure
            if (
                parts.measured.failures_in_row >= FAILURES_BEFORE_PROBE
                and not await self._can_generate()
            ):
                return "the model server answers probes but generates nothing"

    def _dead_beside(self) -> str | None:
        """The name of a task beside the jobs that has died: without it this replica is not what it seems to be."""
        for task in self._beside:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                log.error("part of the worker died", exc_info=error)
                return task.get_name()
        return None

    async def _server_failure(self) -> str | None:
        """Why the model server is of no use any more; one bad answer to a probe is none."""
        parts = self._parts
        if _has_ended(parts):
            return "the model server ended"
        self._unhealthy = 0 if await parts.server.is_healthy(parts.http) else self._unhealthy + 1
        if self._unhealthy == 0:
            for what, value in (await parts.server.gauges(parts.http)).items():
                parts.metrics.engine.labels(parts.service.slug, what).set(value)
        return "the model server is not healthy" if self._unhealthy >= MOST_UNHEALTHY else None

    async def _dozing_when_open(self) -> None:
        """Idle begins when there could have been work."""
        await self._joined.wait()
        await self._parts.dozing.watch()

    async def _wait_for_an_end(self, timeout_s: float) -> None:
        waits: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._poll_ended.wait()),
            asyncio.ensure_future(self._parts.gate.wait(timeout_s)),
        }
        ours = set(waits)
        if self._parts.server.exited is not None:
            waits.add(self._parts.server.exited)
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in ours:
            wait.cancel()

    async def _can_generate(self) -> bool:
        parts = self._parts
        timeout_s = min(_PROBE_TIMEOUT_S, parts.service.timeout_s)
        try:
            name = choose_model_name(parts.service, parts.model, parts.server.info)
            await parts.server.generate_once(parts.http, parts.model, name, timeout_s)
        except StartupFailed:
            return False
        parts.measured.failures_in_row = 0
        return True

    async def _drain(self, timeout_s: float) -> None:
        """In-flight work may finish for `timeout_s`; what then is left stays uncommitted."""
        self._parts.poll.quiet()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._poll_ended.wait()

    async def _end(self, failure: str | None) -> None:
        parts = self._parts
        await parts.runner.stop()
        parts.poll.abandon()
        with suppress(TimeoutError):
            async with asyncio.timeout(_JOIN_S):
                await self._poll_ended.wait()
        await parts.server.stop()
        if failure is None:
            parts.status.become(ReplicaState.STOPPED)
        else:
            log.error("worker failed", extra={"reason": failure})
            parts.status.become(self._failed_state(), failure)
        await asyncio.to_thread(parts.control.close, _JOIN_S)
        await asyncio.to_thread(parts.appender.close, _APPENDER_CLOSE_S)
        await parts.http.aclose()
        await self._probes.close()

    def _failed_state(self) -> ReplicaState:
        """A service is not failed by a revision that does not serve it: the one that does may be asleep, and well."""
        return ReplicaState.STOPPED if self._parts.gate.is_elsewhere() else ReplicaState.FAILED

    def _is_stuck(self) -> bool:
        is_open = self._parts.measured.ready_at is not None and not self._is_superseded
        return is_open and time.monotonic() - self._parts.poll.last_turn_s > self._parts.stuck_s


def _has_ended(parts: WorkerParts) -> bool:
    return not parts.server.is_running


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(call)


def expected_cold_start_s(path: Path, prior_s: float) -> float:
    """The last measured cold start of the service on this machine, else the catalogue's prior."""
    try:
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return prior_s
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else prior_s


def remember_cold_start(path: Path, seconds: float) -> None:
    """Keeps a measured cold start for the next estimate; a failure to write costs only precision."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"seconds": round(seconds, 3)}), encoding="utf-8")
