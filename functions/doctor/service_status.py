"""What each model service of a cluster is doing, and why it does not scale. Pure, over a snapshot."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from functions.doctor.snapshot import (
    Snapshot,
    condition,
    containers,
    dig,
    is_paused,
    is_superseded,
    scaled_by,
    triggers,
)
from functions.kubernetes.labels import PAUSED, PAUSED_REPLICAS, REVISION_LABEL, SERVICE_LABEL
from functions.ports.kubernetes import Object, annotations_of, is_leaving, labels_of, name_of

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
class Generation:
    """One Deployment of a service: a Knative Revision's, or the only one. `is_old`: superseded, and held at zero if
    `is_paused`.
    """

    name: str
    desired: int
    ready: int
    is_old: bool = False
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service. None: not known. `gpus` by resource name, for all replicas that are wanted now."""

    slug: str
    model: str
    workload: str
    state: State
    desired: int
    ready: int
    most: int | None
    generations: tuple[Generation, ...]
    lag: float | None
    gpus: Mapping[str, int]
    usd_per_hour: float | None
    reasons: tuple[str, ...]
    """Why it does not scale, or not as it should; empty: nothing is in its way."""


def service_statuses(snapshot: Snapshot) -> tuple[ServiceStatus, ...]:
    """Every service of the catalogue, and every other one that runs, by name."""
    known = () if snapshot.catalogue is None else snapshot.catalogue.services
    slugs = {service.slug for service in known if service.enabled}
    slugs |= {slug for each in snapshot.deployments if (slug := _slug_of(each))}
    slugs |= {slug for each in snapshot.services if (slug := _slug_of(each))}
    return tuple(_status(slug, snapshot) for slug in sorted(slugs))


