"""Every name on the wire: event types, extension attributes, topics, states.

The only place where they are spelled: every other list of them is computed or generated from here.
What each means: docs/reference/wire.md.
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
PROBE: Final = "io.pickspin.ingress.probe.v1"

EVENT_TYPES: Final = frozenset(
    {
        REQUEST, ROUTED, PROGRESS, CHUNK, COMPLETED, FAILED, CANCEL, CALLBACK_FAILED, STATUS,
        DECISION, REVISION, PROBE,
    }
)  # fmt: skip
TERMINAL_TYPES: Final = frozenset({COMPLETED, FAILED})

DEFAULT_TENANT: Final = "default"
"""Whose a request is that names no tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One extension attribute (lower-case a-z0-9, at most 20 characters: CloudEvents 1.0 section 3.1).

    `is_carried`: every later event of a request repeats it.
    `is_internal`: only this product sets it; from outside it is dropped.
    """

    name: str
    is_carried: bool = False
    is_internal: bool = False


ATTRIBUTES: Final[dict[str, Attribute]] = {}
"""Every extension attribute by name: the one table that all lists of attributes are computed from."""


def _add(name: str, *, is_carried: bool = False, is_internal: bool = False) -> str:
    ATTRIBUTES[name] = Attribute(name=name, is_carried=is_carried, is_internal=is_internal)
    return name


PARTITION_KEY: Final = _add("partitionkey")
CORRELATION_ID: Final = _add("correlationid", is_internal=True)
REQUEST_ID: Final = _add("requestid", is_internal=True)
CAUSATION_ID: Final = _add("causationid", is_internal=True)
SEQUENCE: Final = _add("sequence", is_internal=True)
EXPIRY_TIME: Final = _add("expirytime")
DATA_REF: Final = _add("dataref", is_internal=True)
DATA_HASH: Final = _add("datahash", is_internal=True)
REPLY_TOPIC: Final = _add("replytopic")
REPLY_PARTITION: Final = _add("replypartition")
REPLY_EPOCH: Final = _add("replyepoch", is_carried=True, is_internal=True)
TENANT: Final = _add("tenant", is_carried=True, is_internal=True)
PRIORITY: Final = _add("priority")
ATTEMPT: Final = _add("attempt", is_internal=True)
GENERATION: Final = _add("generation", is_internal=True)
CALLBACK_ID: Final = _add("callbackid", is_carried=True)
OPERATION: Final = _add("operation", is_carried=True)
BATCH_ID: Final = _add("batchid", is_carried=True, is_internal=True)
TRACE_PARENT: Final = _add("traceparent", is_carried=True)
TRACE_STATE: Final = _add("tracestate", is_carried=True)
ROUTE_CLASS: Final = _add("routeclass", is_internal=True)
ROUTE_SCORE: Final = _add("routescore", is_internal=True)
ROUTE_VERSION: Final = _add("routever", is_internal=True)
ROUTE_REASON: Final = _add("routereason", is_internal=True)
ROUTE_STAGE: Final = _add("routestage", is_internal=True)
ASKED_MODEL: Final = _add("askedmodel", is_internal=True)
MAX_TOKENS: Final = _add("maxtokens", is_internal=True)
FALLBACK: Final = _add("fallback")
PROFILE: Final = _add("profile")
MAX_COST: Final = _add("maxcost")
MAX_LATENCY: Final = _add("maxlatency")
MIN_QUALITY: Final = _add("minquality")
SERVICE: Final = _add("service", is_internal=True)
REQUEST_TIME: Final = _add("requesttime", is_internal=True)
ROUTED_TIME: Final = _add("routedtime", is_internal=True)
HOPS: Final = _add("hops", is_internal=True)
CASCADE: Final = _add("cascade", is_internal=True)
DEAD_LETTER_REASON: Final = _add("deadletterreason", is_internal=True)

CARRIED: Final = tuple(row.name for row in ATTRIBUTES.values() if row.is_carried)
"""In the order of the table, which is their order on the wire."""
INTERNAL: Final = frozenset(row.name for row in ATTRIBUTES.values() if row.is_internal)


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

    @classmethod
    def after_opening(cls, left_s: float) -> "BreakerState":
        """Of a breaker that has opened: it is open for so many seconds more, then half open."""
        return cls.OPEN if left_s > 0 else cls.HALF_OPEN


_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic without its prefix. In the name of a service's own, `{slug}` stands for the service.

    `partitions` is the count on a cluster; None: as many as the service's catalogue entry says.
    `retention_s` None: the topic is compacted, the last record of a key is kept.
    """

    name: str
    partitions: int | None = None
    retention_s: int | None = None

    @property
    def is_compacted(self) -> bool:
        return self.retention_s is None


_REQUESTS: Final = Topic(name="infer.requests", partitions=24, retention_s=3 * _DAY_S)
_PROGRESS: Final = Topic(name="infer.progress", partitions=24, retention_s=_DAY_S)
_REPLIES: Final = Topic(name="infer.replies", partitions=64, retention_s=_HOUR_S)
_RESPONSES: Final = Topic(name="infer.responses", partitions=24, retention_s=7 * _DAY_S)
_STATUS: Final = Topic(name="infer.status", partitions=6)
# A cancel has to outlast what it cancels: the lines of a batch wait for up to a day.
_CONTROL: Final = Topic(name="infer.control", partitions=1, retention_s=_DAY_S)
_DLQ: Final = Topic(name="infer.dlq", partitions=6, retention_s=14 * _DAY_S)
_MODEL: Final = Topic(name="infer.model.{slug}", retention_s=3 * _DAY_S)
_MODEL_BATCH: Final = Topic(name="infer.model.{slug}.batch", retention_s=3 * _DAY_S)

SHARED_TOPICS: Final = (_REQUESTS, _PROGRESS, _REPLIES, _RESPONSES, _STATUS, _CONTROL, _DLQ)
SERVICE_TOPICS: Final = (_MODEL, _MODEL_BATCH)
"""Of each service: its interactive and its batch lane."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names under one prefix. `prefix` is empty or ends with a dot."""

    prefix: str = ""

    @property
    def requests(self) -> str:
        return self.prefix + _REQUESTS.name

    @property
    def progress(self) -> str:
        return self.prefix + _PROGRESS.name

    @property
    def replies(self) -> str:
        return self.prefix + _REPLIES.name

    @property
    def responses(self) -> str:
        return self.prefix + _RESPONSES.name

    @property
    def status(self) -> str:
        return self.prefix + _STATUS.name

    @property
    def control(self) -> str:
        return self.prefix + _CONTROL.name

    @property
    def dlq(self) -> str:
        return self.prefix + _DLQ.name

    def model(self, slug: str) -> str:
        return self.prefix + _MODEL.name.format(slug=slug)

    def model_batch(self, slug: str) -> str:
        return self.prefix + _MODEL_BATCH.name.format(slug=slug)

    def of_service(self, slug: str) -> tuple[str, ...]:
        """The topics of one service, as `SERVICE_TOPICS` lists them."""
        return tuple(self.prefix + topic.name.format(slug=slug) for topic in SERVICE_TOPICS)

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
