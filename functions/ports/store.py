"""The store's port and its rows: requests, results, idempotency keys, callbacks, batches, files.

`functions.sql.sql_store.SqlStore` implements it: SQLite by default, PostgreSQL by URL, `sqlite://`
in memory. Every method is synchronous, thread-safe and one transaction. The ingress calls them from
an executor. Requests can be rebuilt from Kafka. Files, callback targets and feedback cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from events.event import Event, Record
from events.names import State
from events.request_identity import SentEvent
from functions.ports.paging import Page, PageQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request. None: not known yet, or not applicable. Times are aware UTC."""

    id: str
    tenant: str
    operation: str
    state: State
    asked_model: str
    accepted_at: datetime
    deadline: datetime
    model: str | None = None
    service: str | None = None
    routed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    is_background: bool = False
    is_stored: bool = True
    """False: the caller set `store: false`. Body and result are deleted after delivery."""
    callback_id: str | None = None
    batch_id: str | None = None
    reply_topic: str | None = None
    reply_partition: int | None = None
    reply_epoch: str | None = None
    status: int | None = None
    """HTTP status of the outcome."""
    result: bytes | None = None
    """Data of the terminal event (completed or failed), JSON."""
    usage_prompt: int | None = None
    usage_completion: int | None = None
    cost_usd: float | None = None
    decision: bytes | None = None
    meta: Mapping[str, object] = field(default_factory=dict)
    """What an API needs for its own form of answer, such as the fields of a Responses call."""
    cancel_reason: str | None = None
    """Why it is to be cancelled (`client`, `deadline`, `disconnected`). None: it is not."""

    @property
    def event(self) -> SentEvent | None:
        """The event that the request came in as, from `meta`."""
        event = self.meta.get("event")
        if not isinstance(event, Mapping):
            return None
        return SentEvent(id=event["id"], source=event["source"], content=event["content"])

    @property
    def public_id(self) -> str:
        """The sender's id of the request, unique only together with tenant and source."""
        return self.id if self.event is None else self.event.id


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """Use of an idempotency key by one call, at `at`. The key is bound to `body_hash`."""

    tenant: str
    key: str
    body_hash: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Result of looking something up and making it. Only `new` has written something.

    `joined`: it existed, as `id`. `conflict`: its id or key was used for something else.
    `gone`: it existed and was deleted. `full`: the tenant may have no more.
    """

    kind: Literal["new", "joined", "conflict", "gone", "full"]
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """One entry of a request's event stream. `cursor` grows within the request."""

    request_id: str
    cursor: int
    kind: str
    """`state`, `chunk` or `terminal`."""
    data: bytes
    """JSON. `state`: the progress event's data, at least `state`.
    `chunk`: `{"chunks", "generation", "sequence", "attempt"}`.
    `terminal`: the result, or `{"state", "status"}` if none is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackTarget:
    """A registered callback. `secret` is the Standard Webhooks secret (`whsec_...`)."""

    id: str
    tenant: str
    url: str
    secret: str
    is_ad_hoc: bool = False
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One callback to deliver. `attempt`: attempts made. `due_at`: earliest next attempt."""

    id: str
    request_id: str
    target_id: str
    body: bytes
    attempt: int
    due_at: datetime
    state: Literal["pending", "delivered", "failed"] = "pending"
    last_outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file. Its bytes are in the blob store under `ref`. `expires_at` None: never."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    created_at: datetime
    ref: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch (OpenAI Batches API). `counts`: total, completed, failed. Statuses are OpenAI's."""

    id: str
    tenant: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    created_at: datetime
    deadline: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    total: int = 0
    completed: int = 0
    failed: int = 0
    submitted: int = 0
    """Lines that are on Kafka. A restarted runner continues there."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Sequence[Mapping[str, object]] = ()
    finished_at: datetime | None = None
    cancelled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """One rating of an answer. `judge`: empty for a user. `score`: in [0, 1], higher is better."""

    request_id: str
    source: Literal["user", "judge"]
    model: str
    """Id of the rated model: the one that answered, or one that a judge tried on the prompt."""
    score: float
    at: datetime
    judge: str = ""
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRequest:
    """A request that has ended, with what learning and replaying need."""

    row: RequestRow
    """`result` None: not kept, or larger than `MAX_RESULT_BYTES`."""
    record: Record | None
    """The request as it was sent. None: prompts are not kept. Its body may be a blob."""
    feedback: "Sequence[FeedbackRow]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedQuery:
    """Which ended requests to read, newest first. None: no bound."""

    tenant: str | None = None
    since: datetime | None = None
    is_rated: bool = False
    """True: only requests with feedback."""
    before: tuple[datetime, str] | None = None
    """`finished_at` and id of the last row that was read. The query continues after it."""


CONCURRENCY: Final = "pickspin_concurrency"  # metadata of a batch: most lines at once
MAX_RESULT_BYTES: Final = 1024 * 1024
"""Larger results are left out of `FinishedRequest`, which are read many at a time."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Progress of a request. A reader that has seen this mark has missed nothing."""

    state: State
    next_cursor: int
    """Cursor of its next event."""


