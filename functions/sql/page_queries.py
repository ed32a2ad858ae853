"""Pages out of tables: by the place of an entry in an index, never by counting entries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select, union_all

from functions.ports.paging import CursorUnknown, Page, PageQuery
from functions.sql.database import Database

Row = TypeVar("Row")
Columns = Sequence[ColumnElement[Any]]
_CURSORS: Final[tuple[Literal["after", "before"], ...]] = ("after", "before")


class PagedTable:
    """Reads pages. `keys` are columns that order the entries, the id last.

    `owner` is the column that says whose an entry is. Whoever is in `gone`, columns for columns, can be named as a
    place too: entries that were deleted while somebody read the list.
    """

    def __init__(
        self,
        keys: Columns,
        owner: ColumnElement[Any],
        gone: tuple[Columns, ColumnElement[Any]] | None = None,
    ) -> None:
        self._keys = keys
        self._places = [(keys, owner)] if gone is None else [(keys, owner), gone]

    def read(
        self,
        database: Database,
        query: "Select[Any]",
        page: PageQuery,
        tenant: str | None,
        make: Callable[[Mapping[Any, Any]], Row],
    ) -> Page[Row]:
        """A page of what `query` selects, each row through `make`. `tenant` None: entries of all may be cursors.

        Raises:
            CursorUnknown: there is no such entry to begin or end at.
        """
        is_up = (page.order == "asc") != page.is_backward
        with database.read() as connection:
            for cursor in _CURSORS:
                entry_id = getattr(page, cursor)
                if entry_id is None:
                    continue
                place = self._place_of(connection, entry_id, tenant)
                if place is None:
                    raise CursorUnknown(cursor)
                goes_up = (page.order == "asc") == (cursor == "after")
                query = query.where(_beyond(self._keys, place, is_up=goes_up))
            query = query.order_by(*(key.asc() if is_up else key.desc() for key in self._keys))
            entries = connection.execute(query.limit(page.limit + 1)).mappings().all()
        rows = [make(one) for one in entries[: page.limit]]
        if page.is_backward:
            rows.reverse()
        return Page(rows=rows, has_more=len(entries) > page.limit)

    def _place_of(
        self, connection: Connection, entry_id: str, tenant: str | None
    ) -> Sequence[Any] | None:
        looks = []
        for keys, owner in self._places:
            look = select(*keys).where(keys[-1] == entry_id)
            looks.append(look if tenant is None else look.where(owner == tenant))
        place = connection.execute(looks[0] if len(looks) == 1 else union_all(*looks)).first()
        return None if place is None else tuple(place)


def _beyond(keys: Columns, place: Sequence[Any], *, is_up: bool) -> ColumnElement[bool]:
    """What comes after a place in the order of `keys`. The bound on the first key alone lets an index find it."""
    key, value = keys[0], place[0]
    further: ColumnElement[bool] = key > value if is_up else key < value
    if len(keys) == 1:
        return further
    upto = key >= value if is_up else key <= value
    return and_(upto, or_(further, _beyond(keys[1:], place[1:], is_up=is_up)))
