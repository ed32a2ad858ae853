"""The scaler process: a thread for lag, one for the election, an event loop for KEDA."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from events.names import Topics
from functions.autoscaling.status_producer import StatusProducer
from functions.factories import load_catalogue, open_log
from functions.ports.clock import Clock
from functions.ports.kafka import RecordLog
from functions.runtime.errors import StartupFailed
from functions.runtime.probe_server import ProbeServer
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.settings import Settings
from functions.runtime.shutdown import STUCK_S, StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import ScalerMetrics, setup_logging
from functions.scaler.catalogue_reloader import CatalogueReloader, read_content
from functions.scaler.external_scaler import ExternalScaler, StreamLimits
from functions.scaler.grpc_server import GrpcServer
from functions.scaler.lag_watcher import CLIENT, LagWatcher, WatcherDependencies
from functions.scaler.latest_decisions import LatestDecisions
from functions.scaler.poll_interval import RoundCost, compute_pause_s
from functions.scaler.status_reporter import ScalerReporter
from functions.scaler.writer_election import WriterElection
from router_model.catalogue.model import Catalogue

CLOSE_S: Final = 3.0

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Runs the scaler until SIGTERM or SIGINT; 0 after a drain, 1 when a part of it died.

    Raises:
        StartupFailed: no usable catalogue, or a port is taken.
    """
    setup_logging("scaler", settings.log_level)
    stop = StopFlag.install()
    clock = SystemClock()
    catalogue = CatalogueReloader(
        lambda: load_catalogue(settings),
        lambda: read_content(settings.catalogue),
        clock,
        every_s=settings.scaler.catalogue_s,
    )
    process = ScalerProcess(
        settings=settings, log=open_log(settings), catalogue=catalogue, clock=clock
    )
    return asyncio.run(process.run(stop))


class ScalerProcess:
    """The whole process. `port` and `probe_port` are known while it runs."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: RecordLog,
        catalogue: Callable[[], Catalogue],
        clock: Clock,
    ) -> None:
        self._settings, self._log, self._clock = settings, log, clock
        topics = Topics(settings.broker.prefix)
        self.metrics = ScalerMetrics()
        self.decisions = LatestDecisions(clock.monotonic_s, settings.scaler.listener_s)
        self.decisions.on_listener = self._hurry
        client = f"{CLIENT}-{socket.gethostname()}"
        self._registry = RegistryConsumer(log, topics, client)
        self._election = WriterElection(log, topics, client)
        self._topics, self._catalogue, self._client = topics, catalogue, client
        self._wake = threading.Event()
        self._stop = StopFlag()
        self._round_s = clock.monotonic_s()
        self._watcher: LagWatcher | None = None
        self.port = 0
        self.probe_port = 0
        self.is_serving = False
        self._has_died = False

    async def run(self, stop: StopFlag) -> int:
        """Until `stop`; a watcher that dies stops the rest, so that the process is started anew."""
        self._stop = stop
        loop = asyncio.get_running_loop()
        self.decisions.attach(loop)
        scaler = ExternalScaler(self.decisions, self._clock, self.metrics, self._limits())
        server, probes = GrpcServer(scaler), self._probes()
        thread = threading.Thread(target=self._watch, name="watch")
        try:
            self.port = await server.start(self._settings.scaler.host, self._settings.scaler.port)
            self.probe_port = await _listen(probes, self._settings)
            self._registry.start()
            self._election.start()
            thread.start()
            self.is_serving = True
            await asyncio.to_thread(stop.wait)
        finally:
            stop.set()
            self._wake.set()
            self.is_serving = False
            await server.close(self._settings.scaler.drain_s)
            await probes.close()
            await asyncio.to_thread(self._end, thread)
        return 1 if self._has_died else 0

    def is_ready(self) -> bool:
        """Lag was read in whole lately, and the status topic has been read up."""
        age_s = None if self._watcher is None else self._watcher.age_s()
        is_fresh = age_s is not None and age_s <= self._settings.scaler.blind_s
        return self.is_serving and is_fresh and self._registry.is_caught_up()

    def is_live(self) -> bool:
        """A round ended lately, well or badly: a broker that is away is no reason for a restart."""
        return self._clock.monotonic_s() - self._round_s <= STUCK_S

    def _limits(self) -> StreamLimits:
        settings = self._settings.scaler
        return StreamLimits(push_again_s=settings.push_again_s, max_streams=settings.max_streams)

    def _probes(self) -> ProbeServer:
        self.metrics.streams.set_function(self.decisions.streams)
        self.metrics.is_writer.set_function(self._election.is_elected)
        return ProbeServer(
            is_ready=self.is_ready, is_live=self.is_live, registry=self.metrics.registry
        )

    def _hurry(self) -> None:
        self._wake.set()

    def _watch(self) -> None:
        try:
            appender = self._log.appender(client=self._client)
            producer = StatusProducer(appender, self._topics, self._clock)
            try:
                self._rounds(self._build_watcher(producer))
            finally:
                producer.close(CLOSE_S)
        except Exception:
            # The loop's boundary: the process ends, and whoever keeps it starts it again.
            log.exception("watching died")
            self._has_died = True
        finally:
            self._stop.set()

    def _build_watcher(self, producer: StatusProducer) -> LagWatcher:
        reporter = ScalerReporter(producer, self._election.is_elected, self._clock, self.metrics)
        self._watcher = LagWatcher(
            WatcherDependencies(
                log=self._log,
                topics=self._topics,
                registry=lambda: self._registry.registry,
                catalogue=self._catalogue,
                decisions=self.decisions,
                reporter=reporter,
                clock=self._clock,
                metrics=self.metrics,
                settings=self._settings.scaler,
                spin=self._settings.spin,
            )
        )
        return self._watcher

    def _rounds(self, watcher: LagWatcher) -> None:
        has_failed = False
        while not self._stop.is_set():
            self._wake.clear()
            began_s, cpu_s = self._clock.monotonic_s(), time.process_time()
            has_failed = not self._round(watcher, was_failing=has_failed)
            self._round_s = self._clock.monotonic_s()
            cost = RoundCost(
                wall_s=self._round_s - began_s,
                cpu_s=time.process_time() - cpu_s,
                has_failed=has_failed,
            )
            self.metrics.round_seconds.observe(cost.wall_s)
            listened_to = self.decisions.is_listened_to()
            self._wake.wait(
                compute_pause_s(cost, self._settings.scaler, is_listened_to=listened_to)
            )
        watcher.close()

    def _round(self, watcher: LagWatcher, *, was_failing: bool) -> bool:
        try:
            watcher.round()
        except Exception as error:  # noqa: BLE001 - keep what is known, try again
            self.metrics.failures.inc()
            if not was_failing:
                log.warning(
                    "lag is not readable", extra={"reason": f"{type(error).__name__}: {error}"}
                )
            return False
        if was_failing:
            log.info("lag is readable again")
        return True

    def _end(self, thread: threading.Thread) -> None:
        if thread.is_alive():
            thread.join()
        self._election.close()
        self._registry.close()


async def _listen(probes: ProbeServer, settings: Settings) -> int:
    host, port = settings.scaler.host, settings.scaler.probe_port
    try:
        return await probes.start(host, port)
    except OSError as error:
        raise StartupFailed(f"cannot listen on {host}:{port} (probes)") from error
