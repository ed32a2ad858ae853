"""A pod of a model service, parsed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from functions.kubernetes.labels import DELETION_COST, REVISION_LABEL, SERVICE_LABEL
from functions.ports.kubernetes import Object, get_annotations, get_labels, get_name, is_leaving

_IMAGE_TROUBLE: Final = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of a model service. Its name is its replica's name on the status topic."""

    namespace: str
    name: str
    uid: str
    service: str
    workload: str
    """Pods of one workload may stand in for each other: a revision, or the service's Deployment."""
    created_at: str
    is_leaving: bool
    is_ready: bool
    is_crashing: bool
    """A container fails again and again, and Kubernetes waits before it starts it anew."""
    is_stuck: bool
    """It waits for a node, an image or a volume: a new pod would wait for the same."""
    deletion_cost: str

    @classmethod
    def parse(cls, obj: Object) -> "Pod":
        metadata, labels = obj["metadata"], get_labels(obj)
        status: Mapping[str, Any] = obj.get("status") or {}
        waiting = {
            each.get("state", {}).get("waiting", {}).get("reason", "")
            for each in (
                *status.get("containerStatuses", ()),
                *status.get("initContainerStatuses", ()),
            )
        }
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return cls(
            namespace=metadata["namespace"],
            name=get_name(obj),
            uid=metadata["uid"],
            service=labels.get(SERVICE_LABEL, ""),
            workload=labels.get(REVISION_LABEL) or labels.get(SERVICE_LABEL, ""),
            created_at=metadata.get("creationTimestamp", ""),
            is_leaving=is_leaving(obj),
            is_ready=conditions.get("Ready") == "True",
            is_crashing="CrashLoopBackOff" in waiting,
            is_stuck=conditions.get("PodScheduled") == "False" or bool(waiting & _IMAGE_TROUBLE),
            deletion_cost=get_annotations(obj).get(DELETION_COST, ""),
        )

    def reference(self) -> Object:
        """The object that an Event about it names."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": self.uid},
        }
