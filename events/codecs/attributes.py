"""CloudEvents 1.0 attributes as text: what both bindings and the structured form share. Strict; nothing is invented.

Names are a-z0-9, at most 40 characters. Values hold no control character, lone surrogate or noncharacter. `id` is 1 to
256 characters without blanks at its ends, `subject` any text of up to 1024 bytes, `source` and `dataschema` are URI
references or their international form (RFC 3987), `time` is RFC 3339 with a time zone (`Z` text is kept as it came,
offsets are converted to UTC).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from events import names, timestamps
from events.errors import EventRejected
from events.event import NO_EXTENSIONS, Event
from events.ids import FORBIDDEN, is_event_id
from events.limits import MAX_NAME_CHARS, MAX_SUBJECT_BYTES

CORE: Final = frozenset(
    {"id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema"}
)
_NAME: Final = re.compile(rf"[a-z0-9]{{1,{MAX_NAME_CHARS}}}")
SAID_TWICE: Final = "datacontenttype"
"""What some SDKs write beside `content-type`."""
_RESERVED: Final = frozenset({"data", "datacontenttype"})
"""`data` is no attribute; the content type travels as the transport's own header."""
KNOWN: Final = CORE - _RESERVED | names.ATTRIBUTES.keys()
"""Names that need no check: every one this product writes."""
_URI_REFERENCE: Final = re.compile(
    r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2}|[^\x00-\xa0\s])+"
)
_MAX_URI_CHARS: Final = 2048
_TYPE: Final = re.compile(r"[!-~]{1,256}")


def check_name(name: str) -> None:
    """Raises EventRejected unless `name` may name an attribute in a header or a JSON member."""
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise EventRejected(
            "invalid_event", f"attribute names are a-z and 0-9, at most {MAX_NAME_CHARS} characters"
        )


def check_value(name: str, value: str) -> None:
    """Raises EventRejected where `value` holds a character that CloudEvents forbids (CR, LF and NUL among them)."""
    if value.isascii() and value.isprintable():
        return
    if FORBIDDEN.search(value) is not None:
        raise EventRejected("invalid_event", "the value holds a forbidden character", name)


def to_event(attributes: dict[str, str], datacontenttype: str | None, data: bytes | None) -> Event:
    """The event of these attributes (names and characters already checked). Consumes `attributes`.

    Raises:
        EventRejected: `id`, `source`, `type` or `specversion` is missing, or any value is not of its form.
    """
    if _required(attributes, "specversion") != names.SPEC_VERSION:
        raise EventRejected("invalid_event", "specversion must be 1.0", "specversion")
    event = Event(
        id=_required(attributes, "id"),
        source=_required(attributes, "source"),
        type=_required(attributes, "type"),
        subject=attributes.pop("subject", None),
        time=_time(attributes.pop("time", None)),
        datacontenttype=names.JSON if datacontenttype is None else datacontenttype,
        dataschema=attributes.pop("dataschema", None),
        data=data,
        extensions=attributes or NO_EXTENSIONS,
    )
    check_core(event)
    return event


def from_event(event: Event) -> dict[str, str]:
    """All attributes of an event but `datacontenttype`, checked: what is written can be read.

    Raises:
        EventRejected: the event is not valid.
    """
    check_core(event)
    texts = {
        "specversion": names.SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
    }
    if event.subject is not None:
        texts["subject"] = event.subject
    if event.time is not None:
        texts["time"] = timestamps.canonical(event.time, "time")
    if event.dataschema is not None:
        texts["dataschema"] = event.dataschema
    _add_extensions(texts, event.extensions)
    return texts


def check_core(event: Event) -> None:
    """Raises EventRejected unless `id`, `source`, `type`, `subject` and the content type are of their forms."""
    for name, text, is_valid in (
        ("id", event.id, is_event_id),
        ("source", event.source, _is_uri_reference),
        ("type", event.type, _is_type),
        ("subject", event.subject, _is_subject),
        ("dataschema", event.dataschema, _is_uri_reference),
        ("datacontenttype", event.datacontenttype, _is_type_text),
    ):
        _check_form(name, text, is_valid)


def _check_form(name: str, text: str | None, is_valid: Callable[[str], bool]) -> None:
    if text is not None and not is_valid(text):
        raise EventRejected("invalid_event", "the value is not of the attribute's form", name)


def _add_extensions(texts: dict[str, str], extensions: Mapping[str, str]) -> None:
    for name, value in extensions.items():
        if name in CORE:
            raise EventRejected("invalid_event", "a core attribute is no extension", name)
        if name not in KNOWN:
            check_name(name)
        check_value(name, value)
        texts[name] = value


def _required(attributes: dict[str, str], name: str) -> str:
    text = attributes.pop(name, None)
    if text is None:
        raise EventRejected("invalid_event", f"the attribute {name} is missing", name)
    return text


def _time(text: str | None) -> str | None:
    return None if text is None else timestamps.canonical(text, "time")


def _is_subject(text: str) -> bool:
    is_short = 0 < len(text) <= MAX_SUBJECT_BYTES and FORBIDDEN.search(text) is None
    return is_short and (text.isascii() or len(text.encode()) <= MAX_SUBJECT_BYTES)


def _is_uri_reference(text: str) -> bool:
    return (
        len(text) <= _MAX_URI_CHARS
        and _URI_REFERENCE.fullmatch(text) is not None
        and (text.isascii() or FORBIDDEN.search(text) is None)
    )


def _is_type(text: str) -> bool:
    return _TYPE.fullmatch(text) is not None


def _is_type_text(text: str) -> bool:
    return 0 < len(text) <= _MAX_URI_CHARS and text.isascii() and text.isprintable()


def check_said_twice(said: str, content_type: str | None) -> None:
    """Some SDKs write the content type a second time, as an attribute. Where it is the same it says nothing new.

    Raises:
        EventRejected: it says something else.
    """
    if content_type is None or _essence(said) != _essence(content_type):
        raise EventRejected("invalid_event", "the header contradicts content-type", SAID_TWICE)


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def is_structured(content_type: str | None) -> bool:
    """The mode of a message: structured iff its content type starts with `application/cloudevents`.

    Raises:
        EventRejected: `unsupported_media_type` for a batch or another event format than JSON.
    """
    if content_type is None:
        return False
    essence, _, parameters = content_type.partition(";")
    essence = essence.strip().lower()
    if not essence.startswith("application/cloudevents"):
        return False
    if essence != names.STRUCTURED_JSON or not _is_utf8(parameters):
        raise EventRejected(
            "unsupported_media_type",
            "one event as application/cloudevents+json in UTF-8 is read; batches are not",
            "datacontenttype",
        )
    return True


def is_json(content_type: str) -> bool:
    """True for `application/json` and `+json` types in UTF-8 (the default of JSON)."""
    essence, _, parameters = content_type.partition(";")
    essence = essence.strip().lower()
    return (essence == names.JSON or essence.endswith("+json")) and _is_utf8(parameters)


def _is_utf8(parameters: str) -> bool:
    for parameter in filter(None, (part.strip().lower() for part in parameters.split(";"))):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {
            "utf-8",
            "utf8",
            "us-ascii",
        }:
            return False
    return True
