"""Wires a worker: settings in, one running replica out."""

import asyncio
import math
import queue
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from events.limits import MAX_BODY_BYTES
from events.names import BreakerState, Topics
from functions import factories
from functions.autoscaling.start_policy import MOST_S, StartPolicy
from functions.backends.backend_kinds import TABLE
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender, RecordLog
from functions.runtime.errors import StartupFailed
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.settings import Settings
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics
from functions.worker.backend_client import BackendClient, CallLimits, open_http
from functions.worker.backend_health import BackendHealth
from functions.worker.circuit_breaker import BreakerRule
from functions.worker.consumer_thread import ConsumerThread, Exchange, Outcome, PollLimits
from functions.worker.control_consumer import ControlConsumer
from functions.worker.failed_starts import FailedStarts
from functions.worker.fair_queue import FairQueue
from functions.worker.idle_sleep import IdleSleep
from functions.worker.job import Job, JobReader
from functions.worker.job_context import JobContext
from functions.worker.job_runner import JobRunner
from functions.worker.model_server import ModelServer, ServerOptions
from functions.worker.replica import Worker, WorkerParts, expected_cold_start_s
from functions.worker.replica_stats import ReplicaStats
from functions.worker.replica_status import StatusReporter
from functions.worker.reply_producer import ReplyProducer
from functions.worker.revision_gate import RevisionGate
from router_model.catalogue.model import Cascade, Catalogue, Model, Service

_HIGH_WATER_FACTOR: Final = 4
_STATUS_WAIT_S: Final = 30.0
"""The status topic holds decisions too: reading all of it takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDependencies:
    """What a worker is given from outside: adapters and the place for its files."""

    log: RecordLog
    blobs: BlobStore
    clock: Clock
    data_dir: Path


def run(settings: Settings, listener: socket.socket | None = None) -> int:
    """Runs one replica of `settings.worker.service` until SIGTERM or SIGINT, or until its model fails (status 1).

    Probes come to `listener`; None: to the port of the settings.

    Raises:
        StartupFailed: no such service, its weights are missing, or its backend cannot be started.
    """
    if not settings.worker.service:
        raise StartupFailed("which service? give --service or set PICKSPIN_WORKER_SERVICE")
    import uvloop  # noqa: PLC0415 - tests run the worker on the loop they have

    catalogue = own_catalogue(settings)
    dependencies = WorkerDependencies(
        log=factories.open_log(settings),
        blobs=factories.open_blobs(settings),
        clock=SystemClock(),
        data_dir=factories.data_dir(settings),
    )
    status: int = uvloop.run(_run(settings, catalogue, dependencies, listener))
    return status


def own_catalogue(settings: Settings) -> Catalogue:
    """The catalogue, with what this pod's revision was rolled out with on top.

    Raises:
        StartupFailed: one of them cannot be read.
    """
    from router_model.catalogue.loader import CatalogueRejected  # noqa: PLC0415
    from router_model.catalogue.merge import with_pinned  # noqa: PLC0415

    catalogue, worker = factories.load_catalogue(settings), settings.worker
    if not worker.pinned:
        return catalogue
    try:
        return with_pinned(catalogue, worker.service, worker.pinned)
    except CatalogueRejected as error:
        raise StartupFailed(f"PICKSPIN_WORKER_PINNED: {error}") from error


async def _run(
    settings: Settings,
    catalogue: Catalogue,
    dependencies: WorkerDependencies,
    listener: socket.socket | None,
) -> int:
    worker = await build_worker(settings, catalogue, dependencies)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    return await worker.run(listener)


def find_service(catalogue: Catalogue, slug: str) -> tuple[Service, Model]:
    """The service of that slug and its model.

    Raises:
        StartupFailed: there is none.
    """
    service = catalogue.service(slug)
    if service is None:
        known = ", ".join(sorted(s.slug for s in catalogue.services))
        raise StartupFailed(
            f"no service {slug!r} in the catalogue (PICKSPIN_WORKER_SERVICE); it has: {known}"
        )
    model = catalogue.model(service.model)
    if model is None:
        raise StartupFailed(f"service {slug}: no model {service.model!r} in the catalogue")
    return service, model


async def build_worker(
    settings: Settings, catalogue: Catalogue, dependencies: WorkerDependencies
) -> Worker:
    """Starts the model server and wires a worker around it; call in the main thread, inside a running loop.

    A server that cannot be started fails the worker's run, not its wiring.
    """
    service, model = find_service(catalogue, settings.worker.service)
    measured = ReplicaStats(dependencies.clock.now())
    worker = settings.worker
    options = ServerOptions(
        python=worker.server_python,
        can_sleep=worker.sleep_level > 0,
        unreachable_s=worker.unreachable_s,
        hidden=frozenset(s.backend.key_env for s in catalogue.services if s.backend.key_env),
    )
    try:
        server = await ModelServer.start(service, model, dependencies.data_dir, options)
    except StartupFailed as error:
        # Told as every failed start is: callers may be waiting for this one.
        server = ModelServer.without(service, str(error))
    try:
        return _wire(
            Base(settings, service, model, dependencies, server, measured, catalogue.cascades)
        )
    except BaseException:
        await server.stop()
        raise


@dataclass(frozen=True, slots=True)
class Base:
    """What all parts are made from."""

    settings: Settings
    service: Service
    model: Model
    dependencies: WorkerDependencies
    server: ModelServer
    measured: ReplicaStats
    cascades: Mapping[str, Cascade] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def topics(self) -> Topics:
        return Topics(self.settings.broker.prefix)

    @property
    def client(self) -> str:
        return factories.worker_client(self.service.slug, self.settings.worker.replica)

    @property
    def member_file(self) -> Path:
        return self.dependencies.data_dir / "members" / f"{self.client}.json"

    @property
    def cold_start_file(self) -> Path:
        return self.dependencies.data_dir / "cold_start" / f"{self.service.slug}.json"

    @property
    def failed_starts(self) -> FailedStarts:
        return FailedStarts(
            self.dependencies.data_dir / "failed_starts" / f"{self.service.slug}.json"
        )

    @property
    def start_rule(self) -> StartPolicy:
        worker = self.settings.worker
        return StartPolicy.of(worker)

    def has_no_other(self) -> bool:
        """Whether the status topic shows no other ready replica. False if it cannot be read in
        time.
        """
        tail = RegistryConsumer(self.dependencies.log, self.topics, self.client)
        tail.start()
        try:
            if not tail.wait_until_caught_up(_STATUS_WAIT_S):
                return False
            slug = self.service.slug
            others = tail.registry.remove(slug, self.settings.worker.replica)
            return not others.view(slug, self.dependencies.clock.now()).is_warm
        finally:
            tail.close()

    def lag(self) -> int:
        """Records of the service's topics that are not committed."""
        group, topics = self.topics.worker_group(self.service.slug), self.topics
        reader = self.dependencies.log.lag_reader(client=self.client)
        try:
            offsets_by_group = reader.lags({group: topics.of_service(self.service.slug)})
            return sum(offsets.lag for offsets in offsets_by_group[group].values())
        finally:
            reader.close()


