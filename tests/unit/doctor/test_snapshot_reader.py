"""A snapshot is what the API and the log say; what is refused or absent is noted, and nothing fails for it."""

import pytest

from events.event import PartitionId
from functions.doctor import snapshot_reader
from functions.doctor.snapshot import parse_duration_s, parse_instant
from functions.ports.kafka import Offsets
from functions.ports.kubernetes import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    KubernetesFailed,
    Listing,
)
from functions.testing.memory_kubernetes import MemoryKubernetes

CATALOGUE = """
models:
  - id: small
    weights: {url: "http://127.0.0.1:8000/v1"}
services:
  - {model: small, backend: {kind: vllm}}
"""


class Guarded:
    """The cluster in memory behind an API that refuses some kinds and does not know others."""

    def __init__(self, inner, *, refused=(), unknown=(), metrics=None, status=0):
        self.inner, self.refused, self.unknown = inner, refused, unknown
        self.metrics, self.status = metrics or {}, status

    def listing(self, selection):
        if self.status:
            raise KubernetesFailed(self.status, "Unauthorized")
        self.check(selection.resource.kind)
        return self.inner.listing(selection)

    def get(self, resource, namespace, name):
        if resource == snapshot_reader.EXTERNAL:
            return self.metrics[name]
        self.check(resource.kind)
        return self.inner.get(resource, namespace, name)

    def check(self, kind):
        if kind in self.refused:
            raise KubernetesFailed(403, "Forbidden")
        if kind in self.unknown:
            raise KubernetesFailed(404, "NotFound")


@pytest.fixture
def cluster(build):
    memory = MemoryKubernetes()

    def put(resource, namespace, body):
        memory.create(
            resource, namespace, body | {"metadata": body["metadata"] | {"namespace": namespace}}
        )

    scaled = build.scaled_object()
    scaled["status"]["externalMetricNames"] = ["s0-kafka-infer-model-small", "s1-cron-x"]
    put(SCALED_OBJECTS, "models", scaled)
    put(DEPLOYMENTS, "models", build.deployment())
    put(DEPLOYMENTS, "knative-serving", build.deployment("activator"))
    put(DEPLOYMENTS, "other", build.deployment("elsewhere"))
    put(
        CONFIG_MAPS,
        "models",
        {"metadata": {"name": "r-catalogue"}, "data": {"catalogue.yaml": CATALOGUE}},
    )
    put(
        CONFIG_MAPS,
        "knative-serving",
        {"metadata": {"name": "config-gc"}, "data": {"max-non-active-revisions": "0"}},
    )
    return memory


METRIC = "s0-kafka-infer-model-small?labelSelector=scaledobject.keda.sh%2Fname%3Dsmall-00001"


def test_everything_of_the_namespace_is_read(cluster, build):
    api = Guarded(cluster, metrics={METRIC: {"items": [{"value": "1500m"}]}})
    found = snapshot_reader.read_snapshot(api, "models", build.NOW)
    assert [each["metadata"]["name"] for each in found.deployments] == ["small-00001-deployment"]
    assert found.knative_deployments == ("activator",)
    assert found.knative["config-gc"] == {"max-non-active-revisions": "0"}
    assert found.catalogue.service("small").backend.kind == "vllm"
    assert found.lags == {"small-00001": 1.5}
    assert (found.missing, found.unread) == (frozenset(), {})
    assert snapshot_reader.list_groups(found) == {build.GROUP: (build.TOPIC,)}


def test_what_is_refused_or_unknown_is_noted(cluster, build):
    api = Guarded(cluster, refused={"ConfigMap", "Lease"}, unknown={"ScaledObject", "KafkaSource"})
    found = snapshot_reader.read_snapshot(api, "models", build.NOW)
    assert found.missing == {"ScaledObject", "KafkaSource"}
    assert found.unread["Lease"] == "Forbidden"
    assert (found.catalogue, found.scaled_objects) == (None, ())


def test_an_api_that_is_not_there_is_an_error(cluster, build):
    class Down:
        def listing(self, selection):
            raise KubernetesFailed(0, "Unreachable", "ConnectTimeoutError")

    with pytest.raises(KubernetesFailed):
        snapshot_reader.read_snapshot(Down(), "models", build.NOW)


class Lags:
    def lags(self, groups):
        return {
            group: {
                PartitionId(topic, 0): Offsets(end=9, committed=4),
                PartitionId(topic, 1): Offsets(end=3, committed=None, start=1),
            }
            for group, (topic, *_) in groups.items()
        }


class Retention:
    def read_topics(self, topics):
        return dict.fromkeys(topics, 1000)

    def read_offsets(self):
        return 10_080


def test_the_log_says_gaps_lag_and_sizes(build):
    facts = snapshot_reader.read_log({"g": ("t", "t.batch")}, Lags(), Retention())
    assert facts.partitions == {"t": 2}
    assert facts.gaps == {("g", "t"): 1}
    assert facts.lags == {("g", "t"): 7}
    assert (facts.topic_retention_ms, facts.offsets_retention_minutes) == ({"t": 1000}, 10_080)


def test_quantities_durations_and_instants_are_read():
    assert [snapshot_reader.parse_quantity(text) for text in ("3", "250m", "x")] == [3.0, 0.25, 0.0]
    assert [parse_duration_s(text) for text in ("10m", "1h30m", "600s", "1.5s", "10", "x m")] == [
        600.0,
        5400.0,
        600.0,
        1.5,
        None,
        None,
    ]
    assert parse_instant("2026-11-21T12:00:00.123456Z").microsecond == 123456
    assert parse_instant("") is None


def test_a_listing_without_objects_is_empty(build):
    class Empty:
        def listing(self, selection):
            return Listing(items=(), version="1")

        def get(self, resource, namespace, name):
            raise KubernetesFailed(404, "NotFound")

    found = snapshot_reader.read_snapshot(Empty(), "models", build.NOW)
    assert (found.deployments, found.knative, found.missing) == ((), {}, frozenset())
