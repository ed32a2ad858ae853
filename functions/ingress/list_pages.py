"""Lists in OpenAI's shape, page by page: `limit`, `order`, `after` and `before` of the query."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar, get_args

from starlette.requests import Request
from starlette.responses import Response

from functions.ingress.http_responses import answer
from functions.ingress.request_body import parse_whole_number
from functions.ports.paging import CursorUnknown, Order, Page, PageQuery
from functions.runtime.errors import ApiError

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 100
QUERY: Final = ("limit", "order", "after", "before")
"""What every list takes in its query."""
_ORDERS: Final[tuple[Order, ...]] = get_args(Order)

Row = TypeVar("Row")


def parse_page(request: Request, *, most: int = MAX_LIMIT) -> PageQuery:
    """The page of a query, with OpenAI's defaults: newest first.

    Raises:
        ApiError: `invalid_value` with the parameter in `param`.
    """
    query = request.query_params
    limit = parse_whole_number(query.get("limit", str(DEFAULT_LIMIT)))
    if limit is None or not 1 <= limit <= most:
        raise ApiError("invalid_value", f"limit is 1 to {most}.", param="limit")
    order = next((order for order in _ORDERS if order == query.get("order", "desc")), None)
    if order is None:
        raise ApiError("invalid_value", f"order is one of: {', '.join(_ORDERS)}.", param="order")
    return PageQuery(
        limit=limit,
        order=order,
        after=query.get("after") or None,
        before=query.get("before") or None,
    )


async def answer_page(
    read: Awaitable[Page[Row]],
    show: Callable[[Row], Mapping[str, object]],
    id_of: Callable[[Row], str],
) -> Response:
    """The answer with one page. `id_of` gives what the next page can begin after.

    Raises:
        ApiError: `invalid_value`: the page was to begin or end at an entry that is not there.
    """
    try:
        page = await read
    except CursorUnknown as error:
        raise ApiError(
            "invalid_value",
            f"{error.cursor} is the id of no entry of this list.",
            param=error.cursor,
        ) from error
    ids = [id_of(row) for row in page.rows]
    return answer(
        {
            "object": "list",
            "data": [show(row) for row in page.rows],
            "has_more": page.has_more,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    )
