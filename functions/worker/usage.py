"""What a request took and cost, for its terminal: decision, timings, cost, steps. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from events.payloads import CascadeUsed, Cost, PickspinData, Timings
from events.requests import RoutedRequest
from functions.worker.cascade_step import StepEnd, build_cascade_used
from router_model.cascade.plan import sum_costs, summarise_cascade
from router_model.catalogue.model import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One attempt that ended its request.

    `seconds` is how long the model worked, None: it was not called; `earlier_s` how long it did in attempts before
    this one. `attempts` are those at this service, `attempt`
    counts over all steps of a cascade. `confidence` None: the answer was not judged. `reason` is the code of a failure.
    """

    request: RoutedRequest
    service: Service
    state: Literal["completed", "failed"]
    seconds: float | None
    earlier_s: float = 0.0
    started_at: datetime
    first_at: datetime | None
    load_ms: float
    attempts: int
    attempt: int
    reply: dict[str, Any] | None = None
    confidence: float | None = None
    reason: str | None = None

    def pickspin(self) -> PickspinData:
        """The `pickspin` object of the terminal."""
        request, cascade = self.request, self.request.cascade
        cost = compute_cost(self.service, self._all_s)
        data = PickspinData(
            request_id=request.request_id,
            state=self.state,
            service=self.service.slug,
            model=self.service.model,
            decision=request.decision,
            timings=self._timings(),
            cost=sum_costs(cascade, cost),
            attempt=self.attempt,
        )
        if cascade is None:
            return data
        return _with(data, cascade=summarise_cascade(cascade, self._used(cost)) or msgspec.UNSET)

    @property
    def _all_s(self) -> float:
        return self.earlier_s + (self.seconds or 0.0)

    def _timings(self) -> Timings:
        request, cascade = self.request, self.request.cascade
        is_called = self.seconds is not None or self.earlier_s > 0
        earlier_ms = self.earlier_s * 1000
        earlier_ms += 0.0 if cascade is None else sum(used.model_ms for used in cascade.used)
        waited_ms = ms_between(self.started_at, request.accepted_at) - earlier_ms
        return Timings(
            queue_ms=max(0.0, round(waited_ms - self.load_ms, 3)),
            load_ms=self.load_ms,
            model_ms=round(self._all_s * 1000, 3) if is_called else None,
            ttft_ms=(
                None if self.first_at is None else ms_between(self.first_at, request.accepted_at)
            ),
        )

    def _used(self, cost: Cost) -> CascadeUsed:
        end = StepEnd(
            outcome="answered" if self.state == "completed" else "failed",
            confidence=self.confidence,
            reason=self.reason,
            reply=self.reply,
        )
        return build_cascade_used(
            end,
            service=self.service,
            cost=cost,
            seconds=self._all_s,
            attempts=self.attempts,
        )


def build_refused_usage(request: RoutedRequest | None, known: PickspinData) -> PickspinData:
    """What is known of a request whose step was never called, with what the steps before it used."""
    if request is None or request.cascade is None:
        return known
    cascade = summarise_cascade(request.cascade) or msgspec.UNSET
    return _with(known, cascade=cascade, cost=sum_costs(request.cascade, Cost()))


def compute_cost(service: Service, seconds: float) -> Cost:
    """A call is charged its share of the replica: one of `concurrency` places, for as long as it took."""
    share = seconds / service.concurrency
    return Cost(usd=share / 3600 * service.price_per_hour_usd, gpu_s=share * service.gpu_share)


def ms_between(later: datetime, earlier: datetime) -> float:
    """Milliseconds, never below 0: clocks of two machines may disagree."""
    return max(0.0, round((later - earlier).total_seconds() * 1000, 3))


def _with(known: PickspinData, **more: Any) -> PickspinData:
    return msgspec.structs.replace(known, **more)
