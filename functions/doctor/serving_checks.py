"""Pitfalls of Knative Serving and its autoscaling classes. Pure.

Each names its source: KS is knative/serving, AK knative-extensions/autoscaler-keda, KEDA
kedacore/keda.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from functions.doctor.findings import Finding
from functions.doctor.snapshot import (
    ClusterSnapshot,
    dig,
    find_deployment,
    get_class,
    is_paused,
    is_superseded,
    list_revisions,
    list_scaled_objects,
    parse_duration_s,
)
from functions.kubernetes.labels import (
    CLASS,
    HPA_CLASS,
    HTTP_WAKE,
    PAUSED_REPLICAS,
    PROGRESS_DEADLINE,
    SERVICE_LABEL,
)
from functions.ports.kubernetes import Object, get_labels, get_name

PROGRESS_DEFAULT_S: Final = 600.0
TIMEOUT_DEFAULT_S: Final = 300
LONGEST_TIMEOUT_S: Final = 600
QUIET_S: Final = 30
"""A Knative pod gets SIGTERM only after its proxy was quiet for this long (KS queue/sharedmain)."""
_PULLING: Final = frozenset({HPA_CLASS, CLASS})


def find_two_bridges(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Both reconcile class hpa and undo each other's work (AK README: a replacement)."""
    hpa = [name for name in snapshot.knative_deployments if name == "autoscaler-hpa"]
    keda = [name for name in snapshot.knative_deployments if name == "autoscaler-keda"]
    if hpa and keda:
        yield Finding(
            "error",
            "Namespace knative-serving",
            "autoscaler-hpa (serving-hpa) and autoscaler-keda are both installed and reconcile the same class",
            "remove one: kubectl delete deployment -n knative-serving autoscaler-hpa (or autoscaler-keda)",
        )


