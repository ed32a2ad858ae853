"""CORS: which pages of other sites may call and read answers. Only those of the configured origins.

The browser of such a page sends a preflight, and shows the page nothing without these headers.
"""

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.ingress.browser_origins import split_entries
from functions.ingress.http_responses import ANSWER_HEADERS
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import IngressSettings

EVERYBODY: Final = "*"
METHODS: Final = "GET, HEAD, POST, DELETE, OPTIONS"
KEEP_S: Final = 600
"""A browser need not ask again for this long."""
EXPOSED: Final = (
    *("location", "retry-after", "x-request-id", "x-should-retry", "x-pickspin-request-id"),
    *(header.name for header in ANSWER_HEADERS),
)
"""Headers of answers that a page may read."""
_NAMES: Final = re.compile(r"[A-Za-z0-9_, -]{1,2048}", re.ASCII)


def check_origins(settings: IngressSettings, *, has_keys: bool) -> None:
    """Raises StartupFailed where every page of the world could call without a key."""
    if not has_keys and EVERYBODY in split_entries(settings.allowed_origins):
        raise StartupFailed(
            "PICKSPIN_INGRESS_ALLOWED_ORIGINS is *: set PICKSPIN_API_KEYS, or list the origins"
        )


class CrossOrigin:
    """ASGI middleware around everything, refusals included."""

    def __init__(self, app: ASGIApp, settings: IngressSettings) -> None:
        self._app = app
        self._allowed = frozenset(split_entries(settings.allowed_origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = self._allowed_origin(scope)
        if allowed is None:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(headers, allowed)(scope, receive, send)
            return

        async def send_with_leave(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["access-control-allow-origin"] = allowed
                headers["access-control-expose-headers"] = ", ".join(EXPOSED)
                headers.add_vary_header("origin")
            await send(message)

        await self._app(scope, receive, send_with_leave)

    def _allowed_origin(self, scope: Scope) -> str | None:
        """The origin that may read the answer. None: none."""
        if scope["type"] != "http" or not self._allowed:
            return None
        origin = Headers(scope=scope).get("origin")
        if origin is None:
            return None
        if EVERYBODY in self._allowed:
            return EVERYBODY
        return origin if origin.strip().lower() in self._allowed else None


def _preflight(asked: Headers, allowed: str) -> Response:
    names = asked.get("access-control-request-headers", "")
    headers = {
        "access-control-allow-origin": allowed,
        "access-control-allow-methods": METHODS,
        "access-control-max-age": str(KEEP_S),
        "vary": "origin, access-control-request-headers",
    }
    if _NAMES.fullmatch(names) is not None:
        headers["access-control-allow-headers"] = names
    return Response(status_code=204, headers=headers)
