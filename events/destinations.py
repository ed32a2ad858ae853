"""Where events go: topic, key and partition of each, as docs/reference/wire.md says."""

from events import names
from events.errors import EventRejected
from events.event import Event, Outgoing
from events.names import Priority, Topics
from events.request_identity import read_request_id
from events.requests import InferenceRequest, ReplyAddress


def routed_outgoing(event: Event, request: InferenceRequest, topics: Topics) -> Outgoing:
    """To the chosen service's interactive or batch topic, keyed as the request was."""
    service = event.extensions[names.SERVICE]
    is_batch = request.priority is Priority.BATCH
    topic = topics.model_batch(service) if is_batch else topics.model(service)
    return Outgoing(topic=topic, key=request.key, event=event)


def is_waited_for(address: ReplyAddress | None, topics: Topics) -> bool:
    """Whether a caller holds the line, at the ingress: what else asks reads a topic, or comes back."""
    return address is not None and address.topic == topics.replies


def progress_outgoing(
    event: Event, *, topics: Topics, reply: ReplyAddress | None
) -> tuple[Outgoing, ...]:
    """To `infer.progress`, and to the caller where it listens for itself (`reply`)."""
    return _both(event, topics.progress, reply)


def chunk_outgoing(event: Event, *, topics: Topics, reply: ReplyAddress | None) -> Outgoing:
    """To the caller where it listens for itself, else to `infer.progress`."""
    if reply is None:
        return Outgoing(topic=topics.progress, key=_request_id(event), event=event)
    return _to_caller(event, reply)


def terminal_outgoing(
    event: Event, *, topics: Topics, reply: ReplyAddress | None
) -> tuple[Outgoing, ...]:
    """Always to `infer.responses`, and to the caller where it listens for itself.

    A caller that listens on `infer.responses` (without naming a partition) gets the one record that is there anyway.
    """
    if reply is not None and reply.topic == topics.responses and reply.partition is None:
        return _both(event, topics.responses, None)
    return _both(event, topics.responses, reply)


def status_outgoing(event: Event, *, topics: Topics, replica: str) -> Outgoing:
    """To `infer.status` under the key `<service>/<replica>`."""
    return Outgoing(
        topic=topics.status, key=f"{event.extensions[names.SERVICE]}/{replica}", event=event
    )


def decision_outgoing(event: Event, *, topics: Topics) -> Outgoing:
    """To `infer.status` under the key `decision/<request id>`."""
    return Outgoing(topic=topics.status, key=f"decision/{_request_id(event)}", event=event)


def cancel_outgoing(event: Event, *, topics: Topics) -> Outgoing:
    """To `infer.control`."""
    return Outgoing(topic=topics.control, key=_request_id(event), event=event)


def revision_outgoing(event: Event, *, topics: Topics) -> Outgoing:
    """To `infer.control` under the service's slug."""
    return Outgoing(topic=topics.control, key=event.extensions[names.SERVICE], event=event)


def _both(event: Event, topic: str, reply: ReplyAddress | None) -> tuple[Outgoing, ...]:
    public = Outgoing(topic=topic, key=_request_id(event), event=event)
    return (public,) if reply is None else (public, _to_caller(event, reply))


def _to_caller(event: Event, reply: ReplyAddress) -> Outgoing:
    return Outgoing(
        topic=reply.topic, key=_request_id(event), event=event, partition=reply.partition
    )


def _request_id(event: Event) -> str:
    if event.get(names.CORRELATION_ID) is None:
        raise EventRejected(
            "invalid_event", "the event follows from no request", names.CORRELATION_ID
        )
    return read_request_id(event)
