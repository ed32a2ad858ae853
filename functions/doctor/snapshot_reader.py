"""Reads a snapshot of a cluster from the Kubernetes API and the log; it notes refusals."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import quote

from functions.doctor.snapshot import ClusterSnapshot, LogFacts, dig, list_triggers, parse_instant
from functions.ports.kafka import LagReader
from functions.ports.kubernetes import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEASES,
    POD_AUTOSCALERS,
    PODS,
    SCALED_OBJECTS,
    KubernetesApi,
    KubernetesFailed,
    Object,
    Resource,
    Selection,
    get_name,
)
from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.catalogue.model import Catalogue

SERVICES: Final = Resource("serving.knative.dev", "v1", "services", "Service")
REVISIONS: Final = Resource("serving.knative.dev", "v1", "revisions", "Revision")
SOURCES: Final = Resource("sources.knative.dev", "v1", "kafkasources", "KafkaSource")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
EXTERNAL: Final = Resource("external.metrics.k8s.io", "v1beta1", "", "ExternalMetricValueList")
KNATIVE: Final = "knative-serving"
KNATIVE_CONFIG: Final = (
    "config-gc",
    "config-features",
    "config-defaults",
    "config-deployment",
    "config-observability",
)
NODE_LEASES: Final = "kube-node-lease"
CATALOGUE_KEY: Final = "catalogue.yaml"
_MILLI: Final = 1000.0


class RetentionReader(Protocol):
    """How long a log keeps things."""

    def read_topics(self, topics: Iterable[str]) -> Mapping[str, int]:
        """`retention.ms` of each topic that exists; -1: for ever."""
        ...

    def read_offsets(self) -> int | None:
        """`offsets.retention.minutes` of the brokers; None where they do not say."""
        ...


class _Reader:
    """Lists kind after kind, and remembers what was not there or was refused."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self.missing: set[str] = set()
        self.unread: dict[str, str] = {}

    def items(self, resource: Resource, namespace: str, labels: str = "") -> tuple[Object, ...]:
        try:
            selection = Selection(resource=resource, namespace=namespace, labels=labels)
            return self._api.listing(selection).items
        except KubernetesFailed as failure:
            self._note(resource.kind, failure)
            return ()

    def one(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return self._api.get(resource, namespace, name)
        except KubernetesFailed as failure:
            if not failure.is_absent:
                self._note(f"{resource.kind} {namespace}", failure)
            return None

    def _note(self, kind: str, failure: KubernetesFailed) -> None:
        if failure.status == 0:
            raise failure
        if failure.is_absent:
            self.missing.add(kind)
        else:
            self.unread[kind] = failure.reason


def read_snapshot(api: KubernetesApi, namespace: str, now: datetime) -> ClusterSnapshot:
    """What the namespace holds now.

    Raises:
        KubernetesFailed: the API is not reached at all (`status` 0).
    """
    reader = _Reader(api)
    scaled = reader.items(SCALED_OBJECTS, namespace)
    maps = reader.items(CONFIG_MAPS, namespace)
    return ClusterSnapshot(
        namespace=namespace,
        taken_at=now,
        services=reader.items(SERVICES, namespace),
        revisions=reader.items(REVISIONS, namespace),
        autoscalers=reader.items(POD_AUTOSCALERS, namespace),
        scaled_objects=scaled,
        deployments=reader.items(DEPLOYMENTS, namespace),
        stateful_sets=reader.items(STATEFUL_SETS, namespace),
        pods=reader.items(PODS, namespace),
        sources=reader.items(SOURCES, namespace),
        knative=_read_knative(reader),
        knative_deployments=tuple(map(get_name, reader.items(DEPLOYMENTS, KNATIVE))),
        renewed=_read_renewals(reader),
        lags=_read_lags(reader, namespace, scaled),
        catalogue=_parse_catalogue(maps),
        missing=frozenset(reader.missing),
        unread=dict(reader.unread),
    )


def list_groups(snapshot: ClusterSnapshot) -> Mapping[str, tuple[str, ...]]:
    """Consumer groups and topics that the ScaledObjects look at."""
    topics_by_group: dict[str, set[str]] = {}
    for scaled in snapshot.scaled_objects:
        for metadata in list_triggers(scaled, "kafka"):
            topics_by_group.setdefault(metadata.get("consumerGroup", ""), set()).add(
                metadata.get("topic", "")
            )
    return {group: tuple(sorted(topics)) for group, topics in topics_by_group.items() if group}


def read_log(
    groups: Mapping[str, tuple[str, ...]], lags: LagReader, retention: RetentionReader
) -> LogFacts:
    """Offsets, sizes and retention of these groups' topics. Raises what the adapters raise."""
    partitions: dict[str, int] = {}
    gaps: dict[tuple[str, str], int] = {}
    lag: dict[tuple[str, str], int] = {}
    for group, offsets_by_partition in lags.lags(groups).items():
        for topic in groups[group]:
            parts = [
                offsets for part, offsets in offsets_by_partition.items() if part.topic == topic
            ]
            if parts:
                partitions[topic] = len(parts)
                gaps[group, topic] = sum(each.committed is None for each in parts)
                lag[group, topic] = sum(each.lag for each in parts)
    return LogFacts(
        partitions=partitions,
        gaps=gaps,
        lags=lag,
        topic_retention_ms=retention.read_topics(partitions),
        offsets_retention_minutes=retention.read_offsets(),
    )


def _read_knative(reader: _Reader) -> Mapping[str, Mapping[str, str]]:
    configs: dict[str, Mapping[str, str]] = {}
    for name in KNATIVE_CONFIG:
        config = reader.one(CONFIG_MAPS, KNATIVE, name)
        if config is not None:
            configs[name] = dig(config, "data", default={})
    return configs


def _read_renewals(reader: _Reader) -> Mapping[str, datetime]:
    renewals: dict[str, datetime] = {}
    for lease in reader.items(LEASES, NODE_LEASES):
        at = parse_instant(dig(lease, "spec", "renewTime", default=""))
        if at is not None:
            renewals[get_name(lease)] = at
    return renewals


def _read_lags(reader: _Reader, namespace: str, scaled: Iterable[Object]) -> Mapping[str, float]:
    """Lag by KEDA's metrics server, which answers at zero replicas too; Kafka triggers only."""
    lags: dict[str, float] = {}
    for each in scaled:
        name = get_name(each)
        for metric in dig(each, "status", "externalMetricNames", default=()):
            if "kafka" not in metric:
                continue
            # The metric's name stands where a kind's would; there is no name of an object.
            query = f"{metric}?labelSelector={quote(f'scaledobject.keda.sh/name={name}', safe='')}"
            answer = reader.one(EXTERNAL, namespace, query)
            for item in dig(answer, "items", default=()):
                lags[name] = lags.get(name, 0.0) + parse_quantity(str(item.get("value", "0")))
    return lags


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity without unit, or in thousandths (`1500m`); 0 where it is neither."""
    try:
        return float(text[:-1]) / _MILLI if text.endswith("m") else float(text)
    except ValueError:
        return 0.0


def _parse_catalogue(maps: Iterable[Object]) -> Catalogue | None:
    """The first good catalogue among the ConfigMaps."""
    for each in maps:
        text = dig(each, "data", CATALOGUE_KEY)
        if isinstance(text, str):
            try:
                return load_catalogue(text)
            except CatalogueRejected:
                continue
    return None
