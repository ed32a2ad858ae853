"""How the fake model misbehaves: what real model servers were seen to do, and what a hostile one could."""

import asyncio
import os
import signal
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import msgspec

from functions.backends.simulated import answers

_encode: Final = msgspec.json.Encoder().encode
_SILENCE_S: Final = 3600.0
_ENDLESS_EVENTS: Final = 1_000_000
_LONG_LINE: Final = 2 * 1024 * 1024
_SSE_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Failing:
    """One failing call. `fail` returns False where the call shall go on and succeed."""

    def __init__(
        self, transport: asyncio.Transport | None, asked: answers.SimulatedRequest, call: int
    ) -> None:
        self._transport = transport
        self._asked = asked
        self._call = call

    async def fail(self, mode: str) -> bool:
        """Misbehaves as `mode` (a name of FAIL_MODES) says."""
        if self._transport is None:
            return True
        if mode in _STATUSES:
            status, error = _STATUSES[mode]
            self._reply(status, _encode({"error": error}))
        elif mode in _BODIES:
            self._reply(200, _BODIES[mode])
        elif mode in _STREAM_TAILS:
            self._stream(2)
            tail = _STREAM_TAILS[mode]
            self._write((encode_chunk(tail) if tail else b"") + b"0\r\n\r\n")
        else:
            await _ACTS[mode](self)
        return True

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._write(head.encode() + body)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _stream(self, tokens: int) -> None:
        self._write(_SSE_HEAD)
        for token in (answers.SIMULATED, *[" token"] * (tokens - 1)):
            data = answers.part(self._asked, self._call, 0, token, None)
            self._write(encode_chunk(b"data: " + _encode(data) + b"\n\n"))

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def reset(self) -> None:
        self._abort()

    async def reset_mid(self) -> None:
        self._stream(3)
        await asyncio.sleep(0.2)  # what was written reaches the client before the reset does
        self._abort()

    async def silence(self) -> None:
        await asyncio.sleep(_SILENCE_S)

    async def silence_mid(self) -> None:
        self._stream(3)
        await asyncio.sleep(_SILENCE_S)

    async def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def endless(self) -> None:
        self._write(_SSE_HEAD)
        for _ in range(_ENDLESS_EVENTS):
            data = answers.part(self._asked, self._call, 0, " again" * 50, None)
            self._write(encode_chunk(b"data: " + _encode(data) + b"\n\n"))
            await asyncio.sleep(0)

    async def huge(self) -> None:
        size = 100 * 1024 * 1024
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
        )
        self._write(head.encode() + b'{"choices": [{"index": 0, "text": "')
        for _ in range(1600):
            self._write(b"x" * 65_536)
            await asyncio.sleep(0.001)


def encode_chunk(data: bytes) -> bytes:
    """A chunk of HTTP's chunked encoding."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


_STATUSES: Final[MappingProxyType[str, tuple[int, dict[str, Any]]]] = MappingProxyType(
    {
        "error500": (500, {"message": "secret-host:8000 failed", "type": "server_error"}),
        "error503": (503, {"message": "busy", "type": "unavailable_error"}),
        "error429": (429, {"message": "slow down", "type": "rate_limit_error"}),
        "error400": (
            400,
            {"message": "no such field: /secret/weights", "type": "invalid_request_error"},
        ),
        "context": (
            400,
            {
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "code": 400,
            },
        ),
    }
)
_BODIES: Final = MappingProxyType(
    {
        "empty": b"",
        "html": b"<html><body>502 Bad Gateway</body></html>",
        "truncated": b'{"id": "x", "choices": [{"index": 0, "mess',
        "error-in-200": b'{"error": {"message": "secret", "code": 500}}',
        "no-choices": b'{"id": "x", "object": "chat.completion", "choices": []}',
    }
)
_STREAM_TAILS: Final = MappingProxyType(
    {
        "no-done": b"",
        "error-mid": b'data: {"error": {"message": "secret", "code": 500}}\n\n',
        "bad-utf8": b'data: {"choices": [{"index": 0, "delta": {"content": "\xff\xfe"}}]}\n\n',
        "long-line": b"data: " + b"x" * _LONG_LINE + b"\n\n",
        "not-json": b"data: <html>\n\n",
    }
)
_ACTS: Final[MappingProxyType[str, Callable[[Failing], Any]]] = MappingProxyType(
    {
        "reset": Failing.reset,
        "reset-mid": Failing.reset_mid,
        "silence": Failing.silence,
        "silence-mid": Failing.silence_mid,
        "crash": Failing.crash,
        "endless": Failing.endless,
        "huge": Failing.huge,
    }
)
FAIL_MODES: Final = frozenset({*_STATUSES, *_BODIES, *_STREAM_TAILS, *_ACTS})
