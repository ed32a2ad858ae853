"""A Knative namespace in memory: PodAutoscalers, their Deployments, and Knative's and KEDA's own part, played by
hand.
"""

import json
from typing import Any

import pytest

from functions.controller.api_writer import ApiWriter
from functions.controller.knative_class.reconciler import ClassScope, KnativeClassReconciler
from functions.ports.kubernetes import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    POD_AUTOSCALERS,
    SCALED_OBJECTS,
    SERVERLESS_SERVICES,
    Object,
    Resource,
    get_name,
)
from functions.runtime.telemetry import ControllerMetrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_kubernetes import MemoryKubernetes

NAMESPACE = "models"
RELEASE = "ps"
SPEC = json.dumps(
    {
        "pollingInterval": 5,
        "minReplicaCount": 0,
        "maxReplicaCount": 3,
        "triggers": [{"type": "kafka", "metadata": {"topic": "t"}}],
    }
)


class Knative:
    """What Knative, KEDA and the kubelet would do, one step at a time."""

    def __init__(self) -> None:
        self.api = MemoryKubernetes()

    def scaling(self, text: str = SPEC, slug: str = "tiny") -> None:
        key = (CONFIG_MAPS, NAMESPACE, f"{RELEASE}-scaling")
        body = {"metadata": {"name": key[2]}, "data": {slug: text}}
        if key in self.api.everything():
            self.change(CONFIG_MAPS, key[2], lambda found: found["data"].update({slug: text}))
        else:
            self.api.create(CONFIG_MAPS, NAMESPACE, body)

    def revision(
        self, number: int = 1, slug: str = "tiny", release: str = RELEASE, **annotations: str
    ) -> str:
        name = f"{slug}-{number:05}"
        labels = {
            "pickspin.io/service": slug,
            "app.kubernetes.io/instance": release,
            "serving.knative.dev/configuration": slug,
            "serving.knative.dev/configurationGeneration": str(number),
            "serving.knative.dev/revision": name,
        }
        given = {
            "autoscaling.knative.dev/class": "keda.pickspin.io",
            "keda.pickspin.io/scaling": f"{RELEASE}-scaling",
        } | {key.replace("__", "/").replace("_", "-"): value for key, value in annotations.items()}
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{name}-deployment"}
        self.api.create(
            POD_AUTOSCALERS,
            NAMESPACE,
            {
                "apiVersion": POD_AUTOSCALERS.api_version,
                "kind": POD_AUTOSCALERS.kind,
                "metadata": {"name": name, "labels": labels, "annotations": given},
                "spec": {
                    "scaleTargetRef": target,
                    "protocolType": "http1",
                    "reachability": "Unknown",
                },
            },
        )
        self.api.create(
            DEPLOYMENTS,
            NAMESPACE,
            {
                "metadata": {"name": target["name"], "labels": labels},
                "spec": {"replicas": 1, "template": {"metadata": {"labels": labels}}},
                "status": {},
            },
        )
        return name

    def change(self, resource: Resource, name: str, how: Any) -> Object:
        return self.api.touch(resource, NAMESPACE, name, how)

    def route(self, name: str, reachability: str = "Reachable") -> None:
        self.change(
            POD_AUTOSCALERS, name, lambda found: found["spec"].update(reachability=reachability)
        )

    def replicas(self, name: str, spec: int, ready: int) -> None:
        def scale(found: Any) -> None:
            found["spec"]["replicas"] = spec
            found["status"] = {**found["status"], "replicas": spec, "readyReplicas": ready}

        self.change(DEPLOYMENTS, f"{name}-deployment", scale)

    def fail_progress(self, name: str) -> None:
        failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        self.change_conditions(name, [failed])

    def change_conditions(self, name: str, conditions: list[Any]) -> None:
        self.change(
            DEPLOYMENTS,
            f"{name}-deployment",
            lambda found: found["status"].update(conditions=conditions),
        )

    def serve(self, name: str) -> None:
        """Knative has made the services of a ServerlessService."""
        status = {
            "serviceName": name,
            "privateServiceName": f"{name}-private",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.change(SERVERLESS_SERVICES, name, lambda found: found.update(status=status))

    def find(self, resource: Resource, name: str) -> Object | None:
        return self.api.everything().get((resource, NAMESPACE, name))

    def scaled(self, name: str) -> Object | None:
        return self.find(SCALED_OBJECTS, name)

    def condition(self, name: str, kind: str) -> str | None:
        found = self.find(POD_AUTOSCALERS, name) or {}
        conditions = found.get("status", {}).get("conditions", ())
        return next((each["status"] for each in conditions if each["type"] == kind), None)


class Bench:
    """The class over that namespace, driven by hand: `settle` follows changes and reconciles until nothing is left."""

    def __init__(self, knative: Knative) -> None:
        self.knative = knative
        self.clock = FakeClock()
        self.is_leader = True
        self.metrics = ControllerMetrics()
        self.writer = ApiWriter(knative.api, self.clock, lambda: self.is_leader, self.metrics)
        self.terms = ClassScope(
            namespace=NAMESPACE, release=RELEASE, activator_metrics="http://activator/metrics"
        )
        self.autoscaling = KnativeClassReconciler(
            knative.api, self.writer, self.terms, self.clock, self.metrics
        )

    def see(self) -> None:
        """Every informer catches up with what is in the API."""
        for informer in self.autoscaling.informers:
            informer.relist()

    def settle(self, rounds: int = 12) -> int:
        """The number of objects written until a whole round writes nothing."""
        total = 0
        for _ in range(rounds):
            self.see()
            count = sum(
                self.autoscaling.reconcile(get_name(each)) for each in self.autoscaling.ours()
            )
            total += count
            if not count:
                return total
        raise AssertionError("it never settles")

    def start(self, name: str) -> None:
        """The first boot of a revision: made known, its services made, its replica ready."""
        self.settle()
        self.knative.serve(name)
        self.knative.replicas(name, 1, 1)
        self.settle()

    def events(self) -> list[str]:
        found = self.knative.api.everything()
        return [each["reason"] for key, each in found.items() if key[0] == EVENTS]


@pytest.fixture
def bench(knative: Knative) -> Bench:
    return Bench(knative)


@pytest.fixture
def knative() -> Knative:
    found = Knative()
    found.scaling()
    return found
