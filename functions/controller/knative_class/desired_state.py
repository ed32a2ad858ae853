"""What the autoscaling class owes one revision: a pure reducer from what is observed to the writes
that are missing.

Knative derives Revision, Route and Service from a PodAutoscaler's `status.serviceName` and its
conditions ScaleTargetInitialized and Ready, and makes the endpoints from a ServerlessService of the
same name (seen with Knative Serving 0.48, each field left out in turn; docs/adr/0013).
KEDA does the scaling, through a ScaledObject of the same name.
It is made only once a replica has been ready: KEDA takes a target it has never seen active to zero,
and would end the first boot.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from functions.controller.actions import Action, Notice, Write, is_subset
from functions.controller.knative_class.pod_autoscaler import INITIALISED, PodAutoscaler
from functions.controller.knative_class.scaled_object import SpecProblem, build_spec
from functions.kubernetes.labels import (
    APPLIED,
    COMPONENT_LABEL,
    CONFIGURATION_LABEL,
    KNATIVE_SERVICE_LABEL,
    NAME_LABEL,
    PAUSED_REPLICAS,
    RELEASE_LABEL,
    REVISION_LABEL,
    SERVICE_LABEL,
)
from functions.ports.kubernetes import (
    POD_AUTOSCALERS,
    SCALED_OBJECTS,
    SERVERLESS_SERVICES,
    Object,
    get_annotations,
    get_labels,
)

_COPIED_LABELS: Final = (
    SERVICE_LABEL,
    RELEASE_LABEL,
    NAME_LABEL,
    COMPONENT_LABEL,
    KNATIVE_SERVICE_LABEL,
    CONFIGURATION_LABEL,
    REVISION_LABEL,
)
_AT_ZERO: Final = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRevision:
    """Everything one decision is made of. None: the object is not there."""

    autoscaler: PodAutoscaler
    serverless: Object | None
    scaled: Object | None
    deployment: Object | None
    scaling: Mapping[str, Any] | SpecProblem
    """The ScaledObject spec of its service, without a target; or why there is none."""
    serving: PodAutoscaler | None
    """The revision of its configuration that holds the topic; may be itself."""
    now: datetime
    activator_metrics: str
    """URL of the activator's metrics, for waking by HTTP."""


def reconcile(observed: ObservedRevision) -> tuple[Action, ...]:
    """Every write that is missing; none where the cluster is as it should be."""
    return (*_plan_serverless(observed), *_plan_status(observed), *_plan_scaled_object(observed))


def is_retired(observed: ObservedRevision) -> bool:
    """Whether the revision must have no replica: another one holds the topic.

    Reachability alone says little: Knative calls the newest revision reachable from its creation
    on, and a serving one unreachable while its containers fail.
    A revision that was never ready is retired when an older one serves and its progress deadline
    has passed, or when a newer one serves; nothing in it will change, so it stays retired.
    One that was ready is retired when no route leads to it, until one does again.
    """
    mine, serving = observed.autoscaler, observed.serving
    if serving is not None and serving.name == mine.name:
        return False
    if not mine.was_initialised:
        is_over = _has_failed(observed.deployment) or (mine.is_unreachable and _is_older(observed))
        return _is_paused(observed.scaled) or (serving is not None and is_over)
    if mine.is_reachable:
        return False
    return _is_paused(observed.scaled) or (serving is not None and mine.is_unreachable)


def _is_older(observed: ObservedRevision) -> bool:
    return observed.serving is not None and observed.autoscaler.age < observed.serving.age


def _is_paused(scaled: Object | None) -> bool:
    return scaled is not None and get_annotations(scaled).get(PAUSED_REPLICAS) == _AT_ZERO


def _has_failed(deployment: Object | None) -> bool:
    """Whether its progress deadline has passed without a ready replica."""
    conditions = (deployment or {}).get("status", {}).get("conditions", ())
    return any(each["type"] == "Progressing" and each["status"] == "False" for each in conditions)


def _get_desired(deployment: Object | None) -> int | None:
    replicas = None if deployment is None else deployment["spec"].get("replicas")
    return None if replicas is None else int(replicas)


def _count_ready(deployment: Object | None) -> int:
    return 0 if deployment is None else int(deployment.get("status", {}).get("readyReplicas") or 0)


