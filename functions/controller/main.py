"""The controller process: leader election, informers, reconciler, maintenance loop."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from events.names import Topics
from functions import factories
from functions.autoscaling.weekly_pattern import HOURS_A_WEEK, count_hours
from functions.controller.api_writer import ApiWriter
from functions.controller.knative_class.reconciler import ClassScope, KnativeClassReconciler
from functions.controller.knative_class.revision_announcer import RevisionAnnouncer
from functions.controller.maintenance.dead_member_removal import DeadMemberRemover
from functions.controller.maintenance.maintenance_loop import (
    MaintenanceDependencies,
    MaintenanceLoop,
    is_of_release,
)
from functions.controller.maintenance.offset_keeper import OffsetKeeper
from functions.controller.maintenance.prewarmer import ArrivalHistory
from functions.kubernetes.informer import Informer
from functions.kubernetes.labels import SERVICE_LABEL
from functions.kubernetes.leader_election import LeaderElection, LeaseSettings
from functions.ports.clock import Clock
from functions.ports.kafka import RecordLog
from functions.ports.kubernetes import PODS, KubernetesApi, Object, Selection, get_name
from functions.runtime.errors import StartupFailed
from functions.runtime.missing_offsets import OffsetCommitter, list_work_groups
from functions.runtime.probe_server import ProbeServer
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.settings import Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import ControllerMetrics
from router_model.catalogue.model import Catalogue

log = logging.getLogger(__name__)

JOIN_S: Final = 5.0
CLOSE_S: Final = 2.0
CLIENT: Final = "pickspin-controller"


def run(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT; 0 after letting go of the Lease, 1 when a part of it died.

    Raises:
        StartupFailed: no access to a Kubernetes API, or a setting is wrong.
    """
    from functions.kubernetes.client import KubernetesClient  # noqa: PLC0415 - slow

    stop = StopFlag.install()
    metrics = ControllerMetrics()

    def count(verb: str, plural: str, status: int) -> None:
        metrics.calls.labels(verb, plural, str(status // 100 * 100)).inc()

    api = KubernetesClient(settings.controller.kubeconfig, count)
    dependencies = open_dependencies(settings)
    try:
        return Controller(settings, api, dependencies, SystemClock(), metrics).run(stop)
    finally:
        dependencies.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerDependencies:
    """What the controller needs beside the Kubernetes API."""

    catalogue: Catalogue
    log: RecordLog
    committer: OffsetCommitter
    history: Callable[[], ArrivalHistory] | None
    close: Callable[[], None] = lambda: None


def open_dependencies(settings: Settings) -> ControllerDependencies:
    """Catalogue, log and, where a service asks for habits, the store.

    Connections to the log are made when needed.

    Raises:
        StartupFailed: the catalogue is rejected, or the store cannot be opened.
    """
    from functions.kafka.offset_committer import KafkaOffsetCommitter  # noqa: PLC0415

    catalogue = factories.load_catalogue(settings)
    history, close = _open_history(settings, catalogue)
    return ControllerDependencies(
        catalogue=catalogue,
        log=factories.open_log(settings),
        committer=KafkaOffsetCommitter(settings.broker, CLIENT),
        history=history,
        close=close,
    )


def _open_history(
    settings: Settings, catalogue: Catalogue
) -> tuple[Callable[[], ArrivalHistory] | None, Callable[[], None]]:
    if not any(service.warm_by_habit for service in catalogue.services):
        return None, lambda: None
    if not settings.store.url:
        raise StartupFailed("a service has warm_by_habit: PICKSPIN_STORE_URL must name the store")
    from functions.sql.database import Database  # noqa: PLC0415 - slow
    from functions.sql.hourly_arrivals import SqlHourlyArrivals  # noqa: PLC0415

    source = SqlHourlyArrivals(Database(settings.store.url))
    hours = settings.controller.history_weeks * HOURS_A_WEEK

    def read() -> ArrivalHistory:
        now_hour = count_hours(SystemClock().now())
        by_service = source.hourly(now_hour, hours + HOURS_A_WEEK)
        oldest = min((hour for each in by_service.values() for hour in each), default=now_hour)
        return ArrivalHistory(arrivals=by_service, first_hour=oldest)

    return read, source.close


class Controller:
    """The process. Tests give it an API in memory."""

    def __init__(
        self,
        settings: Settings,
        api: KubernetesApi,
        dependencies: ControllerDependencies,
        clock: Clock,
        metrics: ControllerMetrics,
    ) -> None:
        self._settings = settings.controller
        self._metrics = metrics
        self._failed = threading.Event()
        self.leadership = LeaderElection(api, build_lease_settings(settings), clock)
        self.writer = ApiWriter(api, clock, self.leadership.is_leader, metrics)
        scope = ClassScope(
            namespace=self._settings.namespace,
            release=self._settings.release,
            activator_metrics=self._settings.activator_metrics,
        )
        self.autoscaling = KnativeClassReconciler(api, self.writer, scope, clock, metrics)
        models = Selection(resource=PODS, namespace=scope.namespace, labels=SERVICE_LABEL)
        topics = Topics(settings.broker.prefix)
        self.dead_members = DeadMemberRemover(
            lambda: dependencies.log.membership(client=CLIENT),
            topics,
            clock,
            self.leadership.is_leader,
            metrics,
        )
        self.pods = Informer(api, models, clock, self._on_pod)
        self._registry = RegistryConsumer(dependencies.log, topics, CLIENT)
        self._announcer = RevisionAnnouncer(
            lambda: dependencies.log.appender(client=CLIENT), topics, clock
        )
        self.maintenance = MaintenanceLoop(
            MaintenanceDependencies(
                autoscaling=self.autoscaling,
                pods=self.pods,
                writer=self.writer,
                catalogue=dependencies.catalogue,
                registry=lambda: self._registry.registry,
                announcer=self._announcer,
                keeper=self._keeper(dependencies, topics, clock),
                history=dependencies.history,
                is_leader=self.leadership.is_leader,
                clock=clock,
                settings=self._settings,
                metrics=metrics,
            )
        )

    def _keeper(
        self, dependencies: ControllerDependencies, topics: Topics, clock: Clock
    ) -> OffsetKeeper:
        return OffsetKeeper(
            lambda: dependencies.log.lag_reader(client=CLIENT),
            dependencies.committer,
            list_work_groups(dependencies.catalogue, topics),
            clock,
            self._settings.offsets_every_s,
            self._metrics,
        )

    def is_ready(self) -> bool:
        """Its view of the cluster is complete; a standby is ready too."""
        return self.autoscaling.is_synced() and self.pods.is_synced()

    def is_live(self) -> bool:
        return not self._failed.is_set()

    def run(self, stop: StopFlag) -> int:
        """Blocks until `stop`. A part that dies stops the others: the pod restarts."""
        threads = [
            *(self._thread(f"watch-{each.kind}", each.run, stop) for each in self._informers()),
            self._thread("class", self.autoscaling.run, stop),
            self._thread("care", self.maintenance.run, stop),
            self._thread("slow-care", self.maintenance.run_slow, stop),
            self._thread("departures", self.dead_members.run, stop),
            self._thread("probes", self._serve, stop),
        ]
        self._registry.start()
        for thread in threads:
            thread.start()
        self._guarded(lambda stop: self.leadership.run(stop, self._on_leading), stop)
        for thread in threads:
            # A watch waits for the API server; it writes nothing, and ends with the process.
            if not thread.name.startswith(("watch", "slow")):
                thread.join(JOIN_S)
        self._announcer.close(CLOSE_S)
        self._registry.close()
        return 1 if self._failed.is_set() else 0

    def _informers(self) -> tuple[Informer, ...]:
        return (*self.autoscaling.informers, self.pods)

    def _thread(
        self, name: str, part: Callable[[StopFlag], None], stop: StopFlag
    ) -> threading.Thread:
        return threading.Thread(target=self._guarded, args=(part, stop), name=name, daemon=True)

    def _guarded(self, part: Callable[[StopFlag], None], stop: StopFlag) -> None:
        try:
            part(stop)
        except Exception:
            log.exception("part of the controller died")
            self._failed.set()
        finally:
            stop.set()

    def _on_pod(self, obj: Object) -> None:
        is_gone = self.pods.get(get_name(obj)) is None
        if is_gone and is_of_release(obj, self._settings.release):
            self.dead_members.add(obj)

    def _on_leading(self, is_leader: bool) -> None:  # noqa: FBT001 - a callback's one fact
        self._metrics.is_leader.set(is_leader)
        if is_leader:
            self.autoscaling.look_at_all()

    def _serve(self, stop: StopFlag) -> None:
        asyncio.run(self._probe(stop))

    async def _probe(self, stop: StopFlag) -> None:
        probes = ProbeServer(
            is_ready=self.is_ready, is_live=self.is_live, registry=self._metrics.registry
        )
        try:
            port = await probes.start(self._settings.host, self._settings.port)
        except OSError as error:
            raise StartupFailed(f"cannot serve on port {self._settings.port}: {error}") from error
        log.info("probes", extra={"port": port})
        with ThreadPoolExecutor(max_workers=1) as waiting:
            await asyncio.get_running_loop().run_in_executor(waiting, stop.wait)
        await probes.close()


def build_lease_settings(settings: Settings) -> LeaseSettings:
    """The Lease of this installation.

    Raises:
        StartupFailed: its times do not fit together.
    """
    mine = settings.controller
    if not mine.retry_s < mine.renew_s < mine.lease_s:
        raise StartupFailed("PICKSPIN_CONTROLLER_: RETRY_S < RENEW_S < LEASE_S must hold")
    return LeaseSettings(
        namespace=mine.namespace,
        name=f"{mine.release}-controller",
        identity=mine.identity or socket.gethostname(),
        lease_s=mine.lease_s,
        renew_s=mine.renew_s,
        retry_s=mine.retry_s,
    )
