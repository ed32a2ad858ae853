"""What one event means for a request's row: pure folding of facts over the columns that events may change.

States never move back, the first terminal wins, and every fact may arrive twice or before the request itself
(progress, replies and requests are read from different topics).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from events.names import State

RANKS: Final[Mapping[State, int]] = {
    State.ACCEPTED: 0,
    State.ROUTED: 1,
    State.LOADING: 2,
    State.RUNNING: 3,
}
MAX_COUNT: Final = 10**9
"""Token counts above this are a model server's nonsense and are not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestColumns:
    """The changing columns of a request's row. `is_known` False: only its consequences were seen so far."""

    id: str
    is_known: bool = False
    is_forgotten: bool = False
    is_stored: bool = True
    is_background: bool = False
    callback_id: str | None = None
    batch_id: str | None = None
    state: State = State.ACCEPTED
    model: str | None = None
    service: str | None = None
    routed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    cancel_reason: str | None = None
    status: int | None = None
    result: bytes | None = None
    usage_prompt: int | None = None
    usage_completion: int | None = None
    cost_usd: float | None = None
    decision: bytes | None = None

    @property
    def keeps_result(self) -> bool:
        """Whether the answer is kept. With `store: false` only for a caller that fetches it later."""
        if self.is_forgotten:
            return False
        return self.is_stored or self.is_background or self.batch_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The request was routed, or a worker started on it."""

    request_id: str
    event_id: str
    state: State
    at: datetime
    data: bytes
    service: str | None = None
    model: str | None = None
    attempt: int = 0
    decision: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A chunk of a background stream."""

    request_id: str
    event_id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A terminal."""

    request_id: str
    event_id: str
    state: State
    at: datetime
    status: int
    result: bytes | None
    service: str | None = None
    model: str | None = None
    attempt: int = 0
    usage_prompt: int | None = None
    usage_completion: int | None = None
    cost_usd: float | None = None
    decision: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """The request is to be cancelled."""

    request_id: str
    reason: str


Fact = Progressed | Streamed | Ended | CancelAsked


def fold(life: RequestColumns, fact: Fact) -> RequestColumns:
    """The row after the fact; unchanged where the fact is old news."""
    if life.state.is_terminal:
        return life
    match fact:
        case Progressed():
            return _fold_progressed(life, fact)
        case Ended():
            return _fold_ended(life, fact)
        case CancelAsked():
            return replace(life, cancel_reason=life.cancel_reason or fact.reason)
        case Streamed():
            return life


def _fold_progressed(life: RequestColumns, fact: Progressed) -> RequestColumns:
    if fact.attempt < life.attempt or fact.state.is_terminal:
        return life
    is_ahead = RANKS[fact.state] >= RANKS[life.state]
    is_running = fact.state is State.RUNNING
    return replace(
        life,
        state=fact.state if is_ahead else life.state,
        attempt=fact.attempt,
        service=fact.service or life.service,
        model=fact.model or life.model,
        decision=fact.decision or life.decision,
        routed_at=life.routed_at or fact.at,
        started_at=life.started_at or (fact.at if is_running else None),
    )


def _fold_ended(life: RequestColumns, fact: Ended) -> RequestColumns:
    return replace(
        life,
        state=fact.state,
        finished_at=fact.at,
        status=fact.status,
        result=fact.result if life.keeps_result else None,
        attempt=max(life.attempt, fact.attempt),
        service=fact.service or life.service,
        model=fact.model or life.model,
        decision=fact.decision or life.decision,
        usage_prompt=fact.usage_prompt,
        usage_completion=fact.usage_completion,
        cost_usd=fact.cost_usd,
    )


def as_count(value: object) -> int | None:
    """A token count out of a model server's reply; None for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return None
    return value


def as_amount(value: object) -> float | None:
    """A finite amount of money, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MAX_COUNT else None
