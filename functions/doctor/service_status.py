"""The state of each model service of a cluster, and why it does not scale. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from functions.doctor.snapshot import (
    ClusterSnapshot,
    dig,
    find_condition,
    is_paused,
    is_superseded,
    list_containers,
    list_scaled_objects,
    list_triggers,
)
from functions.kubernetes.labels import PAUSED, PAUSED_REPLICAS, REVISION_LABEL, SERVICE_LABEL
from functions.ports.kubernetes import Object, get_annotations, get_labels, get_name, is_leaving

State = Literal["ready", "starting", "asleep", "absent"]
PAUSES: Final = (PAUSED_REPLICAS, PAUSED)
_TROUBLE: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
_MESSAGE_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceGeneration:
    """One Deployment of a service: a Knative Revision's, or the only one.

    `is_old`: superseded, and held at zero if `is_paused`.
    """

    name: str
    desired: int
    ready: int
    is_old: bool = False
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service. None: not known. `gpus` by resource, for all desired replicas."""

    slug: str
    model: str
    workload: str
    state: State
    desired: int
    ready: int
    most: int | None
    generations: tuple[ServiceGeneration, ...]
    lag: float | None
    gpus: Mapping[str, int]
    usd_per_hour: float | None
    reasons: tuple[str, ...]
    """Why it does not scale, or not as it should; empty: nothing is in its way."""


def list_statuses(snapshot: ClusterSnapshot) -> tuple[ServiceStatus, ...]:
    """Every service of the catalogue, and every other one that runs, by name."""
    known = () if snapshot.catalogue is None else snapshot.catalogue.services
    slugs = {service.slug for service in known if service.enabled}
    slugs |= {slug for each in snapshot.deployments if (slug := _get_slug(each))}
    slugs |= {slug for each in snapshot.services if (slug := _get_slug(each))}
    return tuple(_build_status(slug, snapshot) for slug in sorted(slugs))


