"""Requests in the database: rows, event streams, idempotency keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from events.event import Record
from events.names import State
from functions.ports.clock import Clock
from functions.ports.paging import Page, PageQuery
from functions.ports.store import (
    Change,
    Claim,
    KeyUse,
    Mark,
    RecordingResult,
    RequestEvent,
    RequestRow,
)
from functions.sql import body_references, idempotency_keys
from functions.sql.database import Database, in_lists, key_text
from functions.sql.page_queries import PagedTable
from functions.sql.request_writer import RequestWriter
from functions.sql.rows import ROW_COLUMNS, read_request_row, unpack_record
from functions.sql.tables import (
    deleted_files,
    deliveries,
    event_ids,
    feedback,
    request_events,
    requests,
    settings_table,
)

UNSTORED_KEEP: Final = timedelta(hours=1)
"""An answer with `store: false` that nobody fetched is deleted after this long."""
PURGE_LIMIT: Final = 2000
"""Rows deleted in one transaction."""
_BOOT: Final = "boot_id"
_REQUESTS: Final = PagedTable((requests.c.accepted_at, requests.c.id), requests.c.tenant)
_NOTHING_KEPT: Final = {"record": None, "result": None, "decision": None, "meta": None}


class SqlRequests:
    """Implements `functions.ports.store.RequestStore`. `boot_id` marks rows of a volatile broker; empty: a durable one.

    `keeps_prompts` False: the record of a request goes with its end.
    """

    def __init__(
        self, database: Database, clock: Clock, boot_id: str = "", *, keeps_prompts: bool = True
    ) -> None:
        self._db = database
        self._clock = clock
        self._boot_id = boot_id
        self._keeps_prompts = keeps_prompts

    def accept(
        self,
        row: RequestRow,
        record: Record | None = None,
        *,
        key: KeyUse | None = None,
        limit: int | None = None,
    ) -> Claim:
        room = None
        if limit is not None:
            room = idempotency_keys.Room(f"requests {row.tenant}", _open_ids(row.tenant), limit)

        def make(connection: Connection) -> Claim:
            standing = _find_standing(connection, row.id)
            if standing == "gone":
                return Claim(kind="gone", id=row.id)
            if standing == "kept":
                return _sent_before(connection, row)
            idempotency_keys.require_room(self._db, connection, room)
            recording = self._open_writer(connection, self._clock.now())
            is_new = row.id in recording.accept([(row, record)])
            return Claim(kind="new", id=row.id) if is_new else _sent_before(connection, row)

        return idempotency_keys.make_once(self._db, row.id, make, key=key, look=_find_standing)

    def withdraw(self, request_id: str, key: KeyUse | None = None) -> None:
        with self._db.write() as connection:
            _forget(connection, request_id)
            if key is not None:
                idempotency_keys.free(connection, key, request_id)

    def find_claim(self, key: KeyUse) -> Claim | None:
        with self._db.read() as connection:
            return idempotency_keys.look_up(connection, key, _find_standing)

    def record_batch(self, changes: Sequence[Change]) -> RecordingResult:
        if not changes:
            return RecordingResult()
        with self._db.write() as connection:
            return self._open_writer(connection, self._clock.now()).apply(changes)

    def _open_writer(self, connection: Connection, now: datetime) -> RequestWriter:
        return RequestWriter(
            self._db, connection, self._boot_id, now, keeps_prompts=self._keeps_prompts
        )

    def request(self, request_id: str) -> RequestRow | None:
        query = (
            select(*ROW_COLUMNS, requests.c.result)
            .where(requests.c.id == request_id)
            .where(requests.c.is_known, ~requests.c.is_forgotten)
        )
        with self._db.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else read_request_row(row)

    def prompt(self, request_id: str) -> Record | None:
        query = (
            select(requests.c.record)
            .where(requests.c.id == request_id)
            .where(requests.c.is_known, ~requests.c.is_forgotten)
        )
        with self._db.read() as connection:
            record = connection.execute(query).scalar()
        return None if record is None else unpack_record(record, None, None)

    def find_sent(self, tenant: str, event_id: str, source: str | None = None) -> str | None:
        columns = event_ids.c
        query = (
            select(columns.request_id)
            .join(requests, requests.c.id == columns.request_id)
            .where(columns.tenant == tenant, columns.event_id == key_text(event_id))
            .order_by(requests.c.accepted_at, columns.request_id)
            .limit(1)
        )
        if source is not None:
            query = query.where(columns.source == source)
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def requests(
        self, page: PageQuery, *, tenant: str | None, states: Sequence[State] | None = None
    ) -> Page[RequestRow]:
        query = select(*ROW_COLUMNS).where(requests.c.is_known, ~requests.c.is_forgotten)
        if tenant is not None:
            query = query.where(requests.c.tenant == tenant)
        if states is not None:
            query = query.where(requests.c.state.in_([state.value for state in states]))
        return _REQUESTS.read(self._db, query, page, tenant, read_request_row)

    def marks(self, request_ids: Sequence[str]) -> Mapping[str, Mark]:
        columns = requests.c
        marks: dict[str, Mark] = {}
        with self._db.read() as connection:
            for some in in_lists(request_ids):
                query = select(columns.id, columns.state, columns.next_cursor)
                query = query.where(columns.id.in_(some), columns.is_known, ~columns.is_forgotten)
                for request_id, state, cursor in connection.execute(query):
                    marks[request_id] = Mark(State(state), cursor)
        return marks

    def events_after(
        self, request_id: str, cursor: int, limit: int = 256
    ) -> Sequence[RequestEvent]:
        columns = request_events.c
        query = (
            select(columns.cursor, columns.kind, columns.data, requests.c.result)
            .join(requests, requests.c.id == columns.request_id)
            .where(columns.request_id == request_id, columns.cursor > cursor)
            .order_by(columns.cursor)
            .limit(limit)
        )
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        return [
            RequestEvent(
                request_id=request_id,
                cursor=position,
                kind=kind,
                # The answer is kept once, in its row.
                data=result if kind == "terminal" and result is not None else data,
            )
            for position, kind, data, result in rows
        ]

    def overdue(self, now: datetime, limit: int = 500) -> Sequence[RequestRow]:
        query = _open_rows().where(
            or_(requests.c.deadline <= now, requests.c.cancel_reason.is_not(None)),
            # Taken back before it ever reached the log: there is nothing to end.
            or_(~requests.c.is_forgotten, requests.c.log_offset.is_not(None)),
        )
        return self._rows(query, limit)

    def lost(self, limit: int = 500) -> Sequence[RequestRow]:
        if not self._boot_id:
            return ()
        return self._rows(_open_rows().where(requests.c.boot_id != self._boot_id), limit)

    def _rows(self, query: Any, limit: int) -> list[RequestRow]:
        query = query.order_by(requests.c.deadline).limit(limit)
        with self._db.read() as connection:
            return [read_request_row(row) for row in connection.execute(query).mappings()]

    def unrouted(self, before: datetime, limit: int = 200) -> Sequence[tuple[RequestRow, Record]]:
        columns = requests.c
        query = (
            select(*ROW_COLUMNS, columns.record, columns.log_partition, columns.log_offset)
            .where(columns.finished_at.is_(None), columns.is_known, columns.record.is_not(None))
            .where(columns.state == State.ACCEPTED.value, columns.seen_at < before)
            .where(columns.cancel_reason.is_(None))
            .order_by(columns.seen_at)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                (
                    read_request_row(row),
                    unpack_record(row["record"], row["log_partition"], row["log_offset"]),
                )
                for row in connection.execute(query).mappings()
            ]

    def note_republished(self, request_ids: Sequence[str], now: datetime) -> None:
        with self._db.write() as connection:
            for ids in in_lists(request_ids):
                connection.execute(
                    update(requests).where(requests.c.id.in_(ids)).values(seen_at=now)
                )

    def unfinished(self, *, tenant: str | None = None) -> int:
        query = select(func.count()).select_from(_open_ids(tenant).subquery())
        with self._db.read() as connection:
            return int(connection.execute(query).scalar_one())

    # Forgetting
    def forget(self, request_id: str) -> bool:
        with self._db.write() as connection:
            return _forget(connection, request_id)

    def purge(self, before: datetime) -> int:
        now = self._clock.now()
        columns = requests.c
        with self._db.write() as connection:
            old = select(columns.id).where(
                or_(
                    columns.finished_at < before,
                    or_(~columns.is_known, columns.is_forgotten) & (columns.seen_at < before),
                )
            )
            ids = list(connection.execute(old.limit(PURGE_LIMIT)).scalars())
            unstored = select(columns.id).where(
                ~columns.is_stored, columns.result.is_not(None), columns.batch_id.is_(None)
            )
            unstored = unstored.where(columns.finished_at < now - UNSTORED_KEEP)
            private = list(connection.execute(unstored.limit(PURGE_LIMIT)).scalars())
            for some in in_lists(ids):
                connection.execute(delete(requests).where(columns.id.in_(some)))
            for some in in_lists(private):
                connection.execute(
                    update(requests).where(columns.id.in_(some)).values(**_NOTHING_KEPT)
                )
            _delete_traces(connection, [*ids, *private])
            _delete_event_ids(connection, ids)
            connection.execute(delete(deleted_files).where(deleted_files.c.deleted_at < before))
            idempotency_keys.forget_old(connection, now)
        return len(ids)

    def boot(self, boot_id: str) -> bool:
        columns = settings_table.c
        with self._db.write() as connection:
            if self._db.insert_new(connection, settings_table, [{"name": _BOOT, "value": boot_id}]):
                return True
            changed = connection.execute(
                update(settings_table)
                .where(columns.name == _BOOT, columns.value != boot_id)
                .values(value=bindparam("new_value")),
                {"new_value": boot_id},
            )
            return changed.rowcount > 0


def _find_standing(connection: Connection, request_id: str) -> idempotency_keys.Standing:
    columns = requests.c
    query = select(columns.is_known, columns.is_forgotten).where(columns.id == request_id)
    row = connection.execute(query).first()
    if row is None or not (row.is_known or row.is_forgotten):
        return "missing"
    return "gone" if row.is_forgotten else "kept"


def _sent_before(connection: Connection, row: RequestRow) -> Claim:
    """A row of that id is there: of the same event, as far as anything says, or of one that asks for something else."""
    query = select(*ROW_COLUMNS).where(requests.c.id == row.id)
    kept = read_request_row(connection.execute(query).mappings().one()).event
    is_other = kept is not None and row.event is not None and kept.content != row.event.content
    return Claim(kind="conflict" if is_other else "joined", id=row.id)


def _forget(connection: Connection, request_id: str) -> bool:
    # The bare row stays: a replayed event must not bring the request back to life.
    changed = connection.execute(
        update(requests)
        .where(requests.c.id == request_id, ~requests.c.is_forgotten)
        .values(is_forgotten=True, asked_model="", **_NOTHING_KEPT)
    ).rowcount
    _delete_traces(connection, [request_id])
    _delete_event_ids(connection, [request_id])
    return changed > 0


def _open_ids(tenant: str | None) -> Any:
    """Of the unfinished requests of a tenant, or of all."""
    columns = requests.c
    query = select(columns.id).where(columns.finished_at.is_(None))
    query = query.where(columns.is_known, ~columns.is_forgotten)
    return query if tenant is None else query.where(columns.tenant == tenant)


def _open_rows() -> Any:
    return select(*ROW_COLUMNS).where(requests.c.finished_at.is_(None), requests.c.is_known)


def _delete_event_ids(connection: Connection, ids: list[str]) -> None:
    for some in in_lists(ids):
        connection.execute(delete(event_ids).where(event_ids.c.request_id.in_(some)))


def _delete_traces(connection: Connection, ids: list[str]) -> None:
    body_references.release_bodies(connection, ids)
    for some in in_lists(ids):
        connection.execute(delete(request_events).where(request_events.c.request_id.in_(some)))
        connection.execute(delete(feedback).where(feedback.c.request_id.in_(some)))
        connection.execute(
            delete(deliveries)
            .where(deliveries.c.request_id.in_(some))
            .where(deliveries.c.state != "pending")
        )
