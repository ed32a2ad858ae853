"""`render_manifests.py CACHE STATE NET [keda] [knative]`: writes STATE/manifests/*.json.

Upstream's own objects (RBAC, Services, CRDs, config maps, webhooks, Deployments) with the lane's images, next to no
requests of CPU and memory, no HPAs and PDBs, and the certificates that `make-certificates` made.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
LEFT_OUT = {"HorizontalPodAutoscaler", "PodDisruptionBudget", "Kustomization"}
KEDA_FOLDERS = ("general", "crd/bases", "service_account", "rbac", "manager", "metrics-server")
KEDA_PROGRAMS = {
    "keda-operator": "keda-operator",
    "keda-metrics-apiserver": "keda-adapter",
    "keda-admission-webhooks": "keda-webhooks",
}
KNATIVE_FILES = (
    "100-namespace.yaml",
    "200-*.yaml",
    "200-roles/*.yaml",
    "300-resources/*.yaml",
    "networking/*.yaml",
    "caching/*.yaml",
    "configmaps/*.yaml",
    "webhooks/*.yaml",
    "deployments/*.yaml",
    "kourier/*.yaml",
)
KNATIVE_SETTINGS = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-domain": {"example.com": ""},
    "config-deployment": {
        "queue-sidecar-image": "kind.local/queue:dev",
        "queue-sidecar-cpu-request": "10m",
        "queue-sidecar-memory-request": "20Mi",
    },
    "config-autoscaler": {"allow-zero-initial-scale": "true"},
    # What the chart's model services need (docs/how-to/install-on-kubernetes.md).
    "config-features": {
        "kubernetes.podspec-persistent-volume-claim": "enabled",
        "kubernetes.podspec-persistent-volume-write": "enabled",
        "kubernetes.podspec-nodeselector": "enabled",
        "kubernetes.podspec-tolerations": "enabled",
        "kubernetes.podspec-init-containers": "enabled",
        "kubernetes.podspec-securitycontext": "enabled",
    },
    # The activator's gauge of waiting requests, which wakes a model service over HTTP where it is asked to.
    "config-observability": {"metrics-protocol": "prometheus"},
}
Object = dict[str, Any]


class Certificates:
    """What `make-certificates` made, as base64."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "pki"

    def __getitem__(self, name: str) -> str:
        return base64.b64encode((self._folder / name).read_bytes()).decode()


def objects(root: Path, *patterns: str) -> Iterator[Object]:
    """Every object of the files that match, once, in the files' order."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    seen: set[tuple[str, str | None, str]] = set()
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            for found in yaml.load_all(path.read_text(encoding="utf-8"), loader):
                if not found or "metadata" not in found or found["kind"] in LEFT_OUT:
                    continue
                metadata = found["metadata"]
                key = (found["kind"], metadata.get("namespace"), metadata["name"])
                if key not in seen:
                    seen.add(key)
                    yield found


def adapt(deployment: Object, container_change: Callable[[Object, Object], None]) -> None:
    """The lane's image, small requests and short probes for every container of a Deployment."""
    spec = deployment["spec"]["template"]["spec"]
    spec.pop("affinity", None)
    for container in spec["containers"]:
        container_change(deployment, container)
        container["imagePullPolicy"] = "IfNotPresent"
        container["resources"] = {
            "requests": {"cpu": "10m", "memory": "20Mi"},
            "limits": {"memory": "1000Mi"},
        }
        quick = {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 60}
        for probe in ("readinessProbe", "startupProbe"):
            if probe in container:
                container[probe].update(quick)
        if "livenessProbe" in container:
            container["livenessProbe"]["initialDelaySeconds"] = 60


def keda_container(deployment: Object, container: Object) -> None:
    program = KEDA_PROGRAMS.get(container["name"]) or KEDA_PROGRAMS[deployment["metadata"]["name"]]
    container["image"] = "kind.local/keda:dev"
    container["command"] = ["/lane-keda", program]
    # Its rotation of certificates waits for a secret's volume to be refreshed, which takes a minute.
    rotation = "--enable-cert-rotation="
    container["args"] = [
        f"{rotation}false" if argument.startswith(rotation) else argument
        for argument in container.get("args", [])
    ]


def knative_container(deployment: Object, container: Object) -> None:
    if "envoy" in container["image"]:
        container["image"] = "kind.local/envoy:dev"
        container.pop("lifecycle", None)  # its preStop needs a shell and curl
        return
    container["command"] = ["/lane-knative", container["image"].rsplit("/", 1)[1]]
    container["image"] = "kind.local/knative:dev"


def keda_objects(cache: Path, certificates: Certificates) -> list[Object]:
    found = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "kedaorg-certs", "namespace": "keda"},
            "data": {
                "ca.crt": certificates["ca.crt"],
                "tls.crt": certificates["keda.crt"],
                "tls.key": certificates["keda.key"],
            },
        }
    ]
    folders = [f"{name}/*.yaml" for name in (*KEDA_FOLDERS, "webhooks")]
    for item in objects(cache / "keda-config", *folders):
        if item["kind"] == "Deployment":
            adapt(item, keda_container)
        elif item["kind"] == "APIService":
            item["spec"]["caBundle"] = certificates["ca.crt"]
        elif item["kind"] == "ValidatingWebhookConfiguration":
            for webhook in item["webhooks"]:
                webhook["clientConfig"]["caBundle"] = certificates["ca.crt"]
        found.append(item)
    return found


def knative_objects(cache: Path, net: str) -> list[Object]:
    found = []
    for item in objects(cache / "knative-config", *KNATIVE_FILES):
        name = item["metadata"]["name"]
        if item["kind"] == "Deployment":
            adapt(item, knative_container)
        elif (item["kind"], name) == ("Service", "kourier"):
            # A fixed address, which this machine reaches by its route.
            item["spec"].update({"type": "ClusterIP", "clusterIP": f"{net}.128.80"})
        elif item["kind"] == "ConfigMap":
            item.setdefault("data", {}).update(KNATIVE_SETTINGS.get(name, {}))
        found.append(item)
    return found


def base_objects(net: str) -> list[Object]:
    text = (HERE / "base.yaml").read_text(encoding="utf-8")
    filled = text.replace("@NET@", net).replace("@NODE@", f"{net}.255.2")
    return list(yaml.safe_load_all(filled))


def write(state: Path, name: str, items: list[Object]) -> None:
    folder = state / "manifests"
    folder.mkdir(exist_ok=True)
    body = {"apiVersion": "v1", "kind": "List", "items": items}
    (folder / name).write_text(json.dumps(body), encoding="utf-8")


def main(cache: Path, state: Path, net: str, parts: set[str]) -> None:
    base = base_objects(net)
    rest: dict[str, list[Object]] = {}
    if "keda" in parts:
        rest["1-keda.json"] = keda_objects(cache, Certificates(state))
    if "knative" in parts:
        rest["2-knative.json"] = knative_objects(cache, net)
    for name, items in rest.items():
        first = [item["kind"] in {"CustomResourceDefinition", "Namespace"} for item in items]
        base += [item for item, is_first in zip(items, first, strict=True) if is_first]
        write(
            state, name, [item for item, is_first in zip(items, first, strict=True) if not is_first]
        )
    write(state, "0-base.json", sorted(base, key=lambda item: item["kind"] != "Namespace"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], set(sys.argv[4:]))
