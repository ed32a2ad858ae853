"""Ids: made from what they identify, so that a replay is recognised; nothing here reads a clock or a random source."""

import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Final

from events.limits import DEFAULT_LIMITS, MAX_EVENT_ID_CHARS

_NAMESPACE: Final = uuid.UUID("6f0b7a52-3c9e-5d41-9a27-1f5d0c8e4b73")
"""Fixed for ever: derived ids of earlier versions must come out the same."""
_VISIBLE: Final = re.compile(r"[!-~]+")
FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]"
)
"""Characters that no attribute of a CloudEvent may hold."""
_SEPARATOR: Final = "\x1f"
_ENTROPY_BYTES: Final = 10


def new_request_id(now: datetime, entropy: bytes) -> str:
    """`req_` + 32 hex digits of a UUIDv7 (RFC 9562 section 5.7): sorts by time of acceptance.

    `now` is aware; `entropy` is at least 10 random bytes, the first 10 are used.

    Raises:
        ValueError: too little entropy or a naive instant.
    """
    if len(entropy) < _ENTROPY_BYTES or now.tzinfo is None:
        raise ValueError("a request id needs 10 random bytes and an aware instant")
    unix_ms = int(now.astimezone(UTC).timestamp() * 1000) & (1 << 48) - 1
    random = int.from_bytes(entropy[:_ENTROPY_BYTES], "big")
    rand_a, rand_b = random >> 62 & 0xFFF, random & (1 << 62) - 1
    value = unix_ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    return f"req_{value:032x}"


def derive(request_id: str, *parts: str | int) -> str:
    """The id of something that follows from a request: UUIDv5 text over the request id and `parts`, in order."""
    name = _SEPARATOR.join((request_id, *map(str, parts)))
    return str(uuid.uuid5(_NAMESPACE, name))


def of_event(tenant: str, source: str, event_id: str) -> str:
    """The request id of an event that came in from outside: its identity is tenant, source and id, in one text."""
    return f"req_{uuid.UUID(derive(event_id, 'request', tenant, source)).hex}"


def of_session(tenant: str, session: str) -> str:
    """Under what is remembered of a tenant's session: no request has such an id."""
    return f"ses_{uuid.UUID(derive(session, 'session', tenant)).hex}"


def content_hash(data: bytes) -> str:
    """SHA-256 in lower-case hex: the `datahash` attribute and the name of a blob."""
    return hashlib.sha256(data).hexdigest()


def body_hash(operation: str, body: bytes) -> str:
    """What an idempotency key is bound to: SHA-256 over the operation and the body's bytes as sent."""
    return content_hash(operation.encode() + b"\n" + body)


def is_event_id(text: str) -> bool:
    """True for what an event from outside may be known by: up to 256 characters of any text that CloudEvents allows
    and that no blank begins or ends, which would be lost in a header.
    """
    if is_valid_id(text):
        return True
    return (
        0 < len(text) <= MAX_EVENT_ID_CHARS
        and text == text.strip()
        and FORBIDDEN.search(text) is None
    )


def is_valid_id(text: str, max_chars: int = DEFAULT_LIMITS.max_id_chars) -> bool:
    """True for 1..`max_chars` visible ASCII characters (no space, no control character)."""
    return 0 < len(text) <= max_chars and _VISIBLE.fullmatch(text) is not None