def _is_initialised(observed: ObservedRevision) -> bool:
    mine = observed.autoscaler
    has_service = bool(_get_service_name(observed.serverless))
    return mine.was_initialised or (
        has_service and _count_ready(observed.deployment) >= mine.initial_scale
    )


def _get_service_name(serverless: Object | None) -> str:
    return str((serverless or {}).get("status", {}).get("serviceName", ""))


def _plan_serverless(observed: ObservedRevision) -> tuple[Write, ...]:
    """The ServerlessService.

    In Serve mode the public Service leads to the pods, and with no ready pod Knative itself falls
    back to the activator; in Proxy mode always to the activator, whose gauge of waiting requests
    wakes by HTTP.
    """
    mine, have = observed.autoscaler, observed.serverless
    is_served = bool(_get_desired(observed.deployment)) and not mine.is_woken_by_http
    spec = {
        "mode": "Serve" if is_served else "Proxy",
        "objectRef": dict(mine.target),
        "protocolType": mine.protocol,
        "numActivators": 0,
    }
    if have is None:
        body = _build_object(SERVERLESS_SERVICES.api_version, SERVERLESS_SERVICES.kind, mine)
        body["spec"] = spec
        # All: Knative copies them to the endpoints; the activator wants `revisionUID`.
        body["metadata"]["labels"] = dict(mine.labels)
        return (_build_write("create", observed, SERVERLESS_SERVICES, body),)
    wanted = {"mode": spec["mode"], "objectRef": spec["objectRef"]}
    labels = dict(mine.labels)
    if is_subset(wanted, have["spec"]) and is_subset(labels, get_labels(have)):
        return ()
    body = {"metadata": {"labels": labels}, "spec": spec}
    return (_build_write("patch", observed, SERVERLESS_SERVICES, body),)


def _plan_status(observed: ObservedRevision) -> tuple[Write, ...]:
    mine = observed.autoscaler
    desired = _get_desired(observed.deployment)
    status = {
        "conditions": _build_conditions(observed),
        "observedGeneration": mine.generation,
        "actualScale": _count_ready(observed.deployment),
        "desiredScale": -1 if desired is None else desired,
        "serviceName": _get_service_name(observed.serverless),
        "metricsServiceName": (observed.serverless or {})
        .get("status", {})
        .get("privateServiceName", ""),
    }
    if is_subset(status, mine.status):
        return ()
    write = _build_write(
        "patch", observed, POD_AUTOSCALERS, {"status": status}, subresource="status"
    )
    return (write,)


def _build_conditions(observed: ObservedRevision) -> list[dict[str, str]]:
    """SKSReady, ScaleTargetInitialized, Active, and Ready as their sum; a transition time changes
    with the status only.
    """
    states = {
        "SKSReady": _judge_sks(observed.serverless),
        INITIALISED: ("True", "", "") if _is_initialised(observed) else ("Unknown", "", ""),
        "Active": _judge_active(observed),
    }
    order = ("False", "Unknown")
    states["Ready"] = next(
        (each for status in order for each in states.values() if each[0] == status),
        ("True", "", ""),
    )
    known = observed.autoscaler.conditions
    now = observed.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions: list[dict[str, str]] = []
    for kind, (status, reason, message) in sorted(states.items()):
        before = known.get(kind, {})
        is_same = before.get("status") == status
        since = before.get("lastTransitionTime", now) if is_same else now
        condition = {"type": kind, "status": status, "lastTransitionTime": since}
        condition |= {"reason": reason} if reason else {}
        condition |= {"message": message} if message else {}
        conditions.append(condition)
    return conditions


