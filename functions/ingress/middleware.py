"""The outermost layer: limits on heads and open calls, a request id, and the one catch-all."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events import ids
from events.errors import EventRejected
from events.limits import DEFAULT_LIMITS
from functions.ingress.browser_origins import Origins
from functions.ingress.dependencies import Dependencies
from functions.ingress.held_bodies import release_body
from functions.ingress.http_responses import as_refusal, refusal
from functions.ingress.open_calls import shutting_down
from functions.ingress.request_body import ClientGone
from functions.ingress.tenant_access import SLASH_WITHIN, authenticate
from functions.ingress.tenant_shares import SharedRoom
from functions.runtime.errors import ApiError

log = logging.getLogger(__name__)

SPARE_CALLS: Final = 256
"""Open calls beyond `max_waiters`: polls, listings, uploads. The next is shed."""
LINGER_S: Final = 2.0
"""After a refusal what is still being sent is dropped for so long, or until so many bytes, before the end."""
LINGER_BYTES: Final = 64 * 1024 * 1024
_PROBES: Final = frozenset({"/healthz", "/health", "/readyz", "/metrics"})
_BY_EVENT_ID: Final = ("/v1/requests/", "/v1/responses/")
"""Paths whose next part may be the id of a caller's event."""
_BY_STATUS: Final[Mapping[int, ApiError]] = {
    HTTPStatus.NOT_FOUND: ApiError(
        "not_found", "Nothing is here; /openapi.json lists what there is."
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: ApiError(
        "method_not_allowed", "This path does not take that method."
    ),
}


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, deps: Dependencies) -> None:
        self._app = app
        self._deps = deps
        self._places = deps.settings.ingress.max_waiters + SPARE_CALLS
        self._room = SharedRoom()
        self._origins = Origins(deps.settings.ingress, checks=not deps.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        request_id = ids.new_request_id(self._deps.clock.now(), self._deps.entropy(10))
        scope.setdefault("state", {})["request_id"] = request_id
        task = self._deps.calls.enter()
        try:
            check_head(scope)
            keep_quoted_slashes(scope)
            self._origins.check(scope["method"], scope["headers"])
            with self._place(scope):
                await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if not self._deps.calls.is_closing:
                raise
            task.uncancel()
            await self._refuse(shutting_down(), exchange, request_id)
        except Exception as error:  # noqa: BLE001 - the loop boundary: logged once, answered with the id only
            await self._refuse(error, exchange, request_id)
        finally:
            release_body(scope["state"])
            self._deps.calls.leave(task)

    @contextlib.contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        """A place among the open calls for this one, of its tenant's share. Probes need none."""
        if scope["path"] in _PROBES:
            yield
            return
        tenant = self._tenant_of(scope)
        share = self._deps.tenant_share
        if not self._room.try_enter(tenant, 1, room=self._places, share=share):
            if self._room.taken >= self._places:
                raise ApiError("overloaded", "Too many calls are open here; try again shortly.")
            raise ApiError(
                "tenant_rate", "Too many calls of this key are open; others need room too."
            )
        try:
            yield
        finally:
            self._room.leave(tenant, 1)

    def _tenant_of(self, scope: Scope) -> str:
        """The tenant whose share a call takes. Calls without a valid key share one, and are refused
        later.
        """
        try:
            return authenticate(self._deps, Request(scope))
        except ApiError:
            return ""

    async def _refuse(self, error: Exception, exchange: "_Exchange", request_id: str) -> None:
        refused = as_refusal(error)
        if refused is not None and not isinstance(error, ApiError | EventRejected):
            log.warning(
                "a call was refused", extra={"reason": type(error).__name__, "code": refused.code}
            )
        if refused is None:
            # The one catch-all of this process: the caller gets the request id only.
            log.error("a call failed", exc_info=error, extra={"request_id": request_id})
            refused = ApiError(
                "internal", "Something went wrong here; the request id helps us find it."
            )
        self._deps.metrics.refusals.labels(code=refused.code).inc()
        if exchange.has_started:
            return
        response = refusal(refused, request_id)
        await response(exchange.scope, exchange.receive, exchange.send)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Refusals of the framework: unknown paths, wrong methods, bad forms. `OPTIONS` lists the
    methods.
    """
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    refused = _BY_STATUS.get(status) or ApiError("invalid_body", "The request is not valid.")
    response = refusal(refused, request.scope["state"]["request_id"])
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        if request.method == "OPTIONS":
            response = Response(status_code=HTTPStatus.NO_CONTENT)
        response.headers["allow"] = _list_methods(request)
    return response


def _list_methods(request: Request) -> str:
    """Every method that the path takes, of whichever route."""
    methods = {"OPTIONS"}
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def check_head(scope: Scope) -> None:
    """Bounds on the headers and the query.

    Raises:
        ApiError: `header_too_large`.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers) + len(scope["query_string"])
    if len(headers) > DEFAULT_LIMITS.max_headers or size > DEFAULT_LIMITS.max_header_bytes:
        raise ApiError(
            "header_too_large",
            f"At most {DEFAULT_LIMITS.max_headers} headers and {DEFAULT_LIMITS.max_header_bytes} bytes.",
        )


def keep_quoted_slashes(scope: Scope) -> None:
    """Leaves a slash that was quoted within the part of the path that it is in: the id of an event may hold one."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" in raw.lower() and scope["path"].startswith(_BY_EVENT_ID):
        parts = raw.split(b"?", 1)[0].decode("latin-1").split("/")
        scope["path"] = "/".join(unquote(part).replace("/", SLASH_WITHIN) for part in parts)


class _Exchange:
    """One call's receive and send, watched: what is left unread when a refusal goes out closes the connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._has_more = _has_body(scope)
        self._is_early = False
        self.has_started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._has_more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            self._is_early = self._has_more and message["status"] >= HTTPStatus.BAD_REQUEST
            if self._is_early:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        elif self._is_early and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drop_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drop_rest(self) -> None:
        """Reads what still arrives, for a moment.

        A connection closed with unread bytes is reset, and its client would never read the answer.
        """
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while self._has_more and left > 0:
                    message = await self.receive()
                    left -= len(message.get("body", b""))


def _has_body(scope: Scope) -> bool:
    names = dict(scope["headers"])
    return b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
