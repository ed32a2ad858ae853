"""`/v1/models`: every model of the catalogue, cold ones included, with state and ETA.

Then every other name that `model` may have: `auto`, aliases, tasks and cascades.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from events.names import ReplicaState
from functions.backends.server_arguments import served_name
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import Endpoint
from functions.ingress.http_responses import answer
from functions.ingress.tenant_access import authenticate
from functions.runtime.errors import ApiError
from router_model.catalogue.model import Catalogue, Model, Service
from router_model.routing.model_names import VirtualName, list_virtual_names
from router_model.service_registry import ServiceView

CREATED: Final = 1_735_689_600
"""OpenAI's field `created`; a catalogue has no such date, so it is the same for every model (2025-01-01)."""
_SHOWN: Final = {
    ReplicaState.READY: "warm",
    ReplicaState.COLD: "cold",
    ReplicaState.STOPPED: "cold",
    ReplicaState.DRAINING: "cold",
    ReplicaState.STARTING: "starting",
    ReplicaState.LOADING: "loading",
    ReplicaState.WARMING: "warming",
    ReplicaState.FAILED: "failed",
}
_BEST_FIRST: Final = ("warm", "warming", "loading", "starting", "cold", "failed")


async def list_models(deps: Dependencies, request: Request) -> Response:
    return answer({"object": "list", "data": show_models(deps, authenticate(deps, request))})


async def retrieve(deps: Dependencies, request: Request) -> Response:
    tenant = authenticate(deps, request)
    asked = request.path_params["model_id"]
    for model in _list_visible(deps.catalogue, tenant):
        if model.id == asked:
            return answer(_show_now(deps, model))
    for virtual in list_virtual_names(deps.catalogue, tenant):
        if virtual.name == asked:
            return answer(_show_virtual_now(deps, virtual))
    raise ApiError("model_not_found", "No such model here; GET /v1/models lists them.")


def show_models(deps: Dependencies, tenant: str) -> list[dict[str, object]]:
    """All names that the tenant may use as `model`, with their state: models, then virtual names."""
    models = [_show_now(deps, model) for model in _list_visible(deps.catalogue, tenant)]
    names = list_virtual_names(deps.catalogue, tenant)
    return [*models, *(_show_virtual_now(deps, name) for name in names)]


def _list_visible(catalogue: Catalogue, tenant: str) -> Iterable[Model]:
    limits = catalogue.tenants.get(tenant)
    allowed = limits.models if limits is not None else ()
    return (
        model
        for model in catalogue.models
        if catalogue.services_of(model.id) and (not allowed or model.id in allowed)
    )


def _show_now(deps: Dependencies, model: Model) -> dict[str, object]:
    registry, now = deps.registry(), deps.clock.now()
    views = [(s, registry.view(s.slug, now)) for s in deps.catalogue.services_of(model.id)]
    return show(model, views)


def _show_virtual_now(deps: Dependencies, virtual: VirtualName) -> dict[str, object]:
    return show_virtual(virtual, [_show_now(deps, model) for model in virtual.models])


def show_virtual(virtual: VirtualName, models: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """A name that stands for models, in OpenAI's shape plus `pickspin`. Pure. `models` are those, as shown.

    Its state is that of the best of them, `context_length` that of the longest; it is simulated where all are.
    """
    of = [model["pickspin"] for model in models]
    known = [one["eta_s"] for one in of if one["eta_s"] is not None]
    return _object(
        virtual.name,
        {
            "virtual": virtual.kind,
            "of": [model["id"] for model in models],
            "state": min((one["state"] for one in of), key=_BEST_FIRST.index),
            "eta_s": min(known, default=None),
            "capabilities": list(dict.fromkeys(name for one in of for name in one["capabilities"])),
            "context_length": max(one["context_length"] for one in of),
            "simulated": all(one["simulated"] for one in of),
        },
    )


def show(model: Model, views: list[tuple[Service, ServiceView]]) -> dict[str, object]:
    """A model in OpenAI's shape plus `pickspin`. Pure.

    Its state is that of its best service; `eta_s` is when the first could answer (0: now, null: not known).
    """
    services = [_show_service(service, model, view) for service, view in views]
    states = [str(service["state"]) for service in services]
    etas = [_eta(service, view) for service, view in views]
    known = [eta for eta in etas if eta is not None]
    said = [None if view.server is None else view.server.context_length for _, view in views]
    lengths = [length or model.context_length for length in said]
    return _object(
        model.id,
        {
            "state": min(states, key=_BEST_FIRST.index),
            "eta_s": min(known, default=None),
            "tier": model.tier,
            "capabilities": model.capabilities,
            "context_length": max(lengths, default=model.context_length),
            "simulated": model.simulated,
            "services": services,
        },
    )


def _object(name: str, about: Mapping[str, object]) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "pickspin",
        "pickspin": about,
    }


def _show_service(service: Service, model: Model, view: ServiceView) -> dict[str, object]:
    said = None if view.server is None else view.server.model
    return {
        "service": service.slug,
        "backend": service.backend.kind,
        "upstream_model": said or served_name(service, model),
        "state": _SHOWN[view.state],
        "eta_s": _eta(service, view),
        "progress": view.progress,
        "ready": view.ready,
        "in_flight": view.in_flight,
        "lag": view.lag,
        "desired": view.desired,
        "max_replicas": service.max_replicas,
        "gpu": service.gpu,
        "gpu_share": service.gpu_share,
        "price_per_hour_usd": service.price_per_hour_usd,
        "healthy": view.is_healthy,
        "breaker": view.breaker.value,
        "retry_in_s": view.retry_in_s,
        "failed_starts": view.failed_starts,
        "message": view.message,
        "server": None if view.server is None else asdict(view.server),
    }


def _eta(service: Service, view: ServiceView) -> float | None:
    """The registry's ETA. For a cold service the catalogue's estimate of a cold start."""
    if view.eta_s is not None:
        return view.eta_s
    return service.cold_start_s if view.state is ReplicaState.COLD else None


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/models", list_models, "All names that can be asked for, with state and ETA.",
        gives="ModelList"
    ),
    Endpoint("GET", "/v1/models/{model_id:path}", retrieve, "One model.", gives="Model"),
)  # fmt: skip
