"""Idempotency keys: looked up and claimed in the transaction that writes what is made under them.

A key whose claim points to nothing (made before both were one transaction, or its row was purged) is taken over.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, Select, Table, delete, func, select, update

from functions.ports.store import Claim, KeyUse
from functions.runtime.errors import StoreFailed
from functions.sql.database import Database
from functions.sql.tables import idempotency_keys

KEY_KEEP: Final = timedelta(hours=24)
"""An idempotency key is remembered this long."""
_TRIES: Final = 3
"""Looks at a key that other transactions claim and free meanwhile."""

Standing = Literal["kept", "gone", "missing"]
"""What was made under a key: it is there, it was deleted, or there is nothing of that id."""
Look = Callable[[Connection, str], Standing]
Make = Callable[[Connection], Claim]
"""Makes something in a transaction, or says why not."""


class Room(NamedTuple):
    """At most `limit` of these rows. Writers under this name take turns."""

    name: str
    rows: Select[Any]
    limit: int


class _Held(NamedTuple):
    body_hash: str
    request_id: str
    claimed_at: datetime


def look_up(connection: Connection, use: KeyUse, look: Look) -> Claim | None:
    """What a key says to this use of it; None: it is free."""
    held = _lock_key(connection, use)
    return None if held is None else _compare_use(connection, use, held, look)


def _claim(
    database: Database, connection: Connection, use: KeyUse, new_id: str, look: Look
) -> Claim:
    """Claims the key for `new_id`, which the caller writes in this same transaction, or says whose it is.

    Raises:
        StoreFailed: others claim and free it all the time; the same call may succeed later.
    """
    new = Claim(kind="new", id=new_id)
    mine = {"body_hash": use.body_hash, "request_id": new_id, "claimed_at": use.at}
    for _ in range(_TRIES):
        held = _lock_key(connection, use)
        if held is None:
            row: dict[str, Any] = {"tenant": use.tenant, "key": use.key, **mine}
            if database.insert_new(connection, idempotency_keys, [row]):
                return new
            continue  # PostgreSQL: another transaction inserted it since we looked
        claim = _compare_use(connection, use, held, look)
        if claim is not None:
            return claim
        connection.execute(update(idempotency_keys).where(_is_same(use)).values(**mine))
        return new
    raise StoreFailed("key contended", is_transient=True)


class _Full(Exception):
    """There is no room for what was to be made: the transaction ends without a trace."""


def require_room(database: Database, connection: Connection, room: Room | None) -> None:
    """Ends what `make_once` began, as `full`, where there is none. None: there is no limit."""
    if room is None:
        return
    database.take_turns(connection, room.name)
    some = room.rows.limit(room.limit).subquery()
    if connection.execute(select(func.count()).select_from(some)).scalar_one() >= room.limit:
        raise _Full


def make_once(
    database: Database, new_id: str, make: Make, *, key: KeyUse | None, look: Look
) -> Claim:
    """Lets `make` make `new_id` if the key is new, in one transaction with the key."""
    new = Claim(kind="new", id=new_id)
    try:
        with database.write() as connection:
            claim = new if key is None else _claim(database, connection, key, new_id, look)
            return make(connection) if claim == new else claim
    except _Full:
        return Claim(kind="full", id=new_id)


def insert_once(
    database: Database,
    table: Table,
    values: dict[str, Any],
    *,
    key: KeyUse | None,
    look: Look,
    room: Room | None = None,
) -> Claim:
    """As `make_once`: inserts a row where there is room and its id is new."""

    def insert(connection: Connection) -> Claim:
        require_room(database, connection, room)
        is_new = database.insert_new(connection, table, [values])
        return Claim(kind="new" if is_new else "joined", id=values["id"])

    return make_once(database, values["id"], insert, key=key, look=look)


def _lock_key(connection: Connection, use: KeyUse) -> _Held | None:
    """The key's row, locked if the database can, so that only one caller takes it over."""
    columns = idempotency_keys.c
    query = select(columns.body_hash, columns.request_id, columns.claimed_at).where(_is_same(use))
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else _Held(*row)


def _compare_use(connection: Connection, use: KeyUse, held: _Held, look: Look) -> Claim | None:
    if held.claimed_at < use.at - KEY_KEEP:
        return None
    if held.body_hash != use.body_hash:
        return Claim(kind="conflict", id=held.request_id)
    match look(connection, held.request_id):
        case "kept":
            return Claim(kind="joined", id=held.request_id)
        case "gone":
            return Claim(kind="gone", id=held.request_id)
        case "missing":
            return None


def free(connection: Connection, use: KeyUse, made_id: str) -> None:
    """Frees a key that was claimed for `made_id`."""
    connection.execute(
        delete(idempotency_keys)
        .where(_is_same(use))
        .where(idempotency_keys.c.request_id == made_id)
    )


def forget_old(connection: Connection, now: datetime) -> None:
    """Deletes the keys that are remembered no longer."""
    connection.execute(
        delete(idempotency_keys).where(idempotency_keys.c.claimed_at < now - KEY_KEEP)
    )


def _is_same(use: KeyUse) -> Any:
    columns = idempotency_keys.c
    return (columns.tenant == use.tenant) & (columns.key == use.key)
