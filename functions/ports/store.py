"""The store's port and its rows: states, results, idempotency keys, callbacks, batches, files.

`functions.sql.sql_store.SqlStore` implements it with SQLAlchemy Core (SQLite file by default, PostgreSQL by URL;
`sqlite://` in memory is the in-memory adapter). Every method is synchronous, thread-safe and one transaction; the
ingress calls them from an executor. The log is the truth of what happened to requests: rows here can be rebuilt
from it. Files, callback targets and feedback are only here.
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
    """One request. None: not known (yet) or not applicable. Times are aware UTC."""

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
    """False: the caller said `store: false`; body and result are deleted after delivery."""
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
    """What a door needs to answer in its own shape (for example the fields of a Responses API call)."""
    cancel_reason: str | None = None
    """Why somebody asked to cancel it (`client`, `deadline`, `disconnected`); None: nobody did."""

    @property
    def event(self) -> SentEvent | None:
        """What `meta` keeps of it."""
        found = self.meta.get("event")
        if not isinstance(found, Mapping):
            return None
        return SentEvent(id=found["id"], source=found["source"], content=found["content"])

    @property
    def public_id(self) -> str:
        """What whoever sent the request knows it by; unique only together with tenant and source."""
        return self.id if self.event is None else self.event.id


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """An idempotency key as one call uses it, at `at`. `body_hash` is what the key is bound to."""

    tenant: str
    key: str
    body_hash: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What became of an attempt to make something: looked up and made in one transaction.

    `new`: made, under `id`. For the others nothing was written. `joined`: made before, as `id`. `conflict`: what
    identifies it was used for something else. `gone`: made before, and deleted. `full`: the tenant may have no more.
    """

    kind: Literal["new", "joined", "conflict", "gone", "full"]
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """One entry of a request's event stream; `cursor` grows within the request."""

    request_id: str
    cursor: int
    kind: str
    """`state`, `chunk` or `terminal`."""
    data: bytes
    """JSON. `state`: the progress event's data (at least `state`); `chunk`: `{"chunks", "generation", "sequence",
    "attempt"}`; `terminal`: the result, or `{"state", "status"}` where none is kept."""


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
    """One callback to deliver. `attempt` counts those made; `due_at` is when the next one may start."""

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
    """A file; its bytes are in the blob store under `ref`. It is deleted at `expires_at`; None: never."""

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
    """Lines already on the log: where a restarted runner goes on."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Sequence[Mapping[str, object]] = ()
    finished_at: datetime | None = None
    cancelled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """One opinion about one answer. `judge` is empty for a user's. `score` is in [0, 1], higher is better."""

    request_id: str
    source: Literal["user", "judge"]
    model: str
    """Id of the model that is rated: the one that answered, or one that a judge tried on the same prompt."""
    score: float
    at: datetime
    judge: str = ""
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRequest:
    """A request that has ended, with what later learning and replaying need."""

    row: RequestRow
    """`result` None where it is not kept, or larger than `MAX_RESULT_BYTES`."""
    record: Record | None
    """The request as it was sent; None where prompts are not kept. Its body may lie in the blob store."""
    feedback: "Sequence[FeedbackRow]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedQuery:
    """Which ended requests to read, newest first. None: no bound. `before` is a row's place: what comes after it."""

    tenant: str | None = None
    since: datetime | None = None
    is_rated: bool = False
    """True: only requests with feedback."""
    before: tuple[datetime, str] | None = None
    """`finished_at` and id of the last row that was read."""


