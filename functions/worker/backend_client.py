"""Calls of the model server over its OpenAI-compatible HTTP API: one call, one answer or one typed failure.

Nothing a server sends is trusted: reads are bounded, answers are checked, error texts stay here.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import httpx

from events.codecs import json_codec
from events.names import Operation
from events.openai.operations import OPERATIONS
from functions.runtime.errors import ApiError
from functions.worker import backend_errors, backend_response
from functions.worker.backend_errors import BadReply, CallFailed
from functions.worker.backend_health import BackendHealth
from functions.worker.backend_request import BackendRequest, check_dimensions, to_base64
from functions.worker.idle_sleep import IdleSleep
from functions.worker.sse import SseEvent, SseParser
from functions.worker.stream_assembler import StreamAssembler

OnChunk = Callable[[dict[str, Any], bool], Awaitable[None]]
"""Gets each chunk for the client, and whether it holds content."""
CONNECT_S: Final = 5.0
WRITE_S: Final = 30.0
KEEPALIVE_S: Final = 15
"""A server's host that is gone without a word is noticed by the kernel about twice this long after its last."""
_ERROR_BYTES: Final = 64 * 1024
_STREAM_FACTOR: Final = 64
_EMBEDDINGS_FACTOR: Final = 64
_LOGPROBS_FACTOR: Final = 16
_DONE: Final = b"[DONE]"
_SSE: Final = "text/event-stream"
_JSON: Final = "application/json"
_AFTERWARDS_S: Final = 5.0
"""How long usage and `[DONE]` are waited for once every choice has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Bounds of one call. `timeout_s` bounds the whole of it, `idle_s` the silence of a stream that has begun to speak.

    Before the first token silence is work: a long prompt is being read.
    """

    max_reply_bytes: int
    idle_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswer:
    """An answer. `first_s`: seconds from the call to the first content; None where it was not streamed."""

    reply: dict[str, Any]
    seconds: float
    first_s: float | None = None
    is_usage_estimated: bool = False

    @property
    def completion_tokens(self) -> int:
        tokens = self.reply.get("usage", {}).get("completion_tokens", 0)
        return tokens if isinstance(tokens, int) else 0


def open_http(root: str, *, concurrency: int, key: str | None = None) -> httpx.AsyncClient:
    """The HTTP client of one model server, which may want a key. Proxy settings of the environment do not apply."""
    return httpx.AsyncClient(
        headers={} if key is None else {"authorization": f"Bearer {key}"},
        base_url=root,
        trust_env=False,
        timeout=httpx.Timeout(WRITE_S, connect=CONNECT_S),
        transport=httpx.AsyncHTTPTransport(
            trust_env=False,
            # Reading the certificate store takes longer than everything else at a start, and loopback needs none.
            verify=root.startswith("https:"),
            # Connections idle for long may just be closing at the server: a reset would cost an attempt.
            limits=httpx.Limits(
                max_connections=concurrency + 4,
                max_keepalive_connections=concurrency,
                keepalive_expiry=2.0,
            ),
            socket_options=_kept_alive(),
        ),
    )


