"""HTTP message <-> event: the CloudEvents HTTP binding, strict; the same rules as `events.codecs.kafka_codec`.

Attribute values are percent-encoded as the binding says (section 3.1.3.2), so that no value can end or forge a header.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from events import names
from events.codecs import attributes, structured_codec
from events.errors import EventRejected
from events.event import Event
from events.limits import DEFAULT_LIMITS, Limits

_PREFIX: Final = "ce-"
_CONTENT_TYPE: Final = "content-type"
_ENCODED: Final = re.compile(r'[^!#$&-~]|["%]')
"""Everything but visible ASCII, and the double quote and percent sign: what the binding percent-encodes."""
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def to_http(event: Event) -> tuple[dict[str, str], bytes]:
    """Headers (lower-case) and body in binary mode; an event without data has an empty body.

    Raises:
        EventRejected: the event is not valid.
    """
    headers = {
        _PREFIX + name: _ENCODED.sub(_percent, value)
        for name, value in attributes.from_event(event).items()
    }
    headers[_CONTENT_TYPE] = event.datacontenttype
    return headers, event.data or b""


def to_http_structured(event: Event) -> tuple[dict[str, str], bytes]:
    """Headers and body in structured mode.

    Raises:
        EventRejected: the event is not valid.
    """
    return {_CONTENT_TYPE: f"{names.STRUCTURED_JSON}; charset=utf-8"}, structured_codec.write(event)


def from_http(
    headers: Iterable[tuple[str, str]], body: bytes, limits: Limits = DEFAULT_LIMITS
) -> Event:
    """The event of an HTTP request or response, either mode. An empty body means no data.

    `headers` as they came, duplicates included; names in any case.

    Raises:
        EventRejected: not exactly one valid event. Nothing else is ever raised.
    """
    given = [(name.lower(), value) for name, value in headers]
    _check_size(given, body, limits)
    content_types = [value for name, value in given if name == _CONTENT_TYPE]
    if len(content_types) > 1:
        raise EventRejected("invalid_event", "two content types", "datacontenttype")
    content_type = content_types[0].strip() if content_types else None
    if attributes.is_structured(content_type):
        return structured_codec.read(body, limits)
    texts: dict[str, str] = {}
    for header, value in given:
        if header.startswith(_PREFIX):
            name = header[len(_PREFIX) :]
            if name == attributes.SAID_TWICE:
                attributes.check_said_twice(_decoded(name, value), content_type)
                continue
            attributes.check_name(name)
            if name in texts:
                raise EventRejected("invalid_event", "the header appears twice", name)
            texts[name] = _decoded(name, value)
    return attributes.to_event(texts, content_type, body or None)


def _check_size(headers: list[tuple[str, str]], body: bytes, limits: Limits) -> None:
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > limits.max_headers or size > limits.max_header_bytes:
        raise EventRejected("header_too_large", "too many headers, or too many bytes of them")
    if len(body) > limits.max_bytes:
        raise EventRejected(
            "request_too_large", f"the body is larger than {limits.max_bytes} bytes"
        )


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())


def _as_meant(text: str) -> str:
    """A value that its sender did not encode (some SDKs do not): the bytes are UTF-8, or what HTTP takes them for."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _decoded(name: str, value: str) -> str:
    text = value.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _QUOTED_PAIR.sub(r"\1", text[1:-1])
    if not text.isascii():
        text = _as_meant(text)
    if _BAD_PERCENT.search(text) is not None:
        raise EventRejected("invalid_event", "the header is not percent-encoded UTF-8", name)
    try:
        text = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise EventRejected(
            "invalid_event", "the header is not percent-encoded UTF-8", name
        ) from None
    attributes.check_value(name, text)
    return text
