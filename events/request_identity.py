"""The identity of a request.

A request that came in as an event is identified by tenant, source and id (CloudEvents: source and
id together are unique, and a tenant's ids are its own). Its request id is derived from the three.
The sender's id stays the `correlationid` of everything that follows, which then also carries the
request id as `requestid`.

Requests of the ingress have unique ids. There both are the same, and `requestid` is absent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from events import ids, names
from events.event import Event

_OWN_SOURCES: Final = ("/ingress/", "/batches")
"""Sources of our own doors; from outside they come with a `requestid` that the door has set."""


def read_request_id(event: Event) -> str:
    """The id of the request that a request event makes, or that another event follows from. Never raises."""
    named = event.get(names.REQUEST_ID)
    if named is not None and ids.is_valid_id(named):
        return named
    if event.type != names.REQUEST:
        return event.get(names.CORRELATION_ID) or event.id
    if event.source.startswith(_OWN_SOURCES):
        return event.id
    tenant = event.get(names.TENANT) or names.DEFAULT_TENANT
    return ids.of_event(tenant, event.source, event.id)


def content_of(event: Event) -> str:
    """A hash of what a request event asks for: the same when it is sent again, inline or by reference."""
    data = event.get(names.DATA_HASH) if event.data is None else ids.content_hash(event.data)
    return ids.body_hash(event.subject or "", (data or "").encode())


def read_correlation_id(event: Event) -> str:
    """The sender's id of the request. Never raises."""
    if event.type == names.REQUEST:
        return event.id
    return event.get(names.CORRELATION_ID) or event.id


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """The event that a request came in as, where its sender gave it an id. `content` is a hash of what it asks for."""

    id: str
    source: str
    content: str

    @classmethod
    def of(cls, event: Event) -> "SentEvent | None":
        """Of a request event; None where its id is our own."""
        if read_request_id(event) == event.id:
            return None
        return cls(id=event.id, source=event.source, content=content_of(event))

    @property
    def meta(self) -> Mapping[str, object]:
        """As a row of the store keeps it."""
        return {"event": asdict(self)}
