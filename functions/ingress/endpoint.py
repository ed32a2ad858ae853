"""One method of one path: what answers it, and what `/openapi.json` says of it.

Each API has its table `ENDPOINTS`. `app` makes routes of all of them, `api.openapi` the document.
"""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.ingress.dependencies import Dependencies

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
TEXT: Final = "text/plain"

Handler = Callable[[Dependencies, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path takes and gives.

    Args:
        method: in upper case.
        path: as Starlette reads it.
        handler: what answers.
        summary: one sentence for the document.
        takes: the type of the body, or the name of a component of the document; None: no body.
        gives: the name of the component that a good answer is.
        statuses: of good answers.
        query: parameters of the query.
        headers: headers that change what is done.
        is_open: whether it asks for no key.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    _: KW_ONLY
    takes: type[msgspec.Struct] | str | None = None
    takes_type: str = JSON
    gives: str = "Object"
    gives_types: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = (200,)
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    is_open: bool = False

    def make_route(self, deps: Dependencies) -> Route:
        """The route of one ingress."""
        return Route(self.path, partial(self.handler, deps), methods=[self.method])
