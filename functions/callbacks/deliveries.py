"""From terminals to deliveries: what is sent about which outcome. Pure but for the lookups it is given."""

from datetime import datetime

import msgspec

from events import json_codec
from events.record import Event
from events.reply import Terminal
from events.types import State
from functions.errors import ApiError
from functions.store import CallbackTarget, Delivery


def delivery_of(
    event: Event, terminal: Terminal, data: bytes | None, target: CallbackTarget, now: datetime
) -> Delivery | None:
    """The delivery of a terminal; None where the target must not hear of it (another tenant's, or disabled).

    `data` is the terminal's data after its reference was resolved; None: it is gone.
    """
    if target.tenant != terminal.tenant or target.is_disabled:
        return None
    return Delivery(
        id=event.id,
        request_id=terminal.request_id,
        target_id=target.id,
        body=body_of(event, terminal, data),
        attempt=0,
        due_at=now,
    )


def body_of(event: Event, terminal: Terminal, data: bytes | None) -> bytes:
    """`{"type", "timestamp", "data": {"request_id", "response" | "error"}}`, the same bytes at every attempt."""
    about: dict[str, object] = {"request_id": terminal.correlation_id}
    try:
        found = msgspec.json.decode(data or b"", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        gone = ApiError(
            "not_found", "the answer is no longer kept: ask for it under its request id"
        )
        about |= gone.body(terminal.correlation_id)
    else:
        if terminal.state is State.COMPLETED:
            about["response"] = found
        else:
            about |= {"error": found.get("error"), "status": terminal.status}
    return json_codec.dumps(
        {"type": f"inference.{terminal.state.value}", "timestamp": event.time, "data": about}
    )
