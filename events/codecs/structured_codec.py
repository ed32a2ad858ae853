"""The structured form: one event as `application/cloudevents+json`, validated by the CloudEvents SDK after our checks.

The SDK's own JSON format is not used: it accepts duplicate keys and NaN, rewrites `time` and wraps JSON in base64.
"""

import base64
import binascii
from typing import Any, Final

import msgspec
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from events import names
from events.codecs import attributes, json_codec
from events.errors import EventRejected
from events.event import Event
from events.limits import DEFAULT_LIMITS, Limits
from events.timestamps import from_rfc3339

_BODY_MEMBERS: Final = frozenset({"data", "data_base64", "datacontenttype"})


class _Members(msgspec.Struct):
    """Finds the data's own bytes, so that they go on unchanged."""

    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


def read(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Event:
    """The event of a structured JSON document. A null attribute counts as absent; integers and booleans become text.

    Raises:
        EventRejected: the document, an attribute or the data is not valid.
    """
    document = json_codec.loads_object(raw, limits)
    content_type = document.get("datacontenttype")
    if content_type is not None and not isinstance(content_type, str):
        raise EventRejected("invalid_event", "the value must be text", "datacontenttype")
    texts: dict[str, str] = {}
    for name, value in document.items():
        if name not in _BODY_MEMBERS and value is not None:
            texts[name] = _attribute(name, value)
    if len(texts) > limits.max_headers:
        raise EventRejected("header_too_large", f"more than {limits.max_headers} attributes")
    data = _data(raw, document, content_type or names.JSON)
    _validate_with_sdk(texts)
    return attributes.to_event(texts, content_type, data)


def write(event: Event) -> bytes:
    """The structured JSON document of an event: JSON data as itself, other data as `data_base64`.

    Raises:
        EventRejected: the event is not valid, or its data is not the JSON that it claims to be.
    """
    texts = attributes.from_event(event)
    _validate_with_sdk(texts)
    document: dict[str, Any] = {**texts, "datacontenttype": event.datacontenttype}
    if event.data is not None:
        if attributes.is_json(event.datacontenttype):
            json_codec.loads(event.data)
            document["data"] = msgspec.Raw(event.data)
        else:
            document["data_base64"] = base64.b64encode(event.data).decode("ascii")
    return json_codec.dumps(document)


def _attribute(name: str, value: object) -> str:
    attributes.check_name(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise EventRejected("invalid_event", "the value must be text", name)
    attributes.check_value(name, value)
    return value


def _data(raw: bytes, document: dict[str, object], content_type: str) -> bytes | None:
    data, encoded = document.get("data"), document.get("data_base64")
    if encoded is not None:
        if data is not None:
            raise EventRejected("invalid_event", "data and data_base64 exclude each other", "data")
        return _from_base64(encoded)
    if data is None:
        return None
    if attributes.is_json(content_type):
        return bytes(msgspec.json.decode(raw, type=_Members).data)
    if isinstance(data, str):
        return data.encode()
    raise EventRejected("invalid_event", "data of this content type must be text", "data")


def _from_base64(encoded: object) -> bytes:
    if isinstance(encoded, str) and encoded.isascii():
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            pass
    raise EventRejected("invalid_event", "not base64", "data_base64")


def _validate_with_sdk(texts: dict[str, str]) -> None:
    """A second opinion on names and required attributes, by the reference implementation."""
    given: dict[str, Any] = dict(texts)  # the SDK changes the dict that it is given
    given["id"] = texts.get("id")  # and invents what is missing
    given["specversion"] = texts.get("specversion")
    given["time"] = from_rfc3339(texts.get("time", "1970-01-01T00:00:00Z"), "time")
    try:
        CloudEvent(given)
    except CloudEventValidationError as error:
        name = next(iter(error.errors), None)
        raise EventRejected("invalid_event", "not a CloudEvents 1.0 event", name) from None