def _wire(base: Base) -> Worker:
    loop = asyncio.get_running_loop()
    appender = base.dependencies.log.appender(client=base.client)
    publisher = _publisher(base, appender)
    status = _status(base, publisher)
    status.publish()
    outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    http = open_http(base.server.root, concurrency=base.service.concurrency, key=base.server.key)
    dozing = _idle_sleep(base, http)
    caller = BackendClient(http, _call_limits(base), _call_health(base, status), dozing)
    runner = _runner(base, caller, publisher, outcomes)
    status.in_flight = lambda: runner.in_flight
    control = ControlConsumer(
        lambda: base.dependencies.log.tail(
            topics=(base.topics.control,), client=base.client, from_start=True
        ),
        lambda request_id: _in_loop(loop, lambda: runner.cancel(request_id)),
        lambda _service: _in_loop(loop, gate.tell),
    )
    gate = RevisionGate(base.service.slug, base.settings.worker.revision, control)
    poll = _poll(base, outcomes, control, lambda jobs: _in_loop(loop, lambda: runner.start(jobs)))
    return Worker(
        WorkerParts(
            service=base.service,
            model=base.model,
            server=base.server,
            http=http,
            appender=appender,
            poll=poll,
            control=control,
            gate=gate,
            runner=runner,
            dozing=dozing,
            status=status,
            measured=base.measured,
            metrics=base.metrics,
            clock=base.dependencies.clock,
            cold_start_file=base.cold_start_file,
            failed_starts=base.failed_starts,
            start_rule=base.start_rule,
            is_ours=base.has_no_other,
            lag=base.lag,
            drain_s=base.settings.worker.drain_s,
            stuck_s=base.settings.worker.stuck_s,
            host=base.settings.worker.host,
            port=base.settings.worker.port,
        )
    )


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Hands a call of another thread to the loop, if the loop still runs."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _publisher(base: Base, appender: RecordAppender) -> ReplyProducer:
    return ReplyProducer(
        appender=appender,
        blobs=base.dependencies.blobs,
        topics=base.topics,
        clock=base.dependencies.clock,
        metrics=base.metrics,
        limits=base.settings.broker,
    )


