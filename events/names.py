"""Every name on the wire: event types, extension attributes, topics, states. The only place they are spelled.

Source: docs/reference/wire.md (generated tables there follow this module) and CloudEvents 1.0.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SPEC_VERSION: Final = "1.0"
JSON: Final = "application/json"
STRUCTURED_JSON: Final = "application/cloudevents+json"

REQUEST: Final = "io.pickspin.inference.request.v1"
ROUTED: Final = "io.pickspin.inference.routed.v1"
PROGRESS: Final = "io.pickspin.inference.progress.v1"
CHUNK: Final = "io.pickspin.inference.response.chunk.v1"
COMPLETED: Final = "io.pickspin.inference.response.completed.v1"
FAILED: Final = "io.pickspin.inference.response.failed.v1"
CANCEL: Final = "io.pickspin.inference.cancel.v1"
CALLBACK_FAILED: Final = "io.pickspin.inference.callback.failed.v1"
STATUS: Final = "io.pickspin.service.status.v1"
DECISION: Final = "io.pickspin.inference.decision.v1"
REVISION: Final = "io.pickspin.service.revision.v1"

EVENT_TYPES: Final = frozenset(
    {
        REQUEST,
        ROUTED,
        PROGRESS,
        CHUNK,
        COMPLETED,
        FAILED,
        CANCEL,
        CALLBACK_FAILED,
        STATUS,
        DECISION,
        REVISION,
    }
)
TERMINAL_TYPES: Final = frozenset({COMPLETED, FAILED})

DEFAULT_TENANT: Final = "default"
"""Whose a request is that names no tenant."""

# Extension attributes (lower-case a-z0-9, at most 20 characters: CloudEvents 1.0 section 3.1).
PARTITION_KEY: Final = "partitionkey"
CORRELATION_ID: Final = "correlationid"
REQUEST_ID: Final = "requestid"
CAUSATION_ID: Final = "causationid"
SEQUENCE: Final = "sequence"
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
EXPIRY_TIME: Final = "expirytime"
DATA_REF: Final = "dataref"
DATA_HASH: Final = "datahash"
REPLY_TOPIC: Final = "replytopic"
REPLY_PARTITION: Final = "replypartition"
REPLY_EPOCH: Final = "replyepoch"
TENANT: Final = "tenant"
PRIORITY: Final = "priority"
ATTEMPT: Final = "attempt"
GENERATION: Final = "generation"
CALLBACK_ID: Final = "callbackid"
ROUTE_CLASS: Final = "routeclass"
ROUTE_SCORE: Final = "routescore"
ROUTE_VERSION: Final = "routever"
ROUTE_REASON: Final = "routereason"
ROUTE_STAGE: Final = "routestage"
ASKED_MODEL: Final = "askedmodel"
MAX_TOKENS: Final = "maxtokens"
FALLBACK: Final = "fallback"
OPERATION: Final = "operation"
PROFILE: Final = "profile"
MAX_COST: Final = "maxcost"
MAX_LATENCY: Final = "maxlatency"
MIN_QUALITY: Final = "minquality"
SERVICE: Final = "service"
REQUEST_TIME: Final = "requesttime"
ROUTED_TIME: Final = "routedtime"
BATCH_ID: Final = "batchid"
HOPS: Final = "hops"
CASCADE: Final = "cascade"
DEAD_LETTER_REASON: Final = "deadletterreason"


class Operation(StrEnum):
    """What is asked of a model; inferred from the body when the `operation` attribute is absent."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class State(StrEnum):
    """States of a request, the same in every API."""

    ACCEPTED = "accepted"
    ROUTED = "routed"
    LOADING = "loading"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL_STATES


_TERMINAL_STATES: Final = frozenset({State.COMPLETED, State.FAILED, State.EXPIRED, State.CANCELLED})


class Priority(StrEnum):
    """The two lanes of a service: interactive work goes first, batch work fills the rest."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class ReplicaState(StrEnum):
    """Life of one replica (or, written by the scaler, of a whole service) on the status topic."""

    COLD = "cold"
    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class BreakerState(StrEnum):
    """Whether a service is to be called: `open` not, after too many failures; `half_open` once, to see whether it is
    well again.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names under one prefix. `prefix` is empty or ends with a dot."""

    prefix: str = ""

    @property
    def requests(self) -> str:
        return f"{self.prefix}infer.requests"

    @property
    def progress(self) -> str:
        return f"{self.prefix}infer.progress"

    @property
    def replies(self) -> str:
        return f"{self.prefix}infer.replies"

    @property
    def responses(self) -> str:
        return f"{self.prefix}infer.responses"

    @property
    def status(self) -> str:
        return f"{self.prefix}infer.status"

    @property
    def control(self) -> str:
        return f"{self.prefix}infer.control"

    @property
    def dlq(self) -> str:
        return f"{self.prefix}infer.dlq"

    def model(self, slug: str) -> str:
        return f"{self.prefix}infer.model.{slug}"

    def model_batch(self, slug: str) -> str:
        return f"{self.prefix}infer.model.{slug}.batch"

    def model_retry(self, slug: str) -> str:
        return f"{self.prefix}infer.model.{slug}.retry"

    def of_service(self, slug: str) -> tuple[str, str, str]:
        """The interactive, batch and retry topic of one service, in that order."""
        return self.model(slug), self.model_batch(slug), self.model_retry(slug)

    def worker_group(self, slug: str) -> str:
        return f"{self.prefix}infer-model-{slug}"

    @property
    def router_group(self) -> str:
        return f"{self.prefix}infer-router"

    @property
    def recorder_group(self) -> str:
        return f"{self.prefix}infer-recorder"

    @property
    def callbacks_group(self) -> str:
        return f"{self.prefix}infer-callbacks"

    @property
    def scaler_group(self) -> str:
        """Whose one owner of `infer.control` writes the scaler's side of `infer.status`."""
        return f"{self.prefix}infer-scaler"
