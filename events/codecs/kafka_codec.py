"""Record <-> event: the CloudEvents Kafka binding, strict.

- The mode is decided by `content-type` alone: structured iff it starts with `application/cloudevents`, and then `ce_`
  headers are not read. Otherwise binary.
- `ce_` names are lower-case; another spelling, a duplicate, a missing value, bytes that are not UTF-8 are refused.
- A header `ce_datacontenttype` that says what `content-type` says is ignored; another one is refused.
- Headers that are neither `ce_` nor `content-type` are counted and otherwise ignored.
- The key only chooses the partition. It is not read: None, bytes that are not UTF-8 and a key that disagrees with
  `partitionkey` are all tolerated.
"""

from collections.abc import Iterable
from typing import Final

from events.codecs import attributes, structured_codec
from events.errors import EventRejected
from events.event import Event, Outgoing, Record
from events.limits import DEFAULT_LIMITS, Limits

_PREFIX: Final = "ce_"
_CONTENT_TYPE: Final = "content-type"
_HEADER_OF: Final = {name: _PREFIX + name for name in attributes.KNOWN}
_NAME_OF: Final = {header: name for name, header in _HEADER_OF.items()}


def to_record(event: Event, *, topic: str, key: str | None, partition: int | None = None) -> Record:
    """The binary-mode record of an event. `key` None: any partition; `partition` None: the key chooses.

    Raises:
        EventRejected: the event is not valid (what is written can be read).
    """
    headers = [
        (_HEADER_OF.get(name) or _PREFIX + name, value.encode())
        for name, value in attributes.from_event(event).items()
    ]
    headers.append((_CONTENT_TYPE, event.datacontenttype.encode()))
    return Record(
        topic=topic,
        value=event.data,
        key=None if key is None else key.encode(),
        headers=tuple(headers),
        partition=partition,
    )


def outgoing_record(out: Outgoing) -> Record:
    """The record of an event with its destination.

    Raises:
        EventRejected: the event is not valid.
    """
    return to_record(out.event, topic=out.topic, key=out.key, partition=out.partition)


def from_record(record: Record, limits: Limits = DEFAULT_LIMITS) -> Event:
    """The event of a record, either mode. The data is not parsed. A record without value is an event without data.

    Raises:
        EventRejected: the record is not exactly one valid event. Nothing else is ever raised.
    """
    if record.unreadable is not None:
        raise EventRejected("invalid_event", f"the record cannot be read: {record.unreadable}")
    _check_size(record, limits)
    headers, content_type = _read_headers(record.headers)
    if attributes.is_structured(content_type):
        if record.value is None:
            raise EventRejected("invalid_event", "a structured event has a value")
        return structured_codec.read(record.value, limits)
    return attributes.to_event(_texts(headers, content_type), content_type, record.value)


def _check_size(record: Record, limits: Limits) -> None:
    if len(record.headers) > limits.max_headers:
        raise EventRejected("header_too_large", f"more than {limits.max_headers} headers")
    header_bytes = sum(len(name) + len(value or b"") for name, value in record.headers)
    if header_bytes > limits.max_header_bytes:
        raise EventRejected(
            "header_too_large", f"more than {limits.max_header_bytes} bytes of headers"
        )
    if header_bytes + len(record.value or b"") + len(record.key or b"") > limits.max_bytes:
        raise EventRejected(
            "request_too_large", f"the record is larger than {limits.max_bytes} bytes"
        )


def _read_headers(
    headers: Iterable[tuple[str, bytes | None]],
) -> tuple[list[tuple[str, bytes | None]], str | None]:
    """The `ce_` headers (name without prefix) and the content type."""
    ours: list[tuple[str, bytes | None]] = []
    content_type: str | None = None
    for header, value in headers:
        known = _NAME_OF.get(header)
        if known is not None:
            ours.append((known, value))
        elif header.lower() == _CONTENT_TYPE:
            if content_type is not None:
                raise EventRejected("invalid_event", "two content types", "datacontenttype")
            content_type = _text("datacontenttype", value)
        elif header[:3].lower() == _PREFIX:
            ours.append((header[3:] if header.startswith(_PREFIX) else "", value))
    return ours, content_type


def _texts(headers: list[tuple[str, bytes | None]], content_type: str | None) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in headers:
        if name == attributes.SAID_TWICE:
            attributes.check_said_twice(_text(name, value), content_type)
            continue
        if name not in attributes.KNOWN:
            attributes.check_name(name)
        if name in texts:
            raise EventRejected("invalid_event", "the header appears twice", name)
        texts[name] = _text(name, value)
    return texts


def _text(name: str, value: bytes | None) -> str:
    if value is None:
        raise EventRejected("invalid_event", "the header has no value", name)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise EventRejected("invalid_event", "the header is not UTF-8", name) from None
    attributes.check_value(name, text)
    return text
