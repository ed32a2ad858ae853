"""A record of the service's topics as a job, or the reason why it cannot be one."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from events.codecs import kafka_codec
from events.errors import EventRejected
from events.event import Event, PartitionId, Record
from events.ids import is_event_id
from events.names import CORRELATION_ID, DATA_REF, REPLY_TOPIC, ROUTED, SERVICE, Topics
from events.requests import (
    Origin,
    ReplyAddress,
    RoutedRequest,
    is_reply_topic_allowed,
    parse_routed,
    reply_address,
)
from functions.ports.blobs import BlobStore
from functions.runtime.errors import ApiError, BlobMissing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """Why a record does not run. `origin` None: it has no address, and only becomes a dead letter."""

    error: ApiError
    dead_letter_reason: str | None
    origin: Origin | None
    reply: ReplyAddress | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One record in work. The poll thread owns `prior`, `moved` and `not_before_s`, the event loop `worked_s`; each
    only reads what is the other's.
    """

    record: Record = field(repr=False)
    is_batch: bool
    request: RoutedRequest | None = field(default=None, repr=False)
    refusal: RefusedRecord | None = None
    prior: int = 0
    """Attempts begun by earlier processes."""
    moved: int = 0
    """Of these, attempts that ran when a rebalance took their partition: they count for nothing but their number."""
    attempt: int = 0
    body_bytes: int = 0
    """Of a body that travelled by reference."""
    not_before_s: float = 0.0
    """Monotonic instant before which a retry does not start."""
    worked_s: float = 0.0
    """Seconds that earlier attempts in this process kept the model: they are the request's, though no answer came."""

    @property
    def counted(self) -> int:
        """The attempt under way as `max_attempts` counts it: without those that moved."""
        return self.attempt - self.moved

    @property
    def size_bytes(self) -> int:
        return self.record.size_bytes + self.body_bytes

    @property
    def partition(self) -> PartitionId:
        return self.record.partition_id

    @property
    def offset(self) -> int:
        return self.record.offset

    @property
    def request_id(self) -> str | None:
        return None if self.request is None else self.request.request_id

    @property
    def tenant(self) -> str:
        return "" if self.request is None else self.request.tenant


class JobReader:
    """Reads records strictly: what is not a valid routed event of this service becomes a refusal, never an error."""

    def __init__(
        self,
        *,
        slug: str,
        topics: Topics,
        blobs: BlobStore,
        further_reply_topics: Collection[str],
        max_body_bytes: int,
    ) -> None:
        self._slug = slug
        self._topics = topics
        self._batch_topic = topics.model_batch(slug)
        self._blobs = blobs
        self._further = further_reply_topics
        self._max_body_bytes = max_body_bytes

    def read(self, record: Record) -> Job:
        """The job of a record."""
        is_batch = self.is_batch(record.topic)
        event: Event | None = None
        try:
            event = kafka_codec.from_record(record)
            body = self._body(event)
            request = self._request(event, body)
        except EventRejected as error:
            return Job(record=record, is_batch=is_batch, refusal=self._refusal(event, error))
        except Exception as error:  # loop boundary: no record may stop the partition
            log.exception("a record cannot be read")
            refusal = RefusedRecord(
                ApiError("internal", "the record cannot be read"),
                f"internal:{type(error).__name__}",
                None,
            )
            return Job(record=record, is_batch=is_batch, refusal=refusal)
        return Job(record=record, is_batch=is_batch, request=request, body_bytes=len(body or b""))

    def is_batch(self, topic: str) -> bool:
        """Whether a topic is the service's batch lane."""
        return topic == self._batch_topic

    def _body(self, event: Event) -> bytes | None:
        ref = event.get(DATA_REF)
        if ref is None or event.type != ROUTED:
            return None
        try:
            return self._blobs.get(ref, limit_bytes=self._max_body_bytes)
        except BlobMissing as error:
            raise EventRejected("invalid_event", str(error), DATA_REF) from error

    def _request(self, event: Event, body: bytes | None) -> RoutedRequest:
        request = parse_routed(event, body)
        if request.service != self._slug:
            raise EventRejected("invalid_event", "routed to another service", SERVICE)
        if request.reply is not None and not self._is_trusted(request.reply):
            raise EventRejected("invalid_event", "replies may not go there", REPLY_TOPIC)
        return request

    def _refusal(self, event: Event | None, error: EventRejected) -> RefusedRecord:
        api_error = ApiError(error.code, error.message, param=error.attribute)
        origin, reply = None, None
        if event is not None and event.type == ROUTED:
            request_id = event.get(CORRELATION_ID)
            if request_id is not None and is_event_id(request_id):
                origin = Origin.of(event)
                reply = self._trusted_reply(event)
        return RefusedRecord(api_error, error.reason, origin, reply)

    def _trusted_reply(self, event: Event) -> ReplyAddress | None:
        try:
            address = reply_address(event)
        except EventRejected:
            return None
        return address if address is not None and self._is_trusted(address) else None

    def _is_trusted(self, reply: ReplyAddress) -> bool:
        return is_reply_topic_allowed(reply.topic, self._topics, self._further)
