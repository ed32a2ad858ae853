"""Callback targets and deliveries in the database."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, or_, select, update

from functions.ports.paging import Page, PageQuery
from functions.ports.store import CallbackTarget, Claim, Delivery, KeyUse
from functions.sql import idempotency_keys
from functions.sql.database import Database
from functions.sql.page_queries import PagedTable
from functions.sql.tables import callback_targets, deliveries

_TARGETS: Final = PagedTable((callback_targets.c.id,), callback_targets.c.tenant)
_COLUMNS: Final = tuple(column for column in deliveries.c if column.name != "leased_until")


class SqlCallbacks:
    """Implements `functions.ports.store.CallbackStore`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_target(self, target: CallbackTarget, *, key: KeyUse | None = None) -> Claim:
        return idempotency_keys.insert_once(
            self._db, callback_targets, asdict(target), key=key, look=_find_standing
        )

    def named_target(self, target: CallbackTarget) -> CallbackTarget:
        columns = callback_targets.c
        is_this = (columns.id == target.id) & (columns.tenant == target.tenant)
        query = select(callback_targets).where(is_this)
        with self._db.read() as connection:
            # Mostly it is there, and a look costs nobody the writer's place.
            row = connection.execute(query).mappings().first()
        if row is not None and not row["is_disabled"]:
            return CallbackTarget(**row)
        with self._db.write() as connection:
            self._db.insert_new(connection, callback_targets, [asdict(target)])
            connection.execute(update(callback_targets).where(is_this).values(is_disabled=False))
            return CallbackTarget(**connection.execute(query).mappings().one())

    def target(self, target_id: str) -> CallbackTarget | None:
        query = select(callback_targets).where(callback_targets.c.id == target_id)
        with self._db.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else CallbackTarget(**row)

    def targets(self, tenant: str, page: PageQuery) -> Page[CallbackTarget]:
        columns = callback_targets.c
        query = select(callback_targets).where(columns.tenant == tenant, ~columns.is_disabled)
        return _TARGETS.read(self._db, query, page, tenant, lambda row: CallbackTarget(**row))

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
        self,
        now: datetime,
        limit: int,
        *,
        lease_s: float = 30.0,
        per_target: int = 4,
        per_tenant: int = 8,
    ) -> Sequence[Delivery]:
        columns = deliveries.c
        lease = now + timedelta(seconds=lease_s)
        with self._db.read() as connection:
            # Mostly nothing is due, and a look costs nobody the writer's place.
            waiting = select(columns.id).where(columns.state == "pending", columns.due_at <= now)
            if connection.execute(waiting.limit(1)).first() is None:
                return ()
        with self._db.write() as connection:
            ids = list(connection.execute(_due_ids(now, limit, per_target, per_tenant)).scalars())
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
            return [Delivery(**row) for row in connection.execute(query).mappings()]

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
            return [Delivery(**row) for row in connection.execute(query).mappings()]


def _find_standing(connection: Connection, target_id: str) -> idempotency_keys.Standing:
    query = select(callback_targets.c.is_disabled).where(callback_targets.c.id == target_id)
    row = connection.execute(query).first()
    if row is None:
        return "missing"
    return "gone" if row.is_disabled else "kept"


def _is_free(now: datetime) -> Any:
    columns = deliveries.c
    return or_(columns.leased_until.is_(None), columns.leased_until <= now)


def _due_ids(now: datetime, limit: int, per_target: int, per_tenant: int) -> Any:
    """What may go out: first within the bound of each target, then, of what is left, within that of each tenant. The
    first of every tenant comes before the second of any.
    """
    columns, targets = deliveries.c, callback_targets.c
    # A delivery whose target is gone is its own tenant, and ends at its next attempt.
    tenant = func.coalesce(targets.tenant, columns.target_id).label("tenant")
    with_tenant = deliveries.outerjoin(callback_targets, targets.id == columns.target_id)
    due = (
        select(
            columns.id,
            columns.target_id,
            columns.due_at,
            tenant,
            func.row_number()
            .over(partition_by=columns.target_id, order_by=(columns.due_at, columns.id))
            .label("place"),
        )
        .select_from(with_tenant)
        .where(columns.state == "pending", columns.due_at <= now, _is_free(now))
        .subquery()
    )
    of_target = _count_out_by(columns.target_id, deliveries, now)
    within_target = (
        select(
            due.c.id,
            due.c.due_at,
            due.c.tenant,
            func.row_number()
            .over(partition_by=due.c.tenant, order_by=(due.c.due_at, due.c.id))
            .label("place"),
        )
        .join(of_target, of_target.c.owner == due.c.target_id, isouter=True)
        .where(due.c.place + func.coalesce(of_target.c.out, 0) <= per_target)
        .subquery()
    )
    of_tenant = _count_out_by(tenant, with_tenant, now)
    place = within_target.c.place + func.coalesce(of_tenant.c.out, 0)
    return (
        select(within_target.c.id)
        .join(of_tenant, of_tenant.c.owner == within_target.c.tenant, isouter=True)
        .where(place <= per_tenant)
        .order_by(place, within_target.c.due_at, within_target.c.id)
        .limit(limit)
    )


def _count_out_by(owner: Any, source: Any, now: datetime) -> Any:
    """How many deliveries of each owner are out now."""
    return (
        select(owner.label("owner"), func.count().label("out"))
        .select_from(source)
        .where(deliveries.c.leased_until > now)
        .group_by(owner)
        .subquery()
    )
