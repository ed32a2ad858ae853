"""The HTTP parser's edge: bounds on heads before they are complete, JSON for what cannot be parsed, and abort.

uvicorn bounds neither the size of a request's head nor the time it takes when httptools parses it, and answers broken
HTTP with plain text.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from events.json_codec import dumps
from events.limits import DEFAULT_LIMITS
from functions.errors import ApiError

HEAD_S: Final = 10.0
"""A request's head must be complete this long after its first byte (or after the connection opened)."""
_LINE_SPARE_BYTES: Final = 4096
"""Room for the request line and separators beyond the header limit; the exact limit is the guard's."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._is_in_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
            limit = DEFAULT_LIMITS.max_header_bytes + _LINE_SPARE_BYTES
            # A first packet may hold a whole head and much of a body: then the head is complete after parsing.
            if self._head_bytes > limit and not _ends_head(data, limit):
                self._refuse(ApiError("header_too_large", f"At most {limit} bytes of headers."))
                return
        if self._head_timer is None and self._is_in_head:
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_timer()
        state: dict[str, Any] = self.scope["state"]
        state["abort"] = self.transport.abort
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_head = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError("invalid_body", "This is not a valid HTTP request."))

    def _start_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        # In the middle of an answer nothing can be said any more.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = dumps(error.body(None))
            head = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def _ends_head(data: bytes, limit: int) -> bool:
    return 0 <= data.find(b"\r\n\r\n") <= limit