def _build_status(slug: str, snapshot: ClusterSnapshot) -> ServiceStatus:
    deployments = [each for each in snapshot.deployments if _get_slug(each) == slug]
    generations = tuple(_build_generation(each, snapshot) for each in deployments)
    current = [each for each, made in zip(deployments, generations, strict=True) if not made.is_old]
    scaled = [
        each_scaled
        for each in current
        for each_scaled in list_scaled_objects(get_name(each), snapshot)
    ]
    desired = sum(each.desired for each in generations)
    ready = sum(each.ready for each in generations)
    service = None if snapshot.catalogue is None else snapshot.catalogue.service(slug)
    knative = next((each for each in snapshot.services if _get_slug(each) == slug), None)
    lag = _sum_lag(scaled, snapshot)
    most = max(
        (dig(each, "spec", "maxReplicaCount", default=100) for each in scaled),
        default=None if service is None else service.max_replicas,
    )
    reasons = [
        *_list_knative_reasons(knative),
        *_list_existence_reasons(slug, current, scaled, snapshot),
    ]
    reasons += [reason for each in scaled for reason in _list_scaling_reasons(each, lag, snapshot)]
    reasons += _list_pod_reasons(slug, snapshot)
    if lag and most is not None and desired >= most > 0:
        reasons.append(f"it is at its limit of {most} replicas")
    return ServiceStatus(
        slug=slug,
        model="" if service is None else service.model,
        workload="knative" if knative is not None else "deployment",
        state=_derive_state(deployments, desired, ready),
        desired=desired,
        ready=ready,
        most=most,
        generations=generations,
        lag=lag,
        gpus=_count_gpus(deployments),
        usd_per_hour=None if service is None else round(service.price_per_hour_usd * desired, 4),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _get_slug(obj: Object) -> str | None:
    """The service an object with a pod template is for."""
    labels = dig(obj, "spec", "template", "metadata", "labels", default={})
    slug = labels.get(SERVICE_LABEL) or get_labels(obj).get(SERVICE_LABEL)
    return None if slug is None else str(slug)


def _derive_state(deployments: Iterable[Object], desired: int, ready: int) -> State:
    if not list(deployments):
        return "absent"
    if ready:
        return "ready"
    return "starting" if desired else "asleep"


def _build_generation(deployment: Object, snapshot: ClusterSnapshot) -> ServiceGeneration:
    revision_name = get_labels(deployment).get(REVISION_LABEL)
    revision = next((r for r in snapshot.revisions if get_name(r) == revision_name), None)
    return ServiceGeneration(
        name=revision_name or get_name(deployment),
        desired=dig(deployment, "spec", "replicas", default=0),
        ready=dig(deployment, "status", "readyReplicas", default=0),
        is_old=revision is not None and is_superseded(revision, snapshot),
        is_paused=any(
            is_paused(each) for each in list_scaled_objects(get_name(deployment), snapshot)
        ),
    )


def _sum_lag(scaled: Iterable[Object], snapshot: ClusterSnapshot) -> float | None:
    """What the log says, else what KEDA measures; None where neither was read."""
    names = [get_name(each) for each in scaled]
    if snapshot.log is not None:
        keys = {
            (metadata.get("consumerGroup", ""), metadata.get("topic", ""))
            for each in scaled
            for metadata in list_triggers(each, "kafka")
        }
        return float(sum(snapshot.log.lags.get(key, 0) for key in keys))
    known = [snapshot.lags[name] for name in names if name in snapshot.lags]
    return sum(known) if known else None


def _count_gpus(deployments: Iterable[Object]) -> Mapping[str, int]:
    """Extended resources (those with a slash in their name) that the wanted replicas hold."""
    counts: dict[str, int] = {}
    for deployment in deployments:
        count = dig(deployment, "spec", "replicas", default=0)
        for container in list_containers(dig(deployment, "spec", "template", default={})):
            for name, amount in dig(container, "resources", "limits", default={}).items():
                if "/" in name and count and str(amount).isdigit():
                    counts[name] = counts.get(name, 0) + int(amount) * count
    return counts


def _list_knative_reasons(service: Object | None) -> Iterator[str]:
    if service is None:
        return
    created = dig(service, "status", "latestCreatedRevisionName")
    ready = dig(service, "status", "latestReadyRevisionName")
    made = find_condition(service, "ConfigurationsReady")
    if created is not None and created != ready:
        why = _shorten(made.get("message") or made.get("reason") or "it is still starting")
        serving = f"; {ready} goes on serving" if ready else ""
        yield f"revision {created} is not ready ({why}){serving}"
    elif find_condition(service, "Ready").get("status") == "False":
        yield f"the Knative Service is not ready: {_shorten(find_condition(service, 'Ready').get('message', ''))}"


def _list_existence_reasons(
    slug: str, current: list[Object], scaled: list[Object], snapshot: ClusterSnapshot
) -> Iterator[str]:
    if "ScaledObject" in snapshot.missing:
        yield "KEDA is not installed: nothing scales it"
    elif not current:
        yield f"no Deployment carries {SERVICE_LABEL}={slug}"
    elif not scaled and "ScaledObject" not in snapshot.unread:
        is_revision = REVISION_LABEL in get_labels(current[0])
        hint = ": is the controller running?" if is_revision else ""
        yield f"no ScaledObject scales {get_name(current[0])}{hint}"


def _list_scaling_reasons(
    scaled: Object, lag: float | None, snapshot: ClusterSnapshot
) -> Iterator[str]:
    name = get_name(scaled)
    for annotation in PAUSES:
        value = get_annotations(scaled).get(annotation)
        if value is not None and value != "false":
            yield f"ScaledObject {name} is paused ({annotation}: {value})"
    ready = find_condition(scaled, "Ready")
    if ready.get("status") == "False":
        yield f"KEDA cannot use ScaledObject {name}: {_shorten(ready.get('message', ''))}"
    if find_condition(scaled, "Fallback").get("status") == "True":
        yield f"ScaledObject {name} is in fallback: KEDA cannot read its metrics"
    if snapshot.log is not None:
        for metadata in list_triggers(scaled, "kafka"):
            key = (metadata.get("consumerGroup", ""), metadata.get("topic", ""))
            if snapshot.log.gaps.get(key, 0):
                yield f"group {key[0]} has partitions of {key[1]} without an offset"
    active = find_condition(scaled, "Active").get("status")
    if lag and active == "False" and ready.get("status") == "True":
        wait = dig(scaled, "spec", "pollingInterval", default=30)
        yield f"KEDA has not seen its lag yet; it looks every {wait} s"


def _list_pod_reasons(slug: str, snapshot: ClusterSnapshot) -> Iterator[str]:
    """Troubles of the service's pods; pods with the same one are said together."""
    pods: dict[str, list[str]] = {}
    for pod in snapshot.pods:
        if get_labels(pod).get(SERVICE_LABEL) == slug and not is_leaving(pod):
            for trouble in _list_troubles(pod):
                pods.setdefault(trouble, []).append(get_name(pod))
    for trouble, names in pods.items():
        yield f"pod {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {trouble}"


def _list_troubles(pod: Object) -> Iterator[str]:
    scheduled = find_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"no place: {_shorten(scheduled.get('message', ''))}"
    for each in dig(pod, "status", "containerStatuses", default=()):
        yield from _list_container_troubles(each)


def _list_container_troubles(status: Object) -> Iterator[str]:
    waiting = dig(status, "state", "waiting", default={})
    if waiting.get("reason") in _TROUBLE:
        last = dig(status, "lastState", "terminated", default={})
        ended = f", it ended with {last.get('reason')} {last.get('exitCode')}" if last else ""
        yield (
            f"container {status.get('name')} is in {waiting['reason']}{ended}: "
            f"{_shorten(last.get('message') or waiting.get('message') or '')}"
        ).rstrip(": ")


def _shorten(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 3] + "..."
