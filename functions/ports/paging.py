"""Pages of lists: which part of one is asked for, and what a store gives.

A page begins or ends at an entry, not at a number of entries: what is added or deleted meanwhile moves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from functions.runtime.errors import PickspinError

Order = Literal["asc", "desc"]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """At most `limit` entries in `order` of their making (`desc`: the newest first): the first ones, those that follow
    the entry `after`, or the last ones before the entry `before`. With both, those between.
    """

    limit: int = 100
    order: Order = "desc"
    after: str | None = None
    before: str | None = None

    @property
    def is_backward(self) -> bool:
        """Whether the page ends at an entry that is known, and begins somewhere before it."""
        return self.before is not None and self.after is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """One page. `has_more`: there are further entries where it goes on (before it, where it was read backward)."""

    rows: Sequence[Row]
    has_more: bool


class CursorUnknown(PickspinError):
    """No entry of the list has the id that a page is to begin or end at; `cursor` is the page's field."""

    def __init__(self, cursor: Literal["after", "before"]) -> None:
        super().__init__(cursor)
        self.cursor = cursor
