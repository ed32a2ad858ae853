"""The ASGI application: every door, inside the guard. All adapters come in through `dependencies`."""

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
    requests,
    responses,
)
from functions.ingress.cors import CrossOrigin
from functions.ingress.dependencies import Dependencies
from functions.ingress.middleware import Guard, on_http_exception


def build_app(deps: Dependencies, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application over `deps`. `lifespan` starts and stops what runs beside the doors (None: nothing does)."""
    app = Starlette(
        routes=[
            *openai.routes(deps),
            *models.routes(deps),
            *requests.routes(deps),
            *feedback.routes(deps),
            *responses.routes(deps),
            *files.routes(deps),
            *batches.routes(deps),
            *callbacks.routes(deps),
            *cloudevents.routes(deps),
            *front_page.routes(deps),
            *health.routes(deps),
            *openapi.routes(),
        ],
        middleware=[
            Middleware(CrossOrigin, settings=deps.settings.ingress),
            Middleware(Guard, deps=deps),
        ],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    # A trailing slash is another path: 404, not a redirect that clients would follow with a body.
    app.router.redirect_slashes = False
    return app
