"""What processes need of the Kubernetes API: list, watch and writes, as one small Protocol.

`functions.kubernetes.client` implements it; `functions.testing.memory_kubernetes` does in memory.
Objects are the API's JSON, as mappings. Nothing changes one in place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from functions.runtime.errors import PickspinError

Object = Mapping[str, Any]
Verb = Literal["create", "replace", "patch", "delete"]
WatchKind = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of a part of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, "namespaces", namespace, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


PODS: Final = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS: Final = Resource("", "v1", "events", "Event")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
SCALED_OBJECTS: Final = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
POD_AUTOSCALERS: Final = Resource(
    "autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"
)
SERVERLESS_SERVICES: Final = Resource(
    "networking.internal.knative.dev", "v1alpha1", "serverlessservices", "ServerlessService"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Objects of one kind in one namespace. Selectors have the API's syntax; empty: all."""

    resource: Resource
    namespace: str
    labels: str = ""
    fields: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A consistent list, and the version to watch from."""

    items: tuple[Object, ...]
    version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. A BOOKMARK's object has only a newer `metadata.resourceVersion`."""

    kind: WatchKind
    object: Object


class KubernetesFailed(PickspinError):
    """The API refused a call (`status` >= 400, with its `reason`) or was not reached (0)."""

    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(f"{status} {reason}: {message}" if message else f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_absent(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Another writer came first."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def is_gone(self) -> bool:
        """The version to watch from is too old. List again."""
        return self.status == 410

    @property
    def is_refusal(self) -> bool:
        """A retry is useless: an admission webhook, a schema or missing rights refused the call."""
        return self.status in {400, 403, 422}


class KubernetesApi(Protocol):
    """Every method raises KubernetesFailed."""

    def listing(self, selection: Selection) -> Listing: ...

    def watch(self, selection: Selection, version: str, timeout_s: float) -> Iterator[WatchEvent]:
        """Changes after `version`, until the server ends the watch (after about `timeout_s`).

        Raises KubernetesFailed with `is_gone` if `version` is too old, also during the watch.
        """
        ...

    def get(self, resource: Resource, namespace: str, name: str) -> Object: ...

    def create(self, resource: Resource, namespace: str, body: Object) -> Object: ...

    def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Refused with `is_conflict` if `metadata.resourceVersion` is not the current one."""
        ...

    def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        """A JSON merge patch (RFC 7386): null removes a key, lists are replaced."""
        ...

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Refused with `is_conflict` if another object has that name now."""
        ...


def get_name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def get_labels(obj: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] | None = obj["metadata"].get("labels")
    return labels or {}


def get_annotations(obj: Object) -> Mapping[str, str]:
    annotations: Mapping[str, str] | None = obj["metadata"].get("annotations")
    return annotations or {}


def is_leaving(obj: Object) -> bool:
    """Whether it is being deleted."""
    return bool(obj["metadata"].get("deletionTimestamp"))
