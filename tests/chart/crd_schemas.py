"""Schemas of the API server and of operators' CRDs as JSON Schema, read from the Go module cache where they are there.

The Go module proxy has them all; nothing is fetched here. `go mod download MODULE@VERSION` puts one into the cache,
and the build of a test cluster needs most of them anyway.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KUBERNETES = "k8s.io/kubernetes@v1.34.4"
OPEN_API = "api/openapi-spec/v3"
# API group -> module and the folder of its CRDs.
MODULES = {
    "keda.sh": ("github.com/kedacore/keda/v2@v2.20.2", "config/crd/bases"),
    "serving.knative.dev": ("knative.dev/serving@v0.48.0", "config/core/300-resources"),
    "sources.knative.dev": ("knative.dev/eventing-kafka-broker@v0.43.1", "control-plane/config"),
    "eventing.knative.dev": ("knative.dev/eventing-kafka-broker@v0.43.1", "control-plane/config"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd",
    ),
}


def module_cache() -> Path:
    """Where Go keeps modules, without asking Go."""
    root = os.environ.get("GOPATH", "").split(os.pathsep)[0] or str(Path.home() / "go")
    return Path(os.environ.get("GOMODCACHE", "") or Path(root) / "pkg" / "mod")


def module_of(api_version: str) -> str | None:
    """The module that has the schema of an API version; None where no module does."""
    group = api_version.rpartition("/")[0]
    if "." not in group or group.endswith(".k8s.io"):
        return KUBERNETES
    return MODULES[group][0] if group in MODULES else None


def is_there(module: str) -> bool:
    return (module_cache() / module).is_dir()


@cache
def schema_of(api_version: str, kind: str) -> Schema:
    """The strict schema of a kind: unknown fields are refused, as by a server-side dry run with strict validation."""
    group, _, version = api_version.rpartition("/")
    module = module_of(api_version)
    assert module is not None
    if module == KUBERNETES:
        return _built_in(group, version, kind)
    folder = module_cache() / module / MODULES[group][1]
    for path in sorted(folder.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if f"kind: {kind}\n" not in text or "CustomResourceDefinition" not in text:
            continue
        for doc in yaml.load_all(text, Loader=LOADER):
            if (
                doc
                and doc.get("kind") == "CustomResourceDefinition"
                and (doc["spec"]["group"] == group and doc["spec"]["names"]["kind"] == kind)
            ):
                found = next(v for v in doc["spec"]["versions"] if v["name"] == version)
                schema = _strict(found["schema"]["openAPIV3Schema"])
                schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
                return schema
    raise AssertionError(f"{module} has no {api_version} {kind}")


@cache
def _open_api(name: str) -> Schema:
    path = module_cache() / KUBERNETES / OPEN_API / name
    found: Schema = json.loads(path.read_text(encoding="utf-8"))
    schemas = found["components"]["schemas"]
    return {name: _strict(schema) for name, schema in schemas.items()}


def _built_in(group: str, version: str, kind: str) -> Schema:
    name = f"apis__{group}__{version}_openapi.json" if group else f"api__{version}_openapi.json"
    schemas = _open_api(name)
    wanted = {"group": group, "kind": kind, "version": version}
    for title, schema in schemas.items():
        if wanted in schema.get("x-kubernetes-group-version-kind", []):
            return {"$ref": f"#/components/schemas/{title}", "components": {"schemas": schemas}}
    raise AssertionError(f"{KUBERNETES} has no {group}/{version} {kind}")


def _strict(schema: Any) -> Any:
    """The schema with what only Kubernetes says put into JSON Schema's words."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: {key: _strict(one) for key, one in part.items()}
        if name == "properties"
        else _strict(part)
        for name, part in schema.items()
        if name not in {"default", "description", "example", "format"}
    }
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    open_ended = (
        found.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in found
    )
    if "properties" in found and not open_ended:
        found["additionalProperties"] = False
    return found
