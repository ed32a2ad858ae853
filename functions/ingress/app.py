"""The ASGI application: every API, inside the guard. All adapters come in through `dependencies`."""

from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan

from functions.ingress.api import (
    batches,
    callbacks,
    cloudevents,
    feedback,
    files,
    front_page,
    health,
    models,
    openai,
    openapi,
    request_stream,
    requests,
    responses,
)
from functions.ingress.cors import CrossOrigin
from functions.ingress.dependencies import Dependencies
from functions.ingress.middleware import Guard, on_http_exception

ENDPOINTS: Final = (
    *openai.ENDPOINTS,
    *models.ENDPOINTS,
    *responses.ENDPOINTS,
    *requests.ENDPOINTS,
    *request_stream.ENDPOINTS,
    *feedback.ENDPOINTS,
    *files.ENDPOINTS,
    *batches.ENDPOINTS,
    *callbacks.ENDPOINTS,
    *cloudevents.ENDPOINTS,
    *front_page.ENDPOINTS,
    *health.ENDPOINTS,
    *openapi.ENDPOINTS,
)
"""Everything that is served."""


def build_app(deps: Dependencies, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application over `deps`. `lifespan` starts and stops what runs beside it (None: nothing does)."""
    app = Starlette(
        routes=[endpoint.make_route(deps) for endpoint in ENDPOINTS],
        middleware=[
            Middleware(CrossOrigin, settings=deps.settings.ingress),
            Middleware(Guard, deps=deps),
        ],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.state.endpoints = ENDPOINTS
    # A trailing slash is another path: 404, not a redirect that clients would follow with a body.
    app.router.redirect_slashes = False
    return app