class RequestStore(Protocol):
    """Requests, results, idempotency keys, event streams."""

    def accept(
        self,
        row: RequestRow,
        record: Record | None = None,
        *,
        key: KeyUse | None = None,
        limit: int | None = None,
    ) -> Claim:
        """Inserts the row if its id and key are new and the tenant is below `limit`.

        `limit` counts unfinished requests. `record` is kept until the terminal, for publishing
        again. Then it is kept as the prompt, unless the store or the caller (`store: false`) does
        not want that. `prompt` returns it. Its body may be a blob.
        """
        ...

    def withdraw(self, request_id: str, key: KeyUse | None = None) -> None:
        """Removes a request that never reached Kafka, and frees its key."""
        ...

    def find_claim(self, key: KeyUse) -> Claim | None:
        """The current state of a request's key. None: it is free."""
        ...

    def request(self, request_id: str) -> RequestRow | None: ...

    def prompt(self, request_id: str) -> Record | None: ...

    def find_sent(self, tenant: str, event_id: str, source: str | None = None) -> str | None:
        """Id of the request that came in as this event. `source` None: of the first source."""
        ...

    def requests(
        self, page: PageQuery, *, tenant: str | None, states: Sequence[State] | None = None
    ) -> Page[RequestRow]:
        """A page of requests, with `result` None. Raises CursorUnknown."""
        ...

    def record_batch(self, changes: "Sequence[Change]") -> "RecordingResult":
        """Applies the changes of one poll in a transaction. The first terminal wins."""
        ...

    def marks(self, request_ids: Sequence[str]) -> Mapping[str, Mark]:
        """Progress of these requests. Unknown ones are left out."""
        ...

    def events_after(
        self, request_id: str, cursor: int, limit: int = 256
    ) -> Sequence[RequestEvent]: ...

    def overdue(self, now: datetime, limit: int = 500) -> Sequence[RequestRow]:
        """Unfinished rows past their deadline or to be cancelled, oldest deadline first."""
        ...

    def unrouted(self, before: datetime, limit: int = 200) -> Sequence[tuple[RequestRow, Record]]:
        """Rows that are `accepted` and were last published before that instant, with records.

        A record that was seen on Kafka has partition and offset of its newest copy, else offset -1.
        """
        ...

    def note_republished(self, request_ids: Sequence[str], now: datetime) -> None:
        """Notes that these records were appended again at `now`."""
        ...

    def lost(self, limit: int = 500) -> Sequence[RequestRow]:
        """Unfinished rows of another boot id, whose in-memory broker is gone."""
        ...

    def unfinished(self, *, tenant: str | None = None) -> int: ...

    def forget(self, request_id: str) -> bool:
        """Deletes prompt, answer and events of a request. False: unknown."""
        ...

    def purge(self, before: datetime) -> int: ...

    def unused_bodies(self, limit: int) -> Sequence[str]:
        """References of blobs whose requests were all forgotten."""
        ...

    def forget_bodies(self, refs: Sequence[str]) -> None:
        """Notes that their bytes are deleted, unless another request uses them now."""
        ...

    def boot(self, boot_id: str) -> bool:
        """Notes the boot id. True: it differs from the last one (the in-memory broker is new)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one event changes in the store, by `event.type`. Request events have a `record`."""

    event: Event
    record: Record | None = None
    result: bytes | None = None
    """Terminal data that was behind a `dataref`. None: it is in the event."""
    row: RequestRow | None = None
    """The parsed request of a request event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingResult:
    """Requests that ended, and terminals that differ from the first, by what differs."""

    ended: tuple[str, ...] = ()
    other_ends: tuple[tuple[str, Literal["state", "answer"]], ...] = ()


class CallbackStore(Protocol):
    def add_target(self, target: CallbackTarget, *, key: KeyUse | None = None) -> Claim:
        """Registers a target if its id and key are new. The first one's URL and secret stay."""
        ...

    def named_target(self, target: CallbackTarget) -> CallbackTarget:
        """The existing target of this id, enabled again, else this one."""
        ...

    def target(self, target_id: str) -> CallbackTarget | None: ...

    def targets(self, tenant: str, page: PageQuery) -> Page[CallbackTarget]:
        """Enabled targets, by id. Raises CursorUnknown."""
        ...

    def disable_target(self, target_id: str) -> None: ...

    def enqueue_delivery(self, delivery: Delivery) -> bool:
        """False: this id or request has a delivery already (the first terminal wins)."""
        ...

    def due_deliveries(
        self,
        now: datetime,
        limit: int,
        *,
        lease_s: float = 30.0,
        per_target: int = 4,
        per_tenant: int = 8,
    ) -> Sequence[Delivery]:
        """Leases due deliveries for `lease_s`. Tenants take turns.

        At most `per_target` of a target and `per_tenant` of a tenant are leased at once.
        If the process dies, they are due again when the lease ends, under the same id.
        """
        ...

    def update_delivery(self, delivery: Delivery) -> None: ...

    def deliveries(self, request_id: str) -> Sequence[Delivery]: ...