def _status(base: Base, publisher: ReplyProducer) -> StatusReporter:
    reporter = StatusReporter(
        service=base.service,
        replica=base.settings.worker.replica,
        publisher=publisher,
        clock=base.dependencies.clock,
        measured=base.measured,
        expected_s=expected_cold_start_s(base.cold_start_file, base.service.cold_start_s),
    )
    failures = base.failed_starts.count(base.dependencies.clock.now())
    reporter.failed_starts = failures
    # This start is the try that shows whether the service is well again.
    reporter.breaker = base.start_rule.breaker(failures, math.inf)
    return reporter


def _runner(
    base: Base,
    caller: BackendClient,
    publisher: ReplyProducer,
    outcomes: "queue.SimpleQueue[Outcome | None]",
) -> JobRunner:
    serving = JobContext(
        service=base.service,
        model=base.model,
        row=TABLE[base.service.backend.kind],
        server_info=lambda: base.server.info,
        max_attempts=base.settings.worker.max_attempts,
        max_calls=base.settings.worker.max_calls,
        busy_s=base.settings.worker.busy_s,
        chunk_s=base.settings.worker.chunk_ms / 1000,
        cascades=base.cascades,
        hold_bytes=base.settings.worker.hold_bytes,
    )
    return JobRunner(
        serving=serving,
        caller=caller,
        publisher=publisher,
        report=outcomes.put,
        clock=base.dependencies.clock,
        metrics=base.metrics,
        measured=base.measured,
    )


def _idle_sleep(base: Base, http: httpx.AsyncClient) -> IdleSleep:
    """What puts the model to sleep; never, where neither the settings nor the kind of server know of sleep."""
    level, server = base.settings.worker.sleep_level, base.server
    is_able = level != 0 and level in server.row.sleep_steps
    return IdleSleep(
        sleep=lambda: server.sleep(http, level or 1),
        wake=lambda: server.wake(http, level or 1),
        after_s=base.settings.worker.sleep_after_s if is_able else None,
    )


def _call_health(base: Base, status: StatusReporter) -> BackendHealth:
    worker, slug = base.settings.worker, base.service.slug

    def tell(state: BreakerState, left_s: float) -> None:
        status.rest(state, left_s)
        for each in BreakerState:
            base.metrics.breaker.labels(slug, each.value).set(each is state)

    tell(BreakerState.CLOSED, 0.0)
    rule = BreakerRule(
        window_s=worker.breaker_window_s,
        least=worker.breaker_calls,
        share=worker.breaker_share,
        open_s=worker.breaker_open_s,
        most_open_s=max(MOST_S, worker.breaker_open_s),
    )
    return BackendHealth(rule, tell)


def _call_limits(base: Base) -> CallLimits:
    worker = base.settings.worker
    return CallLimits(
        max_reply_bytes=worker.max_reply_bytes,
        idle_s=worker.backend_idle_s,
        timeout_s=base.service.timeout_s,
    )


def _poll(
    base: Base,
    outcomes: "queue.SimpleQueue[Outcome | None]",
    control: ControlConsumer,
    hand_over: Callable[[list[Job]], None],
) -> ConsumerThread:
    settings, concurrency = base.settings, base.service.concurrency
    topics, slug = base.topics, base.service.slug
    return ConsumerThread(
        open_consumer=lambda: base.dependencies.log.group(
            group=topics.worker_group(slug),
            topics=topics.of_service(slug),
            client=base.client,
            member_file=base.member_file,
            is_awaited=True,
        ),
        reader=JobReader(
            slug=slug,
            topics=topics,
            blobs=base.dependencies.blobs,
            further_reply_topics=settings.ingress.further_reply_topics,
            max_body_bytes=MAX_BODY_BYTES,
        ),
        schedule=FairQueue(concurrency=concurrency, max_attempts=settings.worker.max_attempts),
        exchange=Exchange(outcomes=outcomes, hand_over=hand_over),
        is_cancelled=control.is_cancelled,
        clock=base.dependencies.clock,
        limits=PollLimits(
            max_attempts=settings.worker.max_attempts,
            high_water=max(settings.worker.read_ahead, _HIGH_WATER_FACTOR * concurrency),
            high_water_bytes=settings.worker.read_ahead_bytes,
        ),
    )
