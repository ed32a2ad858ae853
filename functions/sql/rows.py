"""Between rows of tables and the frozen rows of `functions.ports.store`."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

import msgspec

from events.event import Record
from events.names import State
from functions.ports.store import RequestRow
from functions.sql.database import json_object, to_json
from functions.sql.state_machine import RequestColumns
from functions.sql.tables import requests

_IDENTITY: Final = (
    "tenant",
    "operation",
    "asked_model",
    "accepted_at",
    "deadline",
    "is_background",
    "is_stored",
    "callback_id",
    "batch_id",
    "reply_topic",
    "reply_partition",
    "reply_epoch",
)
_LIFE: Final = tuple(field.name for field in fields(RequestColumns) if field.name != "result")
_ROW: Final = tuple(field.name for field in fields(RequestRow) if field.name != "result")
LIFE_COLUMNS: Final = (
    *(requests.c[name] for name in _LIFE),
    requests.c.next_cursor,
)
ROW_COLUMNS: Final = tuple(requests.c[name] for name in _ROW)
"""Everything a `RequestRow` has but the result, which may be large."""
CHANGING: Final = (
    "state",
    "model",
    "service",
    "routed_at",
    "started_at",
    "attempt",
    "cancel_reason",
    "decision",
)
"""Columns that events before the terminal change."""
ENDING: Final = ("finished_at", "status", "result", "usage_prompt", "usage_completion", "cost_usd")


def identity(row: RequestRow, boot_id: str, now: datetime) -> dict[str, Any]:
    """Columns that the request itself decides."""
    return {
        **{name: getattr(row, name) for name in _IDENTITY},
        "meta": to_json(dict(row.meta)) if row.meta else None,
        "is_known": True,
        "boot_id": boot_id,
        "seen_at": now,
    }


def new_columns(request_id: str, boot_id: str, now: datetime) -> dict[str, Any]:
    """A row of which only a consequence was seen: it waits for its request event."""
    return {
        "id": request_id,
        "tenant": "",
        "operation": "",
        "asked_model": "",
        "accepted_at": now,
        "deadline": now,
        "state": State.ACCEPTED.value,
        "attempt": 0,
        "is_background": False,
        "is_stored": True,
        "is_known": False,
        "is_forgotten": False,
        "boot_id": boot_id,
        "seen_at": now,
        "next_cursor": 1,
    }


def read_request_columns(row: Mapping[Any, Any]) -> RequestColumns:
    """The changing part of a row; a result that lies in the table is left there."""
    values = {name: row[name] for name in _LIFE}
    return RequestColumns(**{**values, "state": State(values["state"])})


def select_columns(life: RequestColumns, names: tuple[str, ...]) -> dict[str, Any]:
    """The named columns of a row."""
    values = {name: getattr(life, name) for name in names}
    if "state" in values:
        values["state"] = life.state.value
    return values


def read_request_row(row: Mapping[Any, Any]) -> RequestRow:
    """A row as callers see it; `result` None where it was not read."""
    values = {name: row[name] for name in _ROW}
    values["state"] = State(values["state"])
    values["meta"] = json_object(values["meta"])
    return RequestRow(**values, result=row.get("result"))


class _StoredRecord(msgspec.Struct, array_like=True):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def pack_record(record: Record) -> bytes:
    """A record as one column."""
    return msgspec.msgpack.encode(
        _StoredRecord(record.topic, record.key, record.value, list(record.headers))
    )


def unpack_record(raw: bytes, partition: int | None, offset: int | None) -> Record:
    """The record of a column, lying where its newest copy was seen (`offset` -1: never seen)."""
    stored = msgspec.msgpack.decode(raw, type=_StoredRecord)
    return Record(
        topic=stored.topic,
        key=stored.key,
        value=stored.value,
        headers=tuple(stored.headers),
        partition=partition,
        offset=-1 if offset is None else offset,
    )
