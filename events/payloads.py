"""Typed data of every event that this product writes; the JSON Schemas are generated from these types.

Readers accept unknown fields. None: not known or not applicable. Times are RFC 3339 text in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from events import names
from events.names import BreakerState, ReplicaState

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Data of an event: frozen, named fields."""


class DecisionInfo(Payload, frozen=True, rename={"route_class": "class"}):
    """Why this model: the class, the score, the reason, and the catalogue version that decided.

    `asked_model` is the model that was named, where another one answers for it; else absent. `stage` is what of the
    classifier found the class; absent where nothing says. `explanation` is a sentence, there where the learned stage
    could not judge the prompt.
    """

    route_class: str
    score: float
    reason: str
    catalogue: str
    stage: str | msgspec.UnsetType = msgspec.UNSET
    asked_model: str | msgspec.UnsetType = msgspec.UNSET
    explanation: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionWord:
    """Where a field of `DecisionInfo` is told beside the data of an event.

    `attribute` carries it on the routed event, `header` repeats it on the HTTP answer.
    """

    field: str
    attribute: str
    header: str | None = None
    meaning: str


DECISION_WORDS: Final = (
    DecisionWord(
        field="route_class",
        attribute=names.ROUTE_CLASS,
        header="x-pickspin-class",
        meaning="How hard the prompt is: low, medium or high.",
    ),
    DecisionWord(
        field="score",
        attribute=names.ROUTE_SCORE,
        header="x-pickspin-score",
        meaning="The value of Equation 2 of the chosen service.",
    ),
    DecisionWord(
        field="catalogue",
        attribute=names.ROUTE_VERSION,
        meaning="The version of the catalogue that decided.",
    ),
    DecisionWord(
        field="reason",
        attribute=names.ROUTE_REASON,
        header="x-pickspin-reason",
        meaning="How the model was named, or `fallback` where another one stands in for it.",
    ),
    DecisionWord(
        field="stage",
        attribute=names.ROUTE_STAGE,
        header="x-pickspin-stage",
        meaning="What of the classifier found the class.",
    ),
    DecisionWord(
        field="asked_model",
        attribute=names.ASKED_MODEL,
        meaning="The model that was named, where another one answers for it.",
    ),
)
"""In their order on the routed event."""


class Timings(Payload, frozen=True):
    """Milliseconds: waiting in Kafka, waiting for the model to load, in the model, to the first token."""

    queue_ms: float | None = None
    load_ms: float | None = None
    model_ms: float | None = None
    ttft_ms: float | None = None


class Cost(Payload, frozen=True):
    """What the call cost."""

    usd: float = 0.0
    gpu_s: float = 0.0


class CascadePlace(Payload, frozen=True):
    """One step of a cascade: a service, and the confidence from which its answer is taken (unused at the last step)."""

    service: str
    model: str
    min_confidence: Share = 0.0


class CascadeUsed(Payload, frozen=True):
    """What one step of a cascade did and used. `confidence` None: not judged, or the model server said too little."""

    service: str
    model: str
    outcome: Literal["answered", "unsure", "failed"]
    confidence: Share | None = None
    reason: str | None = None
    """Of a step that failed: a short word."""
    cost: Cost = Cost()
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    model_ms: float = 0.0
    attempts: Count = 1


class CascadeState(Payload, frozen=True):
    """The attribute `cascade` of a routed event: all steps in order, and what the earlier ones used.

    The step under way is `plan[len(used)]`. `on` says when the next one takes over: where this one's answer is unsure
    (a cascade), or only where it has failed for good (services that stand by).
    """

    name: str
    plan: tuple[CascadePlace, ...]
    used: tuple[CascadeUsed, ...] = ()
    on: Literal["unsure", "failure"] = "unsure"


class CascadeInfo(Payload, frozen=True):
    """How a cascade answered: every step that was called, and the confidence of the answer that was taken."""

    name: str
    steps: tuple[CascadeUsed, ...]
    confidence: Share | None = None
    escalated: bool = False


class PickspinData(Payload, frozen=True):
    """The `pickspin` object of a terminal's data. `cost` is that of all steps of a cascade together."""

    request_id: str
    state: Literal["completed", "failed", "expired", "cancelled"]
    service: str | None = None
    model: str | None = None
    decision: DecisionInfo | None = None
    timings: Timings | None = None
    cost: Cost | None = None
    attempt: int = 0
    cascade: CascadeInfo | msgspec.UnsetType = msgspec.UNSET
    """Absent where no cascade was asked for and no service that stood by was needed."""


class ErrorData(Payload, frozen=True):
    """OpenAI's error object, with who spoke (`gateway` or `model`) and the request."""

    message: str
    type: str
    code: str
    param: str | None = None
    src: str = "gateway"
    request_id: str | None = None


class ProgressData(Payload, frozen=True):
    """Data of a progress event. `attempt` is 0 before the first model call."""

    state: Literal["routed", "running"]
    service: str
    model: str
    eta_s: Seconds | None = None
    attempt: Count = 0
    decision: DecisionInfo | None = None


class ChunkData(Payload, frozen=True):
    """OpenAI chunk objects, as the client sees them, in order."""

    chunks: list[dict[str, object]]


class CompletedData(Payload, frozen=True):
    """The OpenAI response object (its own fields are not described here) plus `pickspin`."""

    pickspin: PickspinData


class FailedData(Payload, frozen=True):
    """A failure: the error, its HTTP status, and `pickspin`."""

    error: ErrorData
    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    pickspin: PickspinData


class CancelData(Payload, frozen=True):
    """Why a request is cancelled."""

    reason: Literal["client", "deadline", "duplicate", "disconnected"]


class ServerInfo(Payload, frozen=True):
    """What a model server says of itself when it has warmed up. None: it does not say."""

    kind: str
    """What it is, whatever the catalogue calls it: `vllm`, `ollama`, ...; `openai` where it does not say."""
    version: str | None = None
    model: str | None = None
    """Its own name of the model."""
    context_length: Count | None = None
    tools: bool | None = None
    vision: bool | None = None
    audio: bool | None = None
    choices: Count | None = None
    """Most answers of one call."""
    vocabulary: Count | None = None
    """Token ids are below it."""


class StatusData(Payload, frozen=True):
    """What one replica says of itself, or the scaler (`replica` is `_scaler`) of a service."""

    service: str
    replica: str
    state: ReplicaState
    at: Instant
    progress: Share | None = None
    eta_s: Seconds | None = None
    in_flight: Count = 0
    concurrency: Count = 1
    tokens_per_s: Seconds | None = None
    service_s: Seconds | None = None
    """Mean seconds of a model call."""
    lag: Count | None = None
    replicas: Count | None = None
    desired: Count | None = None
    message: str | None = None
    failed_starts: Count = 0
    """Starts in a row that have failed."""
    breaker: BreakerState = BreakerState.CLOSED
    retry_at: Instant | None = None
    """When an open breaker becomes half open."""
    server: ServerInfo | None = None
    """Of a replica that has warmed up."""


class DecisionData(Payload, frozen=True):
    """Where a request went, so that a replay goes there again."""

    service: str


class RevisionData(Payload, frozen=True):
    """Which revision of a service holds its topic from `at` on: workers of every other one leave it."""

    service: str
    revision: str
    at: Instant


class CallbackFailedData(Payload, frozen=True):
    """A callback that was given up."""

    request_id: str
    target_id: str
    attempts: Count
    last_outcome: str | None = None


class ProbeData(Payload, frozen=True):
    """An ingress shows itself that the cluster takes writes."""
