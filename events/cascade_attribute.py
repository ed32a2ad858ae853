"""A cascade on the wire: the attribute that goes from step to step with a request, and the event that hands it on.

A small model answers first; the worker that judged its answer too unsure emits a routed event for the next step. All
that this needs travels with the request: the steps the router chose, in order, and what the earlier ones have used.
"""

from dataclasses import replace
from datetime import datetime

import msgspec

from events import ids, names
from events.codecs import json_codec
from events.errors import EventRejected
from events.event import Event
from events.payloads import CascadePlace, CascadeState, CascadeUsed
from events.request_identity import read_request_id
from events.timestamps import to_rfc3339

_DECODER = msgspec.json.Decoder(CascadeState)
_NAMED = frozenset({"explicit", "alias"})
"""Reasons of a decision that took the model a caller had named."""


def attribute(state: CascadeState) -> str:
    """The state as the text of the attribute `cascade`: JSON on one line."""
    return json_codec.dumps(state).decode()


def parse_cascade(event: Event) -> CascadeState | None:
    """The cascade that a routed event is a step of, or None.

    Raises:
        EventRejected: the attribute is malformed, or its present step is another service's.
    """
    text = event.get(names.CASCADE)
    if text is None:
        return None
    try:
        state = _DECODER.decode(text.encode())
    except (msgspec.MsgspecError, ValueError):
        raise EventRejected("invalid_event", "not a cascade", names.CASCADE) from None
    if len(state.used) >= len(state.plan):
        raise EventRejected("invalid_event", "the cascade is over", names.CASCADE)
    if present(state).service != event.get(names.SERVICE):
        raise EventRejected("invalid_event", "another service's step", names.CASCADE)
    return state


def present(state: CascadeState) -> CascadePlace:
    """The step under way."""
    return state.plan[len(state.used)]


def following(state: CascadeState) -> CascadePlace | None:
    """The step after the one under way, or None."""
    place = len(state.used) + 1
    return state.plan[place] if place < len(state.plan) else None


def build_next_step(event: Event, used: CascadeUsed, *, now: datetime) -> Event:
    """The routed event of the next step (or of the service that stood by), from this step's and what it used.

    The same bytes of the request, deadline, session and reply address; caused by the event of this step. Its id follows
    from the request and the step's number alone, so that a step that is run again hands on under the same id.

    Raises:
        EventRejected: the event is of no cascade, or of its last step.
    """
    state = parse_cascade(event)
    after = None if state is None else following(state)
    is_of_a_request = event.get(names.CORRELATION_ID) is not None
    if state is None or after is None or not is_of_a_request:
        raise EventRejected("invalid_event", "there is no further step", names.CASCADE)
    state = msgspec.structs.replace(state, used=(*state.used, used))
    further = {
        names.CAUSATION_ID: event.id,
        names.SERVICE: after.service,
        names.ROUTED_TIME: to_rfc3339(now),
        names.CASCADE: attribute(state),
    }
    if state.on == "failure":
        further |= _replaced(event, after)
    return replace(
        event,
        id=ids.derive(read_request_id(event), "routed", len(state.used)),
        source=f"/models/{used.service}",
        subject=after.model,
        time=to_rfc3339(now),
        extensions={**event.extensions, **further},
    )


def _replaced(event: Event, after: CascadePlace) -> dict[str, str]:
    """What tells the caller that another service answers, and which model it had named."""
    was_named = event.get(names.ROUTE_REASON) in _NAMED and after.model != event.subject
    named = {names.ASKED_MODEL: event.subject or ""} if was_named else {}
    return {names.ROUTE_REASON: "fallback", **named}
