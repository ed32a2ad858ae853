"""The ASGI application: every door, inside the guard. All adapters come in through `deps`."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan

from functions.ingress import (
    batches,
    event_door,
    feedback,
    files,
    front_page,
    health,
    inference,
    models,
    openapi,
    requests,
    responses,
    targets,
)
from functions.ingress.cross_origin import CrossOrigin
from functions.ingress.deps import Deps
from functions.ingress.guarding import Guard, on_http_exception


def build_app(deps: Deps, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application over `deps`. `lifespan` starts and stops what runs beside the doors (None: nothing does)."""
    app = Starlette(
        routes=[
            *inference.routes(deps),
            *models.routes(deps),
            *requests.routes(deps),
            *feedback.routes(deps),
            *responses.routes(deps),
            *files.routes(deps),
            *batches.routes(deps),
            *targets.routes(deps),
            *event_door.routes(deps),
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
