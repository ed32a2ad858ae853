"""The leader's loop, every second, and what each turn does.

It announces the active revision, sets pod deletion costs, replaces broken pods, works around lost
KEDA pushes and prewarms services.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from functions.autoscaling.weekly_pattern import HabitThresholds
from functions.controller.actions import Action
from functions.controller.api_writer import ApiWriter, NotLeading
from functions.controller.knative_class.reconciler import KnativeClassReconciler
from functions.controller.knative_class.revision_announcer import RevisionAnnouncer
from functions.controller.maintenance.keda_push_workaround import KedaPushWorkaround
from functions.controller.maintenance.offset_keeper import OffsetKeeper
from functions.controller.maintenance.pod_deletion_cost import DeletionCosts
from functions.controller.maintenance.pod_recovery import (
    RecoveryDecision,
    RecoveryLimits,
    RecoveryState,
    WorkloadState,
    plan_actions,
)
from functions.controller.maintenance.prewarmer import ArrivalHistory, choose_warm, plan_annotations
from functions.controller.pods import Pod
from functions.kubernetes.informer import Informer
from functions.kubernetes.labels import RELEASE_LABEL, REVISION_LABEL, SERVICE_LABEL
from functions.ports.clock import Clock
from functions.ports.kubernetes import KubernetesFailed, Object, get_labels, is_leaving
from functions.runtime.settings import ControllerSettings
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import ControllerMetrics
from router_model.catalogue.model import Catalogue
from router_model.service_registry import STALE_AFTER, Registry

log = logging.getLogger(__name__)

PREWARM_S: Final = 15.0
HISTORY_S: Final = 600.0
SLOW_TURN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceDependencies:
    """What the loop is wired from. `history` may block; None: no service has habits."""

    autoscaling: KnativeClassReconciler
    pods: Informer
    writer: ApiWriter
    catalogue: Catalogue
    registry: Callable[[], Registry]
    announcer: RevisionAnnouncer
    keeper: OffsetKeeper
    history: Callable[[], ArrivalHistory] | None
    is_leader: Callable[[], bool]
    clock: Clock
    settings: ControllerSettings
    metrics: ControllerMetrics


class MaintenanceLoop:
    """`run` and `run_slow` have a thread each. A new leader starts without memory."""

    def __init__(self, parts: MaintenanceDependencies) -> None:
        self._parts = parts
        self._deletion_costs = DeletionCosts(parts.clock)
        self._push_workaround = KedaPushWorkaround()
        self._recoveries: dict[str, RecoveryState] = {}
        self._history: ArrivalHistory | None = None
        self._history_s: float | None = None
        self._prewarm_s: float | None = None

    def run(self, stop: StopFlag) -> None:
        while not stop.wait(self._parts.settings.tick_s):
            self.tick()

    def run_slow(self, stop: StopFlag) -> None:
        """What waits for the broker or the store."""
        while not stop.wait(SLOW_TURN_S):
            if self._parts.is_leader():
                self._parts.keeper.tick()
                self._read_history()

    def tick(self) -> None:
        """One round. A step that fails is tried again in the next, and stops no other."""
        parts = self._parts
        if not parts.is_leader():
            self._recoveries.clear()
            self._push_workaround.forget()
            self._prewarm_s = None
            parts.announcer.forget()
            return
        if not (parts.autoscaling.is_synced() and parts.pods.is_synced()):
            return
        for step in (
            self._announce,
            self._mark_pods,
            self._recover,
            self._wake_keda,
            self._prewarm,
        ):
            try:
                step()
            except NotLeading:
                return
            except KubernetesFailed as error:
                log.warning("round", extra={"step": step.__name__, "reason": str(error)[:200]})
            except Exception:  # the loop's boundary
                log.exception("round", extra={"step": step.__name__})

    def _announce(self) -> None:
        self._parts.announcer.tick(self._parts.autoscaling.ours())

    def _list_pods(self) -> tuple[Pod, ...]:
        return tuple(
            Pod.parse(each) for each in self._parts.pods.all() if self._is_of_release(each)
        )

    def _is_of_release(self, obj: Object) -> bool:
        return is_of_release(obj, self._parts.settings.release)

    def _mark_pods(self) -> None:
        now = self._parts.clock.now()
        entries = self._parts.registry().entries
        in_flight = {
            replica: status.in_flight
            for (_, replica), status in entries.items()
            if now - status.at <= STALE_AFTER
        }
        self._parts.writer.carry_out(self._deletion_costs.step(self._list_pods(), in_flight))

    def _recover(self) -> None:
        settings = self._parts.settings
        now_s = self._parts.clock.monotonic_s()
        by_workload: dict[str, list[Pod]] = defaultdict(list)
        for pod in self._list_pods():
            by_workload[pod.workload].append(pod)
        decisions: list[RecoveryDecision] = []
        recoveries: dict[str, RecoveryState] = {}
        for workload, service, deployment in self._list_workloads():
            state = WorkloadState(
                now_s=now_s,
                wanted=int(deployment["spec"].get("replicas") or 0),
                ready=int(deployment.get("status", {}).get("readyReplicas") or 0),
                pods=tuple(by_workload[workload]),
            )
            known = self._recoveries.get(workload, RecoveryState())
            recoveries[workload], decision = known.step(state, self._build_recovery_limits(service))
            if decision is not None:
                decisions.append(decision)
        self._recoveries = recoveries
        self._count(decisions)
        self._carry_out_each(plan_actions(decisions, settings.recover_tries))

    def _carry_out_each(self, wanted: tuple[Action, ...]) -> None:
        """One that fails stops no other: each was decided once, and counts as a try."""
        for action in wanted:
            try:
                self._parts.writer.carry_out((action,))
            except KubernetesFailed as error:
                log.warning("not carried out", extra={"reason": str(error)[:200]})

    def _count(self, decisions: list[RecoveryDecision]) -> None:
        for decision in decisions:
            outcome = "left" if decision.is_left else decision.reason
            self._parts.metrics.recoveries.labels(decision.pod.service, outcome).inc()

    def _list_workloads(self) -> Iterator[tuple[str, str, Object]]:
        """Deployments of model pods: (what its pods have as their workload, slug, Deployment)."""
        for deployment in self._parts.autoscaling.deployments.all():
            service = get_service(deployment)
            if service and not is_leaving(deployment) and self._is_of_release(deployment):
                revision = get_labels(deployment).get(REVISION_LABEL)
                yield revision or service, service, deployment

    def _build_recovery_limits(self, slug: str) -> RecoveryLimits:
        settings = self._parts.settings
        service = self._parts.catalogue.service(slug)
        start_s = 0.0 if service is None else service.start_timeout_s
        return RecoveryLimits(
            tries=settings.recover_tries,
            backoff_s=settings.recover_backoff_s,
            missing_s=start_s + settings.recover_after_s,
        )

    def _wake_keda(self) -> None:
        now_s = self._parts.clock.monotonic_s()
        self._carry_out_each(
            self._push_workaround.step((obj for _, obj in self._list_scaled_objects()), now_s)
        )

    def _prewarm(self) -> None:
        now_s = self._parts.clock.monotonic_s()
        if self._prewarm_s is not None and now_s - self._prewarm_s < PREWARM_S:
            return
        settings = self._parts.settings
        thresholds = HabitThresholds(
            weeks=settings.history_weeks,
            share=settings.habit_share,
            requests=settings.habit_requests,
        )
        now = self._parts.clock.now()
        warm = choose_warm(self._parts.catalogue, now, self._history, thresholds)
        self._parts.writer.carry_out(plan_annotations(self._list_scaled_objects(), warm))
        self._prewarm_s = now_s
        self._parts.metrics.held_warm.clear()
        for slug, why in warm.items():
            self._parts.metrics.held_warm.labels(slug, why).set(1)

    def _list_scaled_objects(self) -> Iterator[tuple[str, Object]]:
        """ScaledObjects of model services with their slugs, of revisions and Deployments."""
        for obj in self._parts.autoscaling.scaled.all():
            target = obj["spec"].get("scaleTargetRef", {}).get("name", "")
            deployment = self._parts.autoscaling.deployments.get(target)
            service = "" if deployment is None else get_service(deployment)
            if service and not is_leaving(obj) and self._is_of_release(obj):
                yield service, obj

    def _read_history(self) -> None:
        parts = self._parts
        now_s = parts.clock.monotonic_s()
        is_fresh = self._history_s is not None and now_s - self._history_s < HISTORY_S
        if parts.history is None or is_fresh:
            return
        try:
            self._history = parts.history()
            self._history_s = now_s
        except Exception as error:  # noqa: BLE001 - the store is away: what was read stays
            log.warning("history not read", extra={"reason": type(error).__name__})


def is_of_release(obj: Object, release: str) -> bool:
    """Whether an object belongs to the release; one that does not say to which counts."""
    return get_labels(obj).get(RELEASE_LABEL, release) == release


def get_service(deployment: Object) -> str:
    """The slug of the service that a Deployment's pods serve; empty for any other Deployment."""
    template: Mapping[str, Mapping[str, Mapping[str, str]]] = deployment["spec"].get("template", {})
    labels = template.get("metadata", {}).get("labels") or {}
    return labels.get(SERVICE_LABEL, "")
