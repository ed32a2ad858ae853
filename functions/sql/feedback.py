"""Feedback in the database, and ended requests with it."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select

from functions.ports.store import MAX_RESULT_BYTES, FeedbackRow, FinishedQuery, FinishedRequest
from functions.sql.database import Database
from functions.sql.rows import ROW_COLUMNS, read_request_row, unpack_record
from functions.sql.tables import feedback, requests

_COLUMNS: Final = tuple(feedback.c)
_SMALL_RESULT: Final = case(
    (func.length(requests.c.result) <= MAX_RESULT_BYTES, requests.c.result)
).label("result")


class SqlFeedback:
    """Implements `functions.ports.store.FeedbackStore`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_feedback(self, row: FeedbackRow, *, limit: int) -> bool:
        columns = feedback.c
        is_same = and_(
            columns.request_id == row.request_id,
            columns.source == row.source,
            columns.judge == row.judge,
            columns.model == row.model,
        )
        others = select(func.count()).where(columns.request_id == row.request_id, ~is_same)
        with self._db.write() as connection:
            if not _is_readable(connection, row.request_id):
                return False
            if connection.execute(others).scalar_one() >= limit:
                return False
            connection.execute(delete(feedback).where(is_same))
            values = {column.name: getattr(row, column.name) for column in _COLUMNS}
            connection.execute(insert(feedback), values)
        return True

    def feedback(self, request_id: str) -> Sequence[FeedbackRow]:
        with self._db.read() as connection:
            return _read_feedback(connection, [request_id]).get(request_id, [])

    def finished(self, query: FinishedQuery, limit: int = 32) -> Sequence[FinishedRequest]:
        columns = requests.c
        with self._db.read() as connection:
            statement = _build_filter(query).limit(limit)
            rows = connection.execute(statement).mappings().all()
            rated = _read_feedback(connection, [one["id"] for one in rows])
        return [
            FinishedRequest(
                row=read_request_row(one),
                record=None
                if one["record"] is None
                else unpack_record(
                    one["record"], one[columns.log_partition], one[columns.log_offset]
                ),
                feedback=rated.get(one["id"], ()),
            )
            for one in rows
        ]


def _build_filter(query: FinishedQuery) -> Any:
    columns = requests.c
    further = (columns.record, columns.log_partition, columns.log_offset)
    statement = (
        select(*ROW_COLUMNS, _SMALL_RESULT, *further)
        .where(columns.finished_at.is_not(None), columns.is_known, ~columns.is_forgotten)
        .order_by(columns.finished_at.desc(), columns.id.desc())
    )
    if query.tenant is not None:
        statement = statement.where(columns.tenant == query.tenant)
    if query.since is not None:
        statement = statement.where(columns.finished_at >= query.since)
    if query.is_rated:
        statement = statement.where(columns.id.in_(select(feedback.c.request_id)))
    if query.before is not None:
        at, request_id = query.before
        is_after = and_(columns.finished_at == at, columns.id < request_id)
        statement = statement.where(or_(columns.finished_at < at, is_after))
    return statement


def _is_readable(connection: Connection, request_id: str) -> bool:
    """Locks the row, so that nothing is added to what is being deleted."""
    columns = requests.c
    query = select(columns.id).where(columns.id == request_id, columns.is_known)
    query = query.where(~columns.is_forgotten).with_for_update()
    return connection.execute(query).first() is not None


def _read_feedback(connection: Connection, ids: list[str]) -> dict[str, list[FeedbackRow]]:
    query = select(*_COLUMNS).where(feedback.c.request_id.in_(ids))
    query = query.order_by(feedback.c.at, feedback.c.source, feedback.c.judge, feedback.c.model)
    by_request: dict[str, list[FeedbackRow]] = {}
    for one in connection.execute(query).mappings():
        row = FeedbackRow(**{column.name: one[column.name] for column in _COLUMNS})
        by_request.setdefault(row.request_id, []).append(row)
    return by_request
