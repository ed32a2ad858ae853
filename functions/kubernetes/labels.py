"""Labels and annotations that the controller, the doctor and the CLI read or write.

The chart spells those that it sets once more, in its templates.
"""

from typing import Final

TRUE: Final = "true"

# Kubernetes
NAME_LABEL: Final = "app.kubernetes.io/name"
RELEASE_LABEL: Final = "app.kubernetes.io/instance"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"

# ours
SERVICE_LABEL: Final = "pickspin.io/service"
CLASS: Final = "keda.pickspin.io"
"""Our autoscaling class."""
SCALING: Final = f"{CLASS}/scaling"
"""Names the ConfigMap that has the service's ScaledObject spec under its slug."""
SCALED_OBJECT: Final = f"{CLASS}/scaled-object"
"""The spec itself as JSON, instead."""
HTTP_WAKE: Final = f"{CLASS}/http-wake"
APPLIED: Final = f"{CLASS}/applied"
"""On a ScaledObject: the hash of the spec that was written. It shows that a key was taken away."""

# Knative
CLASS_ANNOTATION: Final = "autoscaling.knative.dev/class"
MIN_SCALE: Final = "autoscaling.knative.dev/min-scale"
MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
INITIAL_SCALE: Final = "autoscaling.knative.dev/initial-scale"
KNATIVE_SERVICE_LABEL: Final = "serving.knative.dev/service"
CONFIGURATION_LABEL: Final = "serving.knative.dev/configuration"
GENERATION_LABEL: Final = "serving.knative.dev/configurationGeneration"
REVISION_LABEL: Final = "serving.knative.dev/revision"
PROGRESS_DEADLINE: Final = "serving.knative.dev/progress-deadline"
KPA_CLASS: Final = "kpa.autoscaling.knative.dev"
HPA_CLASS: Final = "hpa.autoscaling.knative.dev"

# KEDA
PAUSED: Final = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS: Final = "autoscaling.keda.sh/paused-replicas"
PAUSED_SCALE_IN: Final = "autoscaling.keda.sh/paused-scale-in"
"""KEDA reconciles at every change of it (controllers/keda/util/predicate.go)."""
FORCED: Final = "autoscaling.keda.sh/force-activation"
