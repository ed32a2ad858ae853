"""Which broken pod of a workload is replaced: a pure reducer, one for each workload.

Kubernetes restarts a failed container at once, then after 10 s, 20 s, up to 5 minutes.
It never gives up a pod that loads for ever.
Here a pod whose containers keep failing is replaced as soon as that is seen.
So is one that has not become ready within its service's own time.
After a few replacements, later and later, the pod is left to Kubernetes, and an Event says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from functions.controller.actions import Notice, Write
from functions.controller.pods import Pod
from functions.ports.kubernetes import PODS
from functions.runtime.backoff import Backoff

FORGET_S: Final = 900.0
"""Tries are forgotten this long after the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryLimits:
    """`tries` replacements, first `backoff_s` apart; `missing_s` without a ready pod: broken."""

    tries: int
    backoff_s: float
    missing_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadState:
    """One workload now. `wanted` is its replica count; `ready` how many of them are."""

    now_s: float
    wanted: int
    ready: int
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryDecision:
    """What to do. `pod` is replaced, or (`is_left`) left to Kubernetes from now on."""

    pod: Pod
    reason: Literal["crashing", "never_ready"]
    attempt: int
    is_left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """Memory of one workload between two looks; `step` returns the next one."""

    tries: int = 0
    last_s: float | None = None
    missing_since_s: float | None = None
    has_left: bool = False

    def step(
        self, workload: WorkloadState, limits: RecoveryLimits
    ) -> "tuple[RecoveryState, RecoveryDecision | None]":
        """Folds one look in. At most one pod of a workload is replaced at a time."""
        known = self._aged(workload)
        broken = _find_broken(workload, known.missing_since_s, limits)
        if broken is None or known.has_left:
            return known, None
        pod, reason = broken
        if known.tries >= limits.tries:
            decision = RecoveryDecision(pod=pod, reason=reason, attempt=known.tries, is_left=True)
            return replace(known, has_left=True), decision
        wait_s = Backoff(limits.backoff_s).delay_s(known.tries)
        if known.last_s is not None and workload.now_s - known.last_s < wait_s:
            return known, None
        tries = known.tries + 1
        following = replace(
            known, tries=tries, last_s=workload.now_s, missing_since_s=workload.now_s
        )
        return following, RecoveryDecision(pod=pod, reason=reason, attempt=tries)

    def _aged(self, workload: WorkloadState) -> "RecoveryState":
        is_missing = workload.wanted > 0 and workload.ready == 0
        since_s = self.missing_since_s if self.missing_since_s is not None else workload.now_s
        aged = replace(self, missing_since_s=since_s if is_missing else None)
        if aged.last_s is not None and workload.now_s - aged.last_s >= FORGET_S:
            aged = replace(aged, tries=0, last_s=None, has_left=False)
        return aged


def _find_broken(
    workload: WorkloadState, missing_since_s: float | None, limits: RecoveryLimits
) -> tuple[Pod, Literal["crashing", "never_ready"]] | None:
    present = sorted(
        (pod for pod in workload.pods if not pod.is_leaving and not pod.is_stuck),
        key=lambda pod: (pod.created_at, pod.name),
    )
    if workload.wanted == 0:
        return None
    crashing = next((pod for pod in present if pod.is_crashing), None)
    if crashing is not None:
        return crashing, "crashing"
    is_late = missing_since_s is not None and workload.now_s - missing_since_s >= limits.missing_s
    late = next((pod for pod in present if not pod.is_ready), None) if is_late else None
    return None if late is None else (late, "never_ready")


_WORDS: Final = {
    "crashing": "its containers keep failing",
    "never_ready": "no replica became ready in time",
}


def plan_actions(decisions: Iterable[RecoveryDecision], tries: int) -> tuple[Write | Notice, ...]:
    """The writes and notices of decisions."""
    return tuple(_plan_action(decision, tries) for decision in decisions)


def _plan_action(decision: RecoveryDecision, tries: int) -> Write | Notice:
    pod, why = decision.pod, _WORDS[decision.reason]
    if decision.is_left:
        return Notice(
            about=pod.reference(),
            reason="RecoveryGivenUp",
            message=f"Service {pod.service}: {why}; replaced {tries} times, now left to Kubernetes.",
            type="Warning",
        )
    notice = Notice(
        about=pod.reference(),
        reason="PodReplaced",
        message=f"Service {pod.service}: {why}; attempt {decision.attempt} of {tries}.",
        type="Warning",
    )
    return Write(
        verb="delete",
        resource=PODS,
        namespace=pod.namespace,
        name=pod.name,
        body={},
        uid=pod.uid,
        notice=notice,
    )
