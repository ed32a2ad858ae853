"""The four calls of KEDA's external scaler, answered from the latest decisions."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc

from functions.ports.clock import Clock
from functions.runtime.telemetry import ScalerMetrics
from functions.scaler import externalscaler_pb2 as pb
from functions.scaler.latest_decisions import LatestDecisions, ServiceDecision

SERVICE_KEY: Final = "service"
"""Key of the trigger's metadata: slug of the service."""
IDLE_KEY: Final = "idle"
"""Who counts the idle time tau: `keda` (default: its cooldownPeriod is tau, counted from the last
true it heard), or `scaler` (active until tau is over; cooldownPeriod is short then).

Both would make it two of them.
"""
IDLE_BY: Final = ("keda", "scaler")
TARGET: Final = 1.0
"""Average value of the metric for each replica: the metric is the number of replicas itself."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    push_again_s: float
    max_streams: int


@dataclass(frozen=True, slots=True)
class _Trigger:
    slug: str
    holds_idle: bool


class ExternalScaler:
    """KEDA's calls. A refusal ends the call with a status and one sentence."""

    def __init__(
        self, decisions: LatestDecisions, clock: Clock, metrics: ScalerMetrics, limits: StreamLimits
    ) -> None:
        self._decisions, self._clock = decisions, clock
        self._metrics, self._limits = metrics, limits
        self._is_closing = False

    def close(self) -> None:
        """Finishes every stream: KEDA reopens a finished one after 2 s, a failed one later."""
        self._is_closing = True
        self._decisions.ring_all()

    async def is_active(self, ref: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:
        """Whether the target may not be at zero."""
        trigger = await self._understand(ref, context)
        self._decisions.note_asked()
        decision = await self._require_decision(trigger.slug, context)
        return pb.IsActiveResponse(result=decision.is_active(holds_idle=trigger.holds_idle))

    async def stream_is_active(
        self, ref: pb.ScaledObjectRef, context: Any
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """Each change at once. True again while it matters: see `_is_news`."""
        trigger = await self._understand(ref, context)
        if self._decisions.streams() >= self._limits.max_streams:
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many open streams")
        with self._decisions.listening(trigger.slug) as bell:
            last = _LastPush()
            while not self._is_closing:
                decision = self._decisions.get(trigger.slug)
                if not self._decisions.is_known(trigger.slug):
                    await self._refuse_unknown(trigger.slug, context)
                if decision is not None and self._is_news(last, decision, trigger):
                    is_active = decision.is_active(holds_idle=trigger.holds_idle)
                    last = _LastPush(is_active, decision.wakings, self._clock.monotonic_s())
                    self._metrics.pushes.labels(str(is_active).lower()).inc()
                    yield pb.IsActiveResponse(result=is_active)
                await self._next(bell)

    async def get_metric_spec(
        self, ref: pb.ScaledObjectRef, context: Any
    ) -> pb.GetMetricSpecResponse:
        """One metric with a target of 1 a replica: its value is the number of replicas."""
        trigger = await self._understand(ref, context)
        spec = pb.MetricSpec(
            metricName=name_metric(trigger.slug), targetSize=int(TARGET), targetSizeFloat=TARGET
        )
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def get_metrics(
        self, request: pb.GetMetricsRequest, context: Any
    ) -> pb.GetMetricsResponse:
        """How many replicas Algorithm 1 asks for."""
        trigger = await self._understand(request.scaledObjectRef, context)
        name = name_metric(trigger.slug)
        if request.metricName != name:
            message = f"the metric of {trigger.slug} is {name}, not {request.metricName[:100]}"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        self._decisions.note_asked()
        replicas = (await self._require_decision(trigger.slug, context)).desired.replicas
        value = pb.MetricValue(
            metricName=name, metricValue=replicas, metricValueFloat=float(replicas)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    def _is_news(self, last: "_LastPush", decision: ServiceDecision, trigger: _Trigger) -> bool:
        """True at once after a false.

        True again when work came anew (KEDA counts its cooldown from the last true) and while
        nothing has started (KEDA drops a push that comes before it knows the metric, or whose
        scaling failed); that, and false, which KEDA ignores, at most every `push_again_s`.
        """
        is_active = decision.is_active(holds_idle=trigger.holds_idle)
        if last.is_active is None or (is_active and not last.is_active):
            return True
        if self._clock.monotonic_s() - last.at_s < self._limits.push_again_s:
            return False
        if not is_active:
            return last.is_active
        return decision.wakings != last.wakings or decision.seen == 0

    async def _next(self, bell: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._limits.push_again_s):
                await bell.wait()
        except TimeoutError:
            return
        bell.clear()

    async def _understand(self, ref: pb.ScaledObjectRef, context: Any) -> _Trigger:
        slug = ref.scalerMetadata.get(SERVICE_KEY, "")
        idle = ref.scalerMetadata.get(IDLE_KEY, IDLE_BY[0])
        if not slug:
            message = f"the trigger's metadata of {ref.namespace}/{ref.name} names no {SERVICE_KEY}"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        if idle not in IDLE_BY:
            message = f"the trigger's {IDLE_KEY} is {idle[:100]!r}; there are: {', '.join(IDLE_BY)}"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        if not self._decisions.is_known(slug):
            await self._refuse_unknown(slug, context)
        return _Trigger(slug, idle == "scaler")

    async def _refuse_unknown(self, slug: str, context: Any) -> NoReturn:
        message = f"no enabled service {slug[:100]!r} in the catalogue"
        await _refuse(context, grpc.StatusCode.NOT_FOUND, message)

    async def _require_decision(self, slug: str, context: Any) -> ServiceDecision:
        decision = self._decisions.get(slug)
        if decision is None:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, "lag has not been read yet")
        return decision


@dataclass(frozen=True, slots=True)
class _LastPush:
    """The last push of a stream."""

    is_active: bool | None = None
    wakings: int = 0
    at_s: float = float("-inf")


def name_metric(slug: str) -> str:
    """Name of the one metric of a service, without KEDA's prefix."""
    return f"replicas-{slug}"


async def _refuse(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise AssertionError(message)  # pragma: no cover - abort raises