class BatchStore(Protocol):
    def add_file(self, row: FileRow, *, key: KeyUse | None = None) -> Claim: ...

    def file(self, file_id: str) -> FileRow | None: ...

    def files(self, tenant: str, page: PageQuery, purpose: str | None = None) -> Page[FileRow]:
        """Raises CursorUnknown. A deleted file is still a valid cursor."""
        ...

    def refs_in_use(self, refs: Sequence[str]) -> frozenset[str]:
        """Which of these references belong to a file."""
        ...

    def expired_files(self, now: datetime, limit: int = 500) -> Sequence[str]:
        """Ids of files that have expired by `now`, oldest first."""
        ...

    def delete_file(self, file_id: str) -> bool:
        """False: the id is unknown, or an open batch reads the file."""
        ...

    def add_batch(
        self, row: BatchRow, *, key: KeyUse | None = None, limit: int | None = None
    ) -> Claim:
        """Inserts the row if its id and key are new and the tenant has fewer open batches."""
        ...

    def batch(self, batch_id: str) -> BatchRow | None: ...
    def batches(self, tenant: str, page: PageQuery) -> Page[BatchRow]: ...

    def update_batch(self, row: BatchRow) -> None: ...

    def open_batches(self) -> Sequence[BatchRow]:
        """Batches that still need work (validating, in_progress, finalizing, cancelling)."""
        ...

    def batch_counts(self, batch_id: str) -> Mapping[State, int]:
        """Number of submitted lines in each state."""
        ...

    def unfinished_lines(self, tenant: str) -> int:
        """Number of submitted, unfinished lines of all batches of a tenant."""
        ...

    def batch_requests(self, batch_id: str) -> Sequence[RequestRow]:
        """Every submitted line, without results."""
        ...


class FeedbackStore(Protocol):
    """Ratings of answers, and ended requests with them."""

    def add_feedback(self, row: FeedbackRow, *, limit: int) -> bool:
        """Writes a rating. It replaces one with the same request, source, judge and model.

        False: the request is unknown or deleted, or has `limit` others already.
        """
        ...

    def feedback(self, request_id: str) -> Sequence[FeedbackRow]:
        """Oldest first."""
        ...

    def finished(self, query: FinishedQuery, limit: int = 32) -> Sequence[FinishedRequest]:
        """One page of readable ended requests, newest first."""
        ...


class Store(RequestStore, CallbackStore, BatchStore, FeedbackStore, Protocol):
    """All four. A process takes only the part that it uses."""

    def close(self) -> None: ...
