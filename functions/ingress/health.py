"""`/healthz` (also `/health`, which clients of model servers ask first), `/readyz`, `/metrics`."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.errors import ApiError
from functions.ingress.answering import answer
from functions.ingress.deps import Deps


def routes(deps: Deps) -> list[Route]:
    """The probes. None of them asks for a key."""

    async def alive(_: Request) -> Response:
        return answer({"status": "ok"})

    async def ready(request: Request) -> Response:
        checks = deps.health.checks()
        shown = {check.name: check.is_met for check in checks}
        if all(shown.values()):
            return answer({"status": "ready", "checks": shown})
        error = ApiError(
            "not_ready", "Not ready: " + ", ".join(n for n, ok in shown.items() if not ok)
        )
        body = error.body(request.scope["state"]["request_id"]) | {"checks": shown}
        return answer(body, error.status, error.headers())

    async def metrics(_: Request) -> Response:
        deps.metrics.waiters.set(len(deps.waiters))
        return Response(generate_latest(deps.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/health", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
