"""`/v1/models`: every model of the catalogue, cold ones included, with its state and when it will be ready."""

from collections.abc import Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.types import ReplicaState
from functions.errors import ApiError
from functions.ingress.answering import answer
from functions.ingress.deps import Deps
from functions.ingress.owned import tenant_of
from router_model.catalogue import Catalogue, Model, Service
from router_model.registry import ServiceView

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


def routes(deps: Deps) -> list[Route]:
    """The list and one model (ids may hold slashes)."""

    async def listing(request: Request) -> Response:
        tenant = tenant_of(deps, request)
        models = _visible(deps.catalogue, tenant)
        return answer({"object": "list", "data": [_shown_now(deps, model) for model in models]})

    async def one(request: Request) -> Response:
        tenant = tenant_of(deps, request)
        asked = request.path_params["model_id"]
        name = deps.catalogue.aliases.get(asked, asked)
        found = next((m for m in _visible(deps.catalogue, tenant) if m.id == name), None)
        if found is None:
            raise ApiError("model_not_found", "No such model here; GET /v1/models lists them.")
        return answer(_shown_now(deps, found))

    return [
        Route("/v1/models", listing, methods=["GET"]),
        Route("/v1/models/{model_id:path}", one, methods=["GET"]),
    ]


def _visible(catalogue: Catalogue, tenant: str) -> Iterable[Model]:
    limits = catalogue.tenants.get(tenant)
    allowed = limits.models if limits is not None else ()
    return (
        model
        for model in catalogue.models
        if catalogue.services_of(model.id) and (not allowed or model.id in allowed)
    )


def _shown_now(deps: Deps, model: Model) -> dict[str, object]:
    registry, now = deps.registry(), deps.clock.now()
    views = [(s, registry.view(s.slug, now)) for s in deps.catalogue.services_of(model.id)]
    return show(model, views)


def show(model: Model, views: list[tuple[Service, ServiceView]]) -> dict[str, object]:
    """A model in OpenAI's shape plus `pickspin`. Pure.

    Its state is that of its best service; `eta_s` is when the first could answer (0: now, null: not known).
    """
    services = [_show_service(service, view) for service, view in views]
    states = [str(service["state"]) for service in services]
    etas = [_eta(service, view) for service, view in views]
    known = [eta for eta in etas if eta is not None]
    return {
        "id": model.id,
        "object": "model",
        "created": CREATED,
        "owned_by": "pickspin",
        "pickspin": {
            "state": min(states, key=_BEST_FIRST.index),
            "eta_s": min(known, default=None),
            "tier": model.tier,
            "capabilities": model.capabilities,
            "context_length": model.context_length,
            "simulated": model.simulated,
            "services": services,
        },
    }


def _show_service(service: Service, view: ServiceView) -> dict[str, object]:
    return {
        "service": service.slug,
        "backend": service.backend.kind,
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
    }


def _eta(service: Service, view: ServiceView) -> float | None:
    """What the registry says; for a cold service the catalogue's estimate of a cold start."""
    if view.eta_s is not None:
        return view.eta_s
    return service.cold_start_s if view.state is ReplicaState.COLD else None