def find_killed_first_boots(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """KEDA takes a fresh target to zero unless told to wait (scale_scaledobjects.go; keda#5008)."""
    for service in snapshot.services:
        if get_class(service) != HPA_CLASS:
            continue
        needed_s = _get_start_timeout_s(service, snapshot)
        for scaled in _list_service_scaled_objects(service, snapshot):
            waits_s = dig(scaled, "spec", "initialCooldownPeriod", default=0)
            if dig(scaled, "spec", "minReplicaCount", default=0) == 0 and waits_s < max(
                1.0, needed_s or 0.0
            ):
                yield Finding(
                    "error",
                    f"ScaledObject {get_name(scaled)}",
                    f"initialCooldownPeriod is {waits_s} s: the first pod is taken away while the model loads, and the "
                    "Knative Service never becomes Ready",
                    "set global.scaling.initialCooldownSeconds above the worst first start "
                    f"({needed_s or 1800:.0f} s), or use class {CLASS}, which waits by itself",
                )


def find_superseded_revisions(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A superseded revision that still runs is in the same group and answers with old weights."""
    for revision in _list_superseded(snapshot):
        name = get_name(revision)
        target = f"{name}-deployment"
        deployment = find_deployment(snapshot, target)
        count = dig(deployment, "spec", "replicas", default=0) if deployment else 0
        scaled = list_scaled_objects(target, snapshot)
        if count and not (dig(revision, "metadata", "deletionTimestamp")):
            yield Finding(
                "error",
                f"Revision {name}",
                f"it is superseded and still has {count} replicas, which answer with its old weights",
                "pause it: kubectl annotate scaledobject "
                f"{name} {PAUSED_REPLICAS}=0 (class {CLASS} does so by itself)",
            )
        elif any(not is_paused(each) for each in scaled):
            yield Finding(
                "error",
                f"ScaledObject {name}",
                "it belongs to a superseded revision and is not paused: the next request starts old weights",
                f"kubectl annotate scaledobject {name} {PAUSED_REPLICAS}=0",
            )


def find_kept_revisions(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """By default 20 inactive revisions stay 48 h (KS config-gc), each with a ScaledObject."""
    config = snapshot.knative.get("config-gc")
    if config is None or not any(get_class(each) in _PULLING for each in snapshot.services):
        return
    wanted = {
        "min-non-active-revisions": ("0", "20"),
        "max-non-active-revisions": ("0", "1000"),
        "retain-since-create-time": ("disabled", "48h"),
        "retain-since-last-active-time": ("disabled", "15h"),
    }
    wrong = [key for key, (value, default) in wanted.items() if config.get(key, default) != value]
    if wrong:
        yield Finding(
            "warning",
            "ConfigMap knative-serving/config-gc",
            "superseded revisions are kept: "
            + ", ".join(f"{key} is not {wanted[key][0]}" for key in wrong),
            "kubectl patch configmap -n knative-serving config-gc --type merge -p "
            '\'{"data":{' + ",".join(f'"{key}":"{wanted[key][0]}"' for key in wrong) + "}}'",
        )


def find_missing_flags(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Flags say what a pod spec may hold; most are off (KS pkg/apis/serving/fieldmask.go)."""
    flags = snapshot.knative.get("config-features")
    if flags is None:
        return
    for service in snapshot.services:
        spec = dig(service, "spec", "template", "spec", default={})
        off = sorted(
            {flag for flag in _list_needed_flags(spec) if flags.get(flag, "disabled") == "disabled"}
        )
        if off:
            yield Finding(
                "error",
                f"Knative Service {get_name(service)}",
                f"its pods need what is switched off in config-features: {', '.join(off)}",
                'kubectl patch configmap -n knative-serving config-features --type merge -p \'{"data":{'
                + ",".join(f'"{flag}":"enabled"' for flag in off)
                + "}}'",
            )


def find_short_deadlines(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A start slower than the progress deadline (10 min) marks a revision failed."""
    default_s = parse_duration_s(
        snapshot.knative.get("config-deployment", {}).get("progress-deadline", "600s")
    )
    for service in snapshot.services:
        needed_s = _get_start_timeout_s(service, snapshot)
        if needed_s is None:
            continue
        text = dig(service, "spec", "template", "metadata", "annotations", PROGRESS_DEADLINE)
        given_s = parse_duration_s(text) if text else None
        deadline_s = given_s or default_s or PROGRESS_DEFAULT_S
        if deadline_s < needed_s:
            yield Finding(
                "error",
                f"Knative Service {get_name(service)}",
                f"its progress deadline is {deadline_s:.0f} s, a start may take {needed_s:.0f} s",
                "set knative.modelService.progressDeadline above start_timeout_s of the service",
            )


def find_refused_timeouts(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """`timeoutSeconds` is the pod's grace, at most the cluster's limit (KS config-defaults)."""
    defaults = snapshot.knative.get("config-defaults")
    if defaults is None:
        return
    limit_s = _get_number(defaults, "max-revision-timeout-seconds", LONGEST_TIMEOUT_S)
    usual_s = _get_number(defaults, "revision-timeout-seconds", TIMEOUT_DEFAULT_S)
    for service in snapshot.services:
        timeout_s = dig(service, "spec", "template", "spec", "timeoutSeconds", default=usual_s)
        where = f"Knative Service {get_name(service)}"
        if timeout_s > limit_s:
            yield Finding(
                "error",
                where,
                f"timeoutSeconds is {timeout_s}, the cluster allows {limit_s}",
                f"set max-revision-timeout-seconds in config-defaults to {timeout_s} (and the activator's grace with "
                "it), or knative.modelService.timeoutSeconds lower",
            )
        elif get_class(service) in _PULLING and timeout_s <= QUIET_S:
            yield Finding(
                "error",
                where,
                f"timeoutSeconds is {timeout_s}: {QUIET_S} s of it pass before SIGTERM, nothing is left for draining",
                "set knative.modelService.timeoutSeconds to 30 + the longest call + 15",
            )


def find_wake_without_metrics(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """HTTP wakes a model by a gauge that the activator has only with Prometheus metrics."""
    config = snapshot.knative.get("config-observability")
    if config is None or config.get("metrics-protocol") == "prometheus":
        return
    for service in snapshot.services:
        if (
            dig(service, "spec", "template", "metadata", "annotations", HTTP_WAKE) == "true"
            and get_class(service) == CLASS
        ):
            yield Finding(
                "error",
                f"Knative Service {get_name(service)}",
                "HTTP is to wake it, but the activator has no metrics: such a request hangs",
                "kubectl patch configmap -n knative-serving config-observability --type merge -p "
                '\'{"data":{"metrics-protocol":"prometheus"}}\', then restart the activator',
            )


def _list_superseded(snapshot: ClusterSnapshot) -> Iterable[Object]:
    for service in snapshot.services:
        if get_class(service) not in _PULLING:
            continue
        for revision in list_revisions(service, snapshot):
            if is_superseded(revision, snapshot):
                yield revision


def _list_service_scaled_objects(service: Object, snapshot: ClusterSnapshot) -> Iterable[Object]:
    for revision in list_revisions(service, snapshot):
        yield from list_scaled_objects(f"{get_name(revision)}-deployment", snapshot)


def _get_start_timeout_s(service: Object, snapshot: ClusterSnapshot) -> float | None:
    """How long a start of this service may take by the catalogue; None: not known."""
    template = dig(service, "spec", "template", default={})
    slug = get_labels({"metadata": template.get("metadata") or {}}).get(SERVICE_LABEL)
    known = None if snapshot.catalogue is None or slug is None else snapshot.catalogue.service(slug)
    return None if known is None else known.start_timeout_s


def _list_needed_flags(spec: Mapping[str, object]) -> Iterator[str]:
    for key, flag in (
        ("nodeSelector", "kubernetes.podspec-nodeselector"),
        ("tolerations", "kubernetes.podspec-tolerations"),
        ("affinity", "kubernetes.podspec-affinity"),
        ("runtimeClassName", "kubernetes.podspec-runtimeclassname"),
        ("priorityClassName", "kubernetes.podspec-priorityclassname"),
        ("topologySpreadConstraints", "kubernetes.podspec-topologyspreadconstraints"),
        ("initContainers", "kubernetes.podspec-init-containers"),
        ("schedulerName", "kubernetes.podspec-schedulername"),
    ):
        if spec.get(key):
            yield flag
    for volume in dig(spec, "volumes", default=()):
        claim = volume.get("persistentVolumeClaim")
        if claim is not None:
            yield "kubernetes.podspec-persistent-volume-claim"
            if not claim.get("readOnly"):
                yield "kubernetes.podspec-persistent-volume-write"
    for container in dig(spec, "containers", default=()):
        if any(dig(each, "valueFrom", "fieldRef") for each in dig(container, "env", default=())):
            yield "kubernetes.podspec-fieldref"


def _get_number(config: Mapping[str, str], key: str, default: int) -> int:
    try:
        return int(config.get(key, default))
    except ValueError:
        return default
