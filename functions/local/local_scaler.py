"""The local scaler: reads lag, decides with Algorithm 1, moves worker processes, and tells the status topic."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from events.event import PartitionId
from events.names import BreakerState, ReplicaState, Topics
from events.payloads import StatusData
from functions.autoscaling.algorithm1 import ScalingDecision, ScalingLimits
from functions.autoscaling.rate_window import RateWindow
from functions.autoscaling.scaling_state import (
    LoadReading,
    ScalingState,
    assume_service_s,
    build_limits,
)
from functions.autoscaling.status_producer import StatusProducer
from functions.local.progress_output import ChangeJournal
from functions.local.worker_pool import WorkerPool
from functions.ports.clock import Clock
from functions.ports.kafka import LagReader, Offsets, RecordLog
from functions.runtime.settings import SpinSettings
from router_model.catalogue.cron_window import is_within
from router_model.catalogue.model import Catalogue, Service
from router_model.service_registry import SCALER, Registry, ServiceView

RETRY_S: Final = 0.3
BLIND_AFTER: Final = 10
"""Failed readings in a row that are said: a new cluster fails a few while its coordinators start."""
CLIENT: Final = "pickspin-local-scaler"
CLOSE_S: Final = 1.0
NO_HABIT: Final = "warm_by_habit is done on Kubernetes alone; here it sleeps as ever"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRound:
    """What the last round saw and decided for one service."""

    service: Service
    view: ServiceView
    lag: int
    replicas: int
    rate_per_s: float
    decision: ScalingDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerDependencies:
    """What the scaler works with."""

    log: RecordLog
    topics: Topics
    catalogue: Catalogue
    registry: Callable[[], Registry]
    pool: WorkerPool
    clock: Clock
    journal: ChangeJournal
    settings: SpinSettings


class LocalScaler:
    """One task in the supervisor's event loop; lag is read in a thread of its own."""

    def __init__(self, parts: ScalerDependencies) -> None:
        self._parts = parts
        self._services = tuple(s for s in parts.catalogue.services if s.enabled)
        self._groups = {
            parts.topics.worker_group(s.slug): parts.topics.of_service(s.slug)
            for s in self._services
        }
        self._scalings = {s.slug: self._fresh_scaling() for s in self._services}
        self._states: dict[str, ReplicaState] = {}
        self.sights: Mapping[str, LastRound] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lag")
        self._reader: LagReader | None = None
        self._teller: StatusProducer | None = None
        self._failed_reads = 0

    async def run(self) -> None:
        """Rounds until cancelled. A round that cannot read lag changes nothing: waking and sleeping need a reading."""
        for service in self._services:
            if service.warm_by_habit:
                self._parts.journal.write("model", service.slug, "note", NO_HABIT)
        while True:
            try:
                await self._round()
                self._see()
                await asyncio.sleep(self._parts.settings.poll_s)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: say it once, hold, try again
                self._see(f"{type(error).__name__}: {error}")
                await self._in_thread(self._drop_reader)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Ends connections and thread; call after `run` has been cancelled."""
        await self._in_thread(self._drop_reader)
        teller, self._teller = self._teller, None
        if teller is not None:
            await self._in_thread(partial(teller.close, CLOSE_S))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def publish_stopped(self, slug: str, replica: str) -> None:
        """Takes the replica of an ended process out of every registry."""
        if self._teller is not None:
            self._teller.publish_stopped(slug, replica)

    async def _round(self) -> None:
        offsets = await self._in_thread(self._read)
        registry = self._parts.registry()
        self._parts.pool.note_ready(registry)
        sights: dict[str, LastRound] = {}
        for service in self._services:
            mine = offsets[self._parts.topics.worker_group(service.slug)]
            view = registry.view(service.slug, self._parts.clock.now())
            sight = sights[service.slug] = self._look(service, mine, view)
            await self._act(sight)
        self.sights = sights

    def _look(
        self, service: Service, offsets: Mapping[PartitionId, Offsets], view: ServiceView
    ) -> LastRound:
        reading = LoadReading(
            now_s=self._parts.clock.monotonic_s(),
            arrived=sum(each.end for each in offsets.values()),
            lag=sum(each.lag for each in offsets.values()),
            in_flight=view.in_flight,
            replicas=len(self._parts.pool.of(service.slug)),
            service_s=view.service_s or assume_service_s(service),
        )
        scaling, decision = self._scalings[service.slug].step(reading, self._terms(service))
        self._scalings[service.slug] = scaling
        return LastRound(
            service=service,
            view=view,
            lag=reading.lag,
            replicas=reading.replicas,
            rate_per_s=scaling.window.rate_per_s(reading.now_s),
            decision=decision,
        )

    async def _act(self, sight: LastRound) -> None:
        slug, pool = sight.service.slug, self._parts.pool
        await pool.scale(sight.service, sight.decision.replicas)
        replicas = len(pool.of(slug))
        if replicas != sight.replicas:
            self._announce_scaling(sight, replicas)
        status = self._status(sight, replicas)
        if self._states.get(slug) is not status.state:
            self._states[slug] = status.state
            self._announce_state(slug, status)
        if self._teller is not None:
            self._teller.publish(status)

    def _announce_state(self, slug: str, status: StatusData) -> None:
        cold_s = self._parts.pool.fate(slug).cold_start_s
        if status.state is not ReplicaState.READY or cold_s is None:
            self._parts.journal.write("model", slug, status.state, status.message or "")
            return
        detail = f"cold start {cold_s:.1f} s"
        self._parts.journal.write("model", slug, status.state, detail, cold_start_s=cold_s)

    def _announce_scaling(self, sight: LastRound, replicas: int) -> None:
        decision = sight.decision
        self._parts.journal.write(
            "model",
            sight.service.slug,
            "scaled",
            f"{sight.replicas} -> {replicas} ({decision.reason}; rate asks for {decision.rate_target}, "
            f"backlog of {sight.lag} for {decision.backlog_target})",
            replicas=replicas,
            lag=sight.lag,
        )

    def _status(self, sight: LastRound, replicas: int) -> StatusData:
        slug = sight.service.slug
        fate = self._parts.pool.fate(slug)
        state = self._state(sight, replicas)
        breaker, retry_s = self._parts.pool.breaker(slug)
        is_ill = self._parts.pool.has_failed(slug) or breaker is not BreakerState.CLOSED
        now = self._parts.clock.now()
        return StatusData(
            service=slug,
            replica=SCALER,
            state=state,
            at=now,
            eta_s=self._eta_s(sight, state),
            concurrency=sight.service.concurrency,
            lag=sight.lag,
            replicas=replicas,
            desired=sight.decision.replicas,
            message=fate.message,
            failed_starts=fate.failures if is_ill else 0,
            breaker=breaker,
            retry_at=None if retry_s is None else now + timedelta(seconds=retry_s),
        )

    def _state(self, sight: LastRound, replicas: int) -> ReplicaState:
        pool, slug = self._parts.pool, sight.service.slug
        if any(replica.is_ready for replica in pool.of(slug)):
            return ReplicaState.READY
        if pool.has_failed(slug):
            return ReplicaState.FAILED
        if replicas:
            return ReplicaState.STARTING
        return ReplicaState.DRAINING if pool.draining(slug) else ReplicaState.COLD

    def _eta_s(self, sight: LastRound, state: ReplicaState) -> float | None:
        """Seconds until a replica is ready: the last measured cold start (else the catalogue's), less what passed."""
        if state is ReplicaState.READY:
            return 0.0
        if state is ReplicaState.FAILED:
            return None
        cold_s = self._parts.pool.fate(sight.service.slug).cold_start_s
        expected_s = sight.service.cold_start_s if cold_s is None else cold_s
        replicas = self._parts.pool.of(sight.service.slug)
        if not replicas:
            return expected_s
        return max(0.0, expected_s - (self._parts.clock.monotonic_s() - replicas[0].started_s))

    def _terms(self, service: Service) -> ScalingLimits:
        settings = self._parts.settings
        terms = build_limits(
            service,
            self._parts.catalogue,
            idle_s=settings.idle_s,
            drain_goal_s=settings.drain_goal_s,
        )
        windows = ((hours.start, hours.end, hours.timezone) for hours in service.warm_hours)
        if not terms.min_warm and is_within(windows, self._parts.clock.now()):
            terms = replace(terms, min_warm=1)
        return terms

    def _fresh_scaling(self) -> ScalingState:
        window = RateWindow(window_s=self._parts.settings.window_s)
        return ScalingState(window=window, started_s=self._parts.clock.monotonic_s())

    def _read(self) -> Mapping[str, Mapping[PartitionId, Offsets]]:
        parts = self._parts
        if self._teller is None:
            appender = parts.log.appender(client=CLIENT)
            self._teller = StatusProducer(appender, parts.topics, parts.clock)
        if self._reader is None:
            self._reader = parts.log.lag_reader(client=CLIENT)
        return self._reader.lags(self._groups)

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _see(self, why: str | None = None) -> None:
        was_blind = self._failed_reads >= BLIND_AFTER
        self._failed_reads = 0 if why is None else self._failed_reads + 1
        if why is None and was_blind:
            self._parts.journal.write("stack", "scaler", "running", "lag is known again")
        elif self._failed_reads == BLIND_AFTER:
            self._parts.journal.write("stack", "scaler", "blind", f"lag is unknown: {why}")
