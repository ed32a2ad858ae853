"""Wires the callbacks process: a thread that enqueues deliveries, an event loop that sends them."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from typing import Final

from events.names import Topics
from functions.callbacks.delivery_worker import DeliveryDependencies, DeliveryLimits, DeliveryWorker
from functions.callbacks.retry_schedule import parse_schedule
from functions.callbacks.terminal_consumer import DeliveryStore, make_terminal_consumer
from functions.callbacks.url_policy import CallbackPolicy
from functions.callbacks.webhook_client import Resolver, SystemResolver, WebhookClient
from functions.factories import open_blobs, open_log, open_store
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordLog
from functions.runtime.group_progress import ProgressWatch, run_watch
from functions.runtime.probe_server import ProbeServer, probed
from functions.runtime.settings import Settings
from functions.runtime.shutdown import LoopHealth, StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics, setup_logging

CLOSE_S: Final = 5.0

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Runs the callbacks process until SIGTERM or SIGINT; 0 after a drain, 1 when a part of it died.

    Raises:
        StartupFailed: bad schedule, or the store cannot be opened.
    """
    setup_logging("callbacks", settings.log_level)
    stop = StopFlag.install()
    store = open_store(settings)
    resolver = SystemResolver(settings.callbacks.concurrency)
    process = CallbacksProcess(
        settings=settings,
        store=store,
        log=open_log(settings),
        blobs=open_blobs(settings),
        clock=SystemClock(),
        resolver=resolver,
    )
    try:
        return process.run(stop)
    finally:
        resolver.close()
        store.close()


class CallbacksProcess:
    """Both parts. Tests give it adapters in memory."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: DeliveryStore,
        log: RecordLog,
        blobs: BlobStore,
        clock: Clock,
        resolver: Resolver,
    ) -> None:
        callbacks = settings.callbacks
        self._settings = settings
        self._store = store
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._resolver = resolver
        self._topics = Topics(settings.broker.prefix)
        self._loops = LoopHealth()
        self._metrics = Metrics()
        self._progress = ProgressWatch(
            lambda: log.lag_reader(client="callbacks-progress"),
            {self._topics.callbacks_group: (self._topics.responses,)},
            stalled_s=settings.broker.stalled_s,
            clock=clock,
            metrics=self._metrics,
        )
        self.probe_port: int | None = None
        self._limits = DeliveryLimits(
            delays=parse_schedule(callbacks.schedule_s),
            attempt_timeout_s=callbacks.attempt_timeout_s,
            concurrency=callbacks.concurrency,
            per_tenant=callbacks.tenant_concurrency,
            per_target=callbacks.target_concurrency,
            per_host=callbacks.host_concurrency,
        )

    def run(self, stop: StopFlag) -> int:
        """Blocks until `stop`."""
        probes = ProbeServer(
            is_ready=self._is_ready,
            is_live=self._loops.is_live,
            registry=self._metrics.registry,
        )
        with probed(probes, self._settings.probes) as self.probe_port, run_watch(self._progress):
            return self._run(stop)

    def _is_ready(self) -> bool:
        return self._loops.is_live() and self._progress.is_moving(self._topics.callbacks_group)

    def _run(self, stop: StopFlag) -> int:
        try:
            asyncio.run(self._deliver(stop))
        except Exception:
            # The loop boundary: logged once; whoever keeps the process starts it again.
            log.exception("deliveries died")
            self._loops.fail()
        finally:
            stop.set()
        return 1 if self._loops.has_failed() else 0

    async def _deliver(self, stop: StopFlag) -> None:
        loop = asyncio.get_running_loop()
        appender = self._log.appender(client="callbacks")
        client = WebhookClient(
            timeout_s=self._settings.callbacks.attempt_timeout_s,
            max_response_bytes=self._settings.callbacks.max_response_bytes,
        )
        dependencies = DeliveryDependencies(
            store=self._store,
            client=client,
            resolve=self._resolver,
            appender=appender,
            clock=self._clock,
            topics=self._topics,
            policy=CallbackPolicy.of(self._settings.ingress),
            metrics=self._metrics,
            chance=random.random,
        )
        worker = DeliveryWorker(dependencies, self._limits)
        delivery_stop, consumer_stop = self._loops.watch(stop, 2)
        consumer_thread = threading.Thread(
            target=self._enqueue,
            args=(consumer_stop, lambda: loop.call_soon_threadsafe(worker.wake)),
            name="enqueue",
        )
        consumer_thread.start()
        try:
            await worker.run(delivery_stop)
        finally:
            stop.set()
            await asyncio.to_thread(consumer_thread.join)
            await client.close()
            await asyncio.to_thread(appender.close, CLOSE_S)

    def _enqueue(self, stop: StopFlag, wake: Callable[[], object]) -> None:
        try:
            consumer = self._log.group(
                group=self._topics.callbacks_group,
                topics=(self._topics.responses,),
                client="callbacks",
            )
            try:
                make_terminal_consumer(
                    consumer=consumer,
                    store=self._store,
                    blobs=self._blobs,
                    clock=self._clock,
                    metrics=self._metrics,
                    wake=wake,
                ).run(stop)
            finally:
                consumer.close()
        except Exception:
            # As above.
            log.exception("enqueueing died")
            self._loops.fail()
        finally:
            stop.set()
