"""Wires the recorder process: the consumer, the reaper and the batch runner on one store."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from events.names import Topics
from functions.factories import open_blobs, open_log, open_store
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordLog
from functions.ports.store import Store
from functions.recorder.batch_runner import BatchLimits, BatchRunner
from functions.recorder.event_recorder import make_recorder, recorded_topics
from functions.recorder.purger import BlobPurger, RowPurger
from functions.recorder.reaper import Reaper, ReaperLimits, Republisher
from functions.recorder.recorded_until import RecordedUntil
from functions.runtime.errors import StoreFailed
from functions.runtime.group_progress import ProgressWatch, run_watch
from functions.runtime.probe_server import ProbeServer, probed
from functions.runtime.settings import BrokerSettings, Settings
from functions.runtime.shutdown import LoopHealth, StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics, setup_logging

BATCH_S: Final = 0.25
CLOSE_S: Final = 5.0
UNREADY: Final = 20
"""A part whose rounds fail this often in a row makes the process not ready."""

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Runs the recorder until SIGTERM or SIGINT; 0 after a drain, 1 when a part of it died.

    Raises:
        StartupFailed: the store cannot be opened.
    """
    setup_logging("recorder", settings.log_level)
    stop = StopFlag.install()
    store = open_store(settings)
    process = RecorderProcess(
        settings=settings,
        store=store,
        log=open_log(settings),
        blobs=open_blobs(settings),
        clock=SystemClock(),
    )
    try:
        return process.run(stop)
    finally:
        store.close()


class RecorderProcess:
    """The three parts and their threads. Tests give it adapters in memory."""

    def __init__(
        self, *, settings: Settings, store: Store, log: RecordLog, blobs: BlobStore, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._topics = Topics(settings.broker.prefix)
        self._loops = LoopHealth()
        self._metrics = Metrics()
        self._failures: Counter[str] = Counter()
        self._progress = ProgressWatch(
            lambda: log.lag_reader(client="recorder-progress"),
            {self._topics.recorder_group: recorded_topics(self._topics)},
            stalled_s=settings.broker.stalled_s,
            clock=clock,
            metrics=self._metrics,
        )
        self.probe_port: int | None = None

    def run(self, stop: StopFlag) -> int:
        """Blocks until `stop`; a part that dies stops the others, so that the process is started anew."""
        probes = ProbeServer(
            is_ready=self._is_ready,
            is_live=self._loops.is_live,
            registry=self._metrics.registry,
        )
        with probed(probes, self._settings.probes) as self.probe_port, run_watch(self._progress):
            return self._run(stop)

    def _run(self, stop: StopFlag) -> int:
        boot_id = self._settings.store.boot_id
        if boot_id and self._store.boot(boot_id) and self._store.lost(1):
            log.warning("new life of an in-memory broker: unfinished requests of the last one end")
        parts = (self._record, self._reap, self._run_batches)
        threads = [
            threading.Thread(target=self._guard, args=(part, watched_stop), name=part.__name__)
            for part, watched_stop in zip(parts, self._loops.watch(stop, len(parts)), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 1 if self._loops.has_failed() else 0

    def _guard(self, part: Callable[[StopFlag], None], stop: StopFlag) -> None:
        try:
            part(stop)
        except Exception:
            # The loop boundary: logged once; the process ends and is started again by whoever keeps it.
            log.exception("part of the recorder died", extra={"part": part.__name__})
            self._loops.fail()
        finally:
            stop.set()

    def _record(self, stop: StopFlag) -> None:
        consumer = self._log.group(
            group=self._topics.recorder_group,
            topics=recorded_topics(self._topics),
            client="recorder",
        )
        recorder = make_recorder(
            consumer=consumer,
            store=self._store,
            blobs=self._blobs,
            clock=self._clock,
            metrics=self._metrics,
            wait_s=self._settings.ingress.background_wait_s,
        )
        try:
            recorder.run(stop)
        finally:
            consumer.close()

    def _reap(self, stop: StopFlag) -> None:
        settings = self._settings
        appender = self._log.appender(client="reaper")
        lags = self._log.lag_reader(client="reaper")
        limits = ReaperLimits(
            route_bound_s=settings.store.route_bound_s,
            append_s=settings.broker.delivery_timeout_s,
            further_reply_topics=settings.ingress.further_reply_topics,
            max_record_bytes=settings.broker.max_record_bytes,
        )
        reaper = Reaper(
            store=self._store,
            appender=appender,
            clock=self._clock,
            topics=self._topics,
            limits=limits,
            metrics=self._metrics,
            recorded=RecordedUntil(lags=lags, clock=self._clock, topics=self._topics),
        )
        republisher = Republisher(
            store=self._store,
            appender=appender,
            lags=lags,
            clock=self._clock,
            topics=self._topics,
            limits=limits,
        )
        blob_purger = BlobPurger(self._store, self._blobs, self._clock)
        row_purger = RowPurger(
            self._store, self._clock, timedelta(days=settings.store.retention_days)
        )
        try:
            while not stop.wait(settings.store.reap_s):
                self._run_round("reaper", reaper.tick)
                self._run_round("republisher", republisher.tick)
                self._run_round("purger", row_purger.tick)
                self._run_round("sweeper", blob_purger.tick)
        finally:
            lags.close()
            appender.close(CLOSE_S)

    def _run_batches(self, stop: StopFlag) -> None:
        settings = self._settings
        appender = self._log.appender(client="batches")
        runner = BatchRunner(
            store=self._store,
            blobs=self._blobs,
            appender=appender,
            clock=self._clock,
            topics=self._topics,
            limits=BatchLimits(
                wait_s=settings.ingress.background_wait_s,
                append_s=settings.broker.delivery_timeout_s,
                inline_bytes=limit_inline_bytes(settings.broker),
                max_file_bytes=settings.ingress.max_file_bytes,
                tenant_batches=settings.recorder.tenant_batches,
                tenant_lines=settings.recorder.tenant_lines,
            ),
            metrics=self._metrics,
        )
        try:
            while not stop.wait(BATCH_S):
                self._run_round("batches", runner.tick)
        finally:
            appender.close(CLOSE_S)

    def _run_round(self, part: str, step: Callable[[], int]) -> None:
        """A round that fails is followed by the next one; a part that fails again and again is not ready."""
        try:
            step()
        except StoreFailed as error:
            log.warning("store out of reach", extra={"part": part, "reason": str(error)})
        except Exception:
            # The loop boundary: what is wrong with one part must not end the others.
            self._failures[part] += 1
            self._metrics.failed_rounds.labels(part=part).inc()
            log.exception("round failed", extra={"part": part})
        else:
            self._failures.pop(part, None)

    def _is_ready(self) -> bool:
        is_moving = self._progress.is_moving(self._topics.recorder_group)
        is_well = all(n < UNREADY for n in self._failures.copy().values())
        return self._loops.is_live() and is_well and is_moving


def limit_inline_bytes(broker: BrokerSettings) -> int:
    """Lines of batches are many: where the broker forgets, large ones travel by reference sooner."""
    if broker.kind == "embedded":
        return min(broker.inline_bytes, broker.embedded_answer_bytes)
    return broker.inline_bytes
