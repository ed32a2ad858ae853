"""Streams a waiter's reply as server-sent events, with comment lines while the model is cold."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from events.codecs.json_codec import dumps
from events.names import State
from functions.ingress.http_responses import as_refusal, header_safe, id_headers
from functions.ingress.open_calls import shutting_down
from functions.ingress.request_body import ClientGone
from functions.runtime.errors import ApiError, PickspinError
from router_model.service_registry import LATE, ServiceView

T = TypeVar("T")
log = logging.getLogger(__name__)

DONE: Final = b"data: [DONE]\n\n"
CUT_S: Final = 0.5
"""A reader that does not take the last event of a stream within this is cut."""
HEADERS: Final[Mapping[str, str]] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """A streaming answer. `frames` yields bytes; it is closed when the client leaves or reads too slowly.

    An error of `frames` that callers are told of is the last event.

    Args:
        request_id: of the request whose stream this is; headers and errors name it.
        gone: called when the client has left, or does not read.
        finished: called at the end, whatever happened.
        write_s: how long the client may take for one frame.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        request_id: str,
        headers: Mapping[str, str] | None = None,
        *,
        gone: Callable[[], object] = lambda: None,
        finished: Callable[[], object] = lambda: None,
        write_s: float,
    ) -> None:
        super().__init__(
            status_code=200, headers={**HEADERS, **id_headers(request_id), **(headers or {})}
        )
        del self.headers["content-length"]
        self._frames = frames
        self._request_id = request_id
        self._gone = gone
        self._finished = finished
        self._write_s = write_s
        self._has_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._write(send))
        except asyncio.CancelledError:
            await self._cut(send)
            raise
        except ClientGone:
            self._gone()
        except (TimeoutError, OSError):
            # Raised inside `send` only: the client does not read, or is gone. There is nobody to tell.
            self._gone()
            abort = scope.get("state", {}).get("abort")
            if abort is not None:
                abort()
        finally:
            self._finished()

    async def _cut(self, send: Send) -> None:
        """At shutdown: ends the stream with an error event, so that it does not look complete."""
        if not self._has_started:
            return
        frame = b"\n" + error_frame(shutting_down().body(self._request_id))
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CUT_S):
                await send({"type": "http.response.body", "body": frame, "more_body": False})

    async def _write(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        self._has_started = True
        last = b""
        try:
            async for frame in self._frames:
                async with asyncio.timeout(self._write_s):
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        except PickspinError as error:
            refused = as_refusal(error)
            if refused is None:
                raise
            if not isinstance(error, ApiError):
                log.warning(
                    "a stream was ended", extra={"reason": str(error), "code": refused.code}
                )
            last = b"\n" + error_frame(refused.body(self._request_id))
        async with asyncio.timeout(self._write_s):
            await send({"type": "http.response.body", "body": last, "more_body": False})


@contextlib.asynccontextmanager
async def cancelling(task: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Cancels and awaits `task` on the way out."""
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless the client leaves first. Then `work` is cancelled and awaited.

    Raises:
        ClientGone: there is nobody to answer.
    """
    task = asyncio.create_task(work)
    async with cancelling(asyncio.create_task(_until_disconnect(receive, task.cancel))):
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            raise ClientGone from None


async def _until_disconnect(receive: Receive, gone: Callable[[], object]) -> None:
    """Reads (and drops) what the client still sends until it leaves, then calls `gone`."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()


def data_frame(payload: bytes) -> bytes:
    """One `data:` event; the payload is JSON on one line."""
    return b"data: " + payload + b"\n\n"


def error_frame(body: Mapping[str, object]) -> bytes:
    """The error event that ends a broken stream."""
    return data_frame(dumps(body))


def status_comment(state: State, view: ServiceView | None) -> bytes:
    """The comment of a waiting stream, one line: `: pickspin state=loading service=... eta_s=3.2 progress=0.40`.

    `view` None: not routed yet. `loading` is derived here: routed, while no replica is ready.
    """
    shown = derived_state(state, view)
    parts = [f"state={shown}"]
    if view is not None:
        parts.append(f"service={header_safe(view.slug)}")
        if view.eta_s is not None and shown is State.LOADING:
            parts.append(f"eta_s={view.eta_s:.1f}")
        if view.progress is not None and shown is State.LOADING:
            parts.append(f"progress={view.progress:.2f}")
        if view.is_late and shown is State.LOADING:
            parts.append(LATE)
    return f": pickspin {' '.join(parts)}\n".encode()


def derived_state(state: State, view: ServiceView | None) -> State:
    """The state for callers: `loading` instead of `routed` while the service has no ready replica."""
    if state is State.ROUTED and view is not None and not view.is_warm:
        return State.LOADING
    return state


def chunks_of(body: Mapping[str, object], object_kind: str) -> list[bytes]:
    """A finished answer as stream chunks: one with the text of every choice, one with the usage.

    For a stream that joins work which was, or is, answered in one piece.
    """
    base = {
        "id": body.get("id"),
        "object": object_kind,
        "created": body.get("created"),
        "model": body.get("model"),
    }
    choices = body.get("choices")
    parts = [_chunk_choice(choice) for choice in choices] if isinstance(choices, list) else []
    frames = [dumps({**base, "choices": parts})]
    if body.get("usage") is not None:
        frames.append(dumps({**base, "choices": [], "usage": body["usage"]}))
    return frames


def _chunk_choice(choice: Mapping[str, object]) -> dict[str, object]:
    chunk = {key: value for key, value in choice.items() if key != "message"}
    message = choice.get("message")
    if isinstance(message, dict):
        delta = {key: value for key, value in message.items() if value is not None}
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        chunk["delta"] = delta
    return chunk
