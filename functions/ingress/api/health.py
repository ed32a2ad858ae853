"""`/healthz` (also `/health`, which clients of model servers ask first), `/readyz`, `/metrics`."""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from functions.ingress.browser_origins import is_loopback
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import TEXT, Endpoint
from functions.ingress.http_responses import answer
from functions.ingress.tenant_access import authenticate
from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings


def asks_key_for_metrics(settings: IngressSettings, *, has_keys: bool) -> bool:
    """Whether `/metrics` needs a key. Figures show tenants' usage, so by default only this machine
    needs none.
    """
    if settings.metrics == "auto":
        return has_keys and not is_loopback(settings.host)
    return settings.metrics == "key"


async def alive(_deps: Dependencies, _request: Request) -> Response:
    """Whether the process lives."""
    return answer({"status": "ok"})


async def ready(deps: Dependencies, request: Request) -> Response:
    checks = deps.health.checks()
    shown = {check.name: check.is_met for check in checks}
    if all(shown.values()):
        return answer({"status": "ready", "checks": shown})
    error = ApiError("not_ready", "Not ready: " + ", ".join(n for n, ok in shown.items() if not ok))
    body = error.body(request.scope["state"]["request_id"]) | {"checks": shown}
    return answer(body, error.status, error.headers())


async def metrics(deps: Dependencies, request: Request) -> Response:
    if asks_key_for_metrics(deps.settings.ingress, has_keys=bool(deps.keys)):
        authenticate(deps, request)
    deps.metrics.waiters.set(len(deps.waiters))
    return Response(generate_latest(deps.metrics.registry), media_type=CONTENT_TYPE_LATEST)


ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", alive, "The process lives.", is_open=True),
    Endpoint(
        "GET", "/health", alive, "The same, where clients of model servers look.", is_open=True
    ),
    Endpoint("GET", "/readyz", ready, "A request can succeed now.", is_open=True),
    Endpoint(
        "GET", "/metrics", metrics,
        "Prometheus metrics; PICKSPIN_INGRESS_METRICS may ask for a key.", gives="Text",
        gives_types=(TEXT,), is_open=True
    ),
)  # fmt: skip
