"""Earlier responses: items that a new input refers to, and the input items of a response."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from events import names
from events.codecs import kafka_codec
from events.errors import EventRejected
from events.limits import MAX_BODY_BYTES
from events.names import Operation
from functions.ingress.api.requests import until_ended
from functions.ingress.dependencies import Dependencies
from functions.ingress.list_pages import answer_page, parse_page
from functions.ports.paging import CursorUnknown, Page, PageQuery
from functions.ports.store import RequestRow
from functions.response_objects import build_response_object, input_items, parse_item_id
from functions.runtime.errors import ApiError, BlobMissing

MAX_REFERENCES: Final = 512
"""Responses that one input may refer to: each is looked up."""
END_WAIT_S: Final = 2.0
"""The end of a response that was just given out is waited for so long: the store may be a moment behind."""


async def load_referenced_items(
    deps: Dependencies, tenant: str, named: Mapping[str, str]
) -> dict[str, Mapping[str, object]]:
    """The items with these ids that the tenant's responses gave out; those that are not kept are left out.

    Raises:
        ApiError: `invalid_value`: too many; `request_too_large`: together with what the body holds itself they would
            be a body that is none.
    """
    wanted: dict[str, str] = {}
    for item_id, at in named.items():
        request_id = parse_item_id(item_id)
        if request_id is not None:
            wanted.setdefault(request_id, at)
    if len(wanted) > MAX_REFERENCES:
        raise ApiError(
            "invalid_value",
            f"An input may refer to the items of {MAX_REFERENCES} responses.",
            param=list(wanted.values())[MAX_REFERENCES],
        )
    items: dict[str, Mapping[str, object]] = {}
    room = deps.settings.ingress.max_body_bytes
    for request_id, at in wanted.items():
        for item in await _items_given(deps, tenant, request_id):
            if item["id"] in named:
                room -= len(msgspec.json.encode(item))
                items[str(item["id"])] = item
        if room < 0:
            raise too_large(deps, at)
    return items


def too_large(deps: Dependencies, at: str) -> ApiError:
    """The refusal of a small body that expands beyond the limit."""
    most = deps.settings.ingress.max_body_bytes
    message = f"With the items that it refers to, the input is larger than {most} bytes."
    return ApiError("request_too_large", message, param=at)


async def _items_given(
    deps: Dependencies, tenant: str, request_id: str
) -> Sequence[Mapping[str, object]]:
    row = await deps.offload(deps.store.request, request_id)
    if row is None or row.tenant != tenant or row.operation != Operation.CHAT:
        return ()
    row = await until_ended(deps, row, END_WAIT_S)
    output = build_response_object(row)["output"]
    return output if isinstance(output, list) else ()


async def answer_input_items(deps: Dependencies, request: Request, row: RequestRow) -> Response:
    """One page of the input items of a response.

    Raises:
        ApiError: `invalid_value` for a page that cannot be; `request_gone`: the input is not kept.
    """
    page = parse_page(request)

    async def read() -> Page[dict[str, object]]:
        chat = await _prompt(deps, row)
        echo = row.meta.get("echo")
        has_instructions = isinstance(echo, Mapping) and echo.get("instructions") is not None
        return cut_page(input_items(row.id, chat, has_instructions=has_instructions), page)

    return await answer_page(read(), dict, lambda item: str(item["id"]))


def cut_page(items: list[dict[str, object]], page: PageQuery) -> Page[dict[str, object]]:
    """The page of a list that is there as a whole, in the order of its making. Pure.

    Raises:
        CursorUnknown: no item has that id.
    """
    ordered = items[::-1] if page.order == "desc" else items
    places = {str(item["id"]): place for place, item in enumerate(ordered)}
    try:
        first = 0 if page.after is None else places[page.after] + 1
    except KeyError:
        raise CursorUnknown("after") from None
    try:
        last = len(ordered) if page.before is None else places[page.before]
    except KeyError:
        raise CursorUnknown("before") from None
    between = ordered[first:last]
    rows = between[-page.limit :] if page.is_backward else between[: page.limit]
    return Page(rows=rows, has_more=len(between) > len(rows))


async def _prompt(deps: Dependencies, row: RequestRow) -> dict[str, object]:
    """The chat body that the request was sent with."""
    record = await deps.offload(deps.store.prompt, row.id)
    try:
        event = None if record is None else kafka_codec.from_record(record)
        raw = None if event is None else event.data
        ref = None if event is None else event.get(names.DATA_REF)
        if raw is None and ref is not None:
            raw = await deps.offload(deps.blobs.get, ref, limit_bytes=MAX_BODY_BYTES)
        if raw is not None:
            return msgspec.json.decode(raw, type=dict[str, object])
    except (BlobMissing, EventRejected, msgspec.MsgspecError):
        pass
    raise ApiError("request_gone", "The input of that response is not kept.")
