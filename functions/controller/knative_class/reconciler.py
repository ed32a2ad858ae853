"""Reconciles PodAutoscalers of our class: informers feed a work queue, each key is one revision."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from functions.controller.actions import Write
from functions.controller.api_writer import ApiWriter, NotLeading
from functions.controller.knative_class.desired_state import ObservedRevision, reconcile
from functions.controller.knative_class.pod_autoscaler import PodAutoscaler, find_serving, is_ours
from functions.controller.knative_class.scaled_object import find_spec
from functions.kubernetes.informer import Informer
from functions.kubernetes.labels import CONFIGURATION_LABEL, SCALING
from functions.kubernetes.work_queue import WorkQueue
from functions.ports.clock import Clock
from functions.ports.kubernetes import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    POD_AUTOSCALERS,
    SCALED_OBJECTS,
    SERVERLESS_SERVICES,
    KubernetesApi,
    KubernetesFailed,
    Object,
    Resource,
    Selection,
    get_annotations,
    get_labels,
    get_name,
    is_leaving,
)
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import ControllerMetrics

log = logging.getLogger(__name__)

TURN_S: Final = 0.5
GATHER_S: Final = 0.02
"""Changes come in bursts (Deployment, then ServerlessService): one decision for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScope:
    """Where the class works, and for whom."""

    namespace: str
    release: str
    activator_metrics: str

    @property
    def scaling_map(self) -> str:
        return f"{self.release}-scaling"


class KnativeClassReconciler:
    """Informers, queue and reducer. Informers run on standbys too: a new leader acts at once."""

    def __init__(
        self,
        api: KubernetesApi,
        writer: ApiWriter,
        scope: ClassScope,
        clock: Clock,
        metrics: ControllerMetrics,
    ) -> None:
        self._writer = writer
        self._scope = scope
        self._clock = clock
        self._metrics = metrics
        self.queue = WorkQueue(clock)
        one = f"metadata.name={scope.scaling_map}"
        self.autoscalers = self._informer(api, POD_AUTOSCALERS, self._on_autoscaler)
        self.serverless = self._informer(api, SERVERLESS_SERVICES, self._on_namesake)
        self.scaled = self._informer(api, SCALED_OBJECTS, self._on_namesake)
        self.deployments = self._informer(api, DEPLOYMENTS, self._on_deployment)
        self.config_maps = self._informer(api, CONFIG_MAPS, self._on_config_map, fields=one)

    def _informer(
        self,
        api: KubernetesApi,
        resource: Resource,
        on_change: Callable[[Object], None],
        *,
        fields: str = "",
    ) -> Informer:
        selection = Selection(resource=resource, namespace=self._scope.namespace, fields=fields)
        return Informer(api, selection, self._clock, on_change)

    @property
    def informers(self) -> tuple[Informer, ...]:
        return (
            self.config_maps,
            self.deployments,
            self.serverless,
            self.scaled,
            self.autoscalers,
        )

    def is_synced(self) -> bool:
        """Whether every first list is in. Before that, an absent object may only be unseen."""
        return all(informer.is_synced() for informer in self.informers)

    def ours(self) -> tuple[Object, ...]:
        """The PodAutoscalers that this controller is responsible for."""
        release = self._scope.release
        return tuple(each for each in self.autoscalers.all() if is_ours(each, release))

    def look_at_all(self) -> None:
        """Queues every revision: on becoming the leader, or after a change that concerns all."""
        for each in self.ours():
            self.queue.add(get_name(each))

    def run(self, stop: StopFlag) -> None:
        """Works until `stop`. Keys that come while another process leads are dropped."""
        while not stop.is_set():
            self.turn(TURN_S)

    def turn(self, timeout_s: float) -> None:
        """At most one key."""
        key = self.queue.take(timeout_s)
        if key is None:
            return
        outcome = "done"
        try:
            self.reconcile(key)
        except NotLeading:
            outcome = "standby"
        except KubernetesFailed as error:
            # A stale view ends in a conflict: the watch is about to bring the newer object.
            outcome = "conflict" if error.status == 409 else "failed"
            if outcome == "failed":
                log.warning("reconcile", extra={"revision": key, "reason": str(error)[:300]})
        except Exception:  # the loop's boundary: one odd object must not stop the others
            outcome = "failed"
            log.exception("reconcile", extra={"revision": key})
        self._metrics.reconciles.labels(outcome).inc()
        self._metrics.queue.set(len(self.queue))
        self.queue.done(key, failed=outcome in {"failed", "conflict"})

    def reconcile(self, name: str) -> int:
        """Brings one revision to where it should be; the number of objects written."""
        observed = self.observe(name)
        if observed is None or not self.is_synced():
            return 0
        return self._writer.carry_out(reconcile(observed), self._learn)

    def observe(self, name: str) -> ObservedRevision | None:
        """What is known of a revision; None where it is gone, going, or not ours."""
        obj = self.autoscalers.get(name)
        if obj is None or is_leaving(obj) or not is_ours(obj, self._scope.release):
            return None
        mine = PodAutoscaler.parse(obj)
        return ObservedRevision(
            autoscaler=mine,
            serverless=self.serverless.get(name),
            scaled=self.scaled.get(name),
            deployment=self.deployments.get(mine.target["name"]),
            scaling=find_spec(mine, self.config_maps.get(self._scope.scaling_map)),
            serving=find_serving(self._siblings(mine.configuration)),
            now=self._clock.now(),
            activator_metrics=self._scope.activator_metrics,
        )

    def _siblings(self, configuration: str) -> Iterator[Object]:
        return (each for each in self.ours() if _get_configuration(each) == configuration)

    def _learn(self, write: Write, obj: Object) -> None:
        informers = {
            POD_AUTOSCALERS: self.autoscalers,
            SERVERLESS_SERVICES: self.serverless,
            SCALED_OBJECTS: self.scaled,
        }
        informers[write.resource].learn(obj)

    def _on_autoscaler(self, obj: Object) -> None:
        # Whether one revision serves decides what its siblings must do.
        for each in (obj, *self._siblings(_get_configuration(obj))):
            self._soon(get_name(each))

    def _on_namesake(self, obj: Object) -> None:
        self._soon(get_name(obj))

    def _on_deployment(self, obj: Object) -> None:
        for each in self.ours():
            if each["spec"]["scaleTargetRef"]["name"] == get_name(obj):
                self._soon(get_name(each))

    def _on_config_map(self, obj: Object) -> None:
        for each in self.ours():
            if get_annotations(each).get(SCALING) == get_name(obj):
                self._soon(get_name(each))

    def _soon(self, name: str) -> None:
        known = self.autoscalers.get(name)
        if known is not None:
            self.queue.add(name, GATHER_S)


def _get_configuration(obj: Object) -> str:
    return get_labels(obj).get(CONFIGURATION_LABEL, get_name(obj))
