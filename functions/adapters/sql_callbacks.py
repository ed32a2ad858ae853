"""Callback targets and deliveries in the database."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, or_, select, update

from functions.adapters.sql_database import Database
from functions.adapters.sql_schema import callback_targets, deliveries
from functions.store import CallbackTarget, Delivery

_COLUMNS: Final = tuple(column for column in deliveries.c if column.name != "leased_until")


class SqlCallbacks:
    """Implements `functions.store.CallbackStore`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_target(self, target: CallbackTarget) -> None:
        row = {
            "id": target.id,
            "tenant": target.tenant,
            "url": target.url,
            "secret": target.secret,
            "is_ad_hoc": target.is_ad_hoc,
            "is_disabled": target.is_disabled,
        }
        with self._db.write() as connection:
            if not self._db.insert_new(connection, callback_targets, [row]):
                # Registering again replaces URL and secret, but never takes over another tenant's id.
                connection.execute(
                    update(callback_targets)
                    .where(callback_targets.c.id == target.id)
                    .where(callback_targets.c.tenant == target.tenant)
                    .values(**row)
                )

    def target(self, target_id: str) -> CallbackTarget | None:
        query = select(callback_targets).where(callback_targets.c.id == target_id)
        with self._db.read() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else CallbackTarget(**found)

    def disable_target(self, target_id: str) -> None:
        with self._db.write() as connection:
            connection.execute(
                update(callback_targets)
                .where(callback_targets.c.id == target_id)
                .values(is_disabled=True)
            )

    def enqueue_delivery(self, delivery: Delivery) -> bool:
        row = {name.name: getattr(delivery, name.name) for name in _COLUMNS}
        with self._db.write() as connection:
            return self._db.insert_new(connection, deliveries, [row]) > 0

    def due_deliveries(
        self, now: datetime, limit: int, *, lease_s: float = 30.0, per_target: int = 4
    ) -> Sequence[Delivery]:
        columns = deliveries.c
        lease = now + timedelta(seconds=lease_s)
        with self._db.read() as connection:
            # Mostly nothing is due, and a look costs nobody the writer's place.
            waiting = select(columns.id).where(columns.state == "pending", columns.due_at <= now)
            if connection.execute(waiting.limit(1)).first() is None:
                return ()
        with self._db.write() as connection:
            ids = list(connection.execute(_due_ids(now, limit, per_target)).scalars())
            if not ids:
                return ()
            # Locked in a second step: databases do not lock the rows of a window query.
            locked = select(columns.id).where(columns.id.in_(ids), _is_free(now))
            locked = locked.with_for_update(skip_locked=True)
            mine = list(connection.execute(locked).scalars())
            connection.execute(
                update(deliveries).where(columns.id.in_(mine)).values(leased_until=lease)
            )
            query = select(*_COLUMNS).where(columns.id.in_(mine)).order_by(columns.due_at)
            return [Delivery(**found) for found in connection.execute(query).mappings()]

    def update_delivery(self, delivery: Delivery) -> None:
        values: dict[str, Any] = {
            "attempt": delivery.attempt,
            "due_at": delivery.due_at,
            "state": delivery.state,
            "last_outcome": delivery.last_outcome,
            "leased_until": None,
        }
        if delivery.state != "pending":
            # Delivered or given up: the answer has no business here any longer.
            values["body"] = b""
        with self._db.write() as connection:
            connection.execute(
                update(deliveries).where(deliveries.c.id == delivery.id).values(**values)
            )

    def deliveries(self, request_id: str) -> Sequence[Delivery]:
        query = select(*_COLUMNS).where(deliveries.c.request_id == request_id)
        with self._db.read() as connection:
            return [Delivery(**found) for found in connection.execute(query).mappings()]


def _is_free(now: datetime) -> Any:
    columns = deliveries.c
    return or_(columns.leased_until.is_(None), columns.leased_until <= now)


def _due_ids(now: datetime, limit: int, per_target: int) -> Any:
    columns = deliveries.c
    out = (
        select(columns.target_id, func.count().label("out"))
        .where(columns.leased_until > now)
        .group_by(columns.target_id)
        .subquery()
    )
    place = func.row_number().over(partition_by=columns.target_id, order_by=columns.due_at)
    due = (
        select(columns.id, columns.target_id, columns.due_at, place.label("place"))
        .where(columns.state == "pending", columns.due_at <= now, _is_free(now))
        .subquery()
    )
    return (
        select(due.c.id)
        .join(out, out.c.target_id == due.c.target_id, isouter=True)
        .where(due.c.place + func.coalesce(out.c.out, 0) <= per_target)
        .order_by(due.c.due_at)
        .limit(limit)
    )
