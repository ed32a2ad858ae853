"""A healthy installation as a snapshot, whose parts tests replace."""

import copy
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from functions.doctor.snapshot import ClusterSnapshot, LogFacts
from router_model.catalogue.model import Catalogue, Model, Service, Weights

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOPIC, GROUP = "infer.model.small", "infer-model-small"
CLASS = "autoscaling.knative.dev/class"


def kafka_trigger(**changes):
    metadata = {
        "bootstrapServers": "kafka:9092",
        "consumerGroup": GROUP,
        "topic": TOPIC,
        "lagThreshold": "3",
        "offsetResetPolicy": "earliest",
        "version": "3.6.0",
    }
    merged = metadata | changes
    return {"type": "kafka", "metadata": {k: v for k, v in merged.items() if v is not None}}


def scaled_object(name="small-00001", target="small-00001-deployment", *, paused=None, **spec):
    annotations = {} if paused is None else {"autoscaling.keda.sh/paused-replicas": paused}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "scaleTargetRef": {"name": target},
            "minReplicaCount": 0,
            "maxReplicaCount": 4,
            "initialCooldownPeriod": 1800,
            "cooldownPeriod": 120,
            "pollingInterval": 5,
            "triggers": [kafka_trigger()],
            **spec,
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def knative_service(name="small", *, kind="keda.pickspin.io", annotations=None, **spec):
    return {
        "metadata": {"name": name},
        "spec": {
            "template": {
                "metadata": {
                    "labels": {"pickspin.io/service": "small"},
                    "annotations": {
                        CLASS: kind,
                        "serving.knative.dev/progress-deadline": "30m",
                        **(annotations or {}),
                    },
                },
                "spec": {"timeoutSeconds": 600, "containers": [{"name": "worker"}], **spec},
            }
        },
        "status": {
            "latestCreatedRevisionName": "small-00001",
            "latestReadyRevisionName": "small-00001",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def revision(name="small-00001", service="small"):
    return {"metadata": {"name": name, "labels": {"serving.knative.dev/service": service}}}


def autoscaler(name="small-00001", reachability="Reachable"):
    return {"metadata": {"name": name}, "spec": {"reachability": reachability}}


def deployment(name="small-00001-deployment", *, replicas=0, ready=0, env=(), gpus=0, **labels):
    limits = {"memory": "1Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "metadata": {
            "name": name,
            "labels": {"serving.knative.dev/revision": name.removesuffix("-deployment"), **labels},
        },
        "spec": {
            "replicas": replicas,
            "template": {
                "metadata": {"labels": {"pickspin.io/service": "small"}},
                "spec": {
                    "containers": [
                        {"name": "worker", "env": list(env), "resources": {"limits": limits}}
                    ]
                },
            },
        },
        "status": {"readyReplicas": ready} if ready else {},
    }


def source(**changes):
    spec = {
        "initialOffset": "earliest",
        "delivery": {
            "retry": 10,
            "backoffPolicy": "exponential",
            "backoffDelay": "PT0.2S",
            "deadLetterSink": {"ref": {"name": "dlq"}},
        },
    }
    return {"metadata": {"name": "requests"}, "spec": spec | changes}


HEALTHY = ClusterSnapshot(
    namespace="models",
    taken_at=NOW,
    services=(knative_service(),),
    revisions=(revision(),),
    autoscalers=(autoscaler(),),
    scaled_objects=(scaled_object(),),
    deployments=(deployment(),),
    sources=(source(),),
    knative={
        "config-gc": {
            "min-non-active-revisions": "0",
            "max-non-active-revisions": "0",
            "retain-since-create-time": "disabled",
            "retain-since-last-active-time": "disabled",
        },
        "config-features": {"kubernetes.podspec-persistent-volume-claim": "enabled"},
        "config-defaults": {},
        "config-deployment": {},
        "config-observability": {"metrics-protocol": "prometheus"},
    },
    knative_deployments=("activator", "autoscaler", "controller", "webhook"),
    renewed={"node-1": NOW - timedelta(seconds=3)},
    catalogue=Catalogue(
        models=(Model(id="small", weights=Weights(path="/m")),),
        services=(
            Service(
                model="small",
                slug="small",
                start_timeout_s=1200,
                price_per_hour_usd=0.5,
                max_replicas=4,
            ),
        ),
    ),
    log=LogFacts(
        partitions={TOPIC: 12},
        gaps={(GROUP, TOPIC): 0},
        lags={(GROUP, TOPIC): 0},
        topic_retention_ms={TOPIC: 86_400_000},
        offsets_retention_minutes=43_200,
    ),
)


@pytest.fixture
def healthy():
    """Of its own for each test: nothing a test does to it reaches another."""
    return copy.deepcopy(HEALTHY)


@pytest.fixture
def build():
    """The makers of objects, by name."""
    return Makers


class Makers:
    kafka_trigger = staticmethod(kafka_trigger)
    scaled_object = staticmethod(scaled_object)
    knative_service = staticmethod(knative_service)
    revision = staticmethod(revision)
    autoscaler = staticmethod(autoscaler)
    deployment = staticmethod(deployment)
    source = staticmethod(source)
    replace = staticmethod(dataclasses.replace)
    NOW, TOPIC, GROUP = NOW, TOPIC, GROUP
