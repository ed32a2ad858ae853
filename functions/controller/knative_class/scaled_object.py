"""The ScaledObject spec of a revision.

It comes from the scaling ConfigMap or the template, and gets target, limits and HTTP trigger here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from functions.controller.knative_class.pod_autoscaler import PodAutoscaler
from functions.kubernetes.labels import MAX_SCALE, MIN_SCALE, SCALED_OBJECT, SCALING
from functions.ports.kubernetes import Object, get_name

_MIN: Final = "minReplicaCount"
_MAX: Final = "maxReplicaCount"
_FIRST: Final = "initialCooldownPeriod"
_COOLDOWN: Final = "cooldownPeriod"


@dataclass(frozen=True, slots=True)
class SpecProblem:
    """Why a revision has no usable scaling spec; `message` is for a person."""

    message: str


def find_spec(
    autoscaler: PodAutoscaler, config_map: Object | None
) -> Mapping[str, Any] | SpecProblem:
    """The spec of the revision's service.

    The inline annotation wins; else the key named by the service's slug in the ConfigMap that the
    template names.
    `config_map` is the one that is watched; None: there is none.
    """
    inline = autoscaler.annotations.get(SCALED_OBJECT)
    if inline is not None:
        return _parse_spec(inline, f"annotation {SCALED_OBJECT}")
    named = autoscaler.annotations.get(SCALING)
    if not named:
        return SpecProblem(f"the template has neither {SCALING} nor {SCALED_OBJECT}")
    if config_map is None or get_name(config_map) != named:
        return SpecProblem(f"the scaling ConfigMap {named} is not there, or is not this release's")
    text = (config_map.get("data") or {}).get(autoscaler.service)
    if text is None:
        return SpecProblem(f"ConfigMap {named} has no key {autoscaler.service!r}")
    return _parse_spec(text, f"ConfigMap {named}, key {autoscaler.service}")


def _parse_spec(text: str, where: str) -> Mapping[str, Any] | SpecProblem:
    try:
        spec = json.loads(text)
    except ValueError as error:
        return SpecProblem(f"{where}: not JSON ({error})")
    if not isinstance(spec, dict) or not isinstance(spec.get("triggers"), list):
        return SpecProblem(f"{where}: not a ScaledObject spec with a list of triggers")
    return spec


def build_spec(
    spec: Mapping[str, Any], autoscaler: PodAutoscaler, activator_metrics: str
) -> dict[str, Any]:
    """`spec` with the revision's Deployment as its target, replica limits of the template's
    min-scale and max-scale where those are given (max-scale 0 is Knative's "no limit"), and the
    HTTP trigger where the template asks for it.

    `initialCooldownPeriod` covers a first boot, which is over here: it holds for the cooldown at
    most.
    """
    built = dict(spec)
    target = autoscaler.target
    built["scaleTargetRef"] = {key: target[key] for key in ("apiVersion", "kind", "name")}
    if _FIRST in built and _COOLDOWN in built:
        built[_FIRST] = min(built[_FIRST], built[_COOLDOWN])
    least, most = autoscaler.scale(MIN_SCALE), autoscaler.scale(MAX_SCALE)
    if most:
        built[_MAX] = most
    if least is not None:
        built[_MIN] = least
    if _MIN in built and _MAX in built:
        built[_MIN] = min(built[_MIN], built[_MAX])
    if autoscaler.is_woken_by_http:
        built["triggers"] = [
            *spec["triggers"],
            _build_http_trigger(autoscaler.name, activator_metrics),
        ]
    return built


def _build_http_trigger(revision: str, url: str) -> dict[str, Any]:
    """Requests that wait in the activator for this revision.

    The activator wakes class kpa alone, but shows the gauge (`metrics-protocol: prometheus` in
    Knative's config-observability is a prerequisite).
    """
    return {
        "type": "metrics-api",
        "metadata": {
            "url": url,
            "format": "prometheus",
            "targetValue": "1",
            "activationTargetValue": "0",
            "valueLocation": f'kn_revision_request_concurrency{{kn_revision_name="{revision}"}}',
        },
    }
