"""A cluster at one instant: objects as the API sent them, and what the log's brokers reported."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from functions.kubernetes.labels import (
    CLASS_ANNOTATION,
    KNATIVE_SERVICE_LABEL,
    KPA_CLASS,
    PAUSED_REPLICAS,
)
from functions.ports.kubernetes import Object, get_annotations, get_labels, get_name
from router_model.catalogue.model import Catalogue

_DURATION: Final = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What was read from the log. `gaps`: partitions without an offset, by (group, topic)."""

    partitions: Mapping[str, int]
    gaps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    lags: Mapping[tuple[str, str], int] = field(default_factory=dict)
    topic_retention_ms: Mapping[str, int] = field(default_factory=dict)
    """-1: for ever."""
    offsets_retention_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSnapshot:
    """Objects of one namespace, and what belongs to them. Empty: none, or not read."""

    namespace: str
    taken_at: datetime
    services: tuple[Object, ...] = ()
    """Knative Services."""
    revisions: tuple[Object, ...] = ()
    autoscalers: tuple[Object, ...] = ()
    """Knative's PodAutoscalers."""
    scaled_objects: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    stateful_sets: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    sources: tuple[Object, ...] = ()
    """KafkaSources."""
    scaling: Mapping[str, Object] = field(default_factory=dict)
    """By ConfigMap name: its data, for ConfigMaps that hold scaling or a catalogue."""
    knative: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Data of Knative Serving's own ConfigMaps, by name (config-gc, config-features ...)."""
    knative_deployments: tuple[str, ...] = ()
    """Names of the Deployments in Knative Serving's namespace."""
    renewed: Mapping[str, datetime] = field(default_factory=dict)
    """When each node last renewed its lease, by the node's own clock."""
    lags: Mapping[str, float] = field(default_factory=dict)
    """Lag as KEDA measures it now, by ScaledObject."""
    missing: frozenset[str] = frozenset()
    """Kinds that the cluster does not know."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kinds that could not be read, with the reason."""
    catalogue: Catalogue | None = None
    log: LogFacts | None = None


def dig(value: Any, *path: str | int, default: Any = None) -> Any:
    """The value at a path of keys and positions, `default` if one is missing or null."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return default if value is None else value


def find_condition(obj: Object, kind: str) -> Object:
    """The status condition of that type; empty where it was never set."""
    for each in dig(obj, "status", "conditions", default=()):
        if each.get("type") == kind:
            result: Object = each
            return result
    return {}


def parse_duration_s(text: str) -> float | None:
    """Seconds of a Go duration (`10m`, `1h30m`, `600s`); None where it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_instant(text: str) -> datetime | None:
    """A Kubernetes timestamp; None where it is none."""
    try:
        instant = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def get_class(service: Object) -> str:
    """The autoscaling class of a Knative Service's template, Knative's own default included."""
    name: str = dig(
        service, "spec", "template", "metadata", "annotations", CLASS_ANNOTATION, default=KPA_CLASS
    )
    return name


def list_scaled_objects(target: str, snapshot: ClusterSnapshot) -> tuple[Object, ...]:
    """ScaledObjects whose target has that name."""
    return tuple(
        each
        for each in snapshot.scaled_objects
        if dig(each, "spec", "scaleTargetRef", "name") == target
    )


def list_triggers(scaled: Object, kind: str) -> Iterator[Mapping[str, str]]:
    """Metadata of a ScaledObject's triggers of one type."""
    for trigger in dig(scaled, "spec", "triggers", default=()):
        if trigger.get("type") == kind:
            yield trigger.get("metadata") or {}


def find_deployment(snapshot: ClusterSnapshot, name: str) -> Object | None:
    return next((each for each in snapshot.deployments if get_name(each) == name), None)


def list_revisions(service: Object, snapshot: ClusterSnapshot) -> tuple[Object, ...]:
    """Revisions of a Knative Service."""
    return tuple(
        each
        for each in snapshot.revisions
        if get_labels(each).get(KNATIVE_SERVICE_LABEL) == get_name(service)
    )


def is_superseded(revision: Object, snapshot: ClusterSnapshot) -> bool:
    """Whether no traffic reaches it any more: Knative says so of its PodAutoscaler."""
    name = get_name(revision)
    return any(
        get_name(each) == name and dig(each, "spec", "reachability") == "Unreachable"
        for each in snapshot.autoscalers
    )


def is_paused(scaled: Object) -> bool:
    """Whether KEDA holds it at zero."""
    return get_annotations(scaled).get(PAUSED_REPLICAS) == "0"


def list_containers(pod_template: Any) -> Iterable[Object]:
    """Containers of a pod template's (or a pod's) spec."""
    containers: Iterable[Object] = dig(pod_template, "spec", "containers", default=())
    return containers
