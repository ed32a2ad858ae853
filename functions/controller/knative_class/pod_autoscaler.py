"""A Knative PodAutoscaler of our class, parsed, and which revision of a service serves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from functions.kubernetes.labels import (
    CLASS,
    CLASS_ANNOTATION,
    CONFIGURATION_LABEL,
    GENERATION_LABEL,
    HTTP_WAKE,
    INITIAL_SCALE,
    RELEASE_LABEL,
    SERVICE_LABEL,
    TRUE,
)
from functions.ports.kubernetes import (
    POD_AUTOSCALERS,
    Object,
    get_annotations,
    get_labels,
    get_name,
    is_leaving,
)

REACHABLE: Final = "Reachable"
UNREACHABLE: Final = "Unreachable"
INITIALISED: Final = "ScaleTargetInitialized"
MOST_REPLICAS: Final = 10_000
"""An annotation above it is taken for a mistake and does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAutoscaler:
    """One PodAutoscaler. Its name is the revision's."""

    namespace: str
    name: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    target: Object
    """scaleTargetRef: apiVersion, kind, name of the revision's Deployment."""
    protocol: str
    reachability: str
    """`Reachable`, `Unreachable`, `Unknown` or empty."""
    status: Object

    @classmethod
    def parse(cls, obj: Object) -> "PodAutoscaler":
        metadata, spec = obj["metadata"], obj["spec"]
        return cls(
            namespace=metadata["namespace"],
            name=get_name(obj),
            uid=metadata.get("uid", ""),
            generation=int(metadata.get("generation", 1)),
            labels=get_labels(obj),
            annotations=get_annotations(obj),
            target=spec["scaleTargetRef"],
            protocol=spec.get("protocolType", "http1"),
            reachability=spec.get("reachability", ""),
            status=obj.get("status") or {},
        )

    @property
    def service(self) -> str:
        """The slug of the service it runs; empty where the template has no such label."""
        return self.labels.get(SERVICE_LABEL, "")

    @property
    def configuration(self) -> str:
        """What its revisions have in common; a PodAutoscaler without the label stands alone."""
        return self.labels.get(CONFIGURATION_LABEL, self.name)

    @property
    def age(self) -> int:
        """Grows with each revision of one configuration."""
        text = self.labels.get(GENERATION_LABEL, "0")
        return int(text) if text.isdecimal() else 0

    @property
    def conditions(self) -> Mapping[str, Object]:
        return {each["type"]: each for each in self.status.get("conditions", ())}

    @property
    def was_initialised(self) -> bool:
        """Whether a replica of it has ever been ready."""
        return self.conditions.get(INITIALISED, {}).get("status") == "True"

    @property
    def is_reachable(self) -> bool:
        """A route leads here, or will once it is ready."""
        return self.reachability == REACHABLE

    @property
    def is_unreachable(self) -> bool:
        """No route leads here, or its containers fail."""
        return self.reachability == UNREACHABLE

    @property
    def is_woken_by_http(self) -> bool:
        return self.annotations.get(HTTP_WAKE) == TRUE

    @property
    def initial_scale(self) -> int:
        """Ready replicas that make it initialised; 0 if cluster and template allow that."""
        replicas = self.scale(INITIAL_SCALE)
        return 1 if replicas is None else replicas

    def scale(self, annotation: str) -> int | None:
        """A replica count in an annotation; None where it is absent or no sensible number."""
        text = self.annotations.get(annotation, "").strip()
        if not text.isdecimal() or int(text) > MOST_REPLICAS:
            return None
        return int(text)

    def reference(self) -> Object:
        """The object that an Event about it names."""
        return {
            "apiVersion": POD_AUTOSCALERS.api_version,
            "kind": POD_AUTOSCALERS.kind,
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": self.uid},
        }

    def owner(self) -> Object:
        """The owner reference of what is made for it: Kubernetes deletes that with it."""
        return {
            "apiVersion": POD_AUTOSCALERS.api_version,
            "kind": POD_AUTOSCALERS.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def is_ours(obj: Object, release: str) -> bool:
    """Whether a PodAutoscaler has our class, and belongs to this release or to none."""
    if get_annotations(obj).get(CLASS_ANNOTATION) != CLASS:
        return False
    return get_labels(obj).get(RELEASE_LABEL, release) == release


def find_serving(siblings: Iterable[Object]) -> PodAutoscaler | None:
    """The revision of one configuration that holds the topic: the newest that is routed to and was
    ready once.

    A replica is ready only after one real completion: so weights that cannot answer never get here.
    None while no revision has got this far.
    """
    revisions = [PodAutoscaler.parse(each) for each in siblings if not is_leaving(each)]
    able = [each for each in revisions if each.is_reachable and each.was_initialised]
    return max(able, key=lambda each: (each.age, each.name), default=None)
