"""What is usable of a request whose record is invalid: enough for a failed reply, no more."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from events import names
from events.codecs import attributes, json_codec
from events.errors import EventRejected
from events.event import Event, Record
from events.ids import is_event_id

_PREFIX: Final = "ce_"
_NEEDED: Final = frozenset({"id", "type", "source"})
_USEFUL: Final = frozenset(
    {names.REPLY_TOPIC, names.REPLY_PARTITION, names.REQUEST_ID, *names.CARRIED}
)
_SOURCE: Final = "/unreadable"


def salvage(record: Record) -> Event | None:
    """A request event without data, with the record's id and what a reply needs.

    None: the record is no request or has no usable id. Source and reply attributes are read, not
    validated; the code that replies validates the address. Never raises.
    """
    known = dict(_readable(record))
    event_id = known.pop("id", "")
    if known.pop("type", "") != names.REQUEST or not is_event_id(event_id):
        return None
    source = known.pop("source", "") or _SOURCE
    return Event(id=event_id, source=source, type=names.REQUEST, extensions=known)


def _readable(record: Record) -> Iterable[tuple[str, str]]:
    """Attributes of interest that appear once and are text that CloudEvents allows."""
    given = list(_given(record))
    times = Counter(name for name, _ in given)
    for name, text in given:
        if text is None or times[name] > 1:
            continue
        try:
            attributes.check_value(name, text)
        except EventRejected:
            continue
        yield name, text


def _given(record: Record) -> Iterable[tuple[str, str | None]]:
    if _is_structured(record):
        try:
            document = json_codec.loads_object(record.value or b"")
        except EventRejected:
            return
        for name in (_NEEDED | _USEFUL) & document.keys():
            value = document[name]
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            yield name, value if isinstance(value, str) else str(value) if is_whole else None
        return
    for header, raw in record.headers:
        name = header.removeprefix(_PREFIX)
        if name != header and name in _NEEDED | _USEFUL:
            yield name, _decoded(raw)


def _is_structured(record: Record) -> bool:
    types = [value for name, value in record.headers if name.lower() == "content-type"]
    try:
        return len(types) == 1 and attributes.is_structured(_decoded(types[0]))
    except EventRejected:
        return False


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
