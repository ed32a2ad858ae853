"""A simulated model server: `python -m functions.backends.simulated.server --port N [flags]`.

It speaks chat, completions and embeddings of the OpenAI API, takes time as told (`--load-s`, `--ttft-s`,
`--tokens-per-s`), fails as told (`--fail-rate`, `--fail-mode`, or a directive in the prompt such as `[[fake:reset]]`),
and writes what was called into `--history` (JSON lines: start, end, aborted) for the checkers of fault tests.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from functions.backends.simulated import answers
from functions.backends.simulated.failures import FAIL_MODES, Failing, encode_chunk
from functions.runtime.shutdown import die_with_parent

_MAX_BODY: Final = 16 * 1024 * 1024
_encode: Final = msgspec.json.Encoder().encode


class FakeModel:
    """State of one server: flags, when it is loaded, and the history file."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.ready_at = time.monotonic() + flags.load_s
        self.calls = 0
        self.running = 0
        self._random = random.Random(flags.seed)  # noqa: S311 - decides which calls fail
        history: Path | None = flags.history
        self._history = None if history is None else history.open("ab", buffering=0)

    @property
    def is_loaded(self) -> bool:
        return bool(time.monotonic() >= self.ready_at)

    def failure(self, asked: answers.SimulatedRequest) -> str | None:
        """How this call fails, or None."""
        told = next((name for name in asked.directives if name in FAIL_MODES), None)
        if told is not None or self.flags.fail_rate <= 0:
            return told
        fails: bool = self._random.random() < self.flags.fail_rate
        return str(self.flags.fail_mode) if fails else None

    def note(self, kind: str, call: int, **more: object) -> None:
        """One line of history."""
        if self._history is not None:
            entry = {
                "event": kind,
                "call": call,
                "at": time.time(),
                "mono": time.monotonic(),
            } | more
            self._history.write(_encode(entry) + b"\n")

    def close(self) -> None:
        if self._history is not None:
            self._history.close()


class FakeConnection(asyncio.Protocol):
    """One HTTP/1.1 connection; requests one after the other, the running one is dropped when the client leaves."""

    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._task is not None:
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        headers = {
            k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in lines[1:])
        }
        length = min(int(headers.get("content-length", "0")), _MAX_BODY)
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        method, path, _ = lines[0].split(" ", 2)
        self._task = asyncio.get_running_loop().create_task(
            self._answer(method, path.partition("?")[0], headers, body)
        )
        self._task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None and self._transport is not None:
            self._transport.abort()
        elif self._transport is not None and not self._transport.is_closing():
            self._next()

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        if method == "GET":
            self._get(path)
            return
        if not self._model.is_loaded:
            self._send(
                503, {"error": {"message": "loading", "type": "unavailable_error", "code": 503}}
            )
            return
        try:
            parsed = json.loads(body)
            flags = self._model.flags
            asked = answers.read_body(
                path, parsed, tokens=flags.tokens, ignores_limit=flags.ignore_limit
            )
        except (ValueError, TypeError, AttributeError):
            self._send(
                400, {"error": {"message": "not understood", "type": "invalid_request_error"}}
            )
            return
        await self._call(path, asked, headers.get("x-request-id", ""))

    def _get(self, path: str) -> None:
        model = self._model
        if path == "/health":
            self._send(
                200 if model.is_loaded else 503, {"status": "ok" if model.is_loaded else "loading"}
            )
        elif path == "/v1/models":
            entry = {"id": model.flags.model, "object": "model", "owned_by": "simulated"}
            self._send(200, {"object": "list", "data": [entry]})
        elif path == "/metrics":
            text = f"fake_requests_running {model.running}\nfake_calls_total {model.calls}\n"
            self._write(200, text.encode(), "text/plain")
        else:
            self._send(404, {"error": {"message": "no such path"}})

    async def _call(self, path: str, asked: answers.SimulatedRequest, request_id: str) -> None:
        model = self._model
        model.calls += 1
        model.running += 1
        call, outcome = model.calls, "aborted"
        model.note("start", call, request=request_id, nonce=asked.nonce, model=asked.model)
        try:
            failure = model.failure(asked)
            if failure is not None and await Failing(self._transport, asked, call).fail(failure):
                outcome = "failed"
                return
            await self._succeed(path, asked, call)
            outcome = "end"
        finally:
            model.running -= 1
            model.note(outcome, call, request=request_id, nonce=asked.nonce)

    async def _succeed(self, path: str, asked: answers.SimulatedRequest, call: int) -> None:
        flags = self._model.flags
        await _pause(float(asked.directives.get("ttft") or flags.ttft_s))
        if path.endswith("/embeddings"):
            self._send(200, answers.embeddings(asked))
        elif asked.is_stream:
            await self._stream(asked, call)
        else:
            if flags.tokens_per_s > 0:
                await _pause(asked.tokens / flags.tokens_per_s)
            self._send(200, answers.whole(asked, call, flags.tokens))

    async def _stream(self, asked: answers.SimulatedRequest, call: int) -> None:
        flags = self._model.flags
        gap_s = 1.0 / flags.tokens_per_s if flags.tokens_per_s > 0 else 0.0
        self._raw(_STREAM_HEAD)
        for number, token in enumerate(answers.words(asked)):
            if number:
                await _pause(gap_s)
            for index in range(asked.choices):
                self._event(answers.part(asked, call, index, token, None))
        reason = answers.finish_reason(asked, flags.tokens)
        for index in range(asked.choices):
            self._event(answers.part(asked, call, index, None, reason))
        if asked.has_usage:
            self._event(answers.usage_part(asked, call))
        self._raw(encode_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def _event(self, data: dict[str, Any]) -> None:
        self._raw(encode_chunk(b"data: " + _encode(data) + b"\n\n"))

    def _send(self, status: int, data: dict[str, Any]) -> None:
        self._write(status, _encode(data), "application/json")

    def _write(self, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._raw(head.encode() + body)

    def _raw(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    """The program's flags."""
    return build_parser().parse_args(arguments)


def build_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(prog="fake-model", description="A simulated model server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds until /health is 200")
    parser.add_argument("--ttft-s", type=float, default=0.0, help="seconds to the first token")
    parser.add_argument("--tokens-per-s", type=float, default=0.0, help="0: all at once")
    parser.add_argument("--tokens", type=int, default=16, help="length of an answer")
    parser.add_argument("--ignore-limit", action="store_true", help="answers beyond max_tokens")
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of calls that fail")
    parser.add_argument("--fail-mode", choices=sorted(FAIL_MODES), default="error500")
    parser.add_argument("--history", type=Path, help="JSON-lines file of calls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parent", type=int, default=0, help="pid to die with")
    return parser


async def serve(
    flags: argparse.Namespace, *, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT (or cancelled); `on_ready` gets the port."""
    loop = asyncio.get_running_loop()
    model = FakeModel(flags)
    server = await loop.create_server(lambda: FakeConnection(model), flags.host, flags.port)
    stop = asyncio.Event()
    if on_ready is not None:
        on_ready(server.sockets[0].getsockname()[1])
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        server.close()
        model.close()


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the program."""
    flags = parse_flags(arguments)
    if flags.parent:
        die_with_parent(flags.parent, signal.SIGKILL)
    _run(serve(flags))
    return 0


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415 - only the program needs it

    uvloop.run(coroutine)


if __name__ == "__main__":
    os._exit(main())
