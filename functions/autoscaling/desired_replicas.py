"""Algorithm 1 as a number of replicas, for a scaler that starts no pod itself.

Unlike `decide`, scale-in from N to a smaller M above zero is left to the HorizontalPodAutoscaler
with its own stabilisation, so the number falls with the need at once. Scale-up, warm pool and sleep
are Algorithm 1's.
"""

from dataclasses import dataclass, replace
from typing import Final

from functions.autoscaling.algorithm1 import ScalingDecision, ScalingLimits, ScalingReason
from functions.autoscaling.scaling_state import LoadReading, ScalingState

_HOLDING: Final = frozenset({ScalingReason.STEADY, ScalingReason.OVER_LIMIT})
"""Decisions that leave more replicas than the need asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredReplicas:
    """What is asked for now, and why."""

    replicas: int
    """0..max_replicas; 0 means: may sleep."""
    is_needed: bool
    """Work is uncommitted or in flight, or the warm pool wants it."""
    current: int
    """Replicas that the decision took for running or coming."""
    decision: ScalingDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredReplicasState:
    """State of one service between two looks; `step` returns the next state and what is desired."""

    scaling: ScalingState
    asked: int = 0
    """Replicas last asked for: taken for coming until they are seen."""

    def step(
        self, reading: LoadReading, limits: ScalingLimits
    ) -> tuple["DesiredReplicasState", DesiredReplicas]:
        """Folds a reading in. `reading.replicas` counts those ready or coming."""
        current = max(reading.replicas, self.asked)
        scaling, decision = self.scaling.step(replace(reading, replicas=current), limits)
        replicas = _choose_replicas(decision, limits, current)
        is_busy = reading.lag > 0 or reading.in_flight > 0
        desired = DesiredReplicas(
            replicas=replicas,
            is_needed=replicas > 0 and (is_busy or limits.min_warm > 0),
            current=current,
            decision=decision,
        )
        return replace(self, scaling=scaling, asked=replicas), desired


def _choose_replicas(decision: ScalingDecision, limits: ScalingLimits, current: int) -> int:
    if decision.reason not in _HOLDING or current == 0:
        return decision.replicas
    target = max(decision.rate_target, decision.backlog_target, limits.min_warm, 1)
    return min(target, limits.max_replicas, decision.replicas)
