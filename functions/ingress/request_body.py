"""Reads a request's head and body, bounded in bytes and time."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.types import Message, Receive

from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

JSON_TYPE: Final = "application/json"
Room = Callable[[int], Awaitable[None]]
"""Waits for room for a large body of so many bytes."""
_UTF8: Final = frozenset({"utf-8", "utf8"})


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def header_values(request: Request, name: bytes) -> list[bytes]:
    """Every value of one header, as sent."""
    return [value for key, value in request.scope["headers"] if key == name]


def single_header(request: Request, name: str) -> str | None:
    """A header that may be sent once.

    Raises:
        ApiError: `invalid_value` when it is sent twice.
    """
    values = header_values(request, name.encode())
    if len(values) > 1:
        raise ApiError("invalid_value", f"Send {name} once.", param=name)
    return values[0].decode("latin-1").strip() if values else None


def require_media_type(request: Request, allowed: Sequence[str] = (JSON_TYPE,)) -> str:
    """The media type, when it is one of `allowed`, in UTF-8 and not encoded.

    Raises:
        ApiError: `unsupported_media_type`.
    """
    if any(
        value.strip().lower() != b"identity"
        for value in header_values(request, b"content-encoding")
    ):
        raise ApiError("unsupported_media_type", "Send the body without a content encoding.")
    values = header_values(request, b"content-type")
    media_type, _, parameters = (
        (values[0] if len(values) == 1 else b"").decode("latin-1").partition(";")
    )
    if media_type.strip().lower() not in allowed:
        raise ApiError("unsupported_media_type", f"Send content-type: {' or '.join(allowed)}.")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF8:
            raise ApiError("unsupported_media_type", "Only charset=utf-8 is accepted.")
    return media_type.strip().lower()


def parse_whole_number(text: str, *, digits: int = 9) -> int | None:
    """The number that a short text of ASCII digits is; None: it is none. Pure."""
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        return None
    return int(text)


async def read_body(request: Request, settings: IngressSettings, room: Room | None = None) -> bytes:
    """The whole body. `room` is awaited before more than `big_body_bytes` of it are taken in; None: no more are.

    Raises:
        ApiError: `request_too_large`, `overloaded` where there is no room in time, or `invalid_body` when the body
            does not arrive within `body_read_s`, and the time for its bytes at `body_bytes_s`.
        ClientGone: the connection closed first.
    """
    limit = settings.max_body_bytes
    if room is None:
        limit = min(limit, settings.big_body_bytes)
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    small = limit if room is None else min(limit, settings.big_body_bytes)
    parts: list[bytes] = []
    has_more, size = True, 0
    if (declared or 0) <= small:
        has_more, size = await _collect(_bounded(request, settings, limit), parts, small)
    if has_more and room is not None:
        await _in_time(room(declared or limit), settings.body_read_s)
        await _collect(_bounded(request, settings, limit - size), parts, limit)
    return b"".join(parts)


async def _in_time(room: Awaitable[None], wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            await room
    except TimeoutError:
        raise ApiError(
            "overloaded", "Too many large bodies are in work here; try again shortly."
        ) from None


def _bounded(request: Request, settings: IngressSettings, limit: int) -> "BoundedReceive":
    return BoundedReceive(
        request.receive,
        limit=limit,
        idle_s=settings.body_read_s,
        bytes_s=settings.body_bytes_s,
    )


async def _collect(receive: "BoundedReceive", parts: list[bytes], enough: int) -> tuple[bool, int]:
    """Takes parts in until their end or more than `enough` bytes; whether there are more, and the bytes so far."""
    size = 0
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        parts.append(part)
        has_more: bool = message.get("more_body", False)
        if not has_more or size > enough:
            return has_more, size


class BoundedReceive:
    """An ASGI `receive` for bodies. Refused are more than `limit` body bytes, silence longer than `idle_s`, and what
    has come with less than `bytes_s` since then.
    """

    def __init__(self, receive: Receive, *, limit: int, idle_s: float, bytes_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._idle_s = idle_s
        self._bytes_s = bytes_s
        self._began_s: float | None = None
        self._size = 0

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout(min(self._idle_s, self._left_s())):
                message = await self._receive()
        except TimeoutError:
            raise ApiError("invalid_body", "The body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise _too_large(self._limit)
        return message

    def _left_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        return self._began_s + self._idle_s + self._size / self._bytes_s - now_s


def _declared_length(request: Request) -> int | None:
    values = header_values(request, b"content-length")
    if not values:
        return None
    if len(values) > 1 or not values[0].isdigit():
        raise ApiError("invalid_body", "The Content-Length header is not valid.")
    return int(values[0])


def _too_large(limit: int) -> ApiError:
    return ApiError("request_too_large", f"The body is larger than {limit} bytes.")


def refuse_unknown(fields: Mapping[str, object], known: Collection[str]) -> None:
    """Returns if every field with an effect is known.

    Raises:
        ApiError: `unsupported_parameter`, with the first that is not.
    """
    for name, value in fields.items():
        if name not in known and value is not None:
            shown = name if name.isprintable() else "a field"
            raise ApiError(
                "unsupported_parameter", f"{shown[:64]} is not supported here.", param=shown[:64]
            )
