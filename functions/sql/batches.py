"""Files and batches in the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, delete, func, select, update

from events.names import State
from functions.ports.clock import Clock
from functions.ports.paging import Page, PageQuery
from functions.ports.store import BatchRow, Claim, FileRow, KeyUse, RequestRow
from functions.sql import idempotency_keys
from functions.sql.database import Database, in_lists, json_object, to_json
from functions.sql.page_queries import PagedTable
from functions.sql.rows import ROW_COLUMNS, read_request_row
from functions.sql.tables import batches, deleted_files, file_expiries, files, requests

OPEN: Final = ("validating", "in_progress", "finalizing", "cancelling")
"""Statuses of batches that still need work."""
_FILE_ROWS: Final = select(files, file_expiries.c.expires_at).select_from(
    files.outerjoin(file_expiries, file_expiries.c.file_id == files.c.id)
)
_FILES: Final = PagedTable(
    (files.c.created_at, files.c.id),
    files.c.tenant,
    ((deleted_files.c.created_at, deleted_files.c.id), deleted_files.c.tenant),
)
_BATCHES: Final = PagedTable((batches.c.created_at, batches.c.id), batches.c.tenant)


class SqlBatches:
    """Implements `functions.ports.store.BatchStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    def add_file(self, row: FileRow, *, key: KeyUse | None = None) -> Claim:
        def insert(connection: Connection) -> Claim:
            is_new = self._db.insert_new(connection, files, [_columns(files, row)])
            if is_new and row.expires_at is not None:
                expiry = {"file_id": row.id, "expires_at": row.expires_at}
                self._db.insert_new(connection, file_expiries, [expiry])
            return Claim(kind="new" if is_new else "joined", id=row.id)

        return idempotency_keys.make_once(self._db, row.id, insert, key=key, look=_standing(files))

    def file(self, file_id: str) -> FileRow | None:
        with self._db.read() as connection:
            query = _FILE_ROWS.where(files.c.id == file_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else FileRow(**row)

    def files(self, tenant: str, page: PageQuery, purpose: str | None = None) -> Page[FileRow]:
        query = _FILE_ROWS.where(files.c.tenant == tenant)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        return _FILES.read(self._db, query, page, tenant, lambda row: FileRow(**row))

    def refs_in_use(self, refs: Sequence[str]) -> frozenset[str]:
        used: set[str] = set()
        with self._db.read() as connection:
            for some in in_lists(refs):
                query = select(files.c.ref).where(files.c.ref.in_(some))
                used.update(connection.execute(query).scalars())
        return frozenset(used)

    def expired_files(self, now: datetime, limit: int = 500) -> Sequence[str]:
        columns = file_expiries.c
        query = select(columns.file_id).where(columns.expires_at <= now)
        with self._db.read() as connection:
            ids = connection.execute(query.order_by(columns.expires_at).limit(limit))
            return list(ids.scalars())

    def delete_file(self, file_id: str) -> bool:
        reads = select(batches.c.id).where(
            batches.c.input_file_id == files.c.id,
            batches.c.tenant == files.c.tenant,
            batches.c.status.in_(OPEN),
        )
        place = select(files.c.id, files.c.tenant, files.c.created_at).where(files.c.id == file_id)
        with self._db.write() as connection:
            row = connection.execute(place).mappings().first()
            query = delete(files).where(files.c.id == file_id, ~reads.exists())
            if row is None or connection.execute(query).rowcount == 0:
                return False
            connection.execute(delete(file_expiries).where(file_expiries.c.file_id == file_id))
            # Whoever deletes what a page showed goes on from the last of it.
            gone = {**row, "deleted_at": self._clock.now()}
            self._db.insert_new(connection, deleted_files, [gone])
            return True

    def add_batch(
        self, row: BatchRow, *, key: KeyUse | None = None, limit: int | None = None
    ) -> Claim:
        values, look = _batch_columns(row), _standing(batches)
        room = None
        if limit is not None:
            is_open = (batches.c.tenant == row.tenant) & batches.c.status.in_(OPEN)
            open_now = select(batches.c.id).where(is_open)
            room = idempotency_keys.Room(f"batches {row.tenant}", open_now, limit)
        return idempotency_keys.insert_once(
            self._db, batches, values, key=key, look=look, room=room
        )

    def batch(self, batch_id: str) -> BatchRow | None:
        with self._db.read() as connection:
            query = select(batches).where(batches.c.id == batch_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else _batch_row(row)

    def batches(self, tenant: str, page: PageQuery) -> Page[BatchRow]:
        query = select(batches).where(batches.c.tenant == tenant)
        return _BATCHES.read(self._db, query, page, tenant, _batch_row)

    def update_batch(self, row: BatchRow) -> None:
        columns = batches.c
        values = _batch_columns(row)
        # A cancel that came in meanwhile is not overwritten by whoever read the row before it.
        is_cancelling = values["status"] in {"validating", "in_progress"}
        with self._db.write() as connection:
            query = update(batches).where(columns.id == row.id)
            if is_cancelling:
                kept = query.where(columns.status.in_(("cancelling", "cancelled")))
                connection.execute(kept.values({k: v for k, v in values.items() if k in _PROGRESS}))
                query = query.where(columns.status.not_in(("cancelling", "cancelled")))
            connection.execute(query.values(**values))

    def open_batches(self) -> Sequence[BatchRow]:
        query = select(batches).where(batches.c.status.in_(OPEN)).order_by(batches.c.created_at)
        with self._db.read() as connection:
            return [_batch_row(row) for row in connection.execute(query).mappings()]

    def batch_counts(self, batch_id: str) -> Mapping[State, int]:
        query = select(requests.c.state, func.count()).where(requests.c.batch_id == batch_id)
        query = query.where(requests.c.is_known).group_by(requests.c.state)
        with self._db.read() as connection:
            return {State(state): count for state, count in connection.execute(query)}

    def unfinished_lines(self, tenant: str) -> int:
        columns = requests.c
        query = select(func.count()).select_from(requests)
        query = query.where(columns.finished_at.is_(None), columns.tenant == tenant)
        query = query.where(columns.is_known, columns.batch_id.is_not(None))
        with self._db.read() as connection:
            return int(connection.execute(query).scalar_one())

    def batch_requests(self, batch_id: str) -> Sequence[RequestRow]:
        query = select(*ROW_COLUMNS).where(requests.c.batch_id == batch_id, requests.c.is_known)
        with self._db.read() as connection:
            return [read_request_row(row) for row in connection.execute(query).mappings()]


def _standing(table: Table) -> idempotency_keys.Look:
    def look(connection: Connection, made_id: str) -> idempotency_keys.Standing:
        row = connection.execute(select(table.c.id).where(table.c.id == made_id)).first()
        return "missing" if row is None else "kept"

    return look


_PROGRESS: Final = frozenset({"total", "completed", "failed", "submitted"})


def _columns(table: Table, row: object) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in table.c}


def _batch_columns(row: BatchRow) -> dict[str, Any]:
    return {
        **_columns(batches, row),
        "metadata": to_json(dict(row.metadata)),
        "errors": to_json([dict(error) for error in row.errors]),
    }


def _batch_row(row: Mapping[Any, Any]) -> BatchRow:
    values = dict(row)
    values["metadata"] = json_object(values["metadata"])
    errors: list[dict[str, object]] = msgspec.json.decode(values["errors"] or b"[]")
    values["errors"] = tuple(errors)
    return BatchRow(**values)
