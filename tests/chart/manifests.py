"""Looking at rendered manifests, and making the values that they are rendered from."""

import json
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]
KNATIVE_SERVICE = "serving.knative.dev/v1"
_WITH_PODS = {"Deployment", "StatefulSet", "Job"}


def named(docs: list[Manifest], kind: str, name: str) -> Manifest:
    return next(doc for doc in docs if doc["kind"] == kind and doc["metadata"]["name"] == name)


def of_kind(docs: list[Manifest], kind: str) -> list[Manifest]:
    return [doc for doc in docs if doc["kind"] == kind]


def templates(docs: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Every pod template, with the manifest that it is in."""
    for doc in docs:
        if doc["kind"] in _WITH_PODS or doc["apiVersion"] == KNATIVE_SERVICE:
            yield doc, doc["spec"]["template"]
        elif doc["kind"] == "CronJob":
            yield doc, doc["spec"]["jobTemplate"]["spec"]["template"]


def pods(docs: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for doc, template in templates(docs):
        yield doc["metadata"]["name"], template["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def service(**fields: Any) -> Manifest:
    return {"model": "m", "backend": {"kind": "vllm"}, **fields}


def catalogue(*services: Manifest, **more: Any) -> Manifest:
    """Values with the models `m` and `Other.Model-7B`."""
    models = [
        {"id": name, "weights": {"path": f"/models/{name}"}} for name in ("m", "Other.Model-7B")
    ]
    return {"global": {"catalogue": {"models": models, "services": list(services), **more}}}


def workload_of(docs: list[Manifest], slug: str) -> Manifest:
    """The Knative Service or Deployment of a service."""
    return next(
        doc
        for doc, _ in templates(docs)
        if doc["metadata"]["name"] == f"ps-{slug}" and doc["kind"] in {"Service", "Deployment"}
    )


def pod_of(docs: list[Manifest], slug: str) -> Manifest:
    return workload_of(docs, slug)["spec"]["template"]["spec"]


def container_of(docs: list[Manifest], slug: str, name: str) -> Manifest:
    return next(one for one in pod_of(docs, slug)["containers"] if one["name"] == name)


def scaling_of(docs: list[Manifest], slug: str) -> Manifest:
    """The ScaledObject's spec of a service: an object, a key for the controller, or an annotation."""
    workload = workload_of(docs, slug)
    if workload["kind"] == "Deployment":
        return named(docs, "ScaledObject", f"ps-{slug}")["spec"]
    notes = workload["spec"]["template"]["metadata"]["annotations"]
    if notes["autoscaling.knative.dev/class"] == "keda.pickspin.io":
        return json.loads(named(docs, "ConfigMap", notes["keda.pickspin.io/scaling"])["data"][slug])
    return json.loads(notes["autoscaling.knative.dev/scaled-object-override"])["spec"]


def environment(container: Manifest) -> dict[str, str]:
    """As the process would see it; what comes from secrets or the pod is the text 7."""
    return {item["name"]: item.get("value", "7") for item in container["env"]}