def _judge_sks(serverless: Object | None) -> tuple[str, str, str]:
    conditions = (serverless or {}).get("status", {}).get("conditions", ())
    ready: Object = next((each for each in conditions if each["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return "True", "", ""
    return "Unknown", "NotReady", str(ready.get("message") or ready.get("reason") or "NotReady")


def _judge_active(observed: ObservedRevision) -> tuple[str, str, str]:
    if not _is_initialised(observed) and is_retired(observed):
        return "False", "NeverReady", "No replica was ever ready; another revision serves."
    if _get_desired(observed.deployment) == 0 and _is_initialised(observed):
        return "False", "NoTraffic", "The target is scaled to zero by KEDA."
    if _count_ready(observed.deployment) >= 1:
        return "True", "", ""
    return "Unknown", "Queued", "The target is being scaled up."


def _plan_scaled_object(observed: ObservedRevision) -> tuple[Action, ...]:
    mine, have = observed.autoscaler, observed.scaled
    is_over = is_retired(observed)
    if not _is_initialised(observed) and not is_over and have is None:
        return ()
    if isinstance(observed.scaling, SpecProblem):
        return _plan_without_spec(observed, observed.scaling, is_over=is_over)
    spec = build_spec(observed.scaling, mine, observed.activator_metrics)
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
    ours = {APPLIED: digest} | ({PAUSED_REPLICAS: _AT_ZERO} if is_over else {})
    if have is None:
        body = _build_object(SCALED_OBJECTS.api_version, SCALED_OBJECTS.kind, mine) | {"spec": spec}
        body["metadata"]["annotations"] = ours
        notice = _build_notice(
            observed, "ScaledObjectCreated", "KEDA scales this revision from now on."
        )
        if is_over:
            message = "Never ready in its time, paused at zero: another revision serves."
            notice = _build_notice(observed, "RevisionRetired", message, is_warning=True)
        return (_build_write("create", observed, SCALED_OBJECTS, body, notice=notice),)
    now = get_annotations(have)
    annotations = {k: v for k, v in now.items() if k not in {PAUSED_REPLICAS, APPLIED}} | ours
    if annotations == now and is_subset(spec, have["spec"]):
        return ()
    return (_build_replacement(observed, have, spec, annotations),)


def _build_replacement(
    observed: ObservedRevision,
    have: Object,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
) -> Write:
    before, after = get_annotations(have).get(PAUSED_REPLICAS), annotations.get(PAUSED_REPLICAS)
    if before == after:
        notice = _build_notice(observed, "ScalingChanged", "The ScaledObject has a new spec.")
    elif after is None:
        notice = _build_notice(observed, "RevisionResumed", "The revision holds the topic again.")
    else:
        successor = "another revision" if observed.serving is None else observed.serving.name
        notice = _build_notice(observed, "RevisionRetired", f"Paused at zero: {successor} serves.")
    body = {**have, "metadata": {**have["metadata"], "annotations": annotations}, "spec": spec}
    return _build_write("replace", observed, SCALED_OBJECTS, body, notice=notice)


def _plan_without_spec(
    observed: ObservedRevision, problem: SpecProblem, *, is_over: bool
) -> tuple[Action, ...]:
    """What is there stays as it is; only a pause must not wait for a spec."""
    notice = _build_notice(observed, "ScalingUnusable", problem.message, is_warning=True)
    have = observed.scaled
    if have is None or is_over == _is_paused(have):
        return (notice,)
    annotations = {k: v for k, v in get_annotations(have).items() if k != PAUSED_REPLICAS}
    annotations |= {PAUSED_REPLICAS: _AT_ZERO} if is_over else {}
    return (notice, _build_replacement(observed, have, have["spec"], annotations))


def _build_object(api_version: str, kind: str, mine: PodAutoscaler) -> dict[str, Any]:
    labels = {name: mine.labels[name] for name in _COPIED_LABELS if name in mine.labels}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": mine.name,
            "namespace": mine.namespace,
            "labels": labels,
            "ownerReferences": [dict(mine.owner())],
        },
    }


def _build_write(
    verb: Any,
    observed: ObservedRevision,
    resource: Any,
    body: Object,
    *,
    subresource: str = "",
    notice: Notice | None = None,
) -> Write:
    mine = observed.autoscaler
    return Write(
        verb=verb,
        resource=resource,
        namespace=mine.namespace,
        name=mine.name,
        body=body,
        subresource=subresource,
        notice=notice,
    )


def _build_notice(
    observed: ObservedRevision, reason: str, message: str, *, is_warning: bool = False
) -> Notice:
    return Notice(
        about=observed.autoscaler.reference(),
        reason=reason,
        message=message,
        type="Warning" if is_warning else "Normal",
    )