MAX_RESULT_BYTES: Final = 1024 * 1024
"""Results above this are left out of `FinishedRequest`, which come many at a time."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a request is: whoever has seen this mark has missed nothing."""

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
        """Inserts the row where its id, and the key, are new and the tenant has fewer than `limit` unfinished ones.

        `record` is kept for publishing again until the terminal, and after it as the prompt, unless the caller said
        `store: false` or the store keeps no prompts. `prompt` returns it; its body may lie in the blob store.
        """
        ...

    def withdraw(self, request_id: str, key: KeyUse | None = None) -> None:
        """Takes back a request that never reached the log, and frees its key."""
        ...

    def claimed(self, key: KeyUse) -> Claim | None:
        """What a request's key says now; None: it is free."""
        ...

    def request(self, request_id: str) -> RequestRow | None: ...

    def prompt(self, request_id: str) -> Record | None: ...

    def sent_as(self, tenant: str, event_id: str, source: str | None = None) -> str | None:
        """Id of the tenant's request that came in as an event with this id, from this source; None: the first one's."""
        ...

    def requests(
        self, page: PageQuery, *, tenant: str | None, states: Sequence[State] | None = None
    ) -> Page[RequestRow]:
        """Only `request` reads results; lists leave `result` None. Raises CursorUnknown."""
        ...

    def record_batch(self, changes: "Sequence[Change]") -> "RecordingResult":
        """Applies a poll's worth of changes in one transaction. The first terminal of a request is its end."""
        ...

    def marks(self, request_ids: Sequence[str]) -> Mapping[str, Mark]:
        """How far these requests are; those that `request` does not find are left out."""
        ...

    def events_after(
        self, request_id: str, cursor: int, limit: int = 256
    ) -> Sequence[RequestEvent]: ...

    def overdue(self, now: datetime, limit: int = 500) -> Sequence[RequestRow]:
        """Unfinished rows whose deadline has come by `now` or whose cancel was asked for; oldest deadline first."""
        ...

    def unrouted(self, before: datetime, limit: int = 200) -> Sequence[tuple[RequestRow, Record]]:
        """Rows still `accepted` and not published (again) since before that instant, with their request records.

        A record that was seen on the log carries the partition and offset of its newest copy; `offset` -1: never seen.
        """
        ...

    def republished(self, request_ids: Sequence[str], now: datetime) -> None:
        """Remembers that these records were appended again at `now`."""
        ...

    def lost(self, limit: int = 500) -> Sequence[RequestRow]:
        """Unfinished rows of another boot id, whose volatile broker is gone; none without a boot id."""
        ...

    def unfinished(self, *, tenant: str | None = None) -> int: ...

    def forget(self, request_id: str) -> bool:
        """Deletes prompt, answer and events of a request (DELETE, `store: false`, retention); False if unknown."""
        ...

    def purge(self, before: datetime) -> int: ...

    def unused_bodies(self, limit: int) -> Sequence[str]:
        """References of bodies and answers in the blob store whose requests were all forgotten."""
        ...

    def forget_bodies(self, refs: Sequence[str]) -> None:
        """Their bytes are gone, as far as no other request has come to have them."""
        ...

    def boot(self, boot_id: str) -> bool:
        """Remembers the boot id; True when it differs from the last one (the volatile broker is new)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one event changes in the store. The kind of `event.type` decides; `record` is set for request events."""

    event: Event
    record: Record | None = None
    result: bytes | None = None
    """Terminal data after `dataref` was resolved; None when it is in the event."""
    row: RequestRow | None = None
    """The parsed request of a request event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingResult:
    """What a transaction found: requests that ended in it, and terminals that say something else than the first one.

    `other_ends` are pairs of a request id and what differs: its `state`, or the `answer` where that is kept.
    """

    ended: tuple[str, ...] = ()
    other_ends: tuple[tuple[str, Literal["state", "answer"]], ...] = ()


class CallbackStore(Protocol):
    def add_target(self, target: CallbackTarget, *, key: KeyUse | None = None) -> Claim:
        """Registers a target where its id, and the key, are new: the first one's URL and secret stay."""
        ...

    def named_target(self, target: CallbackTarget) -> CallbackTarget:
        """The target as it stands: the one of this id that was there before, enabled again, else this one."""
        ...

    def target(self, target_id: str) -> CallbackTarget | None: ...

    def targets(self, tenant: str, page: PageQuery) -> Page[CallbackTarget]:
        """Those that are enabled, by id. Raises CursorUnknown."""
        ...

    def disable_target(self, target_id: str) -> None: ...

    def enqueue_delivery(self, delivery: Delivery) -> bool:
        """False when this id, or this request, has a delivery already (the first terminal of a request wins)."""
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
        """Takes due deliveries: nobody else gets them for `lease_s`; at most `per_target` of a target and `per_tenant`
        of a tenant are out at once. Tenants take turns.

        A process that dies keeps its deliveries until the lease ends; then they are due again, under the same id.
        """
        ...

    def update_delivery(self, delivery: Delivery) -> None: ...

    def deliveries(self, request_id: str) -> Sequence[Delivery]: ...


class BatchStore(Protocol):
    def add_file(self, row: FileRow, *, key: KeyUse | None = None) -> Claim: ...

    def file(self, file_id: str) -> FileRow | None: ...

    def files(self, tenant: str, page: PageQuery, purpose: str | None = None) -> Page[FileRow]:
        """Raises CursorUnknown; a file that was deleted is still known as a place in the list."""
        ...

    def refs_in_use(self, refs: Sequence[str]) -> frozenset[str]:
        """Which of these references some file has."""
        ...

    def expired_files(self, now: datetime, limit: int = 500) -> Sequence[str]:
        """Ids of files whose time has come by `now`, the longest expired first."""
        ...

    def delete_file(self, file_id: str) -> bool:
        """False where the id is unknown, or a batch that is open reads the file."""
        ...

    def add_batch(
        self, row: BatchRow, *, key: KeyUse | None = None, limit: int | None = None
    ) -> Claim:
        """Inserts the row where its id, and the key, are new and the tenant has fewer than `limit` open batches."""
        ...

    def batch(self, batch_id: str) -> BatchRow | None: ...
    def batches(self, tenant: str, page: PageQuery) -> Page[BatchRow]: ...

    def update_batch(self, row: BatchRow) -> None: ...

    def open_batches(self) -> Sequence[BatchRow]:
        """Batches that still need work (validating, in_progress, finalizing, cancelling)."""
        ...

    def batch_counts(self, batch_id: str) -> Mapping[State, int]:
        """How many lines on record are in each state."""
        ...

    def unfinished_lines(self, tenant: str) -> int:
        """How many lines of all batches of a tenant are on record and unfinished."""
        ...

    def batch_requests(self, batch_id: str) -> Sequence[RequestRow]:
        """Every line on record so far, without results."""
        ...


class FeedbackStore(Protocol):
    """What people and judges say about answers, and ended requests with it."""

    def add_feedback(self, row: FeedbackRow, *, limit: int) -> bool:
        """Writes it in place of an earlier one with the same request, source, judge and model.

        False: the request is unknown or deleted, or has `limit` others already.
        """
        ...

    def feedback(self, request_id: str) -> Sequence[FeedbackRow]:
        """Oldest first."""
        ...

    def finished(self, query: FinishedQuery, limit: int = 32) -> Sequence[FinishedRequest]:
        """One page of ended requests that can be read, newest first."""
        ...


class Store(RequestStore, CallbackStore, BatchStore, FeedbackStore, Protocol):
    """All four; processes take only the part they use."""

    def close(self) -> None: ...
