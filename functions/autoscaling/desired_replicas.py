"""What a scaler that starts no pod itself asks of whoever does: Algorithm 1, turned into a number of replicas.

The difference to `decide`: scale-in from N to a smaller M above zero is left to the one who is asked (on Kubernetes
the HorizontalPodAutoscaler with its own stabilisation), so what is asked for falls with the need at once. Scale-up,
warm pool and sleep are Algorithm 1's.
"""

from dataclasses import dataclass, replace
from typing import Final

from functions.autoscaling.algorithm1 import Decision, Reason, Terms
from functions.autoscaling.scaling_state import Reading, Scaling

_HOLDING: Final = frozenset({Reason.STEADY, Reason.OVER_LIMIT})
"""Decisions that leave more replicas than the need asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for now, and why."""

    replicas: int
    """0..max_replicas; 0 means: may sleep."""
    is_needed: bool
    """Something is uncommitted or in flight, or the warm pool wants it: more than the idle time holds it."""
    current: int
    """Replicas that the decision took for running or coming."""
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """State of one service between two looks; `step` returns the next state and the wish."""

    scaling: Scaling
    asked: int = 0
    """The last wish: taken for coming until replicas are seen."""

    def step(self, reading: Reading, terms: Terms) -> tuple["Asking", Wish]:
        """Folds a reading in. `reading.replicas` counts the replicas that are seen, ready or coming."""
        current = max(reading.replicas, self.asked)
        scaling, decision = self.scaling.step(replace(reading, replicas=current), terms)
        replicas = _asked_for(decision, terms, current)
        is_busy = reading.lag > 0 or reading.in_flight > 0
        wish = Wish(
            replicas=replicas,
            is_needed=replicas > 0 and (is_busy or terms.min_warm > 0),
            current=current,
            decision=decision,
        )
        return replace(self, scaling=scaling, asked=replicas), wish


def _asked_for(decision: Decision, terms: Terms, current: int) -> int:
    if decision.reason not in _HOLDING or current == 0:
        return decision.replicas
    target = max(decision.rate_target, decision.backlog_target, terms.min_warm, 1)
    return min(target, terms.max_replicas, decision.replicas)