def _kept_alive() -> list[tuple[int, int, int]]:
    """Socket options by which the kernel asks whether a silent server's host is still there."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if hasattr(socket, "TCP_KEEPIDLE"):
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 3),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
    return options


class BackendClient:
    """Calls one model server. Owned by the event loop; `http` is closed by its owner."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        limits: CallLimits,
        health: BackendHealth,
        dozing: IdleSleep | None = None,
    ) -> None:
        self.health = health
        """Hears of each call from whoever makes it: that knows whose request it is for."""
        self._http = http
        self._limits = limits
        self._dozing = dozing

    async def call(self, call: BackendRequest, on_chunk: OnChunk) -> BackendAnswer:
        """One call.

        Raises:
            ApiError: the request is at fault; final.
            CallFailed: no (valid) answer came.
            NotNow: the server takes no call at the moment.
        """
        async with nullcontext() if self._dozing is None else self._dozing.in_use():
            return await self._call(call, on_chunk)

    async def _call(self, call: BackendRequest, on_chunk: OnChunk) -> BackendAnswer:
        started = time.monotonic()
        request = self._http.build_request(
            "POST",
            OPERATIONS[call.operation].path,
            content=json_codec.dumps(call.body),
            headers=_headers(call),
            timeout=httpx.Timeout(
                self._limits.timeout_s, connect=CONNECT_S, write=WRITE_S, pool=CONNECT_S
            ),
        )
        try:
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise await _refusal(response)
                if call.is_stream:
                    return await self._stream(response, call, on_chunk, started)
                return await self._plain(response, call, started)
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            known = error if isinstance(error, httpx.HTTPError) else httpx.ConnectError("address")
            raise backend_errors.read_transport_error(known) from None

    async def _plain(
        self, response: httpx.Response, call: BackendRequest, started: float
    ) -> BackendAnswer:
        limit = self._limits.max_reply_bytes
        if call.operation is Operation.EMBEDDINGS:
            limit *= _EMBEDDINGS_FACTOR
        elif call.body.get("logprobs"):
            limit *= _LOGPROBS_FACTOR
        if _is_kind(response, _SSE):
            # Some proxies stream whatever was asked for.
            return await self._stream(response, call, _drop, started)
        raw = await _read_whole(response, limit)
        reply, is_estimated = backend_response.check_reply(backend_response.parse(raw), call.shape)
        if call.operation is Operation.EMBEDDINGS:
            check_dimensions(reply, call.body.get("dimensions"))
        if call.is_base64:
            reply = to_base64(reply)
        return BackendAnswer(
            reply=reply, seconds=time.monotonic() - started, is_usage_estimated=is_estimated
        )

    async def _stream(
        self, response: httpx.Response, call: BackendRequest, on_chunk: OnChunk, started: float
    ) -> BackendAnswer:
        assembler = StreamAssembler(
            call.shape,
            max_bytes=self._limits.max_reply_bytes,
            max_tokens=call.max_tokens,
            has_usage=call.has_usage,
        )
        first_s: float | None = None
        async for chunk in self._chunks(response, assembler):
            had_content = assembler.has_content
            shown = assembler.add(chunk)
            if assembler.has_content and first_s is None:
                first_s = time.monotonic() - started
            if shown is not None:
                await on_chunk(shown, assembler.has_content and not had_content)
            if assembler.is_cut:
                break
        owed = assembler.endings()
        reply, is_estimated = assembler.result()
        for chunk in owed:
            has_new_content = False
            await on_chunk(chunk, has_new_content)
        return BackendAnswer(
            reply=reply,
            seconds=time.monotonic() - started,
            first_s=first_s,
            is_usage_estimated=is_estimated,
        )

    async def _chunks(
        self, response: httpx.Response, assembler: StreamAssembler
    ) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream; a server that does not stream has said all of it in one.

        Raises:
            BadReply: it ended before the answer did.
        """
        if _is_kind(response, _JSON):
            raw = await _read_whole(response, self._limits.max_reply_bytes)
            yield backend_response.as_chunk(backend_response.parse(raw))
            return
        _check_encoding(response)
        async for event in self._events(response, assembler):
            if event.data.strip() == _DONE:
                return
            chunk = backend_response.parse_frame(event.data)
            if chunk is not None and event.is_error:
                raise backend_errors.read_error_object(chunk, has_begun=assembler.has_begun)
            if chunk is not None:
                yield chunk
        if not assembler.is_complete:
            raise BadReply("no_done")

    async def _events(
        self, response: httpx.Response, assembler: StreamAssembler
    ) -> AsyncIterator[SseEvent]:
        parser = SseParser(max_event_bytes=self._limits.max_reply_bytes)
        left = self._limits.max_reply_bytes * _STREAM_FACTOR
        parts = response.aiter_raw()
        while (received := await self._next(parts, assembler)) is not None:
            left -= len(received)
            if left < 0:
                raise BadReply("stream_too_long")
            for event in parser.feed(received):
                yield event
        for event in parser.flush():
            yield event

    async def _next(self, parts: AsyncIterator[bytes], assembler: StreamAssembler) -> bytes | None:
        """The next part of a stream; None at its end. A whole answer ends, however its connection does."""
        is_complete = assembler.is_complete
        bound_s = self._limits.idle_s if assembler.has_content else None
        try:
            async with asyncio.timeout(_AFTERWARDS_S if is_complete else bound_s) as bound:
                return await anext(parts, None)
        except TimeoutError:
            if not bound.expired():
                raise
            if is_complete:
                return None
            raise CallFailed("silence") from None
        except httpx.TransportError:
            if is_complete:
                return None
            raise


async def _drop(_chunk: dict[str, Any], _is_first: bool) -> None:  # noqa: FBT001 - an OnChunk
    """Nobody reads this stream but its assembler."""


def _is_kind(response: httpx.Response, kind: str) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.lower().startswith(kind)


def _headers(call: BackendRequest) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        # A compressed answer could be a bomb, and on loopback it saves nothing.
        "accept-encoding": "identity",
        "x-request-id": call.request_id,
    }
    if call.traceparent is not None:
        headers["traceparent"] = call.traceparent
    return headers


def _check_encoding(response: httpx.Response) -> None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadReply("encoding")


async def _read(response: httpx.Response, limit: int) -> bytes | None:
    """The body; None where it is larger than `limit`."""
    _check_encoding(response)
    body = bytearray()
    async for received in response.aiter_raw():
        body += received
        if len(body) > limit:
            return None
    return bytes(body)


async def _read_whole(response: httpx.Response, limit: int) -> bytes:
    raw = await _read(response, limit)
    if raw is None:
        raise ApiError("reply_too_large", f"the answer is larger than {limit} bytes", src="model")
    return raw


async def _refusal(response: httpx.Response) -> Exception:
    body: Any = None
    try:
        raw = await _read(response, _ERROR_BYTES)
        if raw is not None:
            body = _error_body(raw)
    except (BadReply, httpx.HTTPError):
        body = None
    return backend_errors.read_status_error(response.status_code, response.headers, body)


def _error_body(raw: bytes) -> Any:
    """An error's body as an object, or as the text that it is."""
    try:
        return backend_response.parse(raw)
    except BadReply:
        return raw.decode("utf-8", "replace")