def _status(slug: str, snapshot: Snapshot) -> ServiceStatus:
    deployments = [each for each in snapshot.deployments if _slug_of(each) == slug]
    generations = tuple(_generation(each, snapshot) for each in deployments)
    current = [each for each, made in zip(deployments, generations, strict=True) if not made.is_old]
    scaled = [found for each in current for found in scaled_by(name_of(each), snapshot)]
    desired = sum(each.desired for each in generations)
    ready = sum(each.ready for each in generations)
    service = None if snapshot.catalogue is None else snapshot.catalogue.service(slug)
    knative = next((each for each in snapshot.services if _slug_of(each) == slug), None)
    lag = _lag(scaled, snapshot)
    most = max(
        (dig(each, "spec", "maxReplicaCount", default=100) for each in scaled),
        default=None if service is None else service.max_replicas,
    )
    reasons = [*_knative_reasons(knative), *_existence(slug, current, scaled, snapshot)]
    reasons += [reason for each in scaled for reason in _scaling_reasons(each, lag, snapshot)]
    reasons += _pod_reasons(slug, snapshot)
    if lag and most is not None and desired >= most > 0:
        reasons.append(f"it is at its limit of {most} replicas")
    return ServiceStatus(
        slug=slug,
        model="" if service is None else service.model,
        workload="knative" if knative is not None else "deployment",
        state=_state(deployments, desired, ready),
        desired=desired,
        ready=ready,
        most=most,
        generations=generations,
        lag=lag,
        gpus=_gpus(deployments),
        usd_per_hour=None if service is None else round(service.price_per_hour_usd * desired, 4),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _slug_of(found: Object) -> str | None:
    """The service an object with a pod template is for."""
    labels = dig(found, "spec", "template", "metadata", "labels", default={})
    slug = labels.get(SERVICE_LABEL) or labels_of(found).get(SERVICE_LABEL)
    return None if slug is None else str(slug)


def _state(deployments: Iterable[Object], desired: int, ready: int) -> State:
    if not list(deployments):
        return "absent"
    if ready:
        return "ready"
    return "starting" if desired else "asleep"


def _generation(deployment: Object, snapshot: Snapshot) -> Generation:
    revision_name = labels_of(deployment).get(REVISION_LABEL)
    revision = next((r for r in snapshot.revisions if name_of(r) == revision_name), None)
    return Generation(
        name=revision_name or name_of(deployment),
        desired=dig(deployment, "spec", "replicas", default=0),
        ready=dig(deployment, "status", "readyReplicas", default=0),
        is_old=revision is not None and is_superseded(revision, snapshot),
        is_paused=any(is_paused(each) for each in scaled_by(name_of(deployment), snapshot)),
    )


def _lag(scaled: Iterable[Object], snapshot: Snapshot) -> float | None:
    """What the log says, else what KEDA measures; None where neither was read."""
    names = [name_of(each) for each in scaled]
    if snapshot.log is not None:
        keys = {
            (metadata.get("consumerGroup", ""), metadata.get("topic", ""))
            for each in scaled
            for metadata in triggers(each, "kafka")
        }
        return float(sum(snapshot.log.lags.get(key, 0) for key in keys))
    known = [snapshot.lags[name] for name in names if name in snapshot.lags]
    return sum(known) if known else None


def _gpus(deployments: Iterable[Object]) -> Mapping[str, int]:
    """Extended resources (those with a slash in their name) that the wanted replicas hold."""
    found: dict[str, int] = {}
    for deployment in deployments:
        count = dig(deployment, "spec", "replicas", default=0)
        for container in containers(dig(deployment, "spec", "template", default={})):
            for name, amount in dig(container, "resources", "limits", default={}).items():
                if "/" in name and count and str(amount).isdigit():
                    found[name] = found.get(name, 0) + int(amount) * count
    return found


def _knative_reasons(service: Object | None) -> Iterator[str]:
    if service is None:
        return
    created = dig(service, "status", "latestCreatedRevisionName")
    ready = dig(service, "status", "latestReadyRevisionName")
    made = condition(service, "ConfigurationsReady")
    if created is not None and created != ready:
        why = _short(made.get("message") or made.get("reason") or "it is still starting")
        serving = f"; {ready} goes on serving" if ready else ""
        yield f"revision {created} is not ready ({why}){serving}"
    elif condition(service, "Ready").get("status") == "False":
        yield f"the Knative Service is not ready: {_short(condition(service, 'Ready').get('message', ''))}"


def _existence(
    slug: str, current: list[Object], scaled: list[Object], snapshot: Snapshot
) -> Iterator[str]:
    if "ScaledObject" in snapshot.missing:
        yield "KEDA is not installed: nothing scales it"
    elif not current:
        yield f"no Deployment carries {SERVICE_LABEL}={slug}"
    elif not scaled and "ScaledObject" not in snapshot.unread:
        is_revision = REVISION_LABEL in labels_of(current[0])
        hint = ": is the controller running?" if is_revision else ""
        yield f"no ScaledObject scales {name_of(current[0])}{hint}"


def _scaling_reasons(scaled: Object, lag: float | None, snapshot: Snapshot) -> Iterator[str]:
    name = name_of(scaled)
    for annotation in PAUSES:
        value = annotations_of(scaled).get(annotation)
        if value is not None and value != "false":
            yield f"ScaledObject {name} is paused ({annotation}: {value})"
    ready = condition(scaled, "Ready")
    if ready.get("status") == "False":
        yield f"KEDA cannot use ScaledObject {name}: {_short(ready.get('message', ''))}"
    if condition(scaled, "Fallback").get("status") == "True":
        yield f"ScaledObject {name} is in fallback: KEDA cannot read its metrics"
    if snapshot.log is not None:
        for metadata in triggers(scaled, "kafka"):
            key = (metadata.get("consumerGroup", ""), metadata.get("topic", ""))
            if snapshot.log.gaps.get(key, 0):
                yield f"group {key[0]} has partitions of {key[1]} without an offset"
    active = condition(scaled, "Active").get("status")
    if lag and active == "False" and ready.get("status") == "True":
        wait = dig(scaled, "spec", "pollingInterval", default=30)
        yield f"KEDA has not seen its lag yet; it looks every {wait} s"


def _pod_reasons(slug: str, snapshot: Snapshot) -> Iterator[str]:
    """Troubles of the service's pods; pods with the same one are said together."""
    pods: dict[str, list[str]] = {}
    for pod in snapshot.pods:
        if labels_of(pod).get(SERVICE_LABEL) == slug and not is_leaving(pod):
            for trouble in _troubles(pod):
                pods.setdefault(trouble, []).append(name_of(pod))
    for trouble, names in pods.items():
        yield f"pod {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {trouble}"


def _troubles(pod: Object) -> Iterator[str]:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"no place: {_short(scheduled.get('message', ''))}"
    for each in dig(pod, "status", "containerStatuses", default=()):
        yield from _container_troubles(each)


def _container_troubles(status: Object) -> Iterator[str]:
    waiting = dig(status, "state", "waiting", default={})
    if waiting.get("reason") in _TROUBLE:
        last = dig(status, "lastState", "terminated", default={})
        ended = f", it ended with {last.get('reason')} {last.get('exitCode')}" if last else ""
        yield (
            f"container {status.get('name')} is in {waiting['reason']}{ended}: "
            f"{_short(last.get('message') or waiting.get('message') or '')}"
        ).rstrip(": ")


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 3] + "..."
