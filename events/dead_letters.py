"""Dead letters: unusable records with their reason, by reference if they cannot be kept whole."""

from dataclasses import replace
from typing import Final

from events import names
from events.codecs import json_codec
from events.event import Record
from events.ids import is_event_id

REASON_HEADER: Final = f"ce_{names.DEAD_LETTER_REASON}"
_ID_HEADER: Final = "ce_id"
_MAX_REASON_CHARS: Final = 256
_MAX_KEY_BYTES: Final = 256


def dead_letter_record(
    record: Record, reason: str, *, topic: str, max_bytes: int | None = None
) -> Record:
    """The record as it was, for the dead letter topic, with its reason in the header `ce_deadletterreason`.

    By reference instead where that would be larger than `max_bytes` (None: no limit), or has neither key nor value,
    which not every client can write. `reason` is cut to 256 printable ASCII characters. Nothing is raised, whatever
    the record holds.
    """
    kept = tuple((name, value) for name, value in record.headers if name != REASON_HEADER)
    headers = (*kept, (REASON_HEADER, _shown(reason).encode()))
    letter = replace(record, topic=topic, headers=headers, partition=None, offset=-1)
    is_empty = record.key is None and record.value is None
    if is_empty or (max_bytes is not None and letter.size_bytes > max_bytes):
        return dead_letter_reference(record, reason, topic=topic)
    return letter


def dead_letter_reference(record: Record, reason: str, *, topic: str) -> Record:
    """A few hundred bytes that stand for a record: where it lies, its size, its id where that can be read, and why.

    A `partition` or `offset` of None: it came over HTTP.
    """
    ids = [value for name, value in record.headers if name == _ID_HEADER]
    event_id = ids[0].decode("utf-8", "replace") if len(ids) == 1 and ids[0] else None
    about = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset if record.offset >= 0 else None,
        "size_bytes": record.size_bytes,
        "id": event_id if event_id is not None and is_event_id(event_id) else None,
        "reason": _shown(reason),
    }
    is_short = record.key is not None and len(record.key) <= _MAX_KEY_BYTES
    return Record(
        topic=topic,
        key=record.key if is_short else None,
        value=json_codec.dumps(about),
        headers=(("content-type", names.JSON.encode()), (REASON_HEADER, _shown(reason).encode())),
    )


def _shown(reason: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in reason[:_MAX_REASON_CHARS])
