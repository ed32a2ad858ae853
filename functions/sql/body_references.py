"""Which bodies in the blob store belong to which requests: their bytes can go when no request has them any more."""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, select, update

from events import names
from events.event import Event
from functions.sql.database import Database, in_lists
from functions.sql.tables import request_bodies

_REF: Final = re.compile(r"blob:[0-9a-f]{64}")


class BodyUse(NamedTuple):
    """`request_id` has the bytes `ref` as its body, or as its answer."""

    request_id: str
    ref: str
    is_answer: bool


def find_body_use(request_id: str, event: Event, *, is_answer: bool) -> BodyUse | None:
    """What the event of a request refers to; None where it refers to nothing of ours. Pure."""
    ref = event.get(names.DATA_REF)
    if ref is None or not _REF.fullmatch(ref):
        return None
    return BodyUse(request_id, ref, is_answer)


def note_uses(
    database: Database, connection: Connection, uses: Sequence[tuple[BodyUse, bool]]
) -> None:
    """Remembers the uses; with True those of requests that do not keep them."""
    rows: list[dict[str, Any]] = [use._asdict() | {"is_released": over} for use, over in uses]
    database.insert_new(connection, request_bodies, rows)


def release_bodies(
    connection: Connection, ids: Sequence[str], *, only_bodies: bool = False
) -> None:
    """These requests have their bodies and answers no more (`only_bodies`: they still have their answers)."""
    for some in in_lists(ids):
        query = update(request_bodies).where(request_bodies.c.request_id.in_(some))
        if only_bodies:
            query = query.where(~request_bodies.c.is_answer)
        connection.execute(query.values(is_released=True))


class SqlBodies:
    """The part of `functions.ports.store.RequestStore` that finds unused blobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def unused_bodies(self, limit: int) -> Sequence[str]:
        other = request_bodies.alias("other")
        is_kept = select(other.c.ref).where(
            other.c.ref == request_bodies.c.ref, ~other.c.is_released
        )
        query = select(request_bodies.c.ref).where(request_bodies.c.is_released, ~is_kept.exists())
        with self._db.read() as connection:
            return list(connection.execute(query.distinct().limit(limit)).scalars())

    def forget_bodies(self, refs: Sequence[str]) -> None:
        columns = request_bodies.c
        with self._db.write() as connection:
            for some in in_lists(refs):
                query = delete(request_bodies).where(columns.ref.in_(some), columns.is_released)
                connection.execute(query)
