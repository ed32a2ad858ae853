"""Algorithm 1 of the Pick and Spin paper, orchestration-aware scaling, as one pure function.

Two terms go beyond the paper.
Activation from zero ignores the cooldown.
A backlog term asks for enough replicas to drain what waits within a goal.

There is no scale-in from N to a smaller M above zero.
A cluster leaves that to the HPA; the local stack goes from N to the warm pool after the idle time.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class ScalingReason(StrEnum):
    """Why a decision is what it is."""

    ACTIVATION = "activation"
    WARM_POOL = "warm_pool"
    SCALE_UP = "scale_up"
    COOLDOWN = "cooldown"
    IDLE = "idle"
    OVER_LIMIT = "over_limit"
    STEADY = "steady"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLimits:
    """Limits of a service. `min_warm` is the tier's warm pool size or the service's own."""

    concurrency: int
    min_warm: int
    max_replicas: int
    cooldown_s: float
    idle_s: float
    """tau."""
    drain_goal_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLoad:
    """A service at one instant. Instants (`_s`) are monotonic seconds of one clock."""

    now_s: float
    rate_per_s: float
    """Arrivals, averaged over the window."""
    service_s: float
    """Mean time of one model call, waiting excluded."""
    lag: int
    """Records that are not committed: waiting, in flight, and due for a retry."""
    in_flight: int
    replicas: int
    """Started and not told to stop, ready or not."""
    last_busy_s: float | None
    """Last instant with anything uncommitted or in flight; None: none since the start."""
    last_scale_up_s: float | None
    """None: never."""

    @property
    def is_busy(self) -> bool:
        return self.lag > 0 or self.in_flight > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """How many replicas there should be, why, and both targets it came from."""

    replicas: int
    reason: ScalingReason
    rate_target: int
    backlog_target: int


def decide(load: ServiceLoad, limits: ScalingLimits) -> ScalingDecision:
    """Algorithm 1 for one service.

    The result is in 0..max_replicas, and above zero whenever anything is uncommitted or in flight
    and max_replicas allows it.
    """
    by_rate, by_backlog = compute_rate_target(load, limits), compute_backlog_target(load, limits)
    wanted, reason = _choose(load, limits, max(by_rate, by_backlog))
    return ScalingDecision(
        replicas=max(0, min(wanted, limits.max_replicas)),
        reason=reason,
        rate_target=by_rate,
        backlog_target=by_backlog,
    )


def compute_rate_target(load: ServiceLoad, limits: ScalingLimits) -> int:
    """Little's law, line 4: ceil(arrival rate x service time / concurrency)."""
    return math.ceil(load.rate_per_s * load.service_s / limits.concurrency)


def compute_backlog_target(load: ServiceLoad, limits: ScalingLimits) -> int:
    """Replicas that drain the backlog within the goal.

    ceil(backlog / (concurrency x drain goal / service time)).

    Never more than ceil(backlog / concurrency): one slot for each request is all that calls longer
    than the goal use.
    """
    per_replica = limits.concurrency * limits.drain_goal_s / max(load.service_s, 1e-6)
    return min(math.ceil(load.lag / per_replica), math.ceil(load.lag / limits.concurrency))


def _choose(load: ServiceLoad, limits: ScalingLimits, target: int) -> tuple[int, ScalingReason]:
    current = load.replicas
    floor = max(0, min(limits.min_warm, limits.max_replicas))
    allowed = min(target, limits.max_replicas)
    is_cool = _is_cool(load, limits)
    if current == 0 and load.is_busy:
        return max(allowed if is_cool else 1, floor, 1), ScalingReason.ACTIVATION
    if current < floor:
        return floor, ScalingReason.WARM_POOL
    if _is_idle(load, limits):
        # Before the rate: a window longer than tau still remembers earlier arrivals.
        return floor, ScalingReason.IDLE
    if current > limits.max_replicas:
        return limits.max_replicas, ScalingReason.OVER_LIMIT
    if allowed > current:
        if not is_cool:
            return current, ScalingReason.COOLDOWN
        return max(allowed, floor), ScalingReason.SCALE_UP
    return current, ScalingReason.STEADY


def _is_cool(load: ServiceLoad, limits: ScalingLimits) -> bool:
    last = load.last_scale_up_s
    return last is None or load.now_s - last >= limits.cooldown_s


def _is_idle(load: ServiceLoad, limits: ScalingLimits) -> bool:
    """Longer than tau without anything uncommitted, and longer than tau since the last scale-up."""
    if load.is_busy:
        return False
    quiet_since = max(load.last_busy_s or 0.0, load.last_scale_up_s or 0.0)
    return load.now_s - quiet_since > limits.idle_s
