"""uvicorn's HTTP protocol with bounds, and JSON for what cannot be parsed.

With httptools, uvicorn bounds neither size nor time of a request's head, nor chunk extensions and
trailers, nor line ends before a request. It answers broken HTTP with plain text.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from events.codecs.json_codec import dumps
from events.limits import DEFAULT_LIMITS
from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

_NO_CHUNKS: Final = "1.0"
HEAD_S: Final = 10.0
"""A request's head must be complete this long after its first byte (or after the connection opened)."""
_LINE_SPARE_BYTES: Final = 4096
"""Room for the request line and separators beyond the header limit; the exact limit is the guard's."""
LIMIT_BYTES: Final = DEFAULT_LIMITS.max_header_bytes + _LINE_SPARE_BYTES
FRAMING_A_BYTE: Final = 8
"""A body in chunks may have this much around each of its bytes: the smallest honest chunk has five."""


class UntilClosed:
    """The `send` of one exchange with a client of HTTP/1.0, which knows no chunks: what has no length ends with the
    connection.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._has_length = True

    async def __call__(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", ())]
            self._has_length = b"content-length" in names
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and not self._has_length:
            # The server counts what a length promised: here each part promises itself.
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    settings = IngressSettings()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._since_body_bytes = 0
        self._is_in_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        watch_reader(transport.get_extra_info("socket"), self.settings.stream_idle_s)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
            self._since_body_bytes += len(data)
        if self._head_timer is None and self._is_in_head:
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
        super().data_received(data)
        # What ended a head or a message within this packet has set its count back.
        if self._is_over():
            self._refuse(ApiError("header_too_large", f"At most {LIMIT_BYTES} bytes of headers."))

    def _is_over(self) -> bool:
        around = LIMIT_BYTES + FRAMING_A_BYTE * self._body_bytes
        return (
            self._head_bytes > LIMIT_BYTES
            or self._since_body_bytes > LIMIT_BYTES
            or self._framing_bytes > around
        )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header: who acts on the head has read it already.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._start_count()
        self._stop_timer()
        state: dict[str, Any] = self.scope["state"]
        state["abort"] = self.transport.abort
        super().on_headers_complete()
        if self.scope["http_version"] == _NO_CHUNKS and self.cycle is not None:
            self.cycle.send = UntilClosed(self.cycle)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._framing_bytes = max(0, self._framing_bytes - len(body))
        self._since_body_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_head = True
        self._start_count()

    def _start_count(self) -> None:
        self._head_bytes = self._body_bytes = self._framing_bytes = self._since_body_bytes = 0

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


def bounded_protocol(settings: IngressSettings) -> type[BoundedProtocol]:
    """The protocol with these bounds: the server makes one for each connection, and knows no settings."""
    return type("BoundedProtocol", (BoundedProtocol,), {"settings": settings})


def watch_reader(connection: socket.socket, idle_s: float) -> None:
    """Lets the system end a connection whose other side takes nothing, or is gone, for `idle_s`.

    What a reader does not take lies in buffers of the system, a few MiB of them: to a program each write succeeds.
    Linux counts what was sent and not taken, and asks a silent side whether it is there. Elsewhere only the latter.
    """
    options = {"TCP_KEEPIDLE": idle_s / 2, "TCP_KEEPINTVL": idle_s / 4, "TCP_KEEPCNT": 2}
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"TCP_USER_TIMEOUT": idle_s * 1000, **options}.items():
        if hasattr(socket, name):
            number = max(1, int(value))
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)
