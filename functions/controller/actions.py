"""What the controller wants done: writes and notices, as frozen data that pure decisions return."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from functions.ports.kubernetes import SCALED_OBJECTS, Object, Resource, Verb

CLASS: Final = "keda.pickspin.io"
CLASS_ANNOTATION: Final = "autoscaling.knative.dev/class"
SCALING: Final = f"{CLASS}/scaling"
"""Names the ConfigMap that has the service's ScaledObject spec under its slug."""
SCALED_OBJECT: Final = f"{CLASS}/scaled-object"
"""The spec itself as JSON, instead."""
HTTP_WAKE: Final = f"{CLASS}/http-wake"
APPLIED: Final = f"{CLASS}/applied"
"""On a ScaledObject: the hash of the spec that was written, so that a key that is taken away is noticed."""
MIN_SCALE: Final = "autoscaling.knative.dev/min-scale"
MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
INITIAL_SCALE: Final = "autoscaling.knative.dev/initial-scale"
PAUSED: Final = "autoscaling.keda.sh/paused-replicas"
FORCED: Final = "autoscaling.keda.sh/force-activation"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
SERVICE_LABEL: Final = "pickspin.io/service"
RELEASE_LABEL: Final = "app.kubernetes.io/instance"
CONFIGURATION_LABEL: Final = "serving.knative.dev/configuration"
GENERATION_LABEL: Final = "serving.knative.dev/configurationGeneration"
REVISION_LABEL: Final = "serving.knative.dev/revision"
TRUE: Final = "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An Event to be told on an object. The same notice again within a while is not told again."""

    about: Object
    """Anything with apiVersion, kind and metadata (name, namespace, uid)."""
    reason: str
    """CamelCase, for machines."""
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One call that changes something. `body` is empty for a delete, which carries the `uid` it means."""

    verb: Verb
    resource: Resource
    namespace: str
    name: str
    body: Object
    subresource: str = ""
    uid: str = ""
    notice: Notice | None = None
    """Told once the write has succeeded."""


Action = Write | Notice


def scaled_object(found: Object) -> Object:
    """A ScaledObject out of a list, which leaves out what kind it is, as `Notice.about` wants it."""
    return {
        "apiVersion": SCALED_OBJECTS.api_version,
        "kind": SCALED_OBJECTS.kind,
        "metadata": found["metadata"],
    }


def is_within(want: Any, have: Any) -> bool:
    """True when every field of `want` is in `have` with the same value; lists must be of one length."""
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(is_within(v, have.get(k)) for k, v in want.items())
    if isinstance(want, list | tuple):
        return (
            isinstance(have, list | tuple)
            and len(want) == len(have)
            and all(is_within(a, b) for a, b in zip(want, have, strict=True))
        )
    return bool(want == have)
